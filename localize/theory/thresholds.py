"""What can be fitted at all, which ridge is best, and which kernel an activation gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public

SMALLEST_MU = 1e-9
"""An activation with a smaller linear part has none, but for rounding."""


@public("theory.capacity")
def capacity(eps: int | float, *, margin: int | float = 0.0) -> float:
    """Training examples per dimension up to which one linear rule fits all labels, rule and facts, each with a margin.

    >>> round(capacity(0.1), 4), capacity(1.0, margin=1.0)
    (3.8097, 0.5195...)

    Args:
        eps: Share of facts, from 0 to 1; at 1 this is Gardner's capacity of a perceptron, and at 0 it is infinite.
        margin: Least label x output of a weight vector w with |w|^2 = d and inputs divided by sqrt(d), at least 0.

    Raises:
        LocalizeError: If eps lies outside 0..1, or the margin is negative or not finite.

    Source:
        Gardner 1988; with a rule: Rules and Facts (2603.25579), section on separability.
    """
    from scipy.integrate import quad
    from scipy.optimize import minimize_scalar
    from scipy.special import ndtr

    if not 0 <= eps <= 1:
        raise LocalizeError(f"{caller()}: eps = {eps:g} must lie in 0..1: the share of labels that are random.")
    if not 0 <= margin < np.inf:
        raise LocalizeError(f"{caller()}: margin = {margin:g} must be at least 0 and finite.")
    if eps == 0:
        return np.inf

    def violated(h: float) -> float:  # E max(0, h + N(0, 1))^2
        return (1 + h**2) * ndtr(h) + h * density(h)

    def density(v: float) -> float:
        return np.exp(-(v**2) / 2) / np.sqrt(2 * np.pi)

    def mean(t: float) -> float:
        """Over v, the label times what the rule says: positive, but for half of the facts."""

        def of(v: float) -> float:
            half = eps / 2
            return 2 * density(v) * ((1 - half) * violated(margin - t * v) + half * violated(margin + t * v))

        return quad(of, 0, 12, epsabs=1e-12)[0]

    least: Any = minimize_scalar(mean)
    return float(1 / least.fun)


@public("theory.best_ridge")
def best_ridge(eps: int | float, *, mu: int | float = 1.0) -> float:
    """The sum of penalty and nu at which the square loss has its least rule error, whatever alpha is: mu (pi / 2 (1 - eps)^2 - 1).

    The rule error depends on the sum alone. What of it is nu, and not penalty, memorizes facts at no cost.

    Args:
        eps: Share of facts, from 0 to below 1: without a rule no ridge is best.
        mu: The linear part of the kernel, positive.

    Raises:
        LocalizeError: If eps or mu is not allowed.

    Source:
        Rules and Facts (2603.25579), section on ridge.
    """
    if not 0 <= eps < 1:
        raise LocalizeError(f"{caller()}: eps = {eps:g} must lie in 0..1 and below 1: without a rule no ridge is best.")
    if not 0 < mu < np.inf:
        raise LocalizeError(f"{caller()}: mu = {mu:g} must be positive and finite.")
    return float(mu * (np.pi / (2 * (1 - eps) ** 2) - 1))


@public("theory.kernel_parts")
def kernel_parts(
    activation: Callable[[Float[np.ndarray, " point"]], Float[np.ndarray, " point"]],
) -> tuple[float, float]:
    """(mu, nu) of the kernel of infinitely many random features with this activation: its linear part, and the rest of its variance.

    >>> kernel_parts(np.tanh)
    (0.366..., 0.028...)

    Args:
        activation: Elementwise, of values that are N(0, 1).

    Raises:
        LocalizeError: If it has no linear part, as every even function, or is not finite.

    Source:
        Rules and Facts (2603.25579), section on kernels: mu = E[z s(z)]^2, nu = E[s^2] - E[s]^2 - mu.
    """
    from localize.theory.rules_and_facts import NODES, WEIGHTS

    values = np.asarray(activation(NODES), dtype=np.float64)
    mu = float((WEIGHTS @ (NODES * values)) ** 2)
    nu = float(WEIGHTS @ values**2 - (WEIGHTS @ values) ** 2 - mu)
    if not (np.isfinite(nu) and mu > SMALLEST_MU):
        raise LocalizeError(
            f"{caller()}: an activation with mu = {mu:.3f}, nu = {nu:.3f} gives no kernel that learns a rule; mu must be positive."
        )
    return mu, max(nu, 0.0)
