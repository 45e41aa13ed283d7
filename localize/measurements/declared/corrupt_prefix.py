"""What the replacement of more and more prefix tokens declares."""

from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Variable

CORRUPTED = ("paragraph", "order", "corruption_draw", "tokens_replaced")


def passes(work: Workload) -> float:
    """Every number of each order and draw."""
    return work.count("orders", 2) * work.draws * work.count("numbers", work.prefix) * work.after_prefix


MEASUREMENT = Measurement(
    "corrupt_prefix", words="replacement of more and more prefix tokens", place=70, passes=passes,
    formerly=("corruption",),
    also=("unperturbed_exact_match", "unperturbed_nll"),
    axes=(
        Axis("order", "order of replacement", chosen_by="orders"),
        Axis("corruption_draw", "draw", draws=True, averaged=True),
        Axis("tokens_replaced", "prefix tokens replaced (tokens)", counted="{} tokens replaced", chosen_by="numbers"),
    ),
    variables=(
        Variable(
            "corrupted_exact_match", CORRUPTED, "float", "tokens", "exact match, tokens replaced",
            "exact match after so many prefix tokens have been replaced together", "localize", low=0, high="continuation",
            before="unperturbed_exact_match",
        ),
        Variable(
            "corrupted_nll", CORRUPTED, "float", "nats per token", "NLL, tokens replaced",
            "mean NLL of the same continuation after so many prefix tokens have been replaced together", "localize", low=0,
            before="unperturbed_nll",
        ),
        Variable(
            "tokens_to_break", ("paragraph", "order", "corruption_draw"), "float", "tokens", "tokens to break the recital",
            "fewest of the numbers tried of prefix tokens replaced that leave less than half of the exact match; nan if none does",
            "localize", low=1, high="prefix",
        ),
    ),
)  # fmt: skip
