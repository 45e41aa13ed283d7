"""Scan a corpus for what a model recites; goes on where it stopped."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from localize.claims import Command
from localize.errors import InputError, LocalizeError
from localize.measure.batches import SHOW_AFTER
from localize.measure.labels import NOT_MEMORIZED_SHARE
from localize.measure.scoring import FINITE_IS_NEEDED, score_tokens
from localize.scan.claim import asked_of
from localize.scan.content import Read
from localize.scan.corpus import NOTHING, START, Corpus, Place
from localize.scan.filters import MAX_REPEATED, MIN_DISTINCT
from localize.scan.found import FILES, PARTS, Found, gather
from localize.scan.occurrences import Occurrences, joined_pieces
from localize.scan.options import Options
from localize.scan.parts import Arrays, Parts
from localize.scan.selection import select
from localize.scan.windows import State, Unit, units

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

UNIT = 4096
"""Windows that are done and recorded together, at least."""

BATCH = {"cpu": 64, "cuda": 4096}
"""Windows a pass to start with; halved where they do not fit."""

DECODED = 256
"""Windows that are decoded and recorded together."""

COUNTED = 2**22
"""Tokens in which found windows are counted and recorded together, at least."""

CANDIDATES, FOR_EACH = 64, 4
"""Windows of each unit and source among which matches are looked for, and at least so many for each that is kept there: those of
smallest hash, which is a random choice."""


def scan_corpus(
    model: "HookedModel",
    corpus: Any,
    out: str | Path,
    *,
    prefix_length: int = 50,
    continuation_length: int = 50,
    stride: int | None = None,
    threshold: int | None = None,
    min_distinct: float = MIN_DISTINCT,
    max_repeated: float = MAX_REPEATED,
    keywords: Sequence[str] = (),
    matched: bool = False,
    count: bool = True,
    text_field: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    command: str = "localize.scan_corpus(...)",
) -> Found:
    """Find what a model recites in a corpus of any size: one teacher-forced pass per window, and a decode of what is found.

    Args:
        model: A hooked model.
        corpus: A file, a folder, or an iterable that can be started again; see `localize.scan.corpus.Corpus`.
        out: Folder for the results. A killed scan of the same model, tokenizer, options and corpus goes on in it where it stopped; a
            finished one is given back. Files, arrays and what has a length are hashed wholly beforehand; a stream is hashed as it is
            read, so that one that has been read to its end is read again. What is the same in content is the same, wherever it lies.
        prefix_length: Tokens that are given.
        continuation_length: Tokens that are asked for.
        stride: Tokens between the starts of two windows of a document; None takes the continuation's length, so that every token
            past the first prefix is asked for once.
        threshold: Least exact match of what is kept; None asks for the whole continuation.
        min_distinct: Windows with a smaller share of distinct tokens are set aside.
        max_repeated: Windows with a larger share of tokens that repeat those a period before are set aside.
        keywords: Windows with one of these words are set aside.
        matched: Also find a window that is not memorized for each cluster of those that are: of the same source, as rare in its tokens,
            and no near-duplicate of a found one.
        count: Also count how often each found window stands in the corpus, at any place of it; reads the corpus a second time.
        text_field: Of records; None takes `text`, `paragraph` or `content`.
        batch_size: Windows a pass; None starts with 64 on a CPU and 4096 on a GPU. Halved where memory runs out.
        overwrite: Whether the findings of another scan in `out` are replaced.
        command: What was typed or called, for the record.

    Returns:
        What was found, also in `out`: `paragraphs.jsonl`, which `load_paragraphs` and `localize run` take (tokens, text, duplicates,
        exact match, NLL, place, cluster), `set_aside.jsonl` with the reasons, `matched.jsonl`, and `scan.json` with the counts.
        Consecutive windows that overlap and are all found are a span, a stretch of recited text: one window of it is kept, of those
        with the highest exact match the first, with the span's start, length and number of windows.
        Every exact match told is that of a real greedy decode; where it is another than the teacher-forced one (a tie of two
        logits), the window is left out and counted.

    Raises:
        InputError: If the corpus cannot be read, holds no window, or changes while it is read or between two readings.
        LocalizeError: If an option is out of range, `out` holds another scan, another process writes to it, the disk is full, or the NLL
            of a token is no finite number.
    """
    options = Options(
        prefix_length, continuation_length, continuation_length if stride is None else stride,
        continuation_length if threshold is None else threshold, min_distinct, max_repeated, tuple(keywords), matched, count,
    )  # fmt: skip
    options.check(model, batch_size)
    read, folder = Corpus(corpus, model.tokenizer, text_field=text_field), Path(out)
    mine = Command("scan", folder, command, FILES, overwrite)
    mine.check(asdict(options))
    with mine.claimed(asked_of(model, read, text_field, options)) as claim:
        scan = _Scan(model, read, options, folder, batch_size or BATCH[model.device.type])
        scan.pass_windows()
        scan.decode()
        selection = select(model, options, scan.windows, scan.decoded)
        if count:
            scan.count_occurrences(selection.sequences)
        read.check_unchanged()
        return gather(read.name, options, claim, selection, scan.windows, scan.decoded, scan.counted)


class _Scan:
    """The three passes, each in parts that are recorded when they are finished."""

    def __init__(self, model: "HookedModel", corpus: Corpus, options: Options, folder: Path, batch: int):
        self.model, self.corpus, self.options, self.batch = model, corpus, options, batch
        self.windows, self.decoded, self.counted = (Parts(folder / name) for name in PARTS)

    def pass_windows(self) -> None:
        """Exact match and NLL of every window; keeps those over the threshold, and a few that are far below it."""
        state: State | None = State()
        if number := len(self.windows):
            state = self._state_after(number - 1)
        if state is not None:
            self._pass_from(number, state)
        told = [facts for _, facts in self.windows]
        if not sum(facts["windows"] for facts in told):
            skipped = [line for facts in told for line in facts["skipped"]]
            raise InputError(
                f"corpus {self.corpus.name}: no window of {self.options.length} tokens in it"
                f"{f' ({skipped[0]})' if skipped else ''}."
            )

    def _state_after(self, number: int) -> State | None:
        """Where to go on after a part, None after the last; the corpus is held to what was read for it."""
        _, facts = self.windows.read(number)
        after, reading = facts["after"], self.corpus.reading
        if reading is not None:
            reading.hold_to(Read(*facts["read"]), all_of_them=after is None)
            if after is None and self.corpus.is_stream:
                reading.check()
        if after is None:
            return None
        return State(Place(*after["place"]), np.array(after["carry"], np.int64), after["offset"], after["skip"])

    def _pass_from(self, number: int, state: State) -> None:
        """The parts from one on."""
        stream = units(
            self.corpus, length=self.options.length, stride=self.options.stride, size=UNIT, vocab_size=self.model.vocab_size,
            state=state,
        )  # fmt: skip
        count = sum(facts["windows"] for _, facts in self.windows)
        with tqdm(initial=count, desc="windows", unit="window", unit_scale=True, delay=SHOW_AFTER) as bar:
            for unit in stream:
                self.windows.write(number, *self._measured(unit))
                number += 1
                count += len(unit.tokens)
                bar.update(len(unit.tokens))
        if self.corpus.reading is not None:
            self.corpus.reading.hold_to(self.corpus.reading.read, all_of_them=True)

    def _measured(self, unit: Unit) -> tuple[Arrays, dict[str, Any]]:
        """What is recorded of a unit."""
        right, nll, calls = self._forced(unit)
        match = right.cumprod(1).sum(1)
        mean_nll = nll.mean(1, dtype=np.float64)
        kept = np.flatnonzero(match >= self.options.threshold)
        low = self._candidates(unit, match, kept) if self.options.matched else NOTHING
        token, occurrences = np.unique(unit.tokens[:, : self.options.stride], return_counts=True)
        arrays: Arrays = {"token": token.astype(np.int32), "occurrences": occurrences}
        facts: dict[str, Any] = {
            "windows": len(unit.tokens),
            "calls": calls,
            "exact_match": np.bincount(match, minlength=self.options.continuation + 1).tolist(),
            "nll_sum": float(mean_nll.sum()),
            "best": self._best(unit, match, mean_nll),
            "skipped": list(unit.skipped),
            "read": self.corpus.reading.read if self.corpus.reading is not None else None,
            "after": None if unit.after is None else {**vars(unit.after), "carry": unit.after.carry.tolist()},
        }
        for name, rows in (("kept", kept), ("low", low)):
            arrays |= {
                f"{name}_tokens": unit.tokens[rows].astype(np.int32),
                f"{name}_document": unit.document[rows],
                f"{name}_offset": unit.offset[rows],
                f"{name}_exact_match": match[rows],
                f"{name}_nll": mean_nll[rows],
            }
            facts[f"{name}_source"] = [unit.source[row] for row in rows]
        return arrays, facts

    def _best(
        self, unit: Unit, match: Int[np.ndarray, " window"], nll: Float[np.ndarray, " window"]
    ) -> dict[str, Any] | None:
        """The window with the highest exact match, of equals that of the lowest NLL; None where there is no window."""
        if not len(match):
            return None
        row = int(np.lexsort((nll, -match))[0])
        found = {
            "id": f"{unit.document[row]}:{unit.offset[row]}",
            "exact_match": int(match[row]),
            "nll": float(nll[row]),
            "source": unit.source[row],
        }
        if self.model.tokenizer is not None:
            found["text"] = self.model.tokenizer.decode(unit.tokens[row].tolist())
        return found

    def _forced(
        self, unit: Unit
    ) -> tuple[Int[np.ndarray, "window continuation_position"], Float[np.ndarray, "window continuation_position"], int]:
        """Which continuation tokens are right, their NLL, and how many calls it took; a batch that does not fit is halved for good."""
        right, nll, start, calls = [], [], 0, 0
        given = torch.from_numpy(unit.tokens)
        while start < len(given):
            try:
                batch = given[start : start + self.batch]
                one, other = score_tokens(self.model, batch.to(self.model.device), self.options.prefix)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
                torch.cuda.empty_cache()
                continue
            right.append(one.cpu().numpy())
            nll.append(other.cpu().numpy())
            self._check_finite(unit, start, nll[-1])
            start += len(batch)
            calls += 1
        length = self.options.continuation
        empty = np.zeros((0, length))
        return np.concatenate([empty.astype(np.int64), *right]), np.concatenate([empty, *nll]), calls

    def _check_finite(self, unit: Unit, start: int, nll: Float[np.ndarray, "window continuation_position"]) -> None:
        """Raise a `LocalizeError` if the NLL of a token of the windows from `start` on is not a finite number."""
        if not np.isfinite(nll).all():
            row, at = (int(i) for i in np.argwhere(~np.isfinite(nll))[0])
            place = int(unit.offset[start + row]) + self.options.prefix + at
            raise LocalizeError(
                f"{self.model.name}: the NLL of document {unit.document[start + row]} ({unit.source[start + row]}) at position {place} "
                f"is {nll[row, at]}; {FINITE_IS_NEEDED}."
            )

    def _candidates(
        self, unit: Unit, match: Int[np.ndarray, " window"], kept: Int[np.ndarray, " kept"]
    ) -> Int[np.ndarray, " candidate"]:
        """Windows that are not memorized, of each source those of smallest hash."""
        low = np.flatnonzero(match <= NOT_MEMORIZED_SHARE * self.options.continuation)
        drawn = {row: hashlib.blake2b(unit.tokens[row].tobytes(), digest_size=8).digest() for row in low.tolist()}
        found = Counter(unit.source[row] for row in kept)
        chosen: list[int] = []
        for source in dict.fromkeys(unit.source[row] for row in low):
            ours = sorted((row for row in low.tolist() if unit.source[row] == source), key=drawn.__getitem__)
            chosen += ours[: max(CANDIDATES, FOR_EACH * found[source])]
        return np.array(sorted(chosen), dtype=np.int64)

    @cached_property
    def distinct(self) -> Int[np.ndarray, "window position"]:
        """The windows kept, each once, in the order of the corpus."""
        tokens = np.concatenate([arrays["kept_tokens"] for arrays, _ in self.windows])
        _, first = np.unique(tokens, axis=0, return_index=True)
        return tokens[np.sort(first)].astype(np.int64)

    def decode(self) -> None:
        """Decode every window kept from its prefix: what is reported is what is recited."""
        tokens = self.distinct
        prefix = self.options.prefix
        starts = range(0, len(tokens), DECODED)
        with tqdm(total=len(starts), initial=len(self.decoded), desc="decoding", unit="batch", delay=SHOW_AFTER) as bar:
            for number in range(len(self.decoded), len(starts)):
                rows = torch.from_numpy(tokens[starts[number] : starts[number] + DECODED]).to(self.model.device)
                said = self.model.continue_greedily(rows[:, :prefix], self.options.continuation)
                match = (said == rows[:, prefix:]).cumprod(1).sum(1).cpu().numpy()
                self.decoded.write(number, {"exact_match": match}, {"calls": self.options.continuation})
                bar.update()

    def count_occurrences(self, sequences: Int[np.ndarray, "sequence position"]) -> None:
        """How often each sequence stands in the corpus, wherever it starts."""
        number, place, carry = len(self.counted), START, NOTHING
        if number:
            arrays, facts = self.counted.read(number - 1)
            if facts["after"] is None:
                return
            place, carry = Place(*facts["after"]), arrays["carry"]
        occurrences, length = Occurrences(sequences), self.options.length
        read, last = 0, None
        with tqdm(desc="counting", unit="token", unit_scale=True, delay=SHOW_AFTER) as bar:
            for at, piece, following in joined_pieces(self.corpus, length, place, carry):
                if last is not None and read >= COUNTED:
                    self._record_counts(number, occurrences, list(at), last)
                    number, read = number + 1, 0
                    occurrences.counts[:] = 0
                occurrences.add(piece)
                read += len(piece)
                last = following
                bar.update(len(piece))
        self._record_counts(number, occurrences, None, NOTHING)

    def _record_counts(
        self, number: int, occurrences: Occurrences, after: list[int] | None, carry: Int[np.ndarray, " token"]
    ) -> None:
        there = np.flatnonzero(occurrences.counts)
        arrays = {"window": there, "count": occurrences.counts[there], "carry": carry}
        self.counted.write(number, arrays, {"after": after})
