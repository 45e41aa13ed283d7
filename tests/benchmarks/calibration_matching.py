"""How often the matched difference is wrong where there is none, and how often its interval holds the truth; prints markdown.

    python tests/benchmarks/calibration_matching.py [--simulations 2000]

Values follow from what is matched on by one curve in both groups, whose means of it are 1 or 2 standard deviations apart, and an
error with a part of its own in each cluster; nominal are 5 % and 95 %. 2,000 simulations err by half a percent.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from localize.statistics import matched_difference

TRIALS = 2000
CURVES = {
    "straight": lambda x: x,
    "exponential": np.exp,
    "square": np.square,
    "step": lambda x: 2.0 * (x > 0),
}
ERRORS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "t, 3 degrees": lambda rng, size: rng.standard_t(3, size=size) / np.sqrt(3),
    "log-normal": lambda rng, size: (rng.lognormal(size=size) - np.exp(0.5)) / 2.16,
}


def sizes(rng: np.random.Generator, layout: str) -> list[np.ndarray]:
    """Rows in each cluster of either group."""
    return {
        "100 against 15 paragraphs": [np.ones(15, int), np.ones(100, int)],
        "109 against 136 paragraphs": [np.ones(109, int), np.ones(136, int)],
        "70 clusters of 16 effective": [np.array([30] * 6 + [1] * 29)] * 2,
        "12 uneven clusters each": [rng.integers(2, 41, 12) for _ in range(2)],
        "10 tokens of 28 against 32 paragraphs": [np.full(28, 10), np.full(32, 10)],
    }[layout]


LAYOUTS = (
    "100 against 15 paragraphs",
    "109 against 136 paragraphs",
    "70 clusters of 16 effective",
    "12 uneven clusters each",
    "10 tokens of 28 against 32 paragraphs",
)


def trial(
    rng: np.random.Generator, layout: str, curve: str, error: str, apart: float
) -> tuple[float, bool, bool, bool]:
    """Estimate, whether p is at most .05, whether the interval holds 0, and whether it is called rough."""
    clusters = sizes(rng, layout)
    cluster = np.repeat(np.arange(sum(map(len, clusters))), np.concatenate(clusters))
    a, count = cluster < len(clusters[0]), int(cluster.max()) + 1
    x = np.where(a, apart / 2, -apart / 2) + rng.normal(0, 0.6, count)[cluster] + rng.normal(0, 0.8, len(a))
    noise = 0.7 * ERRORS[error](rng, count)[cluster] + 0.7 * ERRORS[error](rng, len(a))
    found = matched_difference(CURVES[curve](x) + noise, x, a, ~a, cluster)
    low, high = float(found.difference.low), float(found.difference.high)
    return float(found.difference.estimate), bool(found.p_value <= 0.05), low <= 0 <= high, bool(found.rough)


def cells() -> Iterator[tuple[str, str, str, float]]:
    """Layout, curve, error and distance of every row of the table: all curves with normal errors, all errors with one curve."""
    for layout in LAYOUTS:
        for curve in CURVES:
            yield layout, curve, "normal", 1.0
        for error in list(ERRORS)[1:]:
            yield layout, "exponential", error, 1.0
        yield layout, "exponential", "normal", 2.0


def table(trials: int = TRIALS) -> str:
    """As markdown: each row one layout, curve, error and distance."""
    head = ("layout", "curve", "error", "sd apart", "bias", "p <= .05", "coverage", "rough", "p <= .05, not rough")
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for layout, curve, error, apart in cells():
        rng = np.random.default_rng(29)
        found = np.array([trial(rng, layout, curve, error, apart) for _ in range(trials)], float)
        estimate, wrong, held, rough = found.T
        sure = f"{wrong[rough == 0].mean():.3f}" if (rough == 0).sum() >= trials / 20 else "·"
        numbers = f"{estimate.mean():+.3f}", f"{wrong.mean():.3f}", f"{held.mean():.3f}", f"{rough.mean():.2f}", sure
        lines.append(" | ".join((layout, curve, error, f"{apart:g}", *numbers)))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=TRIALS)
    print(table(parser.parse_args().simulations))
