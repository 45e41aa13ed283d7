"""What a scan found: clustered, filtered, matched, written where `localize run` reads it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from localize.paragraphs.clusters import near_duplicate_clusters
from localize.scan.filters import reasons
from localize.scan.matched import matches, rarity
from localize.scan.parts import Parts
from localize.storage import replacing

if TYPE_CHECKING:
    import pandas as pd

    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.scan.scan import Options

PARAGRAPHS_FILE, SET_ASIDE_FILE, MATCHED_FILE = "paragraphs.jsonl", "set_aside.jsonl", "matched.jsonl"
PLAN_FILE = "scan.json"
TOLD_SKIPS = 100
"""So many lines that could not be read are told one by one; all are counted."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a scan found.

    Attributes:
        folder: Where it is written.
        table: One row per distinct window found: id, exact match, NLL, duplicates, cluster, place, why it was set aside ("" if it was
            not), text.
        summary: Counts: windows, tokens, found, distinct, clusters, set aside, verified, skipped, model calls, ....
    """

    folder: Path
    table: "pd.DataFrame"
    summary: Mapping[str, Any]

    def paragraphs(self, *, matched: bool = False) -> "Paragraphs":
        """What was found and not set aside; or their matches, which are not memorized.

        Raises:
            InputError: If there are none.
        """
        from localize.paragraphs.readers import load_paragraphs

        asked = self.summary["asked"]
        return load_paragraphs(
            self.folder / (MATCHED_FILE if matched else PARAGRAPHS_FILE), prefix_length=asked["prefix"],
            continuation_length=asked["continuation"],
        )  # fmt: skip

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"Found({self.folder}: {s['distinct']} distinct windows in {s['clusters']} clusters among {s['windows']:,} scanned; "
            f"{s['set_aside']} set aside)"
        )


def gather(
    model: "HookedModel", corpus: str, options: "Options", folder: Path, windows: Parts, decoded: Parts, counted: Parts
) -> Found:
    """Put the parts together and write what came out."""
    import pandas as pd

    kept, sources = _columns(windows, "kept")
    _, first, copies = np.unique(kept["tokens"], axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    rows = first[order]  # each distinct window where it stands first
    said = np.concatenate([np.zeros(0, np.int64), *(arrays["exact_match"] for arrays, _ in decoded)])
    verified = said == kept["exact_match"][rows]
    duplicates = copies[order]
    if options.count:
        duplicates = np.zeros(len(rows), np.int64)
        for arrays, _ in counted:
            duplicates[arrays["window"]] += arrays["count"]
    rows, duplicates = rows[verified], duplicates[verified]
    tokens = kept["tokens"][rows].astype(np.int64)
    texts = None if model.tokenizer is None else [model.tokenizer.decode(row) for row in tokens.tolist()]
    why = reasons(
        tokens, texts, min_distinct=options.min_distinct, max_repeated=options.max_repeated, keywords=options.keywords
    )
    clusters = near_duplicate_clusters(tokens) if len(tokens) else np.zeros(0, np.int64)
    table = pd.DataFrame(
        {
            "id": [f"{d}:{o}" for d, o in zip(kept["document"][rows], kept["offset"][rows], strict=True)],
            "exact_match": kept["exact_match"][rows],
            "nll": kept["nll"][rows],
            "duplicates": duplicates,
            "cluster": clusters,
            "document": kept["document"][rows],
            "offset": kept["offset"][rows],
            "source": [sources[row] for row in rows],
            "set_aside": why,
        }
    )
    if texts is not None:
        table["text"] = texts
    aside = np.array([bool(reason) for reason in why], dtype=bool)
    passed, held = table.loc[~aside], table.loc[aside]
    _write(folder / PARAGRAPHS_FILE, passed.drop(columns="set_aside"), tokens[~aside])
    _write(folder / SET_ASIDE_FILE, held, tokens[aside])
    summary = _summary(corpus, options, windows, decoded) | {
        "found": len(kept["tokens"]),
        "distinct": len(table),
        "not_reproduced": int((~verified).sum()),
        "clusters": len(np.unique(clusters[~aside])),
        "set_aside": int(aside.sum()),
    }
    if options.matched:
        counts = _token_counts(windows, model.vocab_size)
        chosen = _matched(passed, tokens[~aside], windows, counts, model)
        _write(folder / MATCHED_FILE, *chosen)
        summary["matched"] = len(chosen[0])
    plan = folder / PLAN_FILE
    asked = json.loads(plan.read_text(encoding="utf-8"))["asked"]
    with replacing(plan) as beside:
        beside.write_text(
            json.dumps({"asked": asked, **summary}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return Found(folder, table, {"asked": asked, **summary})


def _columns(windows: Parts, name: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """One kind of windows of all parts, and their sources."""
    parts: dict[str, list[np.ndarray]] = {key: [] for key in ("tokens", "document", "offset", "exact_match", "nll")}
    sources: list[str] = []
    for arrays, facts in windows:  # one part at a time is in memory whole
        for key, found in parts.items():
            found.append(arrays[f"{name}_{key}"])
        sources += facts[f"{name}_source"]
    return {key: np.concatenate(found) for key, found in parts.items()}, sources


def _summary(corpus: str, options: "Options", windows: Parts, decoded: Parts) -> dict[str, Any]:
    """Counts over all parts."""
    told = [facts for _, facts in windows]
    skipped = [line for facts in told for line in facts["skipped"]]
    count = sum(facts["windows"] for facts in told)
    histogram = np.sum([facts["exact_match"] for facts in told], axis=0)
    forced = sum(facts["calls"] for facts in told)
    return {
        "corpus": corpus,
        "windows": count,
        "exact_match": histogram.tolist(),
        "mean_exact_match": float(histogram @ np.arange(len(histogram)) / count),
        "mean_nll": sum(facts["nll_sum"] for facts in told) / count,
        "skipped": len(skipped),
        "skipped_first": skipped[:TOLD_SKIPS],
        "model_calls": forced + sum(facts["calls"] for _, facts in decoded),
        "model_calls_decoding_all": forced * (1 + options.continuation),
    }


def _token_counts(windows: Parts, vocab_size: int) -> Int[np.ndarray, " vocab"]:
    """How often each token stands in what was scanned."""
    counts = np.zeros(vocab_size, np.int64)
    for arrays, _ in windows:
        counts[arrays["token"]] += arrays["occurrences"]
    return counts


def _matched(
    table: "pd.DataFrame",
    tokens: Int[np.ndarray, "window position"],
    windows: Parts,
    counts: Int[np.ndarray, " vocab"],
    model: "HookedModel",
) -> "tuple[pd.DataFrame, Int[np.ndarray, 'match position']]":
    """For the first window of each cluster another of its source that is not memorized, with as rare tokens."""
    import pandas as pd

    low, sources = _columns(windows, "low")
    _, first = np.unique(low["tokens"], axis=0, return_index=True)
    first.sort()
    both = np.concatenate([tokens, low["tokens"][first]]).astype(np.int64)
    together = near_duplicate_clusters(both) if len(both) else np.zeros(0, np.int64)
    _, once = np.unique(together, return_index=True)  # one candidate per cluster, none of a cluster that is found
    first = first[once[once >= len(tokens)] - len(tokens)]
    candidates = low["tokens"][first].astype(np.int64)
    heads = table.drop_duplicates("cluster")
    places = np.flatnonzero(~table["cluster"].duplicated().to_numpy())
    chosen = matches(
        rarity(tokens[places], counts),
        heads["source"].tolist(),
        rarity(candidates, counts),
        [sources[i] for i in first],
    )
    pairs = [(head, int(candidate)) for head, candidate in zip(heads["id"], chosen, strict=True) if candidate >= 0]
    rows = first[[candidate for _, candidate in pairs]] if pairs else first[:0]
    picked = candidates[[candidate for _, candidate in pairs]] if pairs else candidates[:0]
    found = pd.DataFrame(
        {
            "id": [f"{low['document'][row]}:{low['offset'][row]}" for row in rows],
            "match_of": [head for head, _ in pairs],
            "exact_match": low["exact_match"][rows],
            "nll": low["nll"][rows],
            "document": low["document"][rows],
            "offset": low["offset"][rows],
            "source": [sources[row] for row in rows],
        }
    )
    if model.tokenizer is not None:
        found["text"] = [model.tokenizer.decode(row) for row in picked.tolist()]
    return found, picked


def _write(path: Path, table: "pd.DataFrame", tokens: Int[np.ndarray, "window position"]) -> None:
    """One JSON object a row, tokens last."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        for row, of_row in zip(table.to_dict("records"), tokens.tolist(), strict=True):
            file.write(json.dumps({**row, "tokens": of_row}, ensure_ascii=False) + "\n")
