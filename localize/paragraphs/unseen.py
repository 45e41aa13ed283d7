"""Text of the embedded model's kind that it never saw: for perplexity, and for a null."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError, caller, public
from localize.paragraphs.readers import load_paragraphs
from localize.paragraphs.synthetic import synthetic_paragraphs

if TYPE_CHECKING:
    from localize.paragraphs.paragraphs import Paragraphs

UNSEEN_FROM = 3_000_000_000
"""Index from which it is generated: training text, planted paragraphs and their matches lie below."""


@public
def unseen_paragraphs(
    tokenizer: Any, count: int = 64, *, prefix_length: int = 50, continuation_length: int = 50, seed: int = 0
) -> "Paragraphs":
    """Generated paragraphs that no embedded model was trained on, in the style of all that it was trained on.

    Args:
        tokenizer: What turns texts into tokens: a tokenizer, or a model loaded with one.
        count: How many.
        prefix_length: Tokens that are given.
        continuation_length: Tokens that are asked for.
        seed: Of the series; the embedded model's own is 0, of which these lie far behind.

    Raises:
        LocalizeError: If `count` is below 1, or too many texts in a row are too short.
    """
    if count < 1:
        raise LocalizeError(f"{caller()}: count={count} must be at least 1.")
    # a few texts come out too short
    texts = [paragraph.text for paragraph in synthetic_paragraphs(2 * count, seed=seed, start=UNSEEN_FROM)]
    read = load_paragraphs(texts, tokenizer, prefix_length=prefix_length, continuation_length=continuation_length)
    if len(read) < count:
        raise LocalizeError(
            f"{caller()}: only {len(read)} of {2 * count} texts have {prefix_length} + {continuation_length} tokens; ask for "
            "shorter ones."
        )
    return replace(read[:count], skipped=(), source="unseen text")
