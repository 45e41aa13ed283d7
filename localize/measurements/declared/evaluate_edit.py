"""What the judgement of an edit declares."""

from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.sources import PAPER

SHARE = "share"


MEASUREMENT = Measurement(
    "evaluate_edit", words="recall before and after an edit", place=90, asked=False,
    axes=(
        Axis("prompt", "prompt"),
    ),
    variables=(
        Variable(
            "token_accuracy", ("paragraph",), "float", SHARE, "tokens right",
            "share of the continuation tokens that are the likeliest, the true ones before them given", "localize", low=0,
            high=1,
        ),
        Variable(
            "reference_exact_match", ("paragraph",), "integer", "tokens",
            "exact match of the unedited model's continuation",
            "exact match of what the unedited model says after the prefix", "localize", low=0, high="continuation",
        ),
        Variable(
            "reference_nll", ("paragraph",), "float", "nats per token", "NLL of the unedited model's continuation",
            "mean NLL of what the unedited model says after the prefix", "localize", low=0,
        ),
        Variable(
            "prompted_recall", ("paragraph", "prompt"), "float", SHARE, "recall behind a prompt",
            "share of the continuation tokens asked for that are said before the first error, by prompt", "localize", low=0,
            high=1,
        ),
        Variable(
            "rewritten_exact_match", ("paragraph",), "float", "tokens", "exact match of the new continuation",
            "exact match of the continuation that an edit teaches; nan for a paragraph that is not rewritten", PAPER, low=0,
            high="continuation",
        ),
        Variable(
            "rewritten_nll", ("paragraph",), "float", "nats per token", "NLL of the new continuation",
            "mean NLL of the continuation that an edit teaches; nan for a paragraph that is not rewritten", PAPER, low=0,
        ),
    ),
)  # fmt: skip
