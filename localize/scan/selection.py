"""Which of the windows over the threshold are told, one a span; and for each cluster of them a match that is not memorized."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from localize.paragraphs.clusters import near_duplicate_clusters
from localize.scan.filters import reasons
from localize.scan.matched import matches, rarity, unlike
from localize.scan.parts import Parts
from localize.scan.spans import spans

if TYPE_CHECKING:
    import pandas as pd

    from localize.models.hooks import HookedModel
    from localize.scan.options import Options


@dataclass(frozen=True, eq=False)
class Selection:
    """What of a scan is told.

    Attributes:
        table: One row for each window told, without duplicates; see `Found`.
        tokens: Theirs.
        copies: How many of the windows over the threshold have the same tokens.
        matched: One row for each match; empty where none is asked for.
        matched_tokens: Theirs.
        unmatched: Why clusters have no match, and how many for each reason.
        counts: Windows over the threshold (`found`), their distinct texts, those not reproduced, spans.
    """

    table: "pd.DataFrame"
    tokens: Int[np.ndarray, "window position"]
    copies: Int[np.ndarray, " window"]
    matched: "pd.DataFrame"
    matched_tokens: Int[np.ndarray, "match position"]
    unmatched: dict[str, int]
    counts: dict[str, int]

    @property
    def passed(self) -> np.ndarray:
        """Which rows are not set aside."""
        return (self.table["set_aside"] == "").to_numpy(bool)

    @property
    def sequences(self) -> Int[np.ndarray, "sequence position"]:
        """What is counted in the corpus: the windows told, then the matches."""
        return np.concatenate([self.tokens, self.matched_tokens])


def select(model: "HookedModel", options: "Options", windows: Parts, decoded: Parts) -> Selection:
    """Choose what is told.

    A window that a decode does not reproduce is left out. Of those that the filters pass, and of those that they set aside, each
    stretch of overlapping ones is a span, told by one window; a text that stands for several spans is told where it stands first.
    """
    kept, sources = columns(windows, "kept")
    distinct, first, number, copies = np.unique(
        kept["tokens"], axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    number, order = number.reshape(-1), np.argsort(first)
    said = np.zeros(len(distinct), np.int64)
    said[order] = np.concatenate([said[:0], *(arrays["exact_match"] for arrays, _ in decoded)])
    verified = kept["exact_match"] == said[number]
    why = np.array(_reasons(model, options, distinct.astype(np.int64)), dtype=object)[number]
    passes = why == ""
    told = np.concatenate([_told(kept, verified & side, options.length) for side in (passes, ~passes)], axis=1)
    told = told[:, np.argsort(told[0])]
    _, once = np.unique(number[told[0]], return_index=True)
    counts = {
        "found": len(number),
        "distinct_windows": len(distinct),
        "not_reproduced": len(np.unique(number[~verified])),
        "spans": told.shape[1],
    }
    told = told[:, np.sort(once)]  # each text where it stands first, in the order of the corpus
    table, tokens = _table(model, kept, sources, told, why)
    matched, matched_tokens, unmatched = table.iloc[:0], tokens[:0], dict[str, int]()
    if options.matched:
        matched, matched_tokens, unmatched = _matched(model, table, tokens, kept, windows, options.length)
    return Selection(table, tokens, copies[number[told[0]]], matched, matched_tokens, unmatched, counts)


def columns(windows: Parts, name: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """One kind of windows of all parts, and their sources."""
    parts: dict[str, list[np.ndarray]] = {key: [] for key in ("tokens", "document", "offset", "exact_match", "nll")}
    sources: list[str] = []
    for arrays, facts in windows:  # one part at a time is in memory whole
        for key, found in parts.items():
            found.append(arrays[f"{name}_{key}"])
        sources += facts[f"{name}_source"]
    return {key: np.concatenate(found) for key, found in parts.items()}, sources


def _reasons(model: "HookedModel", options: "Options", tokens: Int[np.ndarray, "window position"]) -> list[str]:
    """Why each window is set aside."""
    texts = None
    if model.tokenizer is not None and options.keywords:
        texts = [model.tokenizer.decode(row) for row in tokens.tolist()]
    return reasons(
        tokens, texts, min_distinct=options.min_distinct, max_repeated=options.max_repeated, keywords=options.keywords
    )


def _told(kept: dict[str, np.ndarray], these: np.ndarray, length: int) -> Int[np.ndarray, "fact span"]:
    """Of some of the windows kept the row of one a span, and the span's start, length and number of windows."""
    rows = np.flatnonzero(these)
    found = spans(kept["document"][rows], kept["offset"][rows], kept["exact_match"][rows], length)
    return np.stack([rows[found.window], found.start, found.length, found.windows])


