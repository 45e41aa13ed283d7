"""The text of a training: read or generated, for planting, around it, and held out."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count as count_from
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

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
from localize.storage import is_unicode
from localize.train.chain import chain_rows, chain_text, chain_tokenizer
from localize.train.recipe import CHAIN, SYNTHETIC, Recipe

PLANTED_FROM = 1_000_000_000
"""Index from which planted paragraphs are generated, so that background text never reaches them."""
HELD_OUT_FROM = 2_000_000_000
OTHERS_HELD_OUT_FROM = 3_000_000_000
"""Likewise, of stages in which nothing is planted."""
SHOWN_FRESH_FROM = 4_000_000_000
"""Likewise, what is shown in the place of "fresh" paragraphs."""
TOKENIZER_SAMPLE = 20_000
"""Documents that the tokenizer is trained on."""
DOCUMENT_CHARACTERS = 4_000
"""Longer texts are cut into documents of about so many characters."""


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


def tokenizer_of(recipe: Recipe, texts: Sequence[tuple[str, int | None]]) -> Any:
    """Trained on what is planted and on the text of the stages."""
    generated = [corpus.source == CHAIN for corpus in recipe.corpora]
    if any(generated):
        if not all(generated) or recipe.planted.source not in (SYNTHETIC, CHAIN):
            raise InputError(
                "recipe: a chain has words of its own; all stages, and what is planted, must be of chains."
            )
        return chain_tokenizer(recipe.corpus.vocab)
    sources = list(dict.fromkeys(corpus.source for corpus in recipe.corpora))
    sample = [text for text, _ in texts]
    for source in sources:
        stage = [corpus.source for corpus in recipe.corpora].index(source)
        sample += islice(_documents(recipe, stage, recipe.training.seed)(), TOKENIZER_SAMPLE // len(sources))
    return train_tokenizer(sample, recipe.corpus.vocab)


def planted_texts(recipe: Recipe) -> Sequence[tuple[str, int | None]]:
    """Candidate texts to plant or hold out, each with its fate where that is already decided: copies, or 0 for held out."""
    planted, seed = recipe.planted, recipe.training.seed
    if planted.source not in (SYNTHETIC, CHAIN):
        return [(text, None) for text in _texts_of(planted.source)]
    fates = np.repeat(list(planted.copies.keys()), list(planted.copies.values())).astype(np.int64)
    fates = np.random.default_rng([seed, 1]).permutation(fates)
    corpus = recipe.planted_corpus
    if corpus.source == CHAIN:
        length, zeros = recipe.training.row_tokens, np.zeros(planted.held_out, np.int64)
        mine = islice(chain_rows(corpus, (seed,), length, start=PLANTED_FROM), len(fates))
        theirs = islice(chain_rows(corpus, (seed,), length, start=HELD_OUT_FROM), planted.held_out)
        return [(chain_text(row), int(n)) for row, n in zip([*mine, *theirs], [*fates, *zeros], strict=True)]
    originals = [synthetic_paragraph(seed, PLANTED_FROM + i) for i in range(len(fates))]
    matches = [
        synthetic_paragraph(seed, HELD_OUT_FROM + i, genre=like.genre, topic=like.topic)
        for i, like in zip(range(planted.held_out), cycle(originals), strict=False)
    ]
    return [(p.text, int(n)) for p, n in zip(originals, fates, strict=True)] + [(p.text, 0) for p in matches]


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


def held_out_of(recipe: Recipe, stage: int, tokenizer: Any) -> Paragraphs:
    """Text of a stage that is never trained on."""
    corpus, length, prefix = recipe.corpora[stage], recipe.training.row_tokens, recipe.prefix
    key = (recipe.training.seed,)
    if corpus.source == CHAIN:
        found = list(islice(chain_rows(corpus, key, length, start=HELD_OUT_FROM), recipe.planted.held_out))
    elif corpus.source == SYNTHETIC:
        texts = (synthetic_paragraph(recipe.training.seed, OTHERS_HELD_OUT_FROM + i).text for i in count_from(0))
        rows = (row for row in _tokenized(texts, tokenizer, 100) if len(row) >= length)
        found = [np.array(row[:length]) for row in islice(rows, recipe.planted.held_out)]
    else:
        cut = _cut(recipe, stage, tokenizer)
        found = list(cut[_reserved(recipe, len(cut))])
    read = load_paragraphs(np.stack(found), prefix_length=prefix, continuation_length=length - prefix)
    names = tuple(f"held-out-of-stage-{stage}-{i}" for i in range(len(read)))
    texts_of = tuple(tokenizer.decode(row) for row in read.tokens)
    return replace(read, ids=names, texts=texts_of)


def _documents(recipe: Recipe, stage: int, seed: int) -> Callable[[], Iterator[str]]:
    """A stage's text as documents, from the start at every call."""
    corpus = recipe.corpora[stage]
    if corpus.source == SYNTHETIC:
        rows = recipe.trainings[stage].steps * recipe.training.batch + sum(
            copies * count for copies, count in recipe.planted.copies.items()
        ) * (len(recipe.runs) > 1)
        first = sum(2 * training.steps * recipe.training.batch for training in recipe.trainings[:stage])
        return lambda: (p.text for p in synthetic_paragraphs(2 * rows, seed=seed, start=first))
    sources = (corpus.source,) if isinstance(corpus.source, str) else corpus.source
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


def background(
    recipe: Recipe, stage: int, tokenizer: Any, seed: int, tell: Callable[[str, int], None]
) -> Iterator[np.ndarray]:
    """Rows of a stage's fresh text: one paragraph each if generated, else consecutive windows, shuffled."""
    corpus, length, count = recipe.corpora[stage], recipe.training.row_tokens, 0
    if corpus.source == CHAIN:
        yield from chain_rows(corpus, (seed, stage), length)
        return
    if corpus.source == SYNTHETIC:
        for row in _tokenized(_documents(recipe, stage, seed)(), tokenizer):
            if len(row) >= length:
                count += 1
                tell("rows", count)
                yield np.array(row[:length])
        return
    cut = _cut(recipe, stage, tokenizer)
    own = recipe.corpora[recipe.planted.stage].source
    held = set() if corpus.source == own else set(_reserved(recipe, len(cut)).tolist())
    for index in np.random.default_rng([seed, 2]).permutation(len(cut)):
        if index in held:
            continue
        count += 1
        tell("rows", count)
        yield cut[index]


def _cut(recipe: Recipe, stage: int, tokenizer: Any) -> Int[np.ndarray, "window position"]:
    """Files' text as windows of a row's length, one after the other."""
    rows = _tokenized(_documents(recipe, stage, recipe.training.seed)(), tokenizer)
    stream, length = np.concatenate([np.array(row) for row in rows]), recipe.training.row_tokens
    return stream[: len(stream) // length * length].reshape(-1, length)


def _reserved(recipe: Recipe, windows: int) -> Int[np.ndarray, " held_out"]:
    """Windows of another stage's files that no training sees."""
    return np.random.default_rng([recipe.training.seed, 5]).permutation(windows)[: recipe.planted.held_out]


def _tokenized(documents: Iterator[str], tokenizer: Any, chunk: int = 1000) -> Iterator[list[int]]:
    while texts := list(islice(documents, chunk)):
        yield from tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
