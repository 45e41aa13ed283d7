"""Whether a text's memory is local: what it loses without its best units, beside what others lose and random units cost.

- *NLL rise*, beside *other texts'* with the same units ablated, and beside *random units* of the same layers; paired, signs of clusters
  flipped.
- *Share of the gap*: that rise over the gap between the text's NLL and that of held-out text, the mean of the group "not_memorized",
  which is taken as known. 1 where nothing of the memory is left. Memory is called local within k units where they take more than half.
- *Exact match lost*.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, Row, beside
from localize.analysis.sentences import Wording, sentence
from localize.axes import MEMORIZED, NOT_MEMORIZED, ordered_groups
from localize.errors import public
from localize.signature.schema import range_of
from localize.statistics import UNBOUNDED, Range

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

BESIDE_OTHERS = "NLL rise without the best {} units, beside other texts'"
BESIDE_RANDOM = "NLL rise without the best {} units, beside random units"
OF_GAP = "share of the gap to held-out loss that the best {} units take, beside random units"
LOST = "exact match lost without the best {} units"

TOLD = (16, 64)
"""Of these numbers of units, or the nearest that were tried, the summary tells."""

LOCAL = 0.5
"""Units that take more than this share of the gap are called the place of the memory."""

SELECTIVE = Wording(
    "without its best {units} units a text loses more than other texts do",
    "without its best {units} units a text loses less than other texts do",
    "no evidence that a text loses more than others without its best {units} units",
)
CHOSEN = Wording(
    "its best {units} units cost it more than random units of the same layers",
    "its best {units} units cost it less than random units of the same layers",
    "no evidence that its best {units} units cost it more than random ones",
)
PLACE = Wording(
    "the memory is local: the best {units} units take more than half of the gap to held-out loss",
    "the memory is spread over more than {units} units: the best ones take less than half of the gap to held-out loss",
    "not known whether {units} units hold half of the memory: the share of the gap to held-out loss that they take",
)


@public
def locality_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """What texts lose without their best units, for each number of units and group, beside other texts and random units.

    Args:
        signature: With `locality`.
        seed: Of bootstrap and sign flips.
        resamples: Draws of each.

    Returns:
        Rows indexed by `quantity`, `units` and `group`, of the groups that were tried; columns as in `summary`, and `difference`,
        `difference_low`, `difference_high`: how far the number lies above what stands beside it. See `localize.analysis.locality`.

    Raises:
        SignatureError: If locality was not measured.
    """
    from localize.analysis.tables import table_of

    require(signature, {"located_rise": "localize.locality(model, paragraphs)"})
    dataset = signature.dataset
    tried = np.isfinite(dataset["located_rise"].values).any(1)
    group, clusters = (dataset[name].values[tried] for name in ("group", "cluster"))
    warn_of_few_clusters({name: clusters[group == name] for name in ordered_groups(group.tolist())})
    rows = locality_rows(dataset, Draws(seed, resamples))
    return table_of(rows, ("quantity", "units", "group"), DIFFERENCE)


def locality_rows(dataset: "xr.Dataset", draws: Draws, units: tuple[int, ...] | None = None) -> list[Row]:
    """The rows of the table, of all numbers of units or of some."""
    numbers = dataset["units_ablated"].values.tolist()
    own, others, chance, lost = (
        dataset[f"located_{name}"].transpose("paragraph", "units_ablated").values.astype(float)
        for name in ("rise", "others_rise", "random_rise", "lost_match")
    )
    gap, zero, rows = gap_of(dataset), np.zeros(len(own)), []
    for at, number in enumerate(numbers):
        if units is not None and number not in units:
            continue
        sides = [
            (BESIDE_OTHERS, own[:, at], others[:, at], UNBOUNDED),
            (BESIDE_RANDOM, own[:, at], chance[:, at], UNBOUNDED),
            (OF_GAP, own[:, at] / gap, chance[:, at] / gap, UNBOUNDED),
            (LOST, lost[:, at], zero, range_of(dataset, "located_lost_match")),
        ]
        for quantity, values, aside, possible in sides:
            rows += _of_groups(quantity.format(number), number, values, aside, dataset, possible, draws)
    return rows


def _of_groups(
    quantity: str,
    units: int,
    values: Float[np.ndarray, " paragraph"],
    aside: Float[np.ndarray, " paragraph"],
    dataset: "xr.Dataset",
    possible: Range,
    draws: Draws,
) -> list[Row]:
    """A row for each group of which something is known."""
    group, clusters = dataset["group"].values.astype(str), dataset["cluster"].values
    rows = []
    for name in ordered_groups(group.tolist()):
        chosen = (group == name) & np.isfinite(values) & np.isfinite(aside)
        if chosen.any():
            told = beside(values[chosen], aside[chosen], clusters[chosen], possible, draws)
            rows.append({"quantity": quantity, "units": units, "group": name} | told)
    return rows


def gap_of(dataset: "xr.Dataset") -> Float[np.ndarray, " paragraph"]:
    """How far each memorized paragraph's NLL lies below that of held-out text; nan for others, and where there is no such text.

    Nan too where the ablation was of own continuations: their NLL is not the one that was attached.
    """
    group, nll = dataset["group"].values, dataset["nll"].values.astype(float)
    same = dataset["located_rise"].attrs.get("continuation") == dataset["nll"].attrs.get("continuation")
    if not same or not (group == NOT_MEMORIZED).any():
        return np.full(len(nll), np.nan)
    gap = nll[group == NOT_MEMORIZED].mean() - nll
    return np.where((group == MEMORIZED) & (gap > 0), gap, np.nan)


def told_numbers(dataset: "xr.Dataset") -> tuple[int, ...]:
    """Those of the numbers tried that the summary tells of."""
    numbers = dataset["units_ablated"].values.tolist()
    return tuple(dict.fromkeys(min(numbers, key=lambda number: abs(np.log(number / told))) for told in TOLD))


def locality_notes(signature: "MemorizationSignature") -> list[str]:
    """Whether memory is local, in sentences."""
    dataset, notes = signature.dataset, []
    if "located_rise" not in signature:
        return []
    numbers = told_numbers(dataset)
    rows = {(row["quantity"], row["group"]): row for row in locality_rows(dataset, Draws(0), numbers)}
    for name in dict.fromkeys(group for _, group in rows):
        for number in numbers:
            row = lambda quantity, name=name, number=number: rows.get((quantity.format(number), name))  # noqa: E731
            told = []
            for quantity, wording in ((BESIDE_OTHERS, SELECTIVE), (BESIDE_RANDOM, CHOSEN)):
                if (found := row(quantity)) is not None:
                    told.append(sentence(found, wording, part="difference", unit="nats per token more", units=number))
            if (share := row(OF_GAP)) is not None:
                told.append(place_sentence(share, number))
            notes += [f"Locality, {name.replace('_', ' ')}: {said}." for said in told]
    return notes


def place_sentence(row: Row, units: int) -> str:
    """Whether the best units take more than half of the gap, by the whole interval of their share."""
    from localize.analysis.rows import side

    words = PLACE.words(side(row["low"] - LOCAL, row["high"] - LOCAL, np.nan))
    return sentence(row | {"p_value": np.nan}, Wording(words, words, words, words), units=units)
