"""What one activation carries from one run to the other, a paragraph's and its corrupted copy's: the strongest sites.

A patch changes an activation, and any change moves the NLL. So beside each effect stands what as large a change in a random direction
does. The strongest site is chosen on one half of the clusters and told on the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from localize.analysis.choice import mean_measured
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, NOTHING, Basis, Null, Row, beside, differing, row_of
from localize.analysis.sentences import NOT_KNOWN, Wording, sentence
from localize.axes import DIRECTIONS
from localize.errors import SignatureError, caller, public
from localize.statistics import UNBOUNDED, choosing_half, false_discovery

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

PARTS = {"head": ("site", "layer", "head"), "stream": ("stream", "layer")}
"""Activations of one head and of a whole layer, each with its axes."""

MEASURE = "localize.patch(model, paragraphs)"

CHANGE = "NLL change, strongest {}"
SHARE = "share of the gap, strongest {}"

MORE = "does more than as large a random change"
SAME = "not significantly different from as large a random change"
LESS = "does less than as large a random change"


def strength_sign(direction: str) -> float:
    """-1 where a patch that carries the key lowers the NLL (denoising), 1 where it raises it (noising)."""
    return -1.0 if direction == DIRECTIONS[0] else 1.0


def chosen_labels(dataset: "xr.Dataset", dim: str, wanted: str | None) -> list[str]:
    """The metric or direction asked for, or all there are.

    Raises:
        SignatureError: If it was not measured.
    """
    there = [str(label) for label in dataset[dim].values]
    if wanted is None:
        return there
    if wanted not in there:
        raise SignatureError(f"{caller()}: {dim}={wanted!r} is not one of {', '.join(there)}.")
    return [wanted]


def parts_measured(signature: "MemorizationSignature", held_against: str) -> list[str]:
    """Which of `PARTS` were patched and have their null, or estimate, beside them.

    Raises:
        SignatureError: If none has.
    """
    needed = {part: [f"{part}_patch_{what}" for what in ("effect", held_against)] for part in PARTS}
    parts = [part for part, names in needed.items() if all(name in signature for name in names)]
    if not parts:
        patched = [part for part, names in needed.items() if names[0] in signature] or list(PARTS)
        require(signature, dict.fromkeys(needed[patched[0]], MEASURE))
    return parts


def cells_of(
    dataset: "xr.Dataset", name: str, part: str, *, direction: str, metric: str
) -> Float[np.ndarray, "paragraph *cell"]:
    """One of a part's variables, by paragraph and the axes of the part."""
    values = dataset[f"{part}_patch_{name}"].sel(direction=direction, metric=metric)
    return values.transpose("paragraph", *PARTS[part]).values.astype(float)


def gap_of(dataset: "xr.Dataset", metric: str) -> Float[np.ndarray, " paragraph"]:
    """NLL of the corrupted run less that of the clean one, in nats per token: what patching everything would do."""
    gap = dataset["corrupted_run_nll"] - dataset["clean_nll"]
    return gap.sel(metric=metric).values.astype(float)


@dataclass(frozen=True)
class Candidates:
    """Sites of which the strongest is told, in one direction.

    Attributes:
        words: What they are.
        direction: Whose activation goes where.
        effect: NLL change by patching, in nats per token.
        null: By as large a random change.
        names: What each site is called.
    """

    words: str
    direction: str
    effect: Float[np.ndarray, "paragraph site"]
    null: Float[np.ndarray, "paragraph site"]
    names: Sequence[str]


def candidates(
    dataset: "xr.Dataset", parts: Sequence[str], directions: Sequence[str], metric: str
) -> Iterator[Candidates]:
    """All head activations together, and each stream by itself: at the changed position, the first `resid` is the whole difference."""
    layers = [str(layer) for layer in dataset["layer"].values]
    for direction in directions:
        for part in parts:
            effect, null = (
                cells_of(dataset, name, part, direction=direction, metric=metric) for name in ("effect", "null")
            )
            if np.isnan(effect).all():
                continue  # not asked for
            if part == "head":
                heads, sites = (dataset[dim].values for dim in ("head", "site"))
                names = [f"L{layer}.H{head}.{site}" for site in sites for layer in layers for head in heads]
                effect, null = (values.reshape(len(values), -1) for values in (effect, null))
                yield Candidates("head activation", direction, effect, null, names)
                continue
            for index, stream in enumerate(dataset["stream"].values):
                if not np.isnan(effect[:, index]).all():
                    names = [f"L{layer}.{stream}" for layer in layers]
                    yield Candidates(str(stream), direction, effect[:, index], null[:, index], names)