def _table(
    model: "HookedModel",
    kept: dict[str, np.ndarray],
    sources: list[str],
    told: Int[np.ndarray, "fact window"],
    why: np.ndarray,
) -> "tuple[pd.DataFrame, Int[np.ndarray, 'window position']]":
    """One row for each window told, and its tokens."""
    rows, start, length, count = told
    tokens = kept["tokens"][rows].astype(np.int64)
    table = _placed(kept, sources, rows)
    table.insert(3, "cluster", near_duplicate_clusters(tokens) if len(tokens) else np.zeros(0, np.int64))
    table["span_offset"], table["span_length"], table["span_windows"] = start, length, count
    table["set_aside"] = why[rows]
    _add_text(table, model, tokens)
    return table, tokens


def _placed(found: dict[str, np.ndarray], sources: list[str], rows: Int[np.ndarray, " window"]) -> "pd.DataFrame":
    """What is known of windows: id, exact match, NLL, place."""
    import pandas as pd

    document, offset = found["document"][rows], found["offset"][rows]
    return pd.DataFrame(
        {
            "id": [f"{d}:{o}" for d, o in zip(document, offset, strict=True)],
            "exact_match": found["exact_match"][rows],
            "nll": found["nll"][rows],
            "document": document,
            "offset": offset,
            "source": [sources[row] for row in rows],
        }
    )


def _add_text(table: "pd.DataFrame", model: "HookedModel", tokens: Int[np.ndarray, "window position"]) -> None:
    """The windows as text, where there is a tokenizer."""
    if model.tokenizer is not None:
        table["text"] = [model.tokenizer.decode(row) for row in tokens.tolist()]


def _matched(
    model: "HookedModel",
    table: "pd.DataFrame",
    tokens: Int[np.ndarray, "window position"],
    kept: dict[str, np.ndarray],
    windows: Parts,
    length: int,
) -> "tuple[pd.DataFrame, Int[np.ndarray, 'match position'], dict[str, int]]":
    """For the first window of each cluster another of its source that is not memorized, with as rare tokens; and what has none."""
    low, sources = columns(windows, "low")
    free, usable = unlike(low, kept, length)
    counts = _token_counts(windows, model.vocab_size)
    passed = (table["set_aside"] == "").to_numpy(bool)
    places = np.flatnonzero(passed)[~table.loc[passed, "cluster"].duplicated().to_numpy()]
    heads = table.iloc[places]
    chosen = matches(
        rarity(tokens[places], counts), heads["source"].tolist(),
        rarity(low["tokens"][usable].astype(np.int64), counts), [sources[row] for row in usable],
    )  # fmt: skip
    rows = usable[chosen[chosen >= 0]]
    found = _placed(low, sources, rows)
    found.insert(1, "match_of", heads["id"].to_numpy()[chosen >= 0])
    picked = low["tokens"][rows].astype(np.int64)
    _add_text(found, model, picked)
    stages = [{sources[row] for row in some} for some in (range(len(sources)), free, usable)]
    told = Counter(_why_none(source, *stages) for source in heads["source"][chosen < 0])
    return found, picked, dict(told)


def _why_none(source: str, low: set[str], free: set[str], usable: set[str]) -> str:
    """Why a cluster of this source has no match, from the sources of what was left after each step."""
    if source not in low:
        return "no window of the same source is not memorized"
    if source not in free:
        return "each window of the same source that is not memorized overlaps a found one"
    if source not in usable:
        return "each window of the same source that is not memorized is a near-duplicate of a found one"
    return "no window of the same source is left: more clusters are found in it than windows to match them with"


def _token_counts(windows: Parts, vocab_size: int) -> Int[np.ndarray, " vocab"]:
    """How often each token stands in what was scanned."""
    counts = np.zeros(vocab_size, np.int64)
    for arrays, _ in windows:
        counts[arrays["token"]] += arrays["occurrences"]
    return counts
