"""How what a training has learned of paragraphs fades once they are shown no more.

The gap, a pair effect or without a twin run an unmatched gap, is averaged over a window's paragraphs. From the window's end on, t steps
after it, it is held to gap(t) = c + A exp(-t / tau): a floor c, a drop A and a time constant tau. The curve is that of one stage of a
training: what other text does to it is told as the gap at each stage's end.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, Null, Row, row_of
from localize.analysis.trainings import OWN, PAIR_EFFECT, Trainings, Window
from localize.errors import SignatureError, caller, public, warn
from localize.statistics import UNBOUNDED, Interval, Range
from localize.statistics.forgetting import FEWEST_POINTS, Forgetting, fitted_forgetting
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

AT_LAST, AT_END = "gap at the last exposure", "gap at the end"
FLOOR, DROP, TAU, LEFT = "floor c", "drop A", "time constant tau", "share left at the end"

POSITIVE = Range(0, np.inf)

ROUNDING = 1e-6
"""Steps by which a share of the run may miss a whole step."""


@dataclass(frozen=True, eq=False)
class Fading:
    """What came of a window's paragraphs after its end.

    Attributes:
        window: When they were shown.
        rows: Which paragraphs they are.
        last: Steps of training after which none of them is shown any more.
        places: Of the measured steps from there on.
        points: How many of them lie in the same stage of the training, to which the curve is fitted.
        gap: Mean over the paragraphs there, in nats per token.
        fits: Of each seed.
    """

    window: Window
    rows: Bool[np.ndarray, " paragraph"]
    last: float
    places: Int[np.ndarray, " point"]
    points: int
    gap: Float[np.ndarray, "seed point"]
    fits: tuple[Forgetting, ...]

    @property
    def fitted(self) -> int:
        """Seeds with a curve."""
        return sum(fit.fitted for fit in self.fits)

    @property
    def cut(self) -> bool:
        """Whether other text follows as the window ends, so that nothing tells how it would have faded."""
        return self.points == 1 < len(self.places)


@public
def forgetting_table(
    signature: "MemorizationSignature", copies: int | None = None, *, seed: int = 0, resamples: int = 1000
) -> "pd.DataFrame":
    """What was learned of the paragraphs of each window by its end, what is left of it at the training's end, and how it fades.

    Args:
        signature: As `dose_table` takes it, with `window_start` and `window_end`, measured at several steps after a window's end.
        copies: Of the paragraphs planted so often alone; None takes all of a window together.
        seed: Of bootstrap and permutation.
        resamples: Draws of each; with one seed the curve is fitted to each draw of clusters anew.

    Returns:
        Indexed by `window`, those that end before the training does, and `quantity`, columns as in `dose_table`, `points` (measured
        steps from the window's end to that of its stage) and `fitted` (seeds with a curve). Quantities: the gap at the first measured
        step from the window's end on, at the end of each stage after it, and at the last step, in nats per token; floor, drop and time
        constant (steps) of the curve, and the last gap over the first. Of a window that ends as another stage begins there are gaps
        alone. The null of a gap is as in `dose_table`; that of the floor the mean gap of held-out paragraphs at the same
        steps. Intervals are over seeds, of tau on the scale of its logarithm, so that its mean is the geometric one. Of a window
        whose curve has fewer than 4 points, is not found or shows no floor (tau beyond 10 times the span measured) floor, drop and
        tau are nan; seeds without a curve are left out. tau is nan where there is no drop.

    Raises:
        SignatureError: As `dose_table`, and if windows are not told, no paragraph has so many copies, or no window ends before the
            training.

    Warns:
        UserWarning: Of fewer than 5 seeds, and of windows without a curve.
    """
    from localize.analysis.tables import table_of

    trainings, draws = Trainings.of(signature), Draws(seed, resamples)
    fadings = fadings_of(trainings, copies)
    trainings.warn_of_few_seeds()
    for fading in fadings:
        if fading.cut:
            continue
        if fading.points < FEWEST_POINTS:
            warn(
                f"{caller()}: window {fading.window.words} was measured at {fading.points} steps after its end; "
                f"{FEWEST_POINTS} are needed for a curve."
            )
        elif fading.fitted < trainings.seeds:
            missing = trainings.seeds - fading.fitted
            warn(
                f"{caller()}: window {fading.window.words} has no curve with a floor in {missing} of {trainings.seeds} seeds."
            )
    rows = [row for fading in fadings for row in fading_rows(trainings, fading, draws)]
    return table_of(rows, ("window", "quantity"), (*OWN, "points", "fitted"))


def fadings_of(trainings: Trainings, copies: int | None = None) -> list[Fading]:
    """What came of each window that ends before the training does, and was measured after it.

    Raises:
        SignatureError: If windows are not told, no paragraph has so many copies, or there is no such window.
    """
    trainings.need_held_out()
    if np.isnan(trainings.end[trainings.planted]).all():
        raise SignatureError(
            f"{caller()}: the signature does not tell 'window_start' and 'window_end' of planted paragraphs; "
            "they say when each was last shown."
        )
    chosen = trainings.planted if copies is None else trainings.copies == copies
    if not (chosen & trainings.planted).any():
        known = ", ".join(str(int(c)) for c in np.unique(trainings.copies[trainings.planted]))
        raise SignatureError(f"{caller()}: no paragraph has copies={copies!r}; there are {known}.")
    found = [one for window in ended(trainings) if (one := _fading(trainings, window, chosen)) is not None]
    if not found:
        raise SignatureError(f"{caller()}: no window ends before the training and was measured after its end.")
    return found


def ended(trainings: Trainings) -> list[Window]:
    """The windows that end before the training does, and after whose end something was measured."""
    return [
        window
        for window in trainings.windows()
        if window.end < 1 and trainings.steps[-1] >= window.end * trainings.total_steps - ROUNDING
    ]


def _fading(trainings: Trainings, window: Window, chosen: Bool[np.ndarray, " paragraph"]) -> Fading | None:
    """What came of the chosen paragraphs of an ended window; None where there are none."""
    rows, last = trainings.inside(window) & chosen, window.end * trainings.total_steps
    if not rows.any():
        return None
    places = np.flatnonzero(trainings.steps >= last - ROUNDING)
    stage_end = min((part.end for part in trainings.parts if part.end >= last - ROUNDING), default=np.inf)
    points = int((trainings.steps[places] <= stage_end).sum())
    gap = trainings.mean(trainings.gap, rows)[:, places]
    since = np.maximum(trainings.steps[places] - last, 0.0)
    fits = tuple(fitted_forgetting(since[:points], of_seed[:points]) for of_seed in gap)
    return Fading(window, rows, last, places, points, gap, fits)


def fading_rows(trainings: Trainings, fading: Fading, draws: Draws) -> list[Row]:
    """All quantities of a window."""
    window, basis = fading.window, trainings.basis(fading.rows)
    about = {"window": window.words, "window_start": window.start, "window_end": window.end} | trainings.labels
    about |= {"points": fading.points, "fitted": fading.fitted}
    rows = [
        about | {"quantity": quantity} | trainings.gap_row(place, fading.rows, draws)
        for quantity, place in _gap_places(trainings, fading)
    ]
    if fading.cut:
        return rows
    if trainings.seeds > 1:
        interval = seed_interval(
            np.stack([_numbers(fit, gap) for fit, gap in zip(fading.fits, fading.gap, strict=True)])
        )
    else:
        interval = _over_clusters(trainings, fading, draws)
    ranges = {FLOOR: UNBOUNDED, DROP: POSITIVE, TAU: POSITIVE, LEFT: UNBOUNDED}
    for number, (quantity, possible) in enumerate(ranges.items()):
        own = interval[number] if quantity != TAU else _exponential(interval[number])
        null = _null_of_floor(trainings, fading, draws) if quantity == FLOOR else NO_NULL
        rows.append(about | {"quantity": quantity} | row_of(own.within(possible), null, basis))
    return rows


def _gap_places(trainings: Trainings, fading: Fading) -> list[tuple[str, int]]:
    """When gaps are told: when the paragraphs were last shown, at the ends of the stages from then on, and in the end."""
    first, steps = int(fading.places[0]), trainings.steps
    between = [part for part in trainings.parts[:-1] if steps[first] < part.end and part.end in steps]
    ends = [(f"gap at the end of {part.name}", trainings.at(part.end)) for part in between]
    return [(AT_LAST, first), *ends, (AT_END, len(steps) - 1)]


def _numbers(fit: Forgetting, gap: Float[np.ndarray, " point"]) -> Float[np.ndarray, " 4"]:
    """Floor, drop, log tau and share left; nan where there is none."""
    left = gap[-1] / gap[0] if gap[0] > 0 else np.nan
    return np.array([fit.floor, fit.drop, np.log(fit.tau), left])


def _over_clusters(trainings: Trainings, fading: Fading, draws: Draws) -> Interval:
    """The same of one seed, its curve fitted anew to every draw of clusters; held-out ones are drawn with the planted."""
    since = np.maximum(trainings.steps[fading.places] - fading.last, 0.0)
    count = len(since)

    def numbers(means: Float[np.ndarray, "draw cell"]) -> Float[np.ndarray, "draw 4"]:
        gaps = means if means.shape[1] == count else means[:, count:] - means[:, :count]
        points = fading.points
        return np.stack([_numbers(fitted_forgetting(since[:points], gap[:points]), gap) for gap in gaps])

    if trainings.gap_name == PAIR_EFFECT:
        values = trainings.gap[0, fading.places][:, fading.rows].T
        return draws.statistic(values, trainings.clusters[fading.rows], numbers)
    nll, drawn = trainings.nll[0, fading.places].T, fading.rows | trainings.held_out
    sides = [np.where(of[:, None], nll, np.nan) for of in (fading.rows, trainings.held_out)]
    return draws.statistic(np.concatenate(sides, axis=1)[drawn], trainings.clusters[drawn], numbers)


def _exponential(interval: Interval) -> Interval:
    """Of logarithms the numbers; an end that no float holds is infinite."""
    with np.errstate(over="ignore"):
        ends = [np.asarray(np.exp(getattr(interval, end))) for end in ("estimate", "low", "high")]
    return Interval(*ends, rough=interval.rough)


def _null_of_floor(trainings: Trainings, fading: Fading, draws: Draws) -> Null:
    """The mean gap of held-out paragraphs at the same steps; without a twin run that is 0 by what the gap is."""
    if trainings.gap_name != PAIR_EFFECT:
        return NO_NULL
    values = trainings.gap[:, fading.places[: fading.points]].mean(1)
    interval = trainings.interval(values, trainings.held_out, draws)
    if trainings.seeds == 1:
        return Null.measured(interval, np.nan)
    beside = trainings.mean(values[:, None], trainings.held_out)[:, 0]
    return Null.measured(interval, seed_test(np.array([fit.floor for fit in fading.fits]) - beside))
