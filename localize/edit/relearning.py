"""How fast forgotten paragraphs come back: a few steps of training on them, watched."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from localize.edit.descent import Steps, Value, descend, weights_put_back
from localize.edit.masks import WeightMask, choose_weights
from localize.edit.objectives import nll
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import Recall, finite_recall, recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.joined import joined
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

TAUGHT, WATCHED = "taught", "watched"


@reads_inputs("taught", "watched")
def relearn(
    model: HookedModel,
    taught: Paragraphs,
    watched: Paragraphs | None = None,
    *,
    mask: WeightMask | None = None,
    steps: int = 10,
    learning_rate: float = 1e-4,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """Exact match and NLL while a model is trained on paragraphs: forgotten ones, say, inside `with edit.applied(model)`.

    What was only hidden comes back in fewer steps than text of its kind that was never seen takes to be learned (the null: teach such
    text to the same model); and it may come back where only *other* forgotten paragraphs are taught (`watched`).

    Args:
        model: A hooked model, edited or not; it stays as it is.
        taught: Paragraphs whose mean NLL is lowered; of their `tokens`.
        watched: Others, measured alike and not taught.
        mask: The only weights that may change, of the unedited model too; None for all of the blocks' components.
        steps: Of AdamW over all that are taught, without decay.
        learning_rate: Of each.
        batch_size: Paragraphs a backward pass.

    Returns:
        `relearned_exact_match` (tokens) and `relearned_nll` (nats per token) after 0, 1, ... steps, in the groups `taught` and
        `watched`.

    Raises:
        InputError: If the paragraphs do not fit the model or each other.
        LocalizeError: If an option is out of range, or a loss or an NLL on the way is not finite.
    """
    how = Steps(steps, learning_rate, batch_size=batch_size)
    how.check()
    taught, watched = _as_given(taught), None if watched is None else _as_given(watched)
    both = taught if watched is None else joined(taught, watched)
    both = both.with_groups([TAUGHT] * len(taught) + [WATCHED] * (len(both) - len(taught)))
    recall, seen = recall_of(model, both), list[Recall]()
    mask = choose_weights(model) if mask is None else mask
    mask.check(model, weights=False)

    def on_step(step: int, values: Mapping[str, Value]) -> bool:
        seen.append(finite_recall(model, both, both.recall_tokens, batch_size=4 * batch_size, show=False))
        return False

    with weights_put_back(model, mask) as chosen:
        descend(model, chosen, [nll(TAUGHT, taught, 1.0)], how, on_step=on_step)
    arrays = {
        "relearned_exact_match": np.stack([each.exact_match for each in seen], axis=1).astype(float),
        "relearned_nll": np.stack([each.token_nll.mean(1) for each in seen], axis=1),
    }
    call = {"measurement": "relearn", "masked": len(mask), **how._asdict()}
    return labelled(model, both, recall, arrays, call=call, axes={"step": range(steps + 1)})


def _as_given(paragraphs: Paragraphs) -> Paragraphs:
    """With `tokens` as what recall is asked of, be they the true ones or the model's own."""
    return replace(paragraphs, true_tokens=None)
