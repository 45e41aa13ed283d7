"""Two signatures of the same paragraphs, before and after an edit of the model, and what changed between them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.comparison import Comparison
from localize.analysis.draws import Draws
from localize.analysis.paired import compare_paired
from localize.analysis.rows import Basis, Null, Row, row_of
from localize.axes import FORGET, GENERAL, KEPT, NEAR_DUPLICATE, RECALL_GROUPS
from localize.errors import SignatureError, caller, public
from localize.signature.schema import range_of
from localize.signature.signature import MemorizationSignature
from localize.statistics import Range, effective_clusters, false_discovery, pair_differences

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PROMPTED, PERPLEXITY = "prompted_recall", "perplexity"
QUANTITIES = (
    "exact_match", "nll", "token_accuracy", "reference_exact_match", "reference_nll", PROMPTED, "rewritten_exact_match",
    "rewritten_nll",
)  # fmt: skip
"""The variables that an edit is told by, as far as both signatures hold them."""

OWN = ("before", "after", "repetitions")
"""The columns of this table that others do not have."""

OF_THE_MODEL = ("name", "family", "layers", "heads", "d_model", "weights")
"""What an edit leaves as it is."""


@dataclass(frozen=True, eq=False, repr=False)
class Change:
    """The same paragraphs measured before and after an edit.

    Attributes:
        before: Of the model as it was.
        after: Of the edited model.

    Raises:
        SignatureError: If paragraphs, groups or clusters differ, the models differ in more than weights, nothing that is
            measured per paragraph is in both, or a number of `table` is missing on one side only, or infinite.
    """

    before: MemorizationSignature
    after: MemorizationSignature

    def __post_init__(self) -> None:
        _check_sides(self.before.dataset, self.after.dataset)
        if not self.variables:
            one, other = (", ".join(signature.variables) for signature in (self.before, self.after))
            raise SignatureError(
                f"change: nothing measured per paragraph is in both: {one} before, {other} after; measure the same of both models."
            )
        for name in self.variables:
            ways = [signature[name].attrs.get("continuation") for signature in (self.before, self.after)]
            if ways[0] != ways[1]:
                raise SignatureError(
                    f"change: {name} is of the {ways[0]} continuation before and of the {ways[1]} one after; the same is needed."
                )
        for name, sides in numbers_of(self).items():
            _check_measured(name, sides, self.before.dataset["paragraph"].values)

    @property
    def groups(self) -> tuple[str, ...]:
        """What the paragraphs are to the edit, in the order of `ordered_roles`."""
        return ordered_roles(self.before.groups)

    @property
    def variables(self) -> tuple[str, ...]:
        """What both signatures hold of each paragraph."""
        shared = (name for name in self.before.variables if name in self.after)
        return tuple(name for name in shared if "paragraph" in self.before[name].dims)

    def difference(self, variable: str) -> "xr.DataArray":
        """After less before, cell by cell, in the variable's unit; of an axis the labels that both have.

        Raises:
            SignatureError: If one of the signatures lacks the variable.
        """
        before, after = self.before[variable], self.after[variable]
        return (after.astype(float) - before.astype(float)).rename(variable).assign_attrs(before.attrs)

    @public
    def table(self, *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
        """What the edit changed in each group of paragraphs.

        Args:
            seed: Of bootstrap and sign flips.
            resamples: Draws of each.

        Returns:
            Indexed by `quantity` and `group`. Quantities, as far as both signatures hold them: `exact_match` (tokens), `nll`
            (nats per token), `perplexity` (over the continuation tokens: exp of the mean NLL), `token_accuracy` (share), all
            of the true continuation; `reference_exact_match`, `reference_nll`, of what the unedited model says;
            "prompted_recall, as_is" (share) and so on, a quantity for each prompt; `rewritten_exact_match`, `rewritten_nll`.

            `before` and `after` are means over paragraphs; `estimate` is the change from the one to the other, `low` `high` its
            95 % interval by bootstrap over clusters, `null_range_low` `null_range_high` the central 95 % of it with the signs of
            whole clusters flipped, `p_value` of that, `q_value` (Benjamini-Hochberg over the rows). The change of the perplexity,
            and what stands beside it, is relative: exp(change of the mean NLL) - 1, .1 for 10 % more; it tests what NLL does, and
            counts once. `n`, `clusters` and `effective_clusters` are those measured; a group that has none is left out.

            With a single cluster interval and p are nan; fewer than 30 effective ones warn. Where all paragraphs change by the
            same number, as when all of the recital is gone, the interval has no width.
        """
        table = edit_table({"": self}, seed=seed, resamples=resamples)
        return table.droplevel("edit").drop(columns="repetitions")

    @public
    def compare(
        self,
        variables: str | Sequence[str] | None = None,
        *,
        group: str | None = None,
        seed: int = 0,
        resamples: int = 2000,
    ) -> Comparison:
        """What the edit changed in every cell of what both signatures hold; see `localize.compare_paired`.

        Args:
            variables: One or several; None takes those whose mean means something and that have at most 3000 cells.
            group: Only the paragraphs that are this to the edit; None for all.
            seed: Of bootstrap and sign flips.
            resamples: Draws of each.

        Raises:
            SignatureError: If the group or a variable is not there.
        """
        return compare_paired(self.after, self.before, variables, group=group, seed=seed, resamples=resamples)

    def __repr__(self) -> str:
        group, model = self.before.dataset["group"].values, self.before.dataset.attrs["model"]
        groups = ", ".join(f"{(group == name).sum()} {name}" for name in self.groups)
        one, other = (str(s.dataset.attrs["model"].get("weights_hash"))[:8] for s in (self.before, self.after))
        told = f"{model['name']}, weights {one} -> {other}; {len(self.before)} paragraphs: {groups}"
        return f"Change({told}; {', '.join(self.variables)})"


Changes = Mapping[str, Change | Sequence[Change]]
"""Edits by name, each made once or several times."""


@public
def edit_table(changes: Changes, *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """What each of several edits changed, the repetitions of an edit pooled.

    Repetitions are one edit with other forget sets, masks or seeds, measured on paragraphs of one set. They are pooled group by
    group, each paragraph as often as it was measured there, always in the same cluster: rows that go together do not narrow the
    interval. It is an interval over paragraphs, of the repetitions that were made.

    Args:
        changes: Edits by name, each a `Change` or several.
        seed: Of bootstrap and sign flips.
        resamples: Draws of each.

    Returns:
        As `Change.table`, indexed by `edit`, `quantity` and `group`; `q_value` over all edits. `n` counts each paragraph
        once, `repetitions` are those in which the group was measured.

    Raises:
        SignatureError: If there is no change, or those under one name are not of one set of paragraphs: an id stands for other
            tokens or another cluster, or two have no paragraph in common.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    pooled = {edit: Pooled.of(given) for edit, given in repetitions_of(changes).items()}
    warn_of_few_clusters(_clusters_of(pooled))
    found = [
        {"edit": edit} | one
        for edit, rows in pooled.items()
        for group in rows.groups
        for one in rows.changed(group, draws)
    ]
    q_values = iter(false_discovery(np.array([one["p_value"] for one in found if one["quantity"] != PERPLEXITY])))
    for one, above in zip(found, [{}, *found[:-1]], strict=True):  # a perplexity stands after its NLL
        one["q_value"] = above["q_value"] if one["quantity"] == PERPLEXITY else float(next(q_values))
    order = list(dict.fromkeys(quantity for rows in pooled.values() for quantity in rows.order))
    edits = list(pooled)
    found.sort(key=lambda one: (edits.index(one["edit"]), order.index(one["quantity"])))
    return table_of(found, ("edit", "quantity", "group"), OWN)


