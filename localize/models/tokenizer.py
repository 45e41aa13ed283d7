"""What a tokenizer does, as a hash: text is other tokens under another one."""

import hashlib
import json
from typing import Any

PROBE = "The cat's 1,024 mats:\n\n  it\u2019s \u00e9t\u00e9,\tna\u00efve \u4f60\u597d <|endoftext|>\r\n--x_y  "
"""What a tokenizer that cannot be read as a whole is asked."""

OF_A_CALL = ("truncation", "padding")
"""What a fast tokenizer remembers of its last call; every call sets it anew."""


def tokenizer_hash(tokenizer: Any) -> str | None:
    """SHA-256 of what turns text into tokens and back; None for none.

    Of a fast tokenizer all is read: normalizer, division into words, vocabulary, merges, added tokens, decoder. Of another one (in
    Python, or the user's own) the code cannot be read: its class, its vocabulary and what it makes of a short text stand for it, so
    that a change that none of them shows is not seen.

    Args:
        tokenizer: A tokenizer, or None.

    Returns:
        Equal for tokenizers that do the same, in every process; the same after saving and loading.
    """
    if tokenizer is None:
        return None
    about: dict[str, Any] = {
        name: getattr(tokenizer, name, None) for name in ("clean_up_tokenization_spaces", "split_special_tokens")
    }
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        whole = json.loads(backend.to_str())
        about["backend"] = {name: part for name, part in whole.items() if name not in OF_A_CALL}
    else:
        about["class"] = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
        about["vocabulary"] = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
        about["probe"] = list(map(int, tokenizer(PROBE, add_special_tokens=False, verbose=False)["input_ids"]))
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
