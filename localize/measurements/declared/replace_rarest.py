"""What the replacement of the rarest tokens declares."""

from localize.axes import REPLACED
from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Variable


def passes(work: Workload) -> float:
    """Rarest and common tokens, each draw."""
    return 2.0 * work.draws


MEASUREMENT = Measurement(
    "replace_rarest", words="replacement of the rarest tokens", place=50, by_default=True, passes=passes,
    formerly=("replacement",),
    also=("unperturbed_exact_match", "unperturbed_nll"),
    axes=(
        Axis("replaced", "prefix tokens replaced", labels=REPLACED),
    ),
    variables=(
        Variable(
            "replaced_exact_match", ("paragraph", "replaced"), "float", "tokens", "exact match, tokens replaced",
            "exact match after several prefix tokens have been replaced by random ones at once, mean over draws",
            "localize", low=0, high="continuation", before="unperturbed_exact_match",
        ),
        Variable(
            "replaced_nll", ("paragraph", "replaced"), "float", "nats per token", "NLL, tokens replaced",
            "mean NLL of the same continuation after several prefix tokens have been replaced, mean over draws", "localize",
            low=0, before="unperturbed_nll", part="replacement",
        ),
        Variable(
            "replaced_position", ("paragraph", "replaced"), "float", "tokens", "position of the tokens replaced",
            "mean position of the prefix tokens that were replaced: how well the common ones match the rarest", "localize",
            low=0, high="last prefix position", role="set-up",
        ),
    ),
)  # fmt: skip