def repetitions_of(changes: Changes) -> dict[str, tuple[Change, ...]]:
    """The changes of each edit, checked to be of one set of paragraphs.

    Raises:
        SignatureError: If there is none, or they are not.
    """
    edits = {name: (given,) if isinstance(given, Change) else tuple(given) for name, given in changes.items()}
    if not edits:
        raise SignatureError(f"{caller()}: changes is empty; at least one edit is needed.")
    for name, given in edits.items():
        if not given:
            raise SignatureError(f"{caller()}: {name!r} has no change; one or several are needed.")
        if len(given) > 1:
            _check_one_set(name, given)
    return edits


def ordered_roles(names: Iterable[str]) -> tuple[str, ...]:
    """Each group once: to forget, its near duplicates, kept, not seen by the edit, a user's own by the alphabet, general text."""
    present = set(names)
    known = (FORGET, NEAR_DUPLICATE, *(f"{KEPT}_{group}" for group in RECALL_GROUPS), *RECALL_GROUPS)
    own = sorted(present - {*known, GENERAL})
    return tuple(name for name in (*known, *own, GENERAL) if name in present)


def numbers_of(change: Change) -> dict[str, Float[np.ndarray, "side paragraph"]]:
    """Each number that `Change.table` tells, before and after, by the name that it has there."""
    numbers = {}
    for name in QUANTITIES:
        if name not in change.variables:
            continue
        sides = [signature[name] for signature in (change.before, change.after)]
        if name != PROMPTED:
            numbers[name] = np.stack([side.values.astype(float) for side in sides])
            continue
        asked = [prompt for prompt in sides[0]["prompt"].values if prompt in sides[1]["prompt"].values]
        for prompt in asked:
            numbers[f"{name}, {prompt}"] = np.stack([side.sel(prompt=prompt).values.astype(float) for side in sides])
    return numbers


