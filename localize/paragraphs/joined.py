"""Two sets of paragraphs as one."""

from collections.abc import Sequence

import torch

from localize.errors import InputError
from localize.paragraphs.paragraphs import Paragraphs


def joined(first: Paragraphs, second: Paragraphs, *, ids: Sequence[str] | None = None) -> Paragraphs:
    """The first paragraphs, then the second ones, clustered together; groups and duplicates are left out.

    Args:
        first: Some paragraphs.
        second: Others, of the same prefix and continuation length.
        ids: Other names of the second ones, where theirs may stand among the first.

    Raises:
        InputError: If lengths, continuations or ids do not fit together.
    """
    for what, mine, theirs in (
        ("prefix", first.prefix_length, second.prefix_length),
        ("continuation", first.continuation_length, second.continuation_length),
    ):
        if mine != theirs:
            raise InputError(
                f"{first.source} has a {what} of {mine} tokens, {second.source} one of {theirs}; one length is needed."
            )
    if first.recall_continuation != second.recall_continuation:
        raise InputError(
            f"{first.source} holds {first.recall_continuation} continuations, {second.source} {second.recall_continuation} ones; "
            "one kind is needed."
        )
    texts = tuple(text for part in (first, second) for text in part.texts or (None,) * len(part))
    return Paragraphs(
        torch.cat([first.recall_tokens, second.recall_tokens]),
        first.prefix_length,
        first.ids + tuple(ids if ids is not None else second.ids),
        texts if any(text is not None for text in texts) else None,
        continuation=first.recall_continuation,
        skipped=first.skipped + second.skipped,
        source=f"{first.source} and {second.source}",
        notes=first.notes + second.notes,
    )
