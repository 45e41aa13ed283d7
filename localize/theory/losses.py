"""Convex losses of a margin, as the state evolution and the simulation need them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller


@dataclass(frozen=True)
class Loss:
    """A convex loss l(m) of the margin m = label x output.

    Attributes:
        name: For titles and messages.
        proximal: (w, V) -> the m that minimises l(m) + (m - w)^2 / 2V, elementwise.
        slope: l'(0), which is negative: how strongly an example that is undecided pulls.
    """

    name: str
    proximal: Callable[[Float[np.ndarray, " point"], float], Float[np.ndarray, " point"]]
    slope: float


def _square(w: Float[np.ndarray, " point"], variance: float) -> Float[np.ndarray, " point"]:
    return (w + variance) / (1 + variance)


def _hinge(w: Float[np.ndarray, " point"], variance: float) -> Float[np.ndarray, " point"]:
    return np.maximum(w, np.minimum(w + variance, 1.0))


def _logistic(w: Float[np.ndarray, " point"], variance: float) -> Float[np.ndarray, " point"]:
    """The root of m - w - V / (1 + e^m), which lies between w and w + V."""
    from scipy.optimize.elementwise import find_root
    from scipy.special import expit

    with np.errstate(invalid="ignore", divide="ignore"):  # of its interpolation, which it checks itself
        return find_root(lambda m, w: m - w - variance * expit(-m), (w, w + variance), args=(w,)).x


SQUARE, HINGE, LOGISTIC = Loss("square", _square, -1.0), Loss("hinge", _hinge, -1.0), Loss("logistic", _logistic, -0.5)
LOSSES = {loss.name: loss for loss in (SQUARE, HINGE, LOGISTIC)}


def loss_of(loss: str | Loss) -> Loss:
    """The loss of a name, or the one that was given."""
    if isinstance(loss, str) and loss not in LOSSES:
        raise LocalizeError(f"{caller()}: loss = {loss!r} must be one of {', '.join(LOSSES)}, or a theory.Loss.")
    return LOSSES[loss] if isinstance(loss, str) else loss