def _clusters_of(pooled: "Mapping[str, Pooled]") -> dict[str, np.ndarray]:
    """The clusters of each group's rows: of every edit, or once where all edits have the same."""
    found: dict[str, np.ndarray] = {}
    for group in dict.fromkeys(group for rows in pooled.values() for group in rows.groups):
        of_each = {edit: np.sort(rows.clusters[rows.group == group]) for edit, rows in pooled.items()}
        first = next(iter(of_each.values()))
        if all(np.array_equal(first, clusters) for clusters in of_each.values()):
            found[group] = first
        else:
            found |= {f"{edit}: {group}": clusters for edit, clusters in of_each.items() if len(clusters)}
    return found


@dataclass(frozen=True, eq=False)
class Pooled:
    """The paragraphs of all repetitions of an edit, one repetition below the other.

    Attributes:
        quantities: What was measured of them.
        paragraph: The id of each.
        group: What each is to the edit.
        clusters: The near-duplicate cluster of each, in the whole set.
        repetition: Which repetition each row is of.
        values: Before and after; nan where a repetition does not have the quantity.
        possible: Where the change of each quantity can lie.
    """

    quantities: tuple[str, ...]
    paragraph: Shaped[np.ndarray, " row"]
    group: Shaped[np.ndarray, " row"]
    clusters: Int[np.ndarray, " row"]
    repetition: Int[np.ndarray, " row"]
    values: Float[np.ndarray, "side row quantity"]
    possible: Range

    @classmethod
    def of(cls, repetitions: Sequence[Change]) -> "Pooled":
        """All rows of these changes."""
        measured = [numbers_of(change) for change in repetitions]
        quantities = tuple(dict.fromkeys(name for numbers in measured for name in numbers))
        sizes, datasets = [len(change.before) for change in repetitions], [c.before.dataset for c in repetitions]
        values = np.full((2, sum(sizes), len(quantities)), np.nan)
        for start, size, numbers in zip(np.cumsum([0, *sizes[:-1]]), sizes, measured, strict=True):
            for name, sides in numbers.items():
                values[:, start : start + size, quantities.index(name)] = sides
        ids, group, clusters = (
            np.concatenate([dataset[name].values for dataset in datasets]) for name in ("paragraph", "group", "cluster")
        )
        ranges = [range_of(datasets[0], name.split(",")[0]) for name in quantities]
        level = Range(*(np.array(ends, dtype=float) for ends in zip(*ranges, strict=True)))
        repetition = np.repeat(np.arange(len(sizes)), sizes)
        return cls(quantities, ids, group, clusters, repetition, values, level.minus(level))

    @property
    def groups(self) -> tuple[str, ...]:
        """What the paragraphs are, in order."""
        return ordered_roles(str(name) for name in self.group)

    @property
    def order(self) -> list[str]:
        """The quantities of the table: perplexity after NLL."""
        return [name for each in self.quantities for name in ((each, PERPLEXITY) if each == "nll" else (each,))]

    def changed(self, group: str, draws: Draws) -> list[Row]:
        """The rows of one group, but for `q_value`; none for what it does not have."""
        inside = self.group == group
        (before, after), clusters = self.values[:, inside], self.clusters[inside]
        moved = pair_differences(after, before)
        interval, test = draws.mean(moved, clusters).within(self.possible), draws.sign_flip(moved, clusters)
        ids, repetition = self.paragraph[inside], self.repetition[inside]
        rows: list[Row] = []
        for cell, quantity in enumerate(self.quantities):
            there = ~np.isnan(after[:, cell])
            if not there.any():
                continue
            told = {
                "quantity": quantity, "group": group, "repetitions": len(np.unique(repetition[there])),
                "before": float(before[there, cell].mean()), "after": float(after[there, cell].mean()),
            }  # fmt: skip
            rough = None if test.rough is None else test.rough[cell]
            null = Null.dealt(0.0, test.null_low[cell], test.null_high[cell], test.p_value[cell], rough)
            measured = clusters[there]
            basis = Basis(len(np.unique(ids[there])), len(np.unique(measured)), effective_clusters(measured))
            change = told | row_of(interval[cell], null, basis)
            rows += [change, _as_perplexity(change)] if quantity == "nll" else [change]
        return rows


