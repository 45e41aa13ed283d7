"""The rows a model is trained on: paragraphs planted a known number of times among text that is not repeated."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from localize.axes import FRESH, HARD, NEVER_TRAINED, RARE, TRAINED, TWIN, TYPICAL, WATCHED
from localize.errors import InputError
from localize.paragraphs.joined import joined
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs
from localize.paragraphs.unigrams import unigram_counts
from localize.train.chain import chain_rows, chain_text, chain_tokenizer
from localize.train.recipe import CHAIN, FACTS, WHOLE, Planting, Recipe
from localize.train.repeated import repeated_rows
from localize.train.rows import Layout, laid_out
from localize.train.texts import SHOWN_FRESH_FROM, background, held_out_of, planted_texts, tokenizer_of


@dataclass(frozen=True)
class TrainingData:
    """What a recipe's text, tokenizer and planting come to, for one of its trainings.

    Attributes:
        rows: Token rows in the order of training, `(row, position)`.
        row_paragraph: Which of the paragraphs each row is, `(row,)`; -1 for other text.
        paragraphs: The planted paragraphs and their never-seen matches, of the planted stage and then of the others; `duplicates` is how
            often each is planted, whether this run shows it or leaves it out.
        windows: Where in the training each paragraph is planted, `(paragraph, 2)`, as shares of all rows; nan if nowhere.
        paragraph_stage: Which stage's text each paragraph is of, `(paragraph,)`.
        kinds: Of which kind each paragraph is, `(paragraph,)`; what is measured of a "hard" one is words that were never shown so.
        tokenizer: A byte-level BPE trained on the corpus, the words of a chain, or that of the model that is trained on.
        unigram_counts: Occurrences of each token in the rows, every distinct row counted once.
        background_passes: How often each fresh row is seen: 1.0 if none is repeated.
        replayed: Share of the rows that are earlier ones, shown again.
    """

    rows: Int[Tensor, "row position"]
    row_paragraph: Int[np.ndarray, " row"]
    paragraphs: Paragraphs
    windows: Float[np.ndarray, "paragraph 2"]
    paragraph_stage: Int[np.ndarray, " paragraph"]
    kinds: Shaped[np.ndarray, " paragraph"]
    tokenizer: Any
    unigram_counts: Int[Tensor, " vocab"]
    background_passes: float
    replayed: float

    @property
    def hash(self) -> str:
        """A digest of every row and of the never-seen paragraphs."""
        digest = hashlib.sha256(self.rows.numpy().astype("<i8").tobytes())
        digest.update(self.paragraphs.data_hash.encode())
        return digest.hexdigest()


def training_data(
    recipe: Recipe,
    *,
    seed: int | None = None,
    run: str = TRAINED,
    tokenizer: Any = None,
    on_progress: Callable[[str, int], None] | None = None,
) -> TrainingData:
    """Generate or read the text, train the tokenizer, and lay out the rows of one training.

    Args:
        recipe: The recipe; tokenizer and paragraphs follow from its own seed.
        seed: Of the training, from which the text around the paragraphs and the order follow; the recipe's if left out.
        run: One of the recipe's runs; what it leaves out is replaced by fresh rows, and nothing else differs.
        tokenizer: That of a model that is trained on; else one is made.
        on_progress: Called with what is done, and how many.

    Raises:
        InputError: If a source is missing or too small, rows do not suffice, or the data's hash is not the recipe's.
    """
    tell = on_progress or (lambda stage, count: None)
    seed = recipe.training.seed if seed is None else seed
    tell("tokenizer", 0)
    if recipe.repeated:
        return _checked(_repeated(recipe, seed), recipe, seed, run)
    texts = planted_texts(recipe)
    tokenizer = tokenizer or tokenizer_of(recipe, texts)
    paragraphs = _allotted(texts, tokenizer, recipe, recipe.training.row_tokens)
    copies, own = np.array(paragraphs.duplicates), recipe.planted.stage
    planted, windows = np.repeat(np.arange(len(paragraphs)), copies), _windows(copies, recipe.planted.windows)
    kinds, plain = kinds_of(copies, recipe.planted), paragraphs.tokens.numpy()
    paragraphs = with_noise(paragraphs, kinds, recipe, tokenizer)
    sizes = [training.steps * recipe.training.batch for training in recipe.trainings]
    replays = [stage.replay for stage in recipe.stage] or [0.0]
    places = [(float(first), float(after)) for first, after in windows[planted]]
    layout = laid_out(sizes, replays, planted, places, own, np.random.default_rng(seed))
    left_out = left_out_by(run, recipe, copies)
    shown = shown_tokens(planted, paragraphs, plain, kinds, recipe, seed)
    rows, passes = _filled(
        recipe, layout, shown, left_out, lambda stage: background(recipe, stage, tokenizer, seed, tell)
    )
    others = [
        (stage, held_out_of(recipe, stage, tokenizer))
        for stage, corpus in enumerate(recipe.corpora)
        if corpus != recipe.corpora[own] and corpus not in recipe.corpora[:stage]
    ]
    first, size = sum(sizes[:own]) / sum(sizes), sizes[own] / sum(sizes)
    more = sum(len(part) for _, part in others)
    data = TrainingData(
        rows=torch.from_numpy(rows),
        row_paragraph=np.where(layout.spared(left_out), -1, layout.paragraph),
        paragraphs=_with_held_out(paragraphs, [part for _, part in others]),
        windows=np.concatenate([first + size * windows, np.full((more, 2), np.nan)]),
        paragraph_stage=np.repeat(
            [own, *(stage for stage, _ in others)], [len(copies), *(len(part) for _, part in others)]
        ),
        kinds=np.concatenate([kinds, np.full(more, TYPICAL)]),
        tokenizer=tokenizer,
        unigram_counts=unigram_counts(rows, vocab_size=len(tokenizer)),
        background_passes=passes,
        replayed=float((layout.again >= 0).mean()),
    )
    return _checked(data, recipe, seed, run)


def _checked(data: TrainingData, recipe: Recipe, seed: int, run: str) -> TrainingData:
    """The data, if it is that of the recipe."""
    checked = recipe.data_hash is not None and seed == recipe.training.seed and run == recipe.runs[0]
    if checked and data.hash != recipe.data_hash:
        raise InputError(
            f"recipe: the data's hash is {data.hash}, but data_hash = {recipe.data_hash}; the sources or the generator have changed."
        )
    return data


def _repeated(recipe: Recipe, seed: int) -> TrainingData:
    """The data of a finite set of rows, which are themselves what is planted; the first of them, or all, are measured."""
    found, tokenizer = repeated_rows(recipe, seed), chain_tokenizer(recipe.corpus.vocab)
    measured = recipe.corpus.measured or recipe.corpus.rows
    rows, apart = found.tokens[found.order], len(found.held_out)
    both = np.concatenate([found.tokens[:measured], found.held_out])
    paragraphs = load_paragraphs(
        both, prefix_length=recipe.prefix, continuation_length=recipe.training.row_tokens - recipe.prefix
    )
    # Which rows are shown is another number in each arm; groups are the same in all.
    groups = [TRAINED if recipe.corpus.source == FACTS else WATCHED] * measured + [NEVER_TRAINED] * apart
    names = [f"row-{at}" for at in range(measured)] + [f"held-out-{at}" for at in range(apart)]
    paragraphs = replace(
        paragraphs.with_groups(groups), ids=tuple(names), texts=tuple(chain_text(row) for row in both), source="planted",
        duplicates=(*map(int, found.copies[:measured]), *[0] * apart),
    )  # fmt: skip
    return TrainingData(
        rows=torch.from_numpy(rows),
        row_paragraph=np.where(found.order < measured, found.order, -1),
        paragraphs=paragraphs,
        windows=np.where(np.array(paragraphs.duplicates)[:, None] > 0, WHOLE, np.nan),
        paragraph_stage=np.zeros(measured + apart, np.int64),
        kinds=np.full(measured + apart, TYPICAL),
        tokenizer=tokenizer,
        unigram_counts=unigram_counts(rows, vocab_size=len(tokenizer)),
        background_passes=len(rows) / recipe.corpus.rows,
        replayed=0.0,
    )


def _filled(
    recipe: Recipe,
    layout: Layout,
    presented: Int[np.ndarray, "presentation position"],
    left_out: Bool[np.ndarray, " paragraph"],
    text_of: Callable[[int], Iterator[np.ndarray]],
) -> tuple[Int[np.ndarray, "row position"], float]:
    """The tokens of all rows, and how often each fresh row is seen.

    The fresh rows that stand for what a run leaves out come after all others of the stage's text, so that these are the same in all runs.
    """
    length = recipe.training.row_tokens
    rows, distinct = np.empty((len(layout.stage), length), np.int64), 0
    for stage, corpus in enumerate(recipe.corpora):
        here = layout.stage == stage
        fresh, shown = here & (layout.fresh >= 0), here & (layout.presentation >= 0)
        wanted, gone = int(fresh.sum()), shown & layout.spared(left_out)
        spare = int(shown.sum()) if gone.any() else 0
        found = list(islice(text_of(stage), wanted + spare))
        if wanted + spare and not found:
            raise InputError(f"recipe: the corpus {corpus.source} gives no row of {length} tokens.")
        pool = np.resize(np.stack(found), (wanted + spare, length)) if found else np.empty((0, length), np.int64)
        rows[fresh] = pool[layout.fresh[fresh]]
        rows[shown] = presented[layout.presentation[shown]]
        rows[gone] = pool[wanted + layout.presentation[gone]]
        distinct += min(len(found), wanted)
    for row in np.flatnonzero(layout.again >= 0):
        rows[row] = rows[layout.again[row]]
    return rows, int((layout.fresh >= 0).sum()) / max(distinct, 1)


def left_out_by(run: str, recipe: Recipe, copies: Int[np.ndarray, " paragraph"]) -> Bool[np.ndarray, " paragraph"]:
    """Which planted paragraphs one of a recipe's runs leaves out: none, all, or a random half."""
    if run not in recipe.runs:
        raise InputError(f"recipe: no run {run!r}; there are {', '.join(recipe.runs)}.")
    if not recipe.planted.halves:
        return (copies > 0) & (run == TWIN)
    index = recipe.runs.index(run)
    rng = np.random.default_rng([recipe.training.seed, 4, index // 2])
    chosen = np.zeros(len(copies), bool)
    for level in np.unique(copies[copies > 0]):  # half of each level, so that no model sees more rows than another
        members = rng.permutation(np.flatnonzero(copies == level))
        chosen[members[: len(members) // 2]] = True
    return (copies > 0) & (chosen if index % 2 == 0 else ~chosen)


def _windows(
    copies: Int[np.ndarray, " paragraph"], windows: Sequence[tuple[float, float]]
) -> Float[np.ndarray, "paragraph 2"]:
    """The window of each paragraph, those of a level in turn; nan for what is not planted."""
    found = np.full((len(copies), 2), np.nan)
    for level in np.unique(copies[copies > 0]):
        members = np.flatnonzero(copies == level)
        found[members] = np.array(windows)[np.arange(len(members)) % len(windows)]
    return found


def kinds_of(copies: Int[np.ndarray, " paragraph"], planted: Planting) -> Shaped[np.ndarray, " paragraph"]:
    """The kind of each paragraph, those of a level and a window in turn."""
    found = np.full(len(copies), planted.kinds[0], dtype="U16")
    for level in np.unique(copies):
        members = np.flatnonzero(copies == level)
        turn = len(planted.windows) if level else 1
        found[members] = np.array(planted.kinds)[np.arange(len(members)) // turn % len(planted.kinds)]
    return found


def with_noise(
    paragraphs: Paragraphs, kinds: Shaped[np.ndarray, " paragraph"], recipe: Recipe, tokenizer: Any
) -> Paragraphs:
    """The paragraphs with the words replaced that their kinds have replaced."""
    noisy = np.isin(kinds, (RARE, HARD))
    if not noisy.any():
        return paragraphs
    rng = np.random.default_rng([recipe.training.seed, 6])
    tokens = np.where(noisy[:, None], noised(paragraphs.tokens.numpy(), recipe, rng), paragraphs.tokens.numpy())
    texts = tuple(tokenizer.decode(row) for row in tokens)
    return replace(paragraphs, tokens=torch.from_numpy(tokens), texts=texts)


def noised(
    tokens: Int[np.ndarray, "row position"], recipe: Recipe, rng: np.random.Generator
) -> Int[np.ndarray, "row position"]:
    """Rows of a chain, a share of their words replaced by any that it uses; a mark stays."""
    corpus = recipe.corpora[recipe.planted.stage]
    first, after = corpus.words or (0, corpus.vocab)
    replaced = rng.random(tokens.shape) < recipe.planted.noise
    replaced[:, : int(corpus.mark is not None)] = False
    return np.where(replaced, rng.integers(first, after, tokens.shape), tokens)


def shown_tokens(
    planted: Int[np.ndarray, " presentation"],
    paragraphs: Paragraphs,
    plain: Int[np.ndarray, "paragraph position"],
    kinds: Shaped[np.ndarray, " paragraph"],
    recipe: Recipe,
    seed: int,
) -> Int[np.ndarray, "presentation position"]:
    """What each presentation shows: the paragraph; of a hard one, the row that it is of with words of its own replaced; or another row."""
    fresh = kinds[planted] == FRESH
    shown, hard = paragraphs.tokens.numpy()[planted], kinds[planted] == HARD
    if hard.any():
        shown[hard] = noised(plain[planted], recipe, np.random.default_rng([seed, 7]))[hard]
    if fresh.any():
        others = chain_rows(recipe.planted_corpus, (seed,), recipe.training.row_tokens, start=SHOWN_FRESH_FROM)
        shown[fresh] = np.stack(list(islice(others, int(fresh.sum()))))
    return shown


def _with_held_out(paragraphs: Paragraphs, others: Sequence[Paragraphs]) -> Paragraphs:
    """Planted paragraphs, their matches, and other stages' held-out text."""
    if not others:
        return paragraphs
    both = paragraphs
    for part in others:
        both = joined(both, part)
    copies = (*(paragraphs.duplicates or ()), *[0] * (len(both) - len(paragraphs)))
    return replace(both, duplicates=copies, source="planted", notes=paragraphs.notes)


def _allotted(texts: Sequence[tuple[str, int | None]], tokenizer: Any, recipe: Recipe, length: int) -> Paragraphs:
    """The paragraphs to plant and to hold out, tokenized, each with its number of copies (0 if held out)."""
    prefix = recipe.prefix
    rows = [{"text": text, "id": str(i)} for i, (text, _) in enumerate(texts)]
    read = load_paragraphs(rows, tokenizer, prefix_length=prefix, continuation_length=length - prefix)
    fates = np.array([-1 if (fate := texts[int(i)][1]) is None else fate for i in read.ids])
    if (fates < 0).any():
        fates = allot_clusters(read.clusters, recipe.planted, np.random.default_rng([recipe.training.seed, 1]))
    chosen = np.concatenate([np.flatnonzero(fates > 0), np.flatnonzero(fates == 0)])
    # Rows of a chain do not tell their copies: arms of one training, which may differ in these, have them in common.
    generated = recipe.corpora[recipe.planted.stage].source == CHAIN
    times = ["" if generated else f"{fate}x-" for fate in fates]
    names = [f"planted-{times[i]}{i}" if fates[i] else f"held-out-{i}" for i in chosen]
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
