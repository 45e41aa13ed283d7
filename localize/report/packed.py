"""Arrays as text: base64 of whole numbers, of single-precision ones, or of shares in steps of 1 / 65,534."""

from base64 import b64encode
from typing import Any

import numpy as np
from jaxtyping import Float, Int

STEPS = 65_534
"""Of a share; one more stands for nan."""


def packed_integers(values: Int[np.ndarray, "..."]) -> dict[str, Any]:
    """Whole numbers, 4 bytes each, little-endian."""
    return _packed("i4", values.astype("<i4"))


def packed_floats(values: Float[np.ndarray, "..."]) -> dict[str, Any]:
    """Numbers in single precision, 4 bytes each, nan kept."""
    return _packed("f4", values.astype("<f4"))


def packed_shares(values: Float[np.ndarray, "..."]) -> dict[str, Any]:
    """Numbers in [0, 1], 2 bytes each: off by at most 1 / 131,068; nan kept."""
    steps = np.where(np.isnan(values), STEPS + 1, np.round(np.clip(np.nan_to_num(values), 0, 1) * STEPS))
    return _packed("share", steps.astype("<u2"))


def _packed(kind: str, values: np.ndarray) -> dict[str, Any]:
    return {"kind": kind, "shape": list(values.shape), "data": b64encode(values.tobytes()).decode("ascii")}