@public
def patch_table(
    signature: "MemorizationSignature",
    *,
    metric: str = "first_changed",
    direction: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """Which single activation carries most from one run to the other, and whether more than any change of its size does.

    The strongest site (of all head activations; and of each stream, over layers) lowers the NLL most in denoising and raises
    it most in noising. It is chosen on one half of all clusters, the same for every group, and told on the other.

    Args:
        signature: What was measured.
        metric: Judged by "first_changed" or "continuation".
        direction: "denoising", "noising", or None for both.
        seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
        resamples: Draws of each.

    Returns:
        Two rows per kind of site, direction and group, indexed by `quantity`, `direction` and `group`: the NLL change (nats
        per token), and the share of the gap between the two runs' NLL that it makes up (ratio of means, 1 for all of it).
        Beside each (`null`) as large a change in a random direction; `difference` from it, `p_value` by flipping the sign
        of whole clusters, the same for both rows, and `q_value` (Benjamini-Hochberg over the sites listed). `site` names it
        ("L1.H2.v", "L3.mlp_out"), `verdict` says in words whether it does more than its null. nan without a changed token.
        Patched at the changed position or at all, `resid` of layer 0 is the whole difference of the runs: 1 by construction.

    Raises:
        SignatureError: If the metric, direction or a measurement is not there.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    parts, dataset = parts_measured(signature, "null"), signature.dataset
    directions = chosen_labels(dataset, "direction", direction)
    chosen_labels(dataset, "metric", metric)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    gap, chose = gap_of(dataset, metric), choosing_half(clusters, seed)
    rows: list[Row] = []
    for among in candidates(dataset, parts, directions, metric):
        sign = strength_sign(among.direction)
        for name in signature.groups:
            inside = group == name
            told = {"direction": among.direction, "group": name, "site": ""}
            strength = sign * mean_measured(among.effect[inside & chose])
            change = share = row_of() | differing(NOTHING)
            if not np.isnan(strength).all():
                at, rest = int(np.nanargmax(strength)), inside & ~chose
                told["site"] = among.names[at]
                own, other = among.effect[rest, at], among.null[rest, at]
                change = beside(own, other, clusters[rest], UNBOUNDED, draws)
                share = shares_of_gap(sign * own, sign * other, gap[rest], clusters[rest], draws)
                share |= {name: change[name] for name in ("p_value", "rough")}
            rows.append(told | change | {"quantity": CHANGE.format(among.words), "sign": sign})
            rows.append(told | share | {"quantity": SHARE.format(among.words), "sign": 1.0})
    # A share tests what its change tests: once for both.
    q_values = np.repeat(false_discovery(np.array([change["p_value"] for change in rows[::2]], dtype=float)), 2)
    for one, q_value in zip(rows, q_values, strict=True):
        one["q_value"] = float(q_value)
        one["verdict"] = verdict(one)
    return table_of(rows, ("quantity", "direction", "group"), (*DIFFERENCE, "site", "verdict"))


def shares_of_gap(
    own: Float[np.ndarray, " paragraph"],
    other: Float[np.ndarray, " paragraph"],
    gap: Float[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    draws: Draws,
) -> Row:
    """Mean effect, mean null and their difference over the mean gap, each with its 95 % interval by bootstrap over clusters.

    Ratios of means, so that a paragraph whose gap is near 0 does not decide; nan where the mean gap is not above 0.
    """
    there = ~np.isnan([own, other, gap]).any(0)
    if not there.any():
        return row_of() | differing(NOTHING)

    def over_gap(means: Float[np.ndarray, "draw 3"]) -> Float[np.ndarray, "draw 3"]:
        effects = np.stack([means[:, 0], means[:, 1], means[:, 0] - means[:, 1]], axis=1)
        return over(effects, means[:, 2:])

    three = draws.statistic(np.stack([own, other, gap], axis=1)[there], clusters[there], over_gap)
    share, aside, apart = (three[at] for at in range(3))
    return row_of(share, Null.measured(aside, np.nan), Basis.of(clusters[there])) | differing(apart)


def over(effect: Float[np.ndarray, "*cell"], gap: Float[np.ndarray, "*#cell"]) -> Float[np.ndarray, "*cell"]:
    """A share of the gap; nan where there is none to speak of a share of."""
    return np.divide(effect, gap, out=np.full(effect.shape, np.nan), where=gap > 0)


def verdict(row: Row) -> str:
    """What a difference from the null says, by its interval and by a test that is corrected for all that are listed."""
    if np.isnan(row["q_value"]):
        return NOT_KNOWN
    above, below = (MORE, LESS) if row["sign"] > 0 else (LESS, MORE)
    return sentence(row, Wording(above, below, SAME), part="difference", p="q_value")
