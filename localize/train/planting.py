"""The rows a model is trained on: paragraphs planted a known number of times among text that is not repeated."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from localize.errors import InputError
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs
from localize.paragraphs.records import (
    HALF,
    RECORD_FILES,
    TEXT_FIELDS,
    field_of,
    is_missing,
    kind_of,
    opened,
    readable_files,
    records,
)
from localize.paragraphs.synthetic import synthetic_paragraph, synthetic_paragraphs
from localize.paragraphs.unigrams import unigram_counts
from localize.storage import is_unicode
from localize.train.recipe import Planting, Recipe

PLANTED_FROM = 1_000_000_000
"""Index from which planted paragraphs are generated, so that background text never reaches them."""
HELD_OUT_FROM = 2_000_000_000
TOKENIZER_SAMPLE = 20_000
"""Documents that the tokenizer is trained on."""
DOCUMENT_CHARACTERS = 4_000
"""Longer texts are cut into documents of about so many characters."""


@dataclass(frozen=True)
class TrainingData:
    """What a recipe's text, tokenizer and planting come to.

    Attributes:
        rows: Token rows in the order of training, `(row, position)`.
        paragraphs: The planted paragraphs and their never-seen matches; `duplicates` is how often each stands in `rows`.
        tokenizer: A byte-level BPE trained on the corpus.
        unigram_counts: Occurrences of each token in the rows, every distinct row counted once.
        background_passes: How often each background row is seen: 1.0 if never repeated.
    """

    rows: Int[Tensor, "row position"]
    paragraphs: Paragraphs
    tokenizer: Any
    unigram_counts: Int[Tensor, " vocab"]
    background_passes: float

    @property
    def hash(self) -> str:
        """A digest of every row and of the never-seen paragraphs."""
        digest = hashlib.sha256(self.rows.numpy().astype("<i8").tobytes())
        digest.update(self.paragraphs.data_hash.encode())
        return digest.hexdigest()


def training_data(recipe: Recipe, *, on_progress: Callable[[str, int], None] | None = None) -> TrainingData:
    """Generate or read the text, train the tokenizer, and lay out the rows, all from the recipe's seed.

    Raises:
        InputError: If a source is missing or too small, or the data's hash is not the recipe's.
    """
    tell = on_progress or (lambda stage, count: None)
    seed, length = recipe.training.seed, recipe.training.row_tokens
    total = recipe.training.steps * recipe.training.batch
    tell("tokenizer", 0)
    texts, documents = _planted_texts(recipe), _documents(recipe)
    sample = [text for text, _ in texts] + list(islice(documents(), TOKENIZER_SAMPLE))
    tokenizer = train_tokenizer(sample, recipe.corpus.vocab)
    paragraphs = _allotted(texts, tokenizer, recipe, length)

    copies = np.array(paragraphs.duplicates)
    planted = np.repeat(np.arange(len(paragraphs)), copies)
    fresh = list(islice(_background(recipe, documents, tokenizer, length, tell), total - len(planted)))
    if not fresh:
        raise InputError(f"recipe: the corpus {recipe.corpus.source} gives no row of {length} tokens.")
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [paragraphs.tokens.numpy()[planted], np.resize(np.stack(fresh), (total - len(planted), length))]
    )
    rows = torch.from_numpy(rows[rng.permutation(total)])
    data = TrainingData(
        rows=rows,
        paragraphs=paragraphs,
        tokenizer=tokenizer,
        unigram_counts=unigram_counts(rows.numpy(), vocab_size=len(tokenizer)),
        background_passes=(total - len(planted)) / len(fresh),
    )
    if recipe.data_hash is not None and data.hash != recipe.data_hash:
        raise InputError(
            f"recipe: the data's hash is {data.hash}, but data_hash = {recipe.data_hash}; the sources or the generator have changed."
        )
    return data


def train_tokenizer(texts: Iterable[str], vocab: int) -> Any:
    """A byte-level BPE as GPT-2's, without special tokens: every text can be told, none stops the model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False, special_tokens=[])
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def _planted_texts(recipe: Recipe) -> Sequence[tuple[str, int | None]]:
    """Candidate texts to plant or hold out, each with its fate where that is already decided: copies, or 0 for held out."""
    planted, seed = recipe.planted, recipe.training.seed
    if planted.source != "synthetic":
        return [(text, None) for text in _texts_of(planted.source)]
    fates = np.repeat(list(planted.copies.keys()), list(planted.copies.values()))
    fates = np.random.default_rng([seed, 1]).permutation(fates)
    originals = [synthetic_paragraph(seed, PLANTED_FROM + i) for i in range(len(fates))]
    matches = [
        synthetic_paragraph(seed, HELD_OUT_FROM + i, genre=like.genre, topic=like.topic)
        for i, like in zip(range(planted.held_out), _cycle(originals), strict=False)
    ]
    return [(p.text, int(n)) for p, n in zip(originals, fates, strict=True)] + [(p.text, 0) for p in matches]


def _cycle(items: list) -> Iterator:
    while True:
        yield from items


def _texts_of(source: str) -> tuple[str, ...]:
    """Every text of a paragraphs file, however few tokens it may come to."""
    path = Path(source)
    if not path.is_file():
        raise InputError(f"recipe: planted {path}: no such file.")
    if kind_of(path) not in RECORD_FILES:
        raise InputError(
            f"recipe: planted {path}: paragraphs to plant are needed as texts, in a {', '.join(RECORD_FILES)} file, since the tokenizer "
            "is new."
        )
    return tuple(_record_texts(path, "recipe: planted"))


