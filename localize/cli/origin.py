"""Where results go and what they are of: the folder that a command claims, the hashes it depends on, the tokenizer for its texts."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.claims import Command
from localize.report.folder import TOKENIZER_FOLDER

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.signature.signature import MemorizationSignature


def typed() -> str:
    """The command as it was typed, as a shell takes it."""
    return shlex.join(["localize", *sys.argv[1:]])


def command(name: str, out: Path, files: Sequence[str], *, overwrite: bool) -> Command:
    """The command that is running, as the one that claims a folder."""
    return Command(name, out, typed(), files, overwrite)


def hashes(model: "HookedModel", paragraphs: "Paragraphs") -> dict[str, Any]:
    """What results of a model and paragraphs depend on beside the options."""
    from localize.models.tokenizer import tokenizer_hash
    from localize.paragraphs.unigrams import counts_hash
    from localize.sweep.bench import set_hash

    counts = model.unigram_counts
    return {
        "weights_hash": model.weights_hash(),
        "weights": model.weights,
        "dtype": str(model.dtype).removeprefix("torch."),
        "counts_hash": None if counts is None else counts_hash(counts),
        "tokenizer_hash": tokenizer_hash(model.tokenizer),
        "paragraphs_hash": set_hash(paragraphs),
    }


def digest_of(hashes: Iterable[str]) -> str:
    """One hash for several, such as those of code."""
    return sha256("".join(hashes).encode()).hexdigest()


def save_tokenizer(out: Path, model: "HookedModel") -> None:
    """Write the tokenizer that the results' texts are read with, if the model has one."""
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(out / TOKENIZER_FOLDER)


def save_told(signature: "MemorizationSignature", file: Path, about: dict[str, Any]) -> "MemorizationSignature":
    """The signature, told which command made it and whether that was finished, in its file."""
    from localize.signature.signature import MemorizationSignature

    dataset = signature.dataset
    dataset.attrs["run"] = about
    told = MemorizationSignature(dataset)
    told.save(file)
    return told
