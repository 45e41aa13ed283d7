"""What of a difference in gradients is left beyond loss, beside the controls that the data allow.

Memorized text has little loss, and where a gradient lies follows how large the loss is. Two estimands, never one for the other:

- *Total*: paragraphs of one group less those of the other, whatever loss they have.
- *Beyond loss*: sets of tokens of one group less sets of as many tokens of the other, at like NLL (`gradient_controls` measures
  them). Low loss is part of what memorized means, so that this asks what memorizing does beside it; and what the groups have in
  common is mostly easy tokens, so that it speaks of those.

Controls, each where the data have it: the same prefixes' *own continuation*, which the model says and nobody has trained on (paired
with the true one, and against memorized text); text of *every other group*, of which "partial" is one; *many copies against few* among
the one group, cut at the median of `duplicates`; and text that was *never seen*: paragraphs outside the one group whose `duplicates`
is 0. Each of these still has a loss of its own: the column `nll` tells which.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.alike import Alike, matched_rows
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.layer_share import LOW_LAYERS, low_layer_share
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Basis, Null, Row, difference_name, main_pair, row_of, rows_of
from localize.analysis.sentences import Wording, decision, sentence
from localize.axes import MEMORIZED, NOT_MEMORIZED
from localize.errors import SignatureError, caller, public
from localize.signature.schema import range_of
from localize.statistics import ZERO_TO_ONE, Range, pair_differences
from localize.statistics.overlap import has_counterpart

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

CONTROLS = "localize.gradient_controls(model, paragraphs)"
GRADIENTS = "localize.gradients(model, paragraphs)"
LOW_LAYER_SHARE = "low_layer_share"
"""The variable that is no variable: it follows from the largest gradients; see `localize.analysis.layer_share`."""

TOTAL = "total"
BEYOND = "beyond loss, {} alike in NLL"
OWN = "own continuation"
COPIES = "copies"
NEVER = "never seen"
MANY, FEW = "many copies", "few copies"
SAID = "{}, own continuation"

HALF = 0.5
"""Share of the tokens of either group that must have a counterpart for the estimand beyond loss to lead."""

WORDS = Wording(
    "{a} is higher than {b}{among}",
    "{a} is lower than {b}{among}",
    "no significant difference between {a} and {b}{among}",
)
AMONG = " among tokens alike in loss"
NOTHING_ALIKE = "not known: no set of tokens of the one group is alike in loss to one of the other"


@public
def beyond_loss(
    signature: "MemorizationSignature",
    a: str = MEMORIZED,
    b: str = NOT_MEMORIZED,
    variable: str = LOW_LAYER_SHARE,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """How two groups differ in their gradients: in total, beyond loss, and beside the controls that the data allow.

    Args:
        signature: With `gradients` and `gradient_controls`.
        a: The one group.
        b: The group subtracted from it.
        variable: "low_layer_share", the share of the lower half of the layers in max |gradient| summed over heads and MLP; or a
            variable of `gradients` that `gradient_controls` has too, cell by cell: "gradient_share", "head_gradient_share",
            "gradient_max", "gradient_norm", "head_gradient_max".
        seed: Of bootstrap, permutation and sign flips.
        resamples: Draws of each.

    Returns:
        Rows indexed by `estimand` and `group`, with cells by their axes too. Estimands: "total"; "beyond loss, ..." for each size of
        token sets; "own continuation", both as the paired difference to the true one in group b and against group a; one for every
        other group; "copies", group a's paragraphs of more copies than its median less the others; "never seen", against all
        paragraphs outside a with `duplicates` of 0. Each has a row for either side and one for the difference. Columns as in
        `summary`, and `nll`, the mean of what is compared (of matched rows as they are weighted; of a difference, what is left of
        it); `support`, of "beyond loss" the share of the group's tokens that have a counterpart of like NLL in the other group, of
        the difference the smaller one; `verdict` of each difference, in words. What cannot be made is in `attrs["left_out"]`, each
        with its reason.

    Raises:
        SignatureError: If a group or a measurement is not there, or the variable is another.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    a, b = signature.known_group(a), signature.known_group(b)
    if a == b:
        raise SignatureError(f"{caller()}: a={a!r} and b={b!r} are one group; two are compared.")
    dataset = signature.dataset
    warn_of_few_clusters({name: dataset["cluster"].values[dataset["group"].values == name] for name in (a, b)})
    rows, axes, left_out = [], (), []
    for about, quantity in _quantities(signature, variable):
        made, left_out = _rows(quantity, dataset, (a, b), draws)
        rows += [about | row for row in made]
        axes = tuple(about)
    table = table_of(rows, ("estimand", "group", *axes), ("nll", "support", "verdict"))
    table.attrs["left_out"] = left_out
    return table