def _record_texts(path: Path, what: str) -> Iterator[str]:
    """The texts of a file of records; a row without one is passed over.

    Raises:
        InputError: If a row cannot be read, or holds tokens alone.
    """
    for record in records(path, what):
        where = f"{what} {path}: row {record.number}"
        if record.problem:
            raise InputError(f"{what} {path}: {record.told}.")
        row = record.value if isinstance(record.value, Mapping) else {"text": record.value}
        text = field_of(row, TEXT_FIELDS)
        if text is None and is_missing(row.get("tokens")) and any(field in row for field in TEXT_FIELDS):
            continue
        if not isinstance(text, str):
            raise InputError(f"{where} holds no text, which is needed, since the tokenizer is new.")
        if not is_unicode(text):
            raise InputError(f"{where}: its text holds {HALF}.")
        yield text


def _allotted(texts: Sequence[tuple[str, int | None]], tokenizer: Any, recipe: Recipe, length: int) -> Paragraphs:
    """The paragraphs to plant and to hold out, tokenized, each with its number of copies (0 if held out)."""
    prefix = recipe.training.prefix
    rows = [{"text": text, "id": str(i)} for i, (text, _) in enumerate(texts)]
    read = load_paragraphs(rows, tokenizer, prefix_length=prefix, continuation_length=length - prefix)
    fates = np.array([-1 if (fate := texts[int(i)][1]) is None else fate for i in read.ids])
    if (fates < 0).any():
        fates = allot_clusters(read.clusters, recipe.planted, np.random.default_rng([recipe.training.seed, 1]))
    chosen = np.concatenate([np.flatnonzero(fates > 0), np.flatnonzero(fates == 0)])
    names = [f"planted-{fates[i]}x-{i}" if fates[i] else f"held-out-{i}" for i in chosen]
    texts_cut = tuple(tokenizer.decode(row) for row in read.tokens[chosen])
    return replace(
        read[chosen],
        ids=tuple(names),
        texts=texts_cut,
        duplicates=tuple(int(fates[i]) for i in chosen),
        skipped=(),
        source="planted",
    )


def allot_clusters(
    clusters: Int[np.ndarray, " paragraph"], planting: Planting, rng: np.random.Generator
) -> Int[np.ndarray, " paragraph"]:
    """Decide what becomes of each paragraph: copies to plant, 0 to hold out, -1 to leave unused.

    Whole clusters share a fate, so that no near-duplicate of a held-out paragraph is planted, nor one planted more often.

    Raises:
        InputError: If there are fewer paragraphs than the planting asks for.
    """
    wanted = {**planting.copies, 0: planting.held_out}
    left = dict(wanted)
    fates = np.full(len(clusters), -1)
    for cluster in rng.permutation(np.unique(clusters)):
        fate = max(left, key=lambda f: (left[f] / max(1, wanted[f]), f))
        members = rng.permutation(np.flatnonzero(clusters == cluster))[: min(planting.per_cluster, left[fate])]
        fates[members] = fate
        left[fate] -= len(members)
    if lacking := sum(left.values()):
        raise InputError(
            f"recipe: {sum(wanted.values())} paragraphs are asked for (planted and held out), {lacking} more than "
            f"{len(np.unique(clusters))} clusters give at {planting.per_cluster} each."
        )
    return fates


def _documents(recipe: Recipe) -> Callable[[], Iterator[str]]:
    """The background text as documents, from the start at every call."""
    if recipe.corpus.source == "synthetic":
        rows = recipe.training.steps * recipe.training.batch
        return lambda: (p.text for p in synthetic_paragraphs(2 * rows, seed=recipe.training.seed))
    sources = (recipe.corpus.source,) if isinstance(recipe.corpus.source, str) else recipe.corpus.source
    files = [file for source in sources for file in _corpus_files(Path(source))]
    return lambda: (document for file in files for document in _documents_of(file))


def _documents_of(path: Path) -> Iterator[str]:
    """The documents of a file, of which no more than one is held."""
    what = "recipe: corpus"
    if kind_of(path) in RECORD_FILES:
        for text in _record_texts(path, what):
            yield from (text[start : start + DOCUMENT_CHARACTERS] for start in range(0, len(text), DOCUMENT_CHARACTERS))
        return
    try:
        with opened(path, what) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
            while document := text.read(DOCUMENT_CHARACTERS):
                yield document
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path}: not UTF-8 text ({error.reason}).") from None


def _corpus_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = readable_files(path, (".txt",), deep=False) if path.is_dir() else []
    if not files:
        raise InputError(f"recipe: corpus {path} is neither a text file nor a folder of .txt files.")
    return files


def _background(
    recipe: Recipe,
    documents: Callable[[], Iterator[str]],
    tokenizer: Any,
    length: int,
    tell: Callable[[str, int], None],
) -> Iterator[np.ndarray]:
    """Rows of background tokens: one paragraph each if synthetic, else consecutive windows, shuffled."""
    rows, count = _tokenized(documents(), tokenizer), 0
    if recipe.corpus.source == "synthetic":
        for row in rows:
            if len(row) >= length:
                count += 1
                tell("rows", count)
                yield np.array(row[:length])
        return
    stream = np.concatenate([np.array(row) for row in rows])
    windows = stream[: len(stream) // length * length].reshape(-1, length)
    for index in np.random.default_rng([recipe.training.seed, 2]).permutation(len(windows)):
        count += 1
        tell("rows", count)
        yield windows[index]


def _tokenized(documents: Iterator[str], tokenizer: Any, chunk: int = 1000) -> Iterator[list[int]]:
    while texts := list(islice(documents, chunk)):
        yield from tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
