"""What a scan's findings depend on: compared whenever its folder is entered again."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localize.code import code_hash
from localize.models.tokenizer import tokenizer_hash

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.scan.corpus import Corpus
    from localize.scan.options import Options


def asked_of(model: "HookedModel", corpus: "Corpus", text_field: str | None, options: "Options") -> dict[str, Any]:
    """Weights, dtype, tokenizer, options, text field, the code, and the corpus's content.

    Of a stream, which is read only once, what it knows of itself: its content is held to what each part has recorded, see `HashedRows`. The
    device, the batch size and the number of threads are left out: they change rounding alone.
    """
    return {
        "weights_hash": model.weights_hash(),
        "dtype": str(model.dtype),
        "tokenizer": tokenizer_hash(model.tokenizer),
        **asdict(options),
        "text_field": text_field,
        "corpus": corpus.fingerprint(),
        "code": code_hash("localize.scan.scan"),
    }
