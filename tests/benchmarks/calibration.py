"""How often intervals miss and tests reject where they should not, how often they are marked rough, and what is found.

    python tests/benchmarks/calibration.py                     # every section, 2,000 simulations a row
    python tests/benchmarks/calibration.py differences --simulations 500

Prints one markdown table for each section. A simulation is one cell of one call, judged by itself: the rule that a grid of mostly
skewed cells is rough throughout is off. `unmarked` counts, of all simulations, those whose interval misses the truth, or whose p
is at most .05 without a difference, and which are not marked rough; nominal is .05. Sections that go one simulation after the
other make fewer of them: a quarter of them for ratios, an eighth for correlations, a tenth for classifiers, a 200th for floors.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from localize.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_bootstrap_statistic,
    cluster_permutation_difference,
    cluster_sign_flip,
    effective_clusters,
    false_discovery,
    roughness,
)
from localize.statistics.classification import cluster_folds, held_out, pair_interval, pair_wins

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


def log_ratios(simulations):
    """Log ratio of two groups of the same mean, for values above 0; without a test."""
    for layout in ("8 against 8, uneven", "15 against 100", "70 against 70, uneven", "109 against 136"):
        for spread in (0.3, 1.0):
            rng = np.random.default_rng(1)
            values, in_a, of = two_groups(rng, "normal", TWO[layout], simulations, layout.endswith("uneven"))
            told = [layout, f"log-normal {spread}"]
            interval = cluster_bootstrap_difference(
                np.exp(spread * values), in_a, ~in_a, of, seed=1, resamples=DRAWS, log=True
            )
            yield told + covered(interval.low, interval.high, interval.rough, 0.0)


def ratios(simulations):
    """A ratio of two means, by `cluster_bootstrap_statistic`; it is .5."""
    for layout in ("8 uneven", "15 uneven", "30", "70 uneven", "109"):
        for shape in ("normal", "log-normal"):
            found = []
            for trial in range(simulations // 4):
                rng = np.random.default_rng(trial)
                (gap, of), (other, _) = (drawn(rng, shape, ONE[layout], 1, True) for _ in range(2))
                values = np.stack([0.5 * (3 + gap[:, 0]) + 0.7 * other[:, 0], 3 + gap[:, 0]], axis=1)
                got = cluster_bootstrap_statistic(values, of, lambda m: m[:, 0] / m[:, 1], seed=trial, resamples=DRAWS)
                found.append((got.low, got.high, got.rough))
            yield [layout, shape, *covered(*np.array(found).T, 0.5)]


def rank_correlation(means):
    """Spearman's rho between two rows of means, for every draw."""
    ranks = rankdata(means, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    return (ranks[:, 0] * ranks[:, 1]).sum(-1) / np.sqrt((ranks**2).sum(-1).prod(-1))


def correlations(simulations):
    """Spearman's rho over cells, whose true means spread by 1 and paragraphs by 1 around them."""
    for cells in (16, 144):
        for sizes in (SINGLE[10], SINGLE[30], SINGLE[109]):
            for rho in (0.0, 0.4, 0.9):
                found, true = [], []
                for trial in range(simulations // 8):
                    rng = np.random.default_rng(trial)
                    means = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], cells).T
                    values = means + rng.normal(size=(len(sizes), 2, cells))
                    of = np.arange(len(sizes))
                    got = cluster_bootstrap_statistic(values, of, rank_correlation, seed=trial, resamples=200)
                    found.append((got.low, got.high, got.rough))
                    true.append(rank_correlation(means[None])[0])
                yield [f"{cells}", f"{len(sizes)}", f"{rho}", *covered(*np.array(found).T, np.array(true))]


