"""What noise on weights declares."""

from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.sources import PAPER

NOISED = ("paragraph", "chosen_by", "weights_noised", "strength", "noise_draw")


def passes(work: Workload) -> float:
    """A backward pass that chooses, and every number of weights, strength and draw."""
    cells = work.count("fractions", 1) * work.count("strengths", 1)
    return 1 + BACKWARD + 2.0 * work.draws * cells


MEASUREMENT = Measurement(
    "noise", words="noise on weights", place=100, passes=passes,
    also=("unperturbed_exact_match", "unperturbed_nll"),
    axes=(
        Axis("chosen_by", "weights chosen by the gradient of", chosen_by="chosen_by"),
        Axis("weights_noised", "weights noised", counted="{} weights", chosen_by="fractions"),
        Axis("strength", "noise (std of the weight matrix)", counted="noise {}", chosen_by="strengths"),
        Axis("noise_draw", "draw", draws=True, averaged=True),
    ),
    variables=(
        Variable(
            "noised_exact_match", NOISED, "float", "tokens", "exact match, weights noised",
            "exact match after normal noise on so many weights, of `strength` standard deviations of their matrix", PAPER,
            low=0, high="continuation", before="unperturbed_exact_match",
        ),
        Variable(
            "noised_nll", NOISED, "float", "nats per token", "NLL, weights noised",
            "mean NLL of the same continuation after normal noise on so many weights", PAPER, low=0,
            before="unperturbed_nll",
        ),
    ),
)  # fmt: skip
