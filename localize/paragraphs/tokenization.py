"""Between a text and its tokens: tokenized no further than is needed; and whether tokens are those of a text."""

import re
from functools import cached_property
from typing import Any

CHARACTERS = 8
"""Of a text's start, tokenized first, for each token that is needed."""

GROWTH = 4
"""How many times as much is tokenized where that gives too few."""

KEPT = 16
"""Characters of a text that are kept for each of its tokens, at least."""

LONGEST_TOKEN = 128
"""Characters of the longest token of GPT-2's; so many are kept for each where no tokenizer tells."""

WORD_END = re.compile(r"(?<=\S)[ \t\r\n]")
UNKNOWN = "\ufffd"
"""What a tokenizer says for bytes that are no whole character."""


class Tokenization:
    """A tokenizer as paragraphs need it.

    Args:
        tokenizer: Any, or None; what it cannot do (decode, tell its parts) is not asked of it.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def tokens(self, text: str) -> list[int]:
        """All tokens of a text, without special ones."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def first_tokens(self, text: str, count: int) -> list[int]:
        """A text's first `count` tokens, or all of them if they are fewer, as they stand among the tokens of the whole text."""
        size = CHARACTERS * count
        while self.divides_at_whitespace and (end := WORD_END.search(text, size)):
            tokens = self.tokens(text[: end.start()])
            if len(tokens) >= count:
                return tokens[:count]
            size = GROWTH * end.start()
        return self.tokens(text)[:count]

    @cached_property
    def divides_at_whitespace(self) -> bool:
        """Whether the tokens of a text up to whitespace that follows a word are the first ones of the whole text.

        So it is with GPT-2's: its pattern begins a new piece wherever whitespace follows something else, looks ahead from nowhere
        but within whitespace, and merges bytes inside of a piece only. Of another tokenizer it is not known.
        """
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return False
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        pieces, model = backend.pre_tokenizer, backend.model
        return (
            isinstance(pieces, ByteLevel)
            and pieces.use_regex
            and backend.normalizer is None
            and isinstance(model, BPE)
            and not model.dropout
            and not any(re.search(r"\s", added.content) for added in backend.get_added_tokens_decoder().values())
        )

    def are_of(self, tokens: list[int], text: str) -> bool:
        """Whether tokens decode to the beginning of a text; True where that cannot be asked, or there are none.

        Left open are whitespace around the text, special tokens, and the character that the first or last token may cut.
        """
        if not tokens or not hasattr(self.tokenizer, "decode"):
            return True
        if min(tokens) < 0 or (hasattr(self.tokenizer, "__len__") and max(tokens) >= len(self.tokenizer)):
            return False
        options = [{}]
        if hasattr(self.tokenizer, "clean_up_tokenization_spaces"):
            options += [{"clean_up_tokenization_spaces": False}, {"skip_special_tokens": True}]
        return any(_begins(text, self.tokenizer.decode(tokens, **option)) for option in options)

    def kept(self, text: str, tokens: list[int]) -> str:
        """The text, where it is very long its beginning, which holds all that these tokens say."""
        if len(text) <= KEPT * len(tokens):
            return text
        if not hasattr(self.tokenizer, "decode"):
            return text[: LONGEST_TOKEN * len(tokens)]
        return text[: max(KEPT * len(tokens), len(self.tokenizer.decode(tokens)))]


def _begins(text: str, decoded: str) -> bool:
    if text.startswith(decoded):
        return bool(decoded)
    said = decoded.replace(UNKNOWN, "").strip()
    there = text[: 2 * len(decoded) + 64].replace(UNKNOWN, "").lstrip()
    if not said:  # nothing but whitespace, or pieces of a character
        return UNKNOWN in decoded or not there
    return there.startswith(said) or (decoded.startswith(UNKNOWN) and there[1:].startswith(said))