def _as_perplexity(nll: Row) -> Row:
    """The row of the NLL in perplexities, its change relative."""
    relative = ("estimate", "low", "high", "null", "null_range_low", "null_range_high")
    with np.errstate(over="ignore"):  # a model that an edit has broken may be infinitely perplexed
        levels = {name: float(np.exp(nll[name])) for name in ("before", "after")}
        changes = {name: float(np.expm1(nll[name])) for name in relative}
    return nll | {"quantity": PERPLEXITY} | levels | changes


def _check_sides(before: "xr.Dataset", after: "xr.Dataset") -> None:
    """Refuse, in one line, two signatures of other paragraphs, in other groups or of other models."""
    hashes = [side.attrs["paragraphs"]["data_hash"] for side in (before, after)]
    if hashes[0] != hashes[1]:
        one, other = (
            f"{side.sizes['paragraph']} of {side.attrs['paragraphs']['source']} (data_hash {digest[:12]})"
            for side, digest in zip((before, after), hashes, strict=True)
        )
        raise SignatureError(
            f"change: the paragraphs differ: {one} before and {other} after; the same ones, in the same order, are needed."
        )
    for name, words in (("paragraph", "id"), ("group", "group"), ("cluster", "cluster")):
        differ = np.flatnonzero(before[name].values != after[name].values)
        if len(differ):
            one, other = (side[name].values[differ[0]].item() for side in (before, after))
            raise SignatureError(
                f"change: the {words} of row {differ[0]} is {one!r} before and {other!r} after; give both signatures the same."
            )
    for name in OF_THE_MODEL:
        one, other = (side.attrs["model"].get(name) for side in (before, after))
        if one != other:
            raise SignatureError(
                f"change: the models differ: {name} is {one!r} before and {other!r} after; an edit changes weights only."
            )


def _check_measured(
    name: str, sides: Float[np.ndarray, "side paragraph"], ids: Shaped[np.ndarray, " paragraph"]
) -> None:
    """Refuse what was measured on one side only: leaving it out would hide the paragraphs that an edit broke."""
    wrong = np.isinf(sides).any(0) | (np.isnan(sides[0]) != np.isnan(sides[1]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise SignatureError(
            f"change: {name} of paragraph {str(ids[row])!r} is {sides[0, row]:g} before and {sides[1, row]:g} after; "
            "both must be finite, or nan where nothing was measured."
        )


def _check_one_set(name: str, changes: Sequence[Change]) -> None:
    """Refuse repetitions in which an id stands for other tokens or another cluster, or whose ids never meet."""
    known: dict[str, tuple[list[int], int]] = {}
    for number, change in enumerate(changes, start=1):
        dataset = change.before.dataset
        if "tokens" not in dataset.coords:
            raise SignatureError(
                f"{caller()}: change {number} of {name!r} does not hold the tokens that pooling checks."
            )
        ids, tokens = dataset["paragraph"].values.tolist(), dataset["tokens"].values.tolist()
        rows = dict(zip(ids, zip(tokens, dataset["cluster"].values.tolist(), strict=True), strict=True))
        shared = [paragraph for paragraph in ids if paragraph in known]
        if known and not shared:
            raise SignatureError(
                f"{caller()}: change {number} of {name!r} has no paragraph of those before it; "
                "pooled changes are of one set, so that their clusters are the same."
            )
        for paragraph in shared:
            for place, what in enumerate(("other tokens", "another cluster")):
                if rows[paragraph][place] != known[paragraph][place]:
                    raise SignatureError(
                        f"{caller()}: paragraph {paragraph!r} has {what} in change {number} of {name!r} than before it; "
                        "pooled changes are of one set of paragraphs."
                    )
        known |= rows
