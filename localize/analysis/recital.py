"""When in a training paragraphs are first recited whole, after how many exposures, and when that is lost again."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, Row, row_of
from localize.analysis.trainings import OWN, Trainings, of_run
from localize.axes import TRAINED
from localize.errors import public
from localize.statistics import UNBOUNDED, ZERO_TO_ONE, Range
from localize.statistics.seeds import seed_interval

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

EVER, AT_END = "share ever recited", "share recited at the end"
MEDIAN_STEP, MEDIAN_EXPOSURES = "median first step", "median exposures by then"

HALF = 0.5


@public
def first_recital(signature: "MemorizationSignature") -> "pd.DataFrame":
    """At which measured step of training each paragraph's whole continuation was first recited, and lost again.

    Args:
        signature: Over training: `exact_match` and `nll`, with the coordinate `duplicates`; `exposures` where they were counted.

    Returns:
        One row per paragraph, and run and seed where there are several. `first_step`: nan where it never was whole; it came after the
        measured step `after_step` (nan if it was whole at the first one). `exposures`: rows of it trained on by `first_step`; nan
        where that was not counted. `lost_step`: the first measured step after `first_step` at which it is whole no more; nan where
        there is none. `recited_at_end`: whether it is whole at the last measured step. `copies`, `window`, `group` as it was planted.

    Raises:
        SignatureError: If the signature is not over training, or does not say what was planted.
    """
    import pandas as pd

    trainings = Trainings.of(signature)
    dataset = trainings.dataset
    windows = {window: trainings.inside(window) for window in trainings.windows()}
    words = np.full(len(signature), "", dtype=object)
    for window, rows in windows.items():
        words[rows] = window.words
    about = {"group": dataset["group"].values, "copies": trainings.copies, "window": words}
    runs = [str(run) for run in dataset["training_run"].values] if "training_run" in dataset.dims else [TRAINED]
    seeds = dataset["training_seed"].values.tolist() if "training_seed" in dataset.dims else [0]
    parts = []
    for run in runs:
        whole = is_whole(dataset, run)
        exposures = of_run(dataset, "exposures", run) if "exposures" in dataset else np.full(whole.shape, np.nan)
        for at, number in enumerate(seeds):
            named = {"training_run": run, "training_seed": number, "paragraph": dataset["paragraph"].values}
            parts.append(pd.DataFrame(named | about | _times(whole[at], exposures[at], trainings.steps)))
    kept = [axis for axis in ("training_run", "training_seed") if axis in dataset.dims]
    table = pd.concat(parts, ignore_index=True).set_index([*kept, "paragraph"])
    return table.drop(columns=[name for name in ("training_run", "training_seed") if name not in kept])


@public
def recital_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """How many of the planted paragraphs are ever recited whole, and after how long, by copies and window.

    Args:
        signature: As `first_recital` takes it; of its runs the planted one is told.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `copies`, `window` and `quantity`, columns as in `dose_table`. "share ever recited" and "share recited at the end"
        stand beside the same of held-out paragraphs, where there are any. "median first step" is the first measured step by which half
        of the level's paragraphs had been recited, and "median exposures by then" the median of what those had seen that ever were,
        first of all: nan where fewer than half were, in any seed. No null is told of these: what is not planted is hardly ever recited.
        Intervals as in `dose_table`, of the medians with one seed as of any number that follows from means.

    Raises:
        SignatureError: If the signature is not over training, or does not say what was planted.

    Warns:
        UserWarning: Of fewer than 5 seeds.
    """
    from localize.analysis.tables import table_of

    trainings, draws = Trainings.of(signature), Draws(seed, resamples)
    trainings.warn_of_few_seeds()
    rows = [row for level in trainings.levels() for row in _level_rows(trainings, level.rows, level.labels, draws)]
    return table_of(rows, ("copies", "window", "quantity"), OWN)


def is_whole(dataset, run: str = TRAINED) -> Bool[np.ndarray, "seed step paragraph"]:
    """Whether the whole continuation is recited."""
    return of_run(dataset, "exact_match", run) >= dataset.attrs["paragraphs"]["continuation_length"]


def first_place(there: Bool[np.ndarray, "step *cell"]) -> Float[np.ndarray, "*cell"]:
    """Where along the steps something first is; nan where it never is.

    >>> first_place(np.array([[False, False], [True, False]]))
    array([ 1., nan])
    """
    return np.where(there.any(0), there.argmax(0), np.nan)


def _times(
    whole: Bool[np.ndarray, "step paragraph"], exposures: Float[np.ndarray, "step paragraph"], steps: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns of `first_recital` for one training."""
    first = first_place(whole)
    place = np.nan_to_num(first).astype(int)
    never = np.isnan(first)
    later = np.arange(len(steps))[:, None] > place
    lost = first_place(~whole & later & ~never)
    return {
        "first_step": np.where(never, np.nan, steps[place]),
        "after_step": np.where(never | (place == 0), np.nan, steps[np.maximum(place - 1, 0)]),
        "exposures": np.where(never, np.nan, exposures[place, np.arange(len(place))]),
        "lost_step": np.where(np.isnan(lost), np.nan, steps[np.nan_to_num(lost).astype(int)]),
        "recited_at_end": whole[-1],
    }


