"""What a scan found: clustered, filtered, matched, written where `localize run` reads it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from localize.scan.parts import Parts
from localize.scan.selection import Selection
from localize.statistics.clusters import effective_clusters
from localize.storage import replacing, write_json

if TYPE_CHECKING:
    import pandas as pd

    from localize.claims import Claim
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.scan.options import Options

PARAGRAPHS_FILE, SET_ASIDE_FILE, MATCHED_FILE = "paragraphs.jsonl", "set_aside.jsonl", "matched.jsonl"
PLAN_FILE = "scan.json"
PARTS = ("windows", "decoded", "counted")
FILES = (*PARTS, PARAGRAPHS_FILE, SET_ASIDE_FILE, MATCHED_FILE, PLAN_FILE)
"""What a scan leaves in its folder."""
TOLD_SKIPS = 100
"""So many lines that could not be read are told one by one; all are counted."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a scan found.

    Attributes:
        folder: Where it is written.
        table: One row for each span of overlapping windows found, without duplicates: of the window that stands for it id, exact match,
            NLL, duplicates, cluster and place; where the span starts, how many tokens it covers and how many windows over the
            threshold these are; why it was set aside ("" if it was not); text.
        summary: Counts: windows; over the threshold (`found`), their distinct texts, those not reproduced by a decode, spans; rows of
            `table` (`distinct`), set aside, clusters and effective clusters of the others; matches and why clusters have none
            (`unmatched`); skipped; model calls; the best window of all (`best`, of the teacher-forced pass).
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
            f"Found({self.folder}: {s['distinct'] - s['set_aside']} paragraphs in {s['clusters']} clusters among {s['windows']:,} windows "
            f"scanned; {s['set_aside']} set aside)"
        )


def gather(
    corpus: str,
    options: "Options",
    claim: "Claim",
    selection: Selection,
    windows: Parts,
    decoded: Parts,
    counted: Parts,
) -> Found:
    """Put the parts together and write what came out."""
    folder = claim.command.folder
    table, passed = selection.table, selection.passed
    duplicates = selection.copies
    if options.count:
        duplicates = np.zeros(len(selection.sequences), np.int64)
        for arrays, _ in counted:
            duplicates[arrays["window"]] += arrays["count"]
        selection.matched.insert(4, "duplicates", duplicates[len(table) :])
    table.insert(3, "duplicates", duplicates[: len(table)])
    _write(folder / PARAGRAPHS_FILE, table.loc[passed].drop(columns="set_aside"), selection.tokens[passed])
    _write(folder / SET_ASIDE_FILE, table.loc[~passed], selection.tokens[~passed])
    clusters = table.loc[passed, "cluster"].to_numpy()
    summary = _summary(corpus, options, windows, decoded) | {
        **selection.counts,
        "distinct": len(table),
        "set_aside": int((~passed).sum()),
        "clusters": len(np.unique(clusters)),
        "effective_clusters": effective_clusters(clusters) if len(clusters) else 0.0,
    }
    if options.matched:
        _write(folder / MATCHED_FILE, selection.matched, selection.matched_tokens)
        summary |= {"matched": len(selection.matched), "unmatched": selection.unmatched}
    told = {"asked": dict(claim.asked), **summary}
    write_json(folder / PLAN_FILE, told)
    return Found(folder, table, told)


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
        "best": max((facts["best"] for facts in told if facts["best"]), key=lambda b: (b["exact_match"], -b["nll"])),
    }


def _write(path: Path, table: "pd.DataFrame", tokens: Int[np.ndarray, "window position"]) -> None:
    """One JSON object a row, tokens last."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        for row, of_row in zip(table.to_dict("records"), tokens.tolist(), strict=True):
            file.write(json.dumps({**row, "tokens": of_row}, ensure_ascii=False, allow_nan=False) + "\n")
