"""What relearning declares."""

from localize.measurements.declaration import Axis, Measurement, Variable

MEASUREMENT = Measurement(
    "relearn", words="relearning after an edit", place=91, asked=False,
    axes=(
        Axis("step", "step of training", counted="step {}"),
    ),
    variables=(
        Variable(
            "relearned_exact_match", ("paragraph", "step"), "float", "tokens", "exact match while relearning",
            "exact match after so many steps of training on the paragraphs taught", "localize", low=0, high="continuation",
        ),
        Variable(
            "relearned_nll", ("paragraph", "step"), "float", "nats per token", "NLL while relearning",
            "mean NLL after so many steps of training on the paragraphs taught", "localize", low=0,
        ),
    ),
)  # fmt: skip
