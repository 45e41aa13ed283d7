"""Rules and Facts: labels of which a share follows a rule and the others are random, so that they can only be memorized.

Inputs x are N(0, I) in d dimensions, alpha d of them. A label is sign(w* . x) with probability 1 - eps, and else a random sign: a fact.
A linear model, or a kernel mu x.x'/d + nu [x = x'], is fitted with penalty |w|^2 / 2. As d grows, its errors become exact functions of
alpha, eps, penalty, mu and nu: the rule error on fresh examples of the rule, and the fact error on the facts that it was trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.theory.losses import SQUARE, Loss, loss_of

if TYPE_CHECKING:
    import xarray as xr

Values = int | float | Sequence[int] | Sequence[float] | np.ndarray
"""One value, or several along an axis."""

AXES = ("alpha", "eps", "penalty", "nu")
NODES = np.linspace(-9.0, 9.0, 2001)
WEIGHTS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()
"""The trapezoidal rule for means over N(0, 1): losses have kinks."""

MOST_STEPS, TOLERANCE = 20_000, 1e-10
"""Of a fixed point: how often it is iterated, and the relative change of a step at which it ends."""


@dataclass(frozen=True)
class Order:
    """What describes the fitted model as d grows.

    Attributes:
        overlap: m, of its weights with the rule.
        norm: q, the squared norm of its weights; the cosine with the rule is m / sqrt(q).
        variance: V, by which a training example pulls its own output.
    """

    overlap: float | np.ndarray
    norm: float | np.ndarray
    variance: float | np.ndarray

    def rule_error(self) -> np.ndarray:
        """Share of fresh examples of the rule that get the wrong sign."""
        return np.arccos(np.clip(self.overlap / np.sqrt(self.norm), -1.0, 1.0)) / np.pi

    def fact_error(self, loss: Loss) -> np.ndarray:
        """Share of the facts trained on that get the wrong sign."""
        from scipy.special import ndtr

        return ndtr(loss.slope * self.variance / np.sqrt(self.norm))


@public("theory.rules_and_facts")
def rules_and_facts(
    alpha: Values, eps: Values, penalty: Values, *, mu: int | float = 1.0, nu: Values = 0.0, loss: str | Loss = "square"
) -> "xr.Dataset":
    """Rule error and fact error, exact as the dimension grows.

    >>> float(rules_and_facts(alpha=2, eps=0.1, penalty=4).rule_error)
    0.227...

    Args:
        alpha: Training examples per dimension, positive.
        eps: Share of facts, from 0 to 1.
        penalty: The weight lambda of |w|^2 / 2 beside the sum of losses, positive.
        mu: The linear part of the kernel, positive; 1 for a linear model.
        nu: The part of the kernel by which an example is like itself alone, at least 0.
        loss: "square" (solved in closed form), "hinge", "logistic" or a convex `Loss` (by state evolution).

    Returns:
        A dataset along those of `alpha`, `eps`, `penalty` and `nu` of which several values were given: `rule_error` and `fact_error`,
        shares from 0 to 1; `overlap`, `norm` and `variance`; and `bayes_error`, the least possible rule error, by alpha and eps alone.

    Raises:
        LocalizeError: If a value is not allowed, or the state evolution does not settle.

    Source:
        Rules and Facts (2603.25579), sections on ridge and on general losses.
    """
    import xarray as xr

    axes, chosen = checked(alpha, eps, penalty, mu, nu), loss_of(loss)
    a, e, lam, n = np.meshgrid(*axes.values(), indexing="ij")
    order = square(a, e, lam, mu, n) if chosen is SQUARE else _each(a, e, lam, mu, n, chosen)
    found = {"rule_error": order.rule_error(), "fact_error": order.fact_error(chosen), **vars(order)}
    told = {name: (AXES, value) for name, value in found.items()} | {
        "bayes_error": (AXES[:2], bayes(a[..., 0, 0], e[..., 0, 0]))
    }
    return without_single(xr.Dataset(told, axes, {"loss": chosen.name, "mu": mu}), alpha, eps, penalty, nu)


def without_single(dataset: "xr.Dataset", *given: Values) -> "xr.Dataset":
    """The same without the axes for which one value was given: it stays as a coordinate."""
    return dataset.isel({name: 0 for name, value in zip(AXES, given, strict=True) if np.ndim(value) == 0})


def checked(
    alpha: Values, eps: Values, penalty: Values, mu: int | float, nu: Values
) -> dict[str, Float[np.ndarray, " _"]]:
    """The values along each axis, after a look at whether they are allowed."""
    given = dict(zip(AXES, (alpha, eps, penalty, nu), strict=True))
    axes = {name: np.atleast_1d(np.asarray(value, dtype=np.float64)) for name, value in given.items()}
    _require(axes["alpha"], lambda v: v > 0, "alpha", "must be positive: training examples per dimension")
    _require(axes["eps"], lambda v: (v >= 0) & (v <= 1), "eps", "must lie in 0..1: the share of labels that are random")
    _require(axes["penalty"], lambda v: v > 0, "penalty", "must be positive")
    for value in axes["nu"]:
        if not (mu > 0 and np.isfinite(mu) and value >= 0 and np.isfinite(value)):
            raise LocalizeError(
                f"{caller()}: mu = {mu:g}, nu = {value:g} is no kernel that learns a rule; mu must be positive, nu at least 0."
            )
    return axes


def _require(values: np.ndarray, allowed: Callable[[np.ndarray], np.ndarray], name: str, words: str) -> None:
    if values.ndim != 1 or not values.size:
        raise LocalizeError(f"{caller()}: {name} of shape {values.shape} must be a number or a list of numbers.")
    for value in values[~(allowed(values) & np.isfinite(values))]:
        raise LocalizeError(f"{caller()}: {name} = {value:g} {words}.")


def square(alpha: np.ndarray, eps: np.ndarray, penalty: np.ndarray, mu: float, nu: np.ndarray) -> Order:
    """The order parameters of the square loss (label - output)^2 / 2, in closed form.

    W = penalty V is the positive root of W^2 + b W = nu (penalty + mu alpha) + mu penalty; of its two forms the one
    without cancellation is taken.
    """
    a = (1 - eps) * np.sqrt(2 / np.pi)
    b, rest = penalty + mu * (alpha - 1) - nu, nu * (penalty + mu * alpha) + mu * penalty
    root = np.sqrt(b**2 + 4 * rest)
    w = np.where(b > 0, 2 * rest / (b + root), (root - b) / 2)
    pull = (w - nu) / (penalty + w)  # (V - c) / (1 + V), c = nu / penalty
    m, k = a * alpha * pull, alpha * pull**2
    return Order(m, k * (1 + alpha * a**2 - 2 * a * m) / (1 - k), w / penalty)


def _each(a: np.ndarray, e: np.ndarray, lam: np.ndarray, mu: float, nu: np.ndarray, loss: Loss) -> Order:
    """The state evolution of each cell."""
    cells = zip(a.flat, e.flat, lam.flat, nu.flat, strict=True)
    orders = [state_evolution(float(one), float(f), float(p), mu, float(n), loss) for one, f, p, n in cells]
    return Order(*(np.reshape([getattr(o, name) for o in orders], a.shape) for name in vars(orders[0])))


def state_evolution(alpha: float, eps: float, penalty: float, mu: float, nu: float, loss: Loss) -> Order:
    """The order parameters of any convex loss: a fixed point, iterated.

    f = (prox - w) / V at label 1. Its derivative has jumps, and is integrated by parts: E f' g = -E f (g' - w g / q) over w ~ N(0, q).
    """
    from scipy.special import ndtr

    a, c = (1 - eps) * np.sqrt(2 / np.pi), nu / penalty
    m, q, v = 0.0, mu, mu / penalty + c
    for _ in range(MOST_STEPS):
        w, rest = np.sqrt(q) * NODES, max(q - m**2, 0.0)
        f = (loss.proximal(w, v) - w) / v
        t = m / np.sqrt(q * rest)
        g = 2 * (1 - eps) * ndtr(t * w) + eps  # the density of w given label 1, over N(0, q)
        slope = 2 * (1 - eps) * t * np.exp(-((t * w) ** 2) / 2) / np.sqrt(2 * np.pi)
        beside = np.sqrt(rest) * NODES
        m_hat = alpha * a * WEIGHTS @ ((loss.proximal(beside, v) - beside) / v)
        q_hat, v_hat = alpha * WEIGHTS @ (f**2 * g), alpha * WEIGHTS @ (f * (slope - w * g / q))
        d = penalty + mu * v_hat
        new = np.array([mu * m_hat / d, mu**2 * (m_hat**2 + q_hat) / d**2, mu / d + c])
        moved = np.abs(new - (m, q, v)) > TOLERANCE * np.abs(new)
        m, q, v = map(float, new)
        if not moved.any():
            return Order(m, q, v)
    raise LocalizeError(
        f"{caller()}: the state evolution did not settle in {MOST_STEPS} steps at alpha = {alpha:g}, eps = {eps:g}, "
        f"penalty = {penalty:g}; a larger penalty helps."
    )


def bayes(alpha: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """The least rule error that any method can have: q = q^ / (1 + q^), from q = 0 upwards."""
    from scipy.special import ndtr

    q = np.zeros((*alpha.shape, 1))
    a, e = alpha[..., None], eps[..., None]
    for _ in range(MOST_STEPS):
        at = np.sqrt(q / (1 - q)) * NODES  # w / s
        z = (1 - e) * ndtr(at) + e / 2
        slope = (1 - e) * np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi * (1 - q))
        ratio = np.divide(slope**2, z, out=np.zeros_like(z), where=z > 0)  # where both are 0, it goes to 0
        hat = 2 * a * (ratio @ WEIGHTS)[..., None]
        before, q = q, hat / (1 + hat)
        if (np.abs(q - before) <= TOLERANCE).all():
            break
    return np.asarray(np.arccos(np.sqrt(q[..., 0])) / np.pi)