Of = Callable[[str], Float[np.ndarray, "paragraph *set"]]
"""From "", "token_" or "own_" to the numbers of paragraphs, of their sets of tokens, or of their own continuations."""


def _quantities(
    signature: "MemorizationSignature", variable: str
) -> Iterator[tuple[dict[str, object], tuple[Of, Range]]]:
    """The labels of each cell, its numbers, and where they can lie."""
    dataset = signature.dataset
    if variable == LOW_LAYER_SHARE:
        needed = ("gradient_max", "head_gradient_max")
        require(signature, dict.fromkeys(needed, GRADIENTS) | {f"token_{name}": CONTROLS for name in needed})
        yield {}, (partial(low_layer_share, dataset), ZERO_TO_ONE)
        return
    if f"token_{variable}" not in dataset and f"token_{variable}" in _all_controls():
        require(signature, {variable: GRADIENTS, f"token_{variable}": CONTROLS})
    if f"token_{variable}" not in _all_controls() or variable not in dataset:
        allowed = [name.removeprefix("token_") for name in _all_controls() if name != "token_set_nll"]
        raise SignatureError(
            f"{caller()}: variable={variable!r} is not one of {', '.join((LOW_LAYER_SHARE, *allowed))}, or was not measured."
        )
    possible, axes = range_of(dataset, variable), [str(dim) for dim in dataset[variable].dims if dim != "paragraph"]
    for at in np.ndindex(*(dataset.sizes[axis] for axis in axes)):
        cell = dict(zip(axes, at, strict=True))

        def of(which: str, cell: dict[str, int] = cell) -> Float[np.ndarray, "paragraph *set"]:
            found = dataset[f"{which}{variable}"].isel(cell)
            return found.transpose("paragraph", ...).values.astype(float)

        yield {axis: dataset[axis].values[place].item() for axis, place in cell.items()}, (of, possible)


def _all_controls() -> tuple[str, ...]:
    from localize.measurements import MEASUREMENTS

    names = (variable.name for variable in MEASUREMENTS["gradient_controls"].variables)
    return tuple(name for name in names if name.startswith("token_"))


def _rows(
    quantity: tuple[Of, Range], dataset: "xr.Dataset", pair: tuple[str, str], draws: Draws
) -> tuple[list[Row], list[str]]:
    """Rows of every estimand that there is, and why others are not."""
    of, possible = quantity
    (a, b), left_out = pair, []
    group, nll = dataset["group"].values.astype(object), dataset["nll"].values.astype(float)
    plain = partial(_plain, clusters=dataset["cluster"].values, possible=possible, draws=draws)
    whole = of("")
    rows = plain(TOTAL, whole, nll, group, pair) + beyond_rows(of("token_"), dataset, pair, possible)
    if "own_nll" in dataset:
        own, own_nll = of("own_"), dataset["own_nll"].values.astype(float)
        rows += _paired(own, own_nll, whole, nll, dataset, b, possible, draws)
        said = np.where(group == b, own, whole), np.where(group == b, own_nll, nll)
        named = np.where(group == b, SAID.format(b), group)
        rows += plain(OWN, *said, named, (a, SAID.format(b)))
    else:
        left_out.append(f"{OWN}: not measured; {CONTROLS} does, with continuation='own'.")
    for other in sorted(set(group) - {a, b}):
        rows += plain(str(other), whole, nll, group, (a, str(other)))
    copies = dataset["duplicates"].values.astype(float) if "duplicates" in dataset else np.full(len(group), np.nan)
    middle = np.median(copies[(group == a) & ~np.isnan(copies)]) if (~np.isnan(copies[group == a])).any() else np.nan
    sides = np.where(copies > middle, MANY, np.where(copies <= middle, FEW, ""))
    if all(((group == a) & (sides == side)).any() for side in (MANY, FEW)):
        rows += plain(COPIES, whole, nll, np.where(group == a, sides, ""), (MANY, FEW))
    else:
        left_out.append(f"{COPIES}: no two numbers of copies are known in {a}.")
    unseen = (copies == 0) & (group != a)
    if unseen.any():
        rows += plain(NEVER, whole, nll, np.where(unseen, NEVER, np.where(group == a, a, "")), (a, NEVER))
    else:
        left_out.append(f"{NEVER}: no paragraph outside {a} has duplicates of 0.")
    return rows, left_out