def _level_rows(trainings: Trainings, rows: Bool[np.ndarray, " paragraph"], labels: Row, draws: Draws) -> list[Row]:
    dataset, about = trainings.dataset, labels | trainings.labels
    whole = is_whole(dataset)
    by_then = np.maximum.accumulate(whole, axis=1)
    shares = {EVER: by_then[:, -1], AT_END: whole[:, -1]}
    found: list[Row] = []
    for quantity, said in shares.items():
        numbers = trainings.mean_row(said.astype(float), rows, draws, ZERO_TO_ONE)
        found.append(about | {"quantity": quantity} | numbers)
    known = Range(float(trainings.steps[0]), float(trainings.steps[-1]))
    found.append(
        about | {"quantity": MEDIAN_STEP} | _median_row(trainings, by_then, trainings.steps, rows, draws, known)
    )
    if "exposures" in dataset:
        first = np.stack([_times(of, seen, trainings.steps)["exposures"] for of, seen in _seeds(trainings, whole)])
        counts = np.arange(int(np.nanmax(np.nan_to_num(first))) + 1)
        had = first[:, None] <= counts[:, None]  # of what was never recited nan, which is no less than any count
        numbers = _median_row(trainings, had, counts, rows, draws, Range(0, np.inf))
        found.append(about | {"quantity": MEDIAN_EXPOSURES} | numbers)
    return found


def _seeds(trainings: Trainings, whole: Bool[np.ndarray, "seed step paragraph"]):
    return zip(whole, of_run(trainings.dataset, "exposures", TRAINED), strict=True)


def _median_row(
    trainings: Trainings,
    by_then: Bool[np.ndarray, "seed place paragraph"],
    places: np.ndarray,
    rows: Bool[np.ndarray, " paragraph"],
    draws: Draws,
    possible: Range = UNBOUNDED,
) -> Row:
    """The first place by which half of some paragraphs are there; later ones count as later than all."""
    shares = trainings.mean(by_then.astype(float), rows)  # seed place
    if trainings.seeds > 1:
        medians = half_reached(shares, places)
        interval = seed_interval(medians if not np.isnan(medians).any() else np.full(len(medians), np.nan))
    else:
        values = by_then[0][:, rows].T.astype(float)
        interval = draws.statistic(values, trainings.clusters[rows], partial(half_reached, places=places))
    return row_of(interval.within(possible), NO_NULL, trainings.basis(rows))


def half_reached(shares: Float[np.ndarray, "draw place"], places: np.ndarray) -> Float[np.ndarray, " draw"]:
    """The first place at which a rising share is a half or more; nan where it never is."""
    found = first_place((shares >= HALF - 1e-12).T)
    return np.where(np.isnan(found), np.nan, places[np.nan_to_num(found).astype(int)].astype(float))
