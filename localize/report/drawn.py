"""Figures as JSON that a page draws: floats in five digits, and no links in their texts."""

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from localize.report.literal import script_json

if TYPE_CHECKING:
    import plotly.graph_objects as go

DIGITS = 5
LINK = re.compile(r"<(?=/?\s*a\b)", re.IGNORECASE)
"""The beginning of the one tag that would take a reader of plotly's texts elsewhere."""


def figure_json(figure: "go.Figure") -> Markup:
    """What `Plotly.newPlot` takes, safe inside a script element."""
    content = figure.to_plotly_json()
    return script_json({"data": plain_json(content["data"]), "layout": plain_json(content["layout"])})


def plain_json(value: Any) -> Any:
    """The same with arrays as lists, floats rounded to five significant digits, nan and infinity as null."""
    if isinstance(value, dict) and "bdata" in value:
        return plain_json(_array(value))
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, float):
        return _rounded(value)
    if isinstance(value, str):
        return LINK.sub("&lt;", value)
    return value


def _array(packed: dict[str, Any]) -> np.ndarray:
    """An array as plotly packs it: a kind of number, base64, and its shape where it has more than one axis."""
    values = np.frombuffer(b64decode(packed["bdata"]), np.dtype(packed["dtype"]).newbyteorder("<"))
    return values.reshape([int(size) for size in str(packed["shape"]).split(",")]) if "shape" in packed else values


def _rounded(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