def _plain(
    estimand: str,
    values: Float[np.ndarray, " paragraph"],
    nll: Float[np.ndarray, " paragraph"],
    group: np.ndarray,
    pair: tuple[str, str],
    *,
    clusters: np.ndarray,
    possible: Range,
    draws: Draws,
) -> list[Row]:
    """Two groups of paragraphs as they are, and their difference."""
    inside = np.flatnonzero(np.isin(group, pair) & ~np.isnan(values))
    if len(set(group[inside])) < len(pair):
        return []
    names = group[inside].astype(str)
    rows = rows_of(estimand, values[inside], names, clusters[inside], draws, lambda _: NO_NULL, possible, pair=pair)
    means = {name: float(nll[inside][names == name].mean()) for name in pair}
    means[difference_name(*pair)] = means[pair[0]] - means[pair[1]]
    order = [*pair, difference_name(*pair)]
    told = {
        row["group"]: {"estimand": estimand, "nll": means[row["group"]], "support": 1.0, "verdict": ""} | row
        for row in rows
    }
    rows = [told[name] for name in order]
    rows[-1]["verdict"] = sentence(rows[-1], WORDS, a=pair[0], b=pair[1], among="")
    return rows


def _paired(
    own: Float[np.ndarray, " paragraph"],
    own_nll: Float[np.ndarray, " paragraph"],
    whole: Float[np.ndarray, " paragraph"],
    nll: Float[np.ndarray, " paragraph"],
    dataset: "xr.Dataset",
    group: str,
    possible: Range,
    draws: Draws,
) -> list[Row]:
    """The difference of a group's own continuations to the true ones of the same prefixes."""
    inside = (dataset["group"].values == group) & ~np.isnan(own)
    if not inside.any():
        return []
    clusters = dataset["cluster"].values[inside]
    moved = pair_differences(own[inside], whole[inside])
    test, interval = draws.sign_flip(moved, clusters), draws.mean(moved, clusters).within(possible.minus(possible))
    null = Null.dealt(0.0, test.null_low, test.null_high, test.p_value, test.rough)
    row = row_of(interval, null, Basis.of(clusters))
    names = SAID.format(group), f"{group}, true one"
    about = {"estimand": OWN, "group": difference_name(*names), "support": 1.0}
    about["nll"] = float((own_nll - nll)[inside].mean())
    return [about | row | {"verdict": sentence(row, WORDS, a=names[0], b=names[1], among="")}]