def classifiers(simulations):
    """AUC of a classifier of 8 features that tell nothing, by cross-validation, with and without dealt-out labels."""
    for clusters in ((20, 20), (30, 40)):
        alone, dealt = [], []
        for trial in range(simulations // 10):
            rng, of = np.random.default_rng(trial), np.arange(sum(clusters))
            in_a, features = of < clusters[0], rng.normal(size=(sum(clusters), 8))
            called = np.stack([in_a, *(rng.permutation(in_a) for _ in range(79))])
            fold = cluster_folds(in_a, of, seed=trial, folds=5, repeats=2)
            said = held_out([features], called, fold)
            wins, pairs = pair_wins(said.scores, fold, in_a)
            for found, null in ((alone, None), (dealt, said.auc[1:] - 0.5)):
                got = pair_interval(wins, pairs, in_a, of, seed=trial, resamples=DRAWS, null=null)
                found.append((got.low, got.high, got.rough))
        for name, found in (("without", alone), ("with", dealt)):
            yield [" against ".join(map(str, clusters)), name, *covered(*np.array(found).T, 0.5)]


def power(simulations):
    """A difference of .8 standard deviations: said where p <= .05, the interval lies above 0 and nothing is rough."""
    forty = np.tile(TEN, 6)
    for sizes in ((SINGLE[30], SINGLE[30]), (SINGLE[30], SINGLE[100]), (forty, forty)):
        for shape in ("normal", "t3", "log-normal"):
            rng = np.random.default_rng(1)
            values, in_a, of = two_groups(rng, shape, sizes, simulations, len(sizes[0]) != 30, shift=0.8)
            interval = cluster_bootstrap_difference(values, in_a, ~in_a, of, seed=1, resamples=DRAWS)
            test = cluster_permutation_difference(values, in_a, ~in_a, of, seed=2, permutations=DRAWS, family=1)
            found = (test.p_value <= LEVEL) & (interval.low > 0)
            rough = interval.rough | test.rough
            effective = " against ".join(f"{effective_clusters(of[group]):.0f}" for group in (in_a, ~in_a))
            yield [
                effective,
                shape,
                *(f"{x.mean():.3f}" for x in (test.p_value <= LEVEL, found, rough, found & ~rough)),
            ]


def floors(simulations):
    """One true cell among many that differ in nothing, with a difference of 2 standard deviations."""
    for family in (128, 432, 1728):
        for name in ("labels permuted", "signs flipped"):
            found, seconds = [], time.perf_counter()
            for trial in range(max(simulations // 200, 3)):
                values, in_a = np.random.default_rng(trial).normal(size=(100, family)), np.arange(100) < 45
                if name == "labels permuted":
                    values[in_a, 0] += 2
                    test = cluster_permutation_difference(values, in_a, ~in_a, np.arange(100), seed=trial)
                else:
                    values[:, 0] += 1
                    test = cluster_sign_flip(values, np.arange(100), seed=trial)
                found.append(false_discovery(test.p_value)[0])
            seconds = (time.perf_counter() - seconds) / len(found)
            yield [f"{family}", name, f"{np.mean(np.array(found) <= LEVEL):.2f}", f"{max(found):.3f}", f"{seconds:.1f}"]


COVERED = ["coverage", "rough", "unmarked miss"]


def covered(low, high, rough, truth):
    """How many intervals hold the truth, how many are rough, and how many miss and are not."""
    missed, rough = ~((low <= truth) & (truth <= high)), np.asarray(rough, dtype=bool)
    return [f"{number.mean():.3f}" for number in (~missed, rough, missed & ~rough)]


SECTIONS = {
    "means": (means, ["layout", "effective", "values", "vary by", *COLUMNS]),
    "differences": (differences, ["layout", "values", "vary by", "spread of the first", *COLUMNS]),
    "log_ratios": (log_ratios, ["layout", "values", *COVERED]),
    "ratios": (ratios, ["layout", "values", *COVERED]),
    "correlations": (correlations, ["cells", "clusters", "rho", *COVERED]),
    "classifiers": (classifiers, ["clusters", "dealt-out labels", *COVERED]),
    "power": (power, ["effective clusters", "values", "p <= .05", "interval above 0 too", "rough", "said"]),
    "floors": (floors, ["cells", "test", "found at q <= .05", "largest q", "seconds"]),
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
