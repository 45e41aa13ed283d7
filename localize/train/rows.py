"""Which row of a training is what: a planted paragraph, fresh text, or an earlier row shown again. Numbers alone, no text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from localize.errors import InputError
from localize.train.recipe import WHOLE

Rows = Int[np.ndarray, " row"]


class Layout(NamedTuple):
    """What each row of a training is.

    Attributes:
        paragraph: The paragraph that it is, whether it is planted or shown again; -1 for others.
        presentation: Which of the planted presentations; -1 for others.
        fresh: Which fresh row of its stage's text; -1 for others.
        again: The earlier row that it shows again; -1 for others.
        stage: The stage that it stands in.
    """

    paragraph: Rows
    presentation: Rows
    fresh: Rows
    again: Rows
    stage: Rows

    def spared(self, left_out: Bool[np.ndarray, " paragraph"]) -> Bool[np.ndarray, " row"]:
        """Rows of the paragraphs that a run leaves out, shown again or not."""
        return (self.paragraph >= 0) & left_out[self.paragraph]


def laid_out(
    sizes: Sequence[int],
    replays: Sequence[float],
    planted: Int[np.ndarray, " presentation"],
    windows: Sequence[tuple[float, float]],
    stage: int,
    rng: np.random.Generator,
) -> Layout:
    """Deal rows out over the stages of a training.

    Args:
        sizes: Rows of each stage.
        replays: The share of each that are earlier rows: drawn from all of them alike, each once before one comes twice.
        planted: The paragraph of each presentation.
        windows: Of each presentation, as shares of the stage.
        stage: In which the paragraphs are planted.
        rng: Draws the order.

    Raises:
        InputError: If a window has fewer rows than presentations.
    """
    layouts: list[Layout] = []
    for index, (size, replay) in enumerate(zip(sizes, replays, strict=True)):
        mine = planted if index == stage else planted[:0]
        before = sum(sizes[:index])
        again = round(replay * size)
        if index != stage or all(tuple(window) == WHOLE for window in windows):
            order = rng.permutation(size)
            if len(mine) + again > size:
                raise InputError(
                    f"recipe: stage {index}: {len(mine)} planted rows and {again} shown again exceed its {size} rows."
                )
        else:
            order = _in_windows(size, again, windows, index, rng)
        drawn = np.concatenate([rng.permutation(before) for _ in range(-(-again // max(before, 1)))] or [order[:0]])[
            :again
        ]
        # Presentations come first in what is dealt out, then what is shown again, then fresh rows.
        planted_here = order < len(mine)
        again_here = (order >= len(mine)) & (order < len(mine) + again)
        fresh_here = order >= len(mine) + again
        nothing = np.full(size, -1)
        layouts.append(
            Layout(
                np.where(planted_here, _at(mine, order), nothing),
                np.where(planted_here, order, nothing),
                np.where(fresh_here, order - len(mine) - again, nothing),
                np.where(again_here, _at(drawn, order - len(mine)), nothing),
                np.full(size, index),
            )
        )
    layout = Layout(*(np.concatenate(parts) for parts in zip(*layouts, strict=True)))
    for row in np.flatnonzero(layout.again >= 0):  # in order: what is shown again may itself have been
        layout.paragraph[row] = layout.paragraph[layout.again[row]]
    return layout


def _at(values: Int[np.ndarray, " value"], at: Rows) -> Rows:
    """Values at places, any value where a place is none."""
    return values[at.clip(0, len(values) - 1)] if len(values) else np.full(len(at), -1)


def _in_windows(
    size: int, again: int, windows: Sequence[tuple[float, float]], stage: int, rng: np.random.Generator
) -> Rows:
    """The order of a stage's rows with each presentation inside its window."""
    order = np.full(size, -1)
    spans = [(int(np.floor(first * size)), int(np.floor(after * size))) for first, after in windows]
    for first, after in sorted(
        set(spans), key=lambda span: (span[1] - span[0], span)
    ):  # those that have least choice first
        wanted = np.array([index for index, span in enumerate(spans) if span == (first, after)])
        free = first + np.flatnonzero(order[first:after] < 0)
        if len(wanted) > len(free):
            raise InputError(
                f"recipe: stage {stage}: {len(wanted)} planted rows in the window {first / size:g}..{after / size:g} exceed its "
                f"{len(free)} free rows."
            )
        order[rng.choice(free, len(wanted), replace=False)] = wanted
    rest = np.flatnonzero(order < 0)
    if again > len(rest):
        raise InputError(
            f"recipe: stage {stage}: {again} rows shown again exceed the {len(rest)} that are not planted."
        )
    order[rng.permutation(rest)] = len(windows) + np.arange(len(rest))
    return order