def beyond_rows(
    values: Float[np.ndarray, "paragraph size level"], dataset: "xr.Dataset", pair: tuple[str, str], possible: Range
) -> list[Row]:
    """Sets of tokens of two groups at like NLL, for each size of sets."""
    nll = dataset["token_set_nll"].transpose("paragraph", "tokens_in_set", "loss_level").values.astype(float)
    group, clusters, levels = dataset["group"].values, dataset["cluster"].values, nll.shape[2]
    paragraph, rows = np.repeat(np.arange(len(group)), levels), []
    tokens = token_support(dataset, pair)
    for at, size in enumerate(dataset["tokens_in_set"].values):
        what = "single tokens" if size == 1 else f"sets of {size} tokens"
        alike = Alike.in_loss(nll[:, at].ravel(), f"NLL of {what}")
        of_set = values[:, at].ravel(), group[paragraph], clusters[paragraph]
        made = matched_rows(BEYOND.format(what), *of_set, pair, possible, alike, paragraph)
        for row, support in zip(made, (*tokens, min(tokens)), strict=True):
            row |= {"estimand": row["quantity"], "support": support}
        unknown = Wording(WORDS.above, WORDS.below, WORDS.neither, NOTHING_ALIKE)
        wording = unknown if np.isnan(made[-1]["estimate"]) else WORDS
        made[-1]["verdict"] = sentence(made[-1], wording, a=pair[0], b=pair[1], among=AMONG)
        rows += made
    return rows


def token_support(dataset: "xr.Dataset", pair: tuple[str, str]) -> tuple[float, float]:
    """For each of two groups the share of its continuations' tokens that have a counterpart of like NLL in the other."""
    nll, group = dataset["token_nll"].values.astype(float), dataset["group"].values
    one, other = (nll[group == name].ravel() for name in pair)
    on = Alike.in_loss(np.concatenate([one, other]), "").on
    there = has_counterpart(on, np.arange(len(on)) < len(one))
    return float(there[: len(one)].mean()), float(there[len(one) :].mean())


def low_layer_rows(dataset: "xr.Dataset", draws: Draws) -> list[Row]:
    """The low-layer share in the summary: beyond loss, where that was measured, and in total; what leads comes first."""
    null = Null(dataset.sizes["layer"] // 2 / dataset.sizes["layer"])
    about = low_layer_share(dataset), dataset["group"].values, dataset["cluster"].values
    total = rows_of(LOW_LAYERS, *about, draws, lambda _: null, ZERO_TO_ONE)
    pair = main_pair(tuple(np.unique(dataset["group"].values).tolist()))
    if pair is None or "token_head_gradient_max" not in dataset:
        return total
    beyond = beyond_rows(low_layer_share(dataset, "token_"), dataset, pair, ZERO_TO_ONE)
    for row in beyond:
        row["quantity"] = f"{LOW_LAYERS}, {row['estimand']}"
    return beyond + total if beyond[-1]["support"] >= HALF else total + beyond


def loss_note(dataset: "xr.Dataset") -> str | None:
    """What the summary's low-layer rows say of loss, in a sentence; None where nothing beyond loss was measured."""
    needed = {"token_head_gradient_max", "head_gradient_max", "gradient_max"}
    pair = main_pair(tuple(np.unique(dataset["group"].values).tolist()))
    if pair is None or not needed <= {str(name) for name in dataset.data_vars}:
        return None
    rows = {(row["quantity"], row["group"]): row for row in low_layer_rows(dataset, Draws(0))}
    (total,) = (
        row for (quantity, name), row in rows.items() if quantity == LOW_LAYERS and name == difference_name(*pair)
    )
    said = sentence(total, WORDS, a=pair[0], b=pair[1], among="")
    told = f"Sensitivity, which is not where text is stored: low-layer share of the gradient in total: {said}."
    for (_, name), row in rows.items():
        if row.get("estimand") is None or name != difference_name(*pair):
            continue
        told += f" {row['estimand'][0].upper()}{row['estimand'][1:]}: {row['verdict']}"
        if decision(total) and not np.isnan(row["low"]):
            left = [100 * row[end] / total["estimate"] for end in ("estimate", "low", "high")]
            told += (
                f": {left[0]:.0f} % [{min(left):.0f}, {max(left):.0f}] of the total, the rest of which goes with loss"
            )
        told += "."
    shares = token_support(dataset, pair)
    tokens = " and ".join(
        f"{100 * share:.0f} % of the tokens of {name}" for share, name in zip(shares, pair, strict=True)
    )
    told += f" {tokens} have a counterpart of like NLL, mostly easy ones. Low loss is part of what memorized means."
    return told.replace("not_memorized", "not memorized")
