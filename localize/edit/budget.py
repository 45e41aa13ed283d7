"""How much of a model an edit needs: as many units of each text as hold its memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from localize.analysis.locality import LOCAL
from localize.axes import NOT_MEMORIZED
from localize.errors import InputError, LocalizeError, caller
from localize.localizers.scores import Scores
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of
from localize.measure.locality import locality
from localize.measure.scoring import finite_recall, recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@reads_inputs("forget", "keep")
def units_holding(
    model: HookedModel,
    forget: Paragraphs,
    keep: Paragraphs,
    scores: Scores,
    *,
    share: float = LOCAL,
    numbers: int | Sequence[int] | None = None,
    batch_size: int = 64,
) -> Int[np.ndarray, " paragraph"]:
    """How many of each paragraph's best units take a share of its memory with them, by its locality curve.

    The best 4, 8, 16, ... units are ablated together, as in `locality`. The memory is the gap between the paragraph's NLL and the mean
    NLL of the keep set's paragraphs that the model does not recite.

    Args:
        model: A hooked model; it stays as it is.
        forget: The paragraphs; of their `tokens`.
        keep: Others, some of which the model does not recite.
        scores: Of a localizer, of the MLP units, for `forget`.
        share: Of the gap, in (0, 1]; half of it is what `locality_table` calls the place of a memory.
        numbers: Of units ablated together; None for those of `locality`.
        batch_size: Rows a forward pass.

    Returns:
        The fewest of `numbers` that take the share; the most of them where none does: such a memory has no place, and a mask of any units
        is as good.

    Raises:
        InputError: If paragraphs do not fit the model, or the keep set has none that is not recited.
        LocalizeError: If `share` is out of range, or the scores are of no MLP units, or not of these paragraphs.
    """
    if not 0 < share <= 1:
        raise LocalizeError(f"{caller()}: share={share} must lie above 0 and be at most 1.")
    recall = recall_of(model, keep)
    groups = groups_of(replace(keep, groups=None, em_bins=None), recall)
    unknown = np.flatnonzero(groups == NOT_MEMORIZED)
    if not len(unknown):
        raise InputError(
            f"{caller()}: none of the {len(keep)} paragraphs of the keep set is unknown to {model.name}; how much a text is remembered is "
            "told beside such text."
        )
    level = recall.token_nll[unknown].mean()
    plain = replace(forget, groups=("all",) * len(forget), em_bins=None)  # none of them is left out by its recall
    curves = locality(model, plain, scores=scores, numbers=numbers, texts=None, others=1, batch_size=batch_size)
    gap = level - finite_recall(model, forget, forget.tokens).token_nll.mean(1)
    rise = curves["located_rise"].transpose("paragraph", "units_ablated").values
    gap = np.where(gap > 0, gap, np.nan)  # nothing is taken of a text that is no better known than others
    return fewest_taking(rise / gap[:, None], curves["units_ablated"].values, share)


def fewest_taking(
    taken: Float[np.ndarray, "paragraph number"], numbers: Int[np.ndarray, " number"], share: float
) -> Int[np.ndarray, " paragraph"]:
    """The first of ascending numbers at which a share is reached, the last one where it is not.

    >>> fewest_taking(np.array([[0.1, 0.6, 0.4], [0.1, 0.2, 0.3]]), np.array([4, 8, 16]), 0.5)
    array([ 8, 16])
    """
    reached = taken >= share
    first = np.where(reached.any(1), reached.argmax(1), len(numbers) - 1)
    return numbers[first]
