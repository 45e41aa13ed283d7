"""A signature as a table, for Jupyter; every text in it escaped."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from localize.analysis.beyond_loss import loss_note
from localize.analysis.causal import CORRELATED, together_rows
from localize.analysis.chosen_head import ChosenHead, head_sentence, reference_groups, untrained_row
from localize.analysis.draws import Draws
from localize.analysis.locality import locality_notes
from localize.analysis.matching import matching_note
from localize.analysis.rendering import template
from localize.analysis.rows import is_rough, null_ends
from localize.analysis.saturation import disagreements
from localize.analysis.sentences import sentence
from localize.analysis.stored_units import stored_notes
from localize.analysis.summary import FIRST_HALF, TOP_SHARE
from localize.axes import QUERIES
from localize.measurements import REGISTRY

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

ROUGH = "~ marks intervals and p-values that are rough: too few clusters, or too skewed for their number."


def signature_html(signature: "MemorizationSignature") -> str:
    """What it holds and what stands out, for a notebook's cell; over training, of the last step of the first run and seed."""
    over = {axis: signature[axis].values for axis in signature.over_training}
    if over:
        shown = {axis: labels[-1 if axis == "training_step" else 0].item() for axis, labels in over.items()}
        signature = signature.at(**shown)
    return template("localize.analysis", "signature.html").render(signature_content(signature))


def signature_content(signature: "MemorizationSignature") -> dict[str, Any]:
    """What both Jupyter and the terminal show, as plain text."""
    from localize.statistics import effective_clusters

    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    groups = []
    for name in signature.groups:
        chosen = group == name
        groups.append(
            {
                "name": name.replace("_", " "),
                "paragraphs": int(chosen.sum()),
                "clusters": round(effective_clusters(clusters[chosen]), 1),
                "exact_match": _group_mean(dataset, "exact_match", chosen, 1),
                "nll": _group_mean(dataset, "nll", chosen, 3),
            }
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = signature.summary()
    rows = summary_rows(summary)
    variables = [
        {
            "name": name,
            "dims": " × ".join(f"{dim} {size}" for dim, size in dataset[name].sizes.items()),
            "unit": REGISTRY[name].unit,
            "continuation": dataset[name].attrs.get("continuation", ""),
            "description": REGISTRY[name].description,
        }
        for name in signature.variables
    ]
    return {
        "model": dataset.attrs["model"],
        "paragraphs": dataset.attrs["paragraphs"],
        "calls": dataset.attrs["calls"],
        "groups": groups,
        "summary": rows,
        "notes": [
            *(str(w.message) for w in caught),
            *([ROUGH] if any(row["estimate"].count("~") for row in rows) else []),
            *summary_notes(signature, summary),
        ],
        "variables": variables,
        "count": len(signature),
    }


def summary_notes(signature: "MemorizationSignature", summary: "pd.DataFrame") -> list[str]:
    """What must be known of the summary, in sentences."""
    stored = locality_notes(signature) + stored_notes(signature)
    return stored + head_notes(signature) + disagreements(summary, (TOP_SHARE, FIRST_HALF)) + matching_notes(signature)


def head_notes(signature: "MemorizationSignature") -> list[str]:
    """Whether a head attends to rare or to common tokens, and whether removing heads agrees that it matters, in sentences."""
    dataset, query, draws = signature.dataset, QUERIES[0], Draws(0)
    if not {"rare_token_score", "rare_token_null"} <= set(signature.variables):
        return []
    groups, chosen = reference_groups(signature.groups), ChosenHead.of(dataset, query, draws.seed)
    notes = []
    if "ablated_nll" in signature and "ablated_exact_match" in signature:
        rows = together_rows(dataset, query, groups, draws)
        notes += [_of_group(name, sentence(row, CORRELATED, part="null")) for name, row in rows.items()]
    if chosen is not None:
        scores = chosen.score_rows(dataset, query, groups, draws)
        for name, row in scores.items():
            said = head_sentence(chosen.name, row, untrained_row(dataset, query, name, draws))
            notes.append(_of_group(name, said))
    return notes


def _of_group(name: str, said: str) -> str:
    return f"{name.replace('_', ' ')}: {said}."


def matching_notes(signature: "MemorizationSignature") -> list[str]:
    """What is left of a difference among the alike: of the low-layer share in loss, of what corrupts in confidence; in sentences."""
    notes = [loss_note(signature.dataset)]
    if "perturbed_exact_match" in signature:
        notes.append(matching_note(signature.dataset))
    return [note for note in notes if note is not None]


def _group_mean(dataset: "xr.Dataset", name: str, chosen: Bool[np.ndarray, " paragraph"], digits: int) -> str:
    return f"{dataset[name].values[chosen].mean():.{digits}f}" if name in dataset else "·"


def summary_rows(summary: "pd.DataFrame") -> list[dict[str, str]]:
    """The summary as text: estimate with interval, null with its range, p-value; `·` where there is none, `~` before what is rough."""

    def number(value: float) -> str:
        return "·" if value != value else f"{value:.3f}"

    def with_range(middle: float, low: float, high: float, mark: str = "") -> str:
        told = number(middle)
        return told if low != low else f"{told} {mark}[{number(low)}, {number(high)}]"

    rows: list[dict[str, str]] = []
    for (quantity, group), row in zip(summary.index, summary.to_dict("records"), strict=True):
        p, mark = row["p_value"], "~" * is_rough(row)
        rows.append(
            {
                "quantity": quantity,
                "group": group.replace("_", " ").replace(" - ", " − "),
                "estimate": with_range(row["estimate"], row["low"], row["high"], mark),
                "null": with_range(row["null"], *null_ends(row)),
                "p": "·" if p != p else mark + ("< 0.001" if p < 0.001 else f"{p:.3f}"),
                "size": f"{int(row['n'])} / {row['effective_clusters']:.0f}",
            }
        )
    return rows
