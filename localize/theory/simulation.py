"""Rules and Facts in a finite dimension: the same fits, made on drawn examples."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from localize.errors import LocalizeError, caller, public
from localize.theory.losses import Loss, loss_of
from localize.theory.rules_and_facts import AXES, Values, checked, without_single

if TYPE_CHECKING:
    import xarray as xr

MOST_ROUNDS, SETTLED = 10_000, 1e-6
"""Of the alternating directions, and the change of the outputs, relative to their size, at which they end."""

EVERY, CHOSEN = 10, 200
"""Rounds after which the strength that draws both sides together is chosen anew, and until when."""


@public("theory.simulate")
def simulate(
    alpha: Values, eps: Values, penalty: Values, *, mu: int | float = 1.0, nu: Values = 0.0, loss: str | Loss = "square",
    d: int = 200, seeds: int = 5,
) -> "xr.Dataset":  # fmt: skip
    """Rule error and fact error of fits in d dimensions: what `theory.rules_and_facts` tells in the limit, with 95% intervals.

    Args:
        alpha: As there; alpha d, rounded, examples are drawn.
        eps: As there.
        penalty: As there.
        mu: As there.
        nu: As there.
        loss: As there.
        d: Dimension, at least 2. The limit is missed by about 1 / d.
        seeds: Fits of each cell, at least 2, with seeds 0, 1, ...; a cell's draws are the same whatever else is asked for.

    Returns:
        A dataset along the same axes: `rule_error`, which follows exactly from the fitted weights, and `fact_error`, the share of the
        facts drawn, means over seeds; each with `_low` and `_high` by Student's t over seeds, and by Clopper and Pearson's interval for
        all facts where no two seeds differ; nan where no fact was drawn.

    Raises:
        LocalizeError: If a value is not allowed, or a fit does not settle.
    """
    import xarray as xr

    axes, chosen = checked(alpha, eps, penalty, mu, nu), loss_of(loss)
    if d < 2 or seeds < 2:
        raise LocalizeError(f"{caller()}: d = {d} and seeds = {seeds} must each be at least 2.")
    grid = np.meshgrid(*axes.values(), indexing="ij")
    found = []  # (cell, quantity)
    for a, e, lam, n in zip(*(part.flat for part in grid), strict=True):
        drawn = [_one(float(a), float(e), float(lam), mu, float(n), chosen, d, seed) for seed in range(seeds)]
        rule, wrong, facts = np.array(drawn, dtype=np.float64).T
        found.append([*_over_seeds(rule), *_of_facts(wrong, facts)])
    names = [what + end for what in ("rule_error", "fact_error") for end in ("", "_low", "_high")]
    cells = np.reshape(found, (*grid[0].shape, len(names)))
    told = {name: (AXES, cells[..., place]) for place, name in enumerate(names)}
    dataset = xr.Dataset(told, axes, {"loss": chosen.name, "mu": mu, "d": d, "seeds": seeds})
    return without_single(dataset, alpha, eps, penalty, nu)


def _one(
    alpha: float, eps: float, penalty: float, mu: float, nu: float, loss: Loss, d: int, seed: int
) -> tuple[float, int, int]:
    """Rule error, facts with the wrong sign, and facts, of one fit."""
    x, rule, labels, facts = drawn(alpha, eps, d, seed, penalty, nu)
    kernel = mu / d * x @ x.T + nu * np.eye(len(x))
    dual, outputs = fitted(kernel, labels, penalty, loss)
    weights = x.T @ dual
    cosine = weights @ rule / np.linalg.norm(weights) / np.linalg.norm(rule)
    wrong = labels[facts] * outputs[facts] <= 0
    return float(np.arccos(np.clip(cosine, -1, 1)) / np.pi), int(wrong.sum()), int(facts.sum())


def drawn(
    alpha: float, eps: float, d: int, seed: int, *others: float
) -> tuple[
    Float[np.ndarray, "example d"],
    Float[np.ndarray, " d"],
    Float[np.ndarray, " example"],
    Bool[np.ndarray, " example"],
]:
    """Inputs, the rule, labels -1 and 1, and which examples are facts; with other numbers of a cell, drawn apart from other cells."""
    count = max(round(alpha * d), 1)
    rng = np.random.default_rng([seed, d, count, *(round(1e9 * part) for part in (eps, *others))])
    x, rule = rng.standard_normal((count, d)), rng.standard_normal(d)
    facts = rng.random(count) < eps
    labels = np.where(facts, rng.choice([-1.0, 1.0], count), np.sign(x @ rule))
    return x, rule, labels, facts


def fitted(
    kernel: Float[np.ndarray, "example example"], labels: Float[np.ndarray, " example"], penalty: float, loss: Loss
) -> tuple[Float[np.ndarray, " example"], Float[np.ndarray, " example"]]:
    """Dual weights b and outputs u = K b that minimise the sum of losses + penalty b.K.b / 2, by alternating directions.

    Source:
        Boyd et al. 2011, section 3: u keeps to the kernel, z to the losses, and s draws them together.
    """
    from scipy.linalg import eigh

    values, vectors = eigh(kernel)
    values = np.maximum(values, 0.0)
    pull, z, s = 1.0, np.zeros(len(labels)), np.zeros(len(labels))
    for step in range(MOST_ROUNDS):
        along = pull / (penalty + pull * values) * (vectors.T @ (z + s))  # of b, in the kernel's eigenvectors
        u = vectors @ (values * along)
        before, z = z, labels * loss.proximal(labels * (u - s), 1 / pull)
        s = s + z - u
        apart, moved = float(np.abs(z - u).max()), float(np.abs(z - before).max())
        if max(apart, moved) <= SETTLED * np.abs(z).max():
            return vectors @ along, u
        if step < CHOSEN and step % EVERY == EVERY - 1:  # what moves too little is held less, until both go down alike
            factor = float(np.clip(np.sqrt(apart / (pull * moved)), 0.5, 2.0)) if moved else 2.0
            pull, s = pull * factor, s / factor
    raise LocalizeError(f"{caller()}: the fit did not settle in {MOST_ROUNDS} rounds at penalty = {penalty:g}.")


def _over_seeds(values: Float[np.ndarray, " seed"]) -> tuple[float, float, float]:
    """Mean, and the ends of Student's t interval, cut to 0..1."""
    from scipy.stats import t

    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    half = t.ppf(0.975, len(values) - 1) * error
    return float(mean), max(float(mean - half), 0.0), min(float(mean + half), 1.0)


def _of_facts(wrong: Float[np.ndarray, " seed"], facts: Float[np.ndarray, " seed"]) -> tuple[float, float, float]:
    """The same of the shares of facts with the wrong sign, of the seeds that have facts."""
    from scipy.stats import binomtest

    there = facts > 0
    if not there.any():
        return np.nan, np.nan, np.nan
    shares = wrong[there] / facts[there]
    if np.ptp(shares) > 0:
        return _over_seeds(shares)
    exact = binomtest(int(wrong.sum()), int(facts.sum())).proportion_ci()
    return float(shares[0]), float(exact.low), float(exact.high)
