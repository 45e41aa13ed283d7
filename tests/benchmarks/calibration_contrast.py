"""Whether a contrast of profiles calls those cells different that are, and no others: a table in Markdown.

    python tests/benchmarks/calibration_contrast.py [--simulations 2000] [--resamples 1000]

24 cells of 4 layers x 6 components whose shares sum to 1 in every paragraph. In one group some cells are truly larger by a factor.
Cells vary log-normally, or with heavy tails, by cluster and paragraph. Beside the contrast stands a test of each share, which is what
it would be without a reference. `significant` is p <= .05 for one cell, `called` is q <= .05 over the 24. 200 simulations of one row
take some 40 s on one core.
"""

import argparse
import warnings

import numpy as np

from localize.analysis.compare import rough_cells
from localize.analysis.draws import Draws
from localize.statistics import LEVEL, false_discovery
from localize.statistics.composition import relative_logs

CELLS = 24
PLANTED = {
    "none": ([], 1.0),
    "1 of 24, x 3": ([8], 3.0),
    "6 of 24 (a layer), x 1.25": ([6, 7, 8, 9, 10, 11], 1.25),
    "6 of 24 (a layer), x 2": ([6, 7, 8, 9, 10, 11], 2.0),
    "9 of 24, x 1.5": (list(range(4, 13)), 1.5),
}
LAYOUTS = {
    "109 / 136 single paragraphs": (np.ones(109, int), np.ones(136, int)),
    "35 / 35 clusters, 16 effective": (np.array([24, 12, 8] + [1] * 32), np.array([24, 12, 8] + [1] * 32)),
    "15 / 15 uneven clusters": (np.arange(1, 16), np.arange(1, 16)),
    "100 / 15 single paragraphs": (np.ones(100, int), np.ones(15, int)),
}
TAILS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape) / 3**0.5,
}
OF_CLUSTER, OF_PARAGRAPH = 0.2, 0.1
"""Standard deviations of the log of a cell."""


def profiles(rng, sizes, grown, factor, noise):
    """Shares, clusters and group a of one data set."""
    counts = np.concatenate(sizes)
    cluster = np.repeat(np.arange(len(counts)), counts)
    in_a = cluster < len(sizes[0])
    logs = rng.normal(0, 1, CELLS) + OF_CLUSTER * noise(rng, (len(counts), CELLS))[cluster]
    logs += OF_PARAGRAPH * noise(rng, (len(cluster), CELLS))
    logs[np.ix_(in_a, grown)] += np.log(factor)
    shares = np.exp(logs)
    return shares / shares.sum(1, keepdims=True), cluster, in_a


def simulated(layout, planted, tails, simulations, resamples):
    """The row of one layout and one planted change."""
    grown, factor = PLANTED[planted]
    others = np.setdiff1d(np.arange(CELLS), grown)
    truth = np.where(np.isin(np.arange(CELLS), grown), np.log(factor), 0.0)
    kept = {name: [] for name in ("p", "called", "covered", "found", "rough", "share p", "share called")}
    for seed in range(simulations):
        shares, cluster, in_a = profiles(np.random.default_rng([seed, 1]), LAYOUTS[layout], grown, factor, TAILS[tails])
        logs, _ = relative_logs(shares, in_a, ~in_a)
        draws = Draws(seed, resamples)
        interval, test = draws.difference(logs, in_a, ~in_a, cluster)
        plain = draws.difference(shares, in_a, ~in_a, cluster)[1].p_value
        q = false_discovery(test.p_value)
        kept["p"].append(test.p_value[others] <= LEVEL)
        kept["called"].append(q[others] <= LEVEL)
        kept["found"].append(q[grown] <= LEVEL)
        kept["covered"].append((interval.low <= truth) & (truth <= interval.high))
        kept["rough"].append(rough_cells(interval, test))
        kept["share p"].append(plain[others] <= LEVEL)
        kept["share called"].append(false_discovery(plain)[others] <= LEVEL)
    return {name: float(np.mean(values)) if np.size(values) else float("nan") for name, values in kept.items()}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    print(f"Contrast of profiles, {asked.simulations} simulations a row, {asked.resamples} draws each.\n")
    heads = ("clusters", "tails", "truly larger", "others significant", "others called", "95 % interval covers", "larger ones found",
             "rough", "shares: others significant", "shares: others called")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    rows = [(layout, "normal", planted) for layout in LAYOUTS for planted in PLANTED]
    rows += [(layout, "t3", planted) for layout in list(LAYOUTS)[:1] for planted in list(PLANTED)[:2]]
    for layout, tails, planted in rows:
        row = simulated(layout, planted, tails, asked.simulations, asked.resamples)
        numbers = (row[name] for name in ("p", "called", "covered", "found", "rough", "share p", "share called"))
        told = ("" if np.isnan(number) else f"{number:.3f}" for number in numbers)
        print(f"| {layout} | {tails} | {planted} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
