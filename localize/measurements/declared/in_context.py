"""What recall from the context declares."""

from localize.axes import SHOWN
from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Variable

OF_SHOWN = ("paragraph", "shown")


def passes(work: Workload) -> float:
    """Half a paragraph, and three times two halves."""
    return 3.5


MEASUREMENT = Measurement(
    "in_context", words="recall from the context", place=95, passes=passes,
    axes=(
        Axis("shown", "text shown before", labels=SHOWN, counted="{} shown before"),
    ),
    variables=(
        Variable(
            "in_context_nll", OF_SHOWN, "float", "nats per token", "NLL by what is shown before",
            "mean NLL of a text's continuation behind its prefix, with nothing, the same text, its shuffled tokens or another text "
            "shown before", "localize", low=0,
        ),
        Variable(
            "in_context_exact_match", OF_SHOWN, "float", "tokens", "exact match by what is shown before",
            "continuation tokens right before the first error, with nothing, the same text, its shuffled tokens or another text "
            "shown before", "localize", low=0, high="continuation",
        ),
    ),
)  # fmt: skip
