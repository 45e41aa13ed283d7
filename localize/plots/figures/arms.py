"""Variants of one training beside each other: what held-out text came to in each, what copies taught, and what is recited."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.arms import COST, NLL, RISE, Measured, measured, trainings_by_arm
from localize.analysis.dose import EXACT_MATCH
from localize.analysis.draws import Draws
from localize.analysis.trainings import Trainings
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    GAP_WORDS,
    INTERVALS,
    PLACES,
    STEP,
    UNDER,
    WIDE,
    basis_words,
    half_page,
    labelled_axis,
    members,
    whisker_points,
)
from localize.plots.series import Series
from localize.plots.sheet import Panel, Sheet
from localize.plots.theme import NULL, plain, variable_words
from localize.statistics import UNBOUNDED, Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

BESIDE = 0.14
"""By how much of an arm's width two series stand apart."""

TITLES = {NLL: "NLL of held-out text", EXACT_MATCH: "What is recited of the planted"}
TAUGHT = "What copies took off the NLL"

Lines = list[tuple[Series, Sequence[Measured | None]]]
"""Series, each with one quantity of every arm; None of an arm that has no such text, as where windows differ."""


@public("plots.arms")
def arms(signature: "MemorizationSignature", step: int = -1, *, seed: int = 0) -> "go.Figure":
    """The arms of a training beside each other: NLL of held-out text, and of planted paragraphs what copies taught and what is recited.

    Grey: of held-out text the same before the last stage of the training began, or in the twin run, which was shown no planted rows; of
    planted paragraphs what the same is of held-out ones. The numbers are those of `localize.arm_table`.

    Args:
        signature: Over training with arms, as `localize.arm_table` takes it.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.arm_table` raises it.
    """
    by_arm, draws, sheet = trainings_by_arm(signature), Draws(seed), Sheet()
    first = next(iter(by_arm.values()))
    at = first.at(step)
    found = {arm: list(measured(trainings, at)) for arm, trainings in by_arm.items()}
    note = f"after {first.steps[at]} steps; {basis_words(first.seeds)}"
    quantities = [NLL, *([first.gap_name, EXACT_MATCH] if first.planted.any() else [])]
    bottom = 0
    for number, quantity in enumerate(quantities):
        box = half_page(number) if len(quantities) > 1 else replace(half_page(0), width=STEP + WIDE)
        bottom = box.bottom
        words = {NLL: variable_words("nll", "NLL"), EXACT_MATCH: variable_words("exact_match")}
        y = {"title": {"text": words.get(quantity) or GAP_WORDS[first.gap_name]}, "rangemode": "tozero"}
        x = labelled_axis(_varied(signature), [plain(arm) for arm in by_arm])
        if quantity == NLL:
            y.pop("rangemode")
        panel = sheet.panel(box, TITLES.get(quantity, TAUGHT), note, x=x, y=y)
        lines = _nulls(quantity, list(by_arm.values()), at, found) + _lines(quantity, found)
        for place, (series, ones) in enumerate(lines):
            _points(panel, series, ones, list(by_arm.values()), place - (len(lines) - 1) / 2, draws)
    return sheet.finish(bottom + UNDER)


def _lines(quantity: str, found: dict[str, list[Measured]]) -> Lines:
    """One series per text: held out, or planted in some window."""
    held_out = quantity == NLL
    texts = list(dict.fromkeys(
        one.text for ones in found.values() for one in ones if one.quantity == quantity and one.planted != held_out
    ))  # fmt: skip
    return [
        (
            Series.of(plain(text), (PLACES[::-1] if held_out else PLACES)[place % len(PLACES)]),
            [_of(quantity, text, ones) for ones in found.values()],
        )
        for place, text in enumerate(texts)
    ]


def _of(quantity: str, text: str, ones: list[Measured]) -> Measured | None:
    return next((one for one in ones if (one.quantity, one.text) == (quantity, text)), None)


def _nulls(quantity: str, trainings: Sequence[Trainings], at: int, found: dict[str, list[Measured]]) -> Lines:
    """What the same numbers are where nothing was planted, or before the last stage."""
    first, ones = trainings[0], next(iter(found.values()))
    if quantity != NLL:
        if not first.held_out.any() or (quantity != EXACT_MATCH and first.twin_nll is None):
            return []
        of = [one.exact_match[:, at] if quantity == EXACT_MATCH else one.gap[:, at] for one in trainings]
        possible = first.possible_tokens if quantity == EXACT_MATCH else UNBOUNDED
        values = [
            Measured(quantity, "", value, one.held_out, possible) for value, one in zip(of, trainings, strict=True)
        ]
        return [(Series.of("held-out paragraphs", 0, null=True), values)]
    less = [name for name in dict.fromkeys(one.quantity for one in ones) if name == COST or name == _rise(first)]
    lines: Lines = []
    for name in less:
        where = "without the planted rows" if name == COST else f"before {plain(first.parts[-1].name)} began"
        for text in dict.fromkeys(one.text for one in ones if one.quantity == name):
            pairs = [(_of(NLL, text, of_arm), _of(name, text, of_arm)) for of_arm in found.values()]
            values = [Measured(NLL, text, a.values - b.values, a.rows) if a and b else None for a, b in pairs]
            symbol = ("circle-open", "square-open", "diamond-open", "cross-open")[len(lines) % 4]
            lines.append((Series(f"{plain(text)}, {where}", NULL, symbol, null=True), values))
    return lines


def _varied(signature: "MemorizationSignature") -> str:
    """What the arms differ in, as the recipe has it, where that is told and is one thing."""
    told = signature.dataset.attrs.get("training", {}).get("arms", {})
    varied = {key for arm in told.values() for key in arm.get("varied", ())}
    return f"arm: {plain(min(varied))}" if len(varied) == 1 else "arm"


def _rise(trainings: Trainings) -> str:
    return RISE.format(stage=trainings.parts[-1].name) if trainings.parts else ""


def _points(
    panel: Panel,
    series: Series,
    ones: Sequence[Measured | None],
    trainings: Sequence[Trainings],
    aside: float,
    draws: Draws,
) -> None:
    """A point with its interval for each arm that has the text."""
    there = [(at, one) for at, one in enumerate(ones) if one is not None]
    intervals = [trainings[at].interval(one.values, one.rows, draws, one.possible) for at, one in there]
    ends: list[Float[np.ndarray, " arm"]] = [
        np.array([float(getattr(one, end)) for one in intervals]) for end in ("estimate", "low", "high")
    ]
    interval = Interval(*ends, rough=np.array([bool(one.rough) for one in intervals]))
    group = members(series, there[0][1].rows, trainings[0])
    x = np.array([at for at, _ in there]) + BESIDE * aside
    whisker_points(panel, series, x, interval, group, keyed=True)


KIND = TrainingFigureKind(
    "arms",
    title="Variants of the training",
    caption="Variants of one training beside each other: NLL of held-out text (nats per token), and of planted paragraphs the NLL that "
    "copies took off (nats per token) and exact match (tokens). Grey: of held-out text the same before the last stage began, or in the "
    "twin runs, which were shown no planted rows; of planted paragraphs the same of held-out ones. " + INTERVALS,
    function=arms,
    there=lambda signature: "training_step" in signature.over_training,
    of="arms",
)
