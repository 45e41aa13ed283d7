"""How often intervals miss and tests reject where they should not, how often they are marked rough, and what is found.

    python tests/benchmarks/calibration.py                     # every section, 2,000 simulations a row
    python tests/benchmarks/calibration.py differences --simulations 500

Prints one markdown table for each section. A simulation is one cell of one call, judged by itself: the rule that a grid of mostly
skewed cells is rough throughout is off. `unmarked` counts, of all simulations, those whose interval misses the truth, or whose p
is at most .05 without a difference, and which are not marked rough; nominal is .05.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from localize.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    cluster_sign_flip,
    effective_clusters,
    roughness,
)

DRAWS = 500
LEVEL = 0.05


def uneven(clusters, paragraphs, power):
    """Cluster sizes that fall off as a power of their rank."""
    share = 1 / np.arange(1, clusters + 1) ** power
    return np.maximum(1, np.round(share / share.sum() * paragraphs)).astype(int)


SINGLE = {n: np.ones(n, dtype=int) for n in (10, 15, 30, 100, 109, 136)}
SEVENTY = uneven(70, 260, 0.92)
EIGHT = np.array([12, 3, 25, 8, 17, 5, 30, 20])
TEN = np.array([12, 3, 25, 8, 17, 5, 30, 20, 1, 36])
FIFTEEN = np.array([12, 3, 25, 8, 17, 5, 30, 20, 1, 14, 9, 22, 2, 38, 6])

ONE = {
    "8 uneven": EIGHT,
    "10": SINGLE[10],
    "15 uneven": FIFTEEN,
    "15": SINGLE[15],
    "30": SINGLE[30],
    "70 uneven": SEVENTY,
    "109": SINGLE[109],
}
TWO = {
    "8 against 8, uneven": (EIGHT, EIGHT[::-1]),
    "15 against 15, uneven": (FIFTEEN, FIFTEEN),
    "15 against 15": (SINGLE[15], SINGLE[15]),
    "15 against 100": (SINGLE[15], SINGLE[100]),
    "10 uneven against 100": (TEN, SINGLE[100]),
    "70 against 70, uneven": (SEVENTY, SEVENTY),
    "70 uneven against 136": (SEVENTY, SINGLE[136]),
    "109 against 136": (SINGLE[109], SINGLE[136]),
}


def two_valued(often):
    """50 so often, else 0, less its mean."""
    return lambda rng, size: 50.0 * (rng.random(size) < often) - 50 * often


def heavy(rng, size):
    """Student's t with 3 degrees of freedom, of variance 1."""
    return rng.standard_t(3, size=size) / np.sqrt(3)


def lognormal(rng, size):
    """exp of a standard normal, of mean 0 and variance 1."""
    return (np.exp(rng.normal(size=size)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "t3": heavy,
    "log-normal": lognormal,
    "0/50, .9": two_valued(0.9),
    "0/50, .97": two_valued(0.97),
    "all 50": lambda rng, size: np.zeros(size),
}
SHARED = 0.8
"""Of the variance between clusters, where clusters have effects."""


def drawn(rng, shape, sizes, cells, shared):
    """Values of true mean 0, one simulation a column, and the cluster of each paragraph.

    With effects of clusters they follow the shape, and paragraphs lie normally around them; two-valued paragraphs repeat their
    cluster's value 9 times out of 10.
    """
    of = np.repeat(np.arange(len(sizes)), sizes)
    effects, values = (SHAPES[shape](rng, (n, cells)) for n in (len(sizes), len(of)))
    if not shared:
        return values, of
    if "50" in shape:
        return np.where(rng.random(values.shape) < 0.9, effects[of], values), of
    return np.sqrt(SHARED) * effects[of] + np.sqrt(1 - SHARED) * rng.normal(size=values.shape), of


def two_groups(rng, shape, sizes, cells, shared, spread=1.0, shift=0.0):
    """Values, group and cluster of two groups; the first spreads `spread` times as far and lies `shift` higher."""
    (a, of_a), (b, of_b) = (drawn(rng, shape, s, cells, shared) for s in sizes)
    return np.concatenate([spread * a + shift, b]), np.arange(len(a) + len(b)) < len(a), np.r_[of_a, of_b + len(a)]


@dataclass
class Judged:
    """What came of the simulations of one row, one entry each."""

    missed: np.ndarray
    interval_rough: np.ndarray
    rejected: np.ndarray
    test_rough: np.ndarray

    def columns(self):
        """As printed."""
        untold, unjust = self.missed & ~self.interval_rough, self.rejected & ~self.test_rough
        numbers = (
            self.rejected.mean(), 1 - self.missed.mean(), self.interval_rough.mean(), self.test_rough.mean(),
            unjust.mean(), untold.mean(), unjust.sum() / max((~self.test_rough).sum(), 1),
            untold.sum() / max((~self.interval_rough).sum(), 1),
        )  # fmt: skip
        return [f"{number:.3f}" for number in numbers]


COLUMNS = [
    "p <= .05", "coverage", "interval rough", "p rough", "unmarked p <= .05", "unmarked miss", "p <= .05 of unmarked",
    "miss of unmarked",
]  # fmt: skip


def judged(interval, test, truth=0.0):
    """Held against the truth."""
    missed = ~((interval.low <= truth) & (truth <= interval.high))
    return Judged(missed, interval.rough, test.p_value <= LEVEL, test.rough)


def within(sizes):
    """Whether clusters have effects: not told apart from paragraphs where each is a cluster."""
    return (False,) if max(map(max, sizes)) == 1 else (False, True)


def means(simulations):
    """One mean, and signs flipped by cluster."""
    for layout, sizes in ONE.items():
        for shape in SHAPES:
            for shared in within((sizes,)):
                values, of = drawn(np.random.default_rng(1), shape, sizes, simulations, shared)
                interval = cluster_bootstrap(values, of, seed=1, resamples=DRAWS)
                test = cluster_sign_flip(values, of, seed=2, permutations=DRAWS, family=1)
                told = [layout, f"{effective_clusters(of):.0f}", shape, "clusters" if shared else "paragraphs"]
                yield told + judged(interval, test).columns()


def differences(simulations):
    """Two groups of the same mean, and labels permuted by cluster."""
    for layout, sizes in TWO.items():
        for shape in SHAPES:
            for shared in within(sizes):
                for spread in (1.0, 4.0):
                    rng = np.random.default_rng(1)
                    values, in_a, of = two_groups(rng, shape, sizes, simulations, shared, spread)
                    interval = cluster_bootstrap_difference(values, in_a, ~in_a, of, seed=1, resamples=DRAWS)
                    test = cluster_permutation_difference(values, in_a, ~in_a, of, seed=2, permutations=DRAWS, family=1)
                    told = [layout, shape, "clusters" if shared else "paragraphs", f"{spread:.0f}"]
                    yield told + judged(interval, test).columns()


NOISE = ["layout", "effective", "values", "vary by"]
SECTIONS = {
    "means": (means, [*NOISE, *COLUMNS]),
    "differences": (differences, ["layout", "values", "vary by", "spread of the first", *COLUMNS]),
}


def main():
    """Print each section that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all without")
    parser.add_argument("--simulations", type=int, default=2000)
    asked = parser.parse_args()
    roughness.MOST = 1.0
    for name in asked.sections or SECTIONS:
        section, columns = SECTIONS[name]
        started = time.perf_counter()
        print(f"\n**{section.__doc__}** {asked.simulations} simulations a row.\n")
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in section(asked.simulations):
            print("| " + " | ".join(row) + " |", flush=True)
        print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
