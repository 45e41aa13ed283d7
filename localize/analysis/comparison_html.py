"""A comparison as a table in Jupyter; every text in it escaped."""

from typing import TYPE_CHECKING, Any

from localize.analysis.rendering import template
from localize.analysis.rise import RISE_OF
from localize.analysis.rows import is_rough

if TYPE_CHECKING:
    from localize.analysis.comparison import Comparison


def comparison_html(comparison: "Comparison", count: int) -> str:
    """What was compared and the cells that stand out, for a notebook's cell."""
    return template("localize.analysis", "comparison.html").render(comparison_content(comparison, count))


def comparison_content(comparison: "Comparison", count: int) -> dict[str, Any]:
    """What the view tells, as plain text."""
    about = comparison[comparison.variables[0]].attrs if comparison.variables else None
    clusters = about["effective_clusters"] if about else []
    return {
        "a": _words(comparison.a),
        "b": _words(comparison.b),
        "paired": comparison.paired,
        "paragraphs": about["paragraphs"] if about else [],
        "clusters": [round(number, 1) for number in clusters],
        "counts": comparison.counts(),
        "variables": len(comparison.variables),
        "rows": [_told(row) for row in comparison.strongest(count).to_dict("records")],
    }


def _words(group: str) -> str:
    return group.replace("_", " ")


def _told(row: dict[Any, Any]) -> dict[str, Any]:
    return {
        "variable": row["variable"],
        "rise": row["compared"] == RISE_OF,
        "cell": row["cell"],
        "difference": f"{_number(row['estimate'])} [{_number(row['low'])}, {_number(row['high'])}]",
        "unit": row["unit"],
        "null": f"{_number(row['null_range_low'])}, {_number(row['null_range_high'])}",
        "effect_size": _number(row["effect_size"]),
        "auc": _number(row["auc"]),
        "p": "~" * is_rough(row) + _small(row["p_value"]),
        "q": "~" * is_rough(row) + _small(row["q_overall"]),
        "rough": "rough" if is_rough(row) else "",
    }


def _number(value: float) -> str:
    return "·" if value != value else f"{value:.3g}"


def _small(value: float) -> str:
    return "·" if value != value else ("< 0.001" if value < 0.001 else f"{value:.3f}")
