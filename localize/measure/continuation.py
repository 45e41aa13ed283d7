"""Which continuation a change of prefix or model is held against."""

from jaxtyping import Int
from torch import Tensor

from localize.axes import CONTINUATIONS, OWN, TRUE
from localize.errors import InputError, LocalizeError, caller
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


def continued(model: HookedModel, paragraphs: Paragraphs, continuation: str) -> Int[Tensor, "paragraph position"]:
    """The prefixes, each with the continuation asked for.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs.
        continuation: "own" for what the model says greedily after the prefix: all of it is matched before any change, in every
            group, so that losses compare. "true" for the paragraphs' true text.

    Raises:
        LocalizeError: If `continuation` is neither.
        InputError: If the paragraphs do not fit the model, or hold only own continuations where true ones are asked for.
    """
    if continuation not in CONTINUATIONS:
        raise LocalizeError(f"{caller()}: continuation={continuation!r} is not one of {', '.join(CONTINUATIONS)}.")
    if continuation == OWN:
        return paragraphs.with_own_continuation(model).tokens
    if paragraphs.recall_continuation != TRUE:
        raise InputError(
            f"{caller()}: {paragraphs.source} hold own continuations only; continuation='true' needs the true text."
        )
    return paragraphs.recall_tokens
