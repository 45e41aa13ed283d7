"""How often paragraphs had been trained on by some step, and how long ago the last time was."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from localize.errors import LocalizeError, caller, public


class Exposures(NamedTuple):
    """What paragraphs had seen of training by some steps.

    Attributes:
        exposures: Rows so far that were the paragraph.
        steps_since_exposure: Steps since the last of them: 0 for the step just made; nan before the first.
    """

    exposures: Int[np.ndarray, "step paragraph"]
    steps_since_exposure: Float[np.ndarray, "step paragraph"]


@public
def exposures(row_paragraph: Int[np.ndarray, " row"], batch: int, at: Sequence[int], paragraphs: int) -> Exposures:
    """Count each paragraph's rows before each of some steps.

    Args:
        row_paragraph: Which paragraph each row of the training is, in the order of training; -1 for other text.
        batch: Rows a step.
        at: After how many steps.
        paragraphs: How many paragraphs there are.

    Raises:
        LocalizeError: If a row is of no paragraph that there is, or a step is not reached.
    """
    if len(row_paragraph) and not -1 <= row_paragraph.min() <= row_paragraph.max() < paragraphs:
        raise LocalizeError(
            f"{caller()}: rows of the paragraphs {row_paragraph.min()}..{row_paragraph.max()}; -1..{paragraphs - 1} are allowed."
        )
    steps = -(-len(row_paragraph) // batch)
    if len(at) and not 0 <= min(at) <= max(at) <= steps:
        raise LocalizeError(f"{caller()}: at={min(at)}..{max(at)} must lie in 0..{steps}, the steps of these rows.")
    rows = np.flatnonzero(row_paragraph >= 0)
    step, paragraph = rows // batch, row_paragraph[rows]
    counts, since = np.zeros((len(at), paragraphs), np.int64), np.full((len(at), paragraphs), np.nan)
    for index, done in enumerate(at):
        seen = step < done
        counts[index] = np.bincount(paragraph[seen], minlength=paragraphs)
        last = np.full(paragraphs, -1)
        np.maximum.at(last, paragraph[seen], step[seen])
        since[index] = np.where(last >= 0, done - 1 - last, np.nan)
    return Exposures(counts, since)
