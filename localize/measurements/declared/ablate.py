"""What the removal of heads declares."""

from localize.measurements.cost import Workload
from localize.measurements.declaration import Measurement, Options, Variable


def alone(options: Options, has_counts: bool) -> bool:
    """A mean may be over the paragraphs measured, where the model has no tokenizer for general text."""
    return options["to"] == "zero"


def passes(work: Workload) -> float:
    """Each head resumed at its layer."""
    rest = sum(1 - layer / work.layers for layer in work.chosen_layers())
    return work.count("heads", work.heads) * rest


MEASUREMENT = Measurement(
    "ablate", words="removal of heads", place=40, by_default=True, cells=("layers", "heads"), alone=alone,
    alone_if='to = "zero"', passes=passes, formerly=("ablation",),
    also=("unperturbed_exact_match", "unperturbed_nll"),
    variables=(
        Variable(
            "ablated_exact_match", ("paragraph", "layer", "head"), "float", "tokens", "exact match, ablated",
            "exact match after one head's output has been replaced by its mean over a reference text, or zero; nan for a head "
            "that was not",
            "localize", low=0, high="continuation", pieces=True, before="unperturbed_exact_match",
        ),
        Variable(
            "ablated_nll", ("paragraph", "layer", "head"), "float", "nats per token", "NLL, ablated",
            "mean NLL of the same continuation after one head's output has been replaced by its mean over a reference text, or "
            "zero; nan for a head that was not",
            "localize", low=0, pieces=True, before="unperturbed_nll", part="ablation",
        ),
    ),
)  # fmt: skip
