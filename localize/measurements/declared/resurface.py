"""What the attacks on an edit declare."""

from localize.measurements.declaration import Axis, Measurement, Variable

MEASUREMENT = Measurement(
    "resurface", words="attacks on an edit", place=92, asked=False,
    axes=(
        Axis("attack", "attack"),
    ),
    variables=(
        Variable(
            "resurfaced_recall", ("paragraph", "attack"), "float", "share", "recall after an attack",
            "share of the continuation tokens asked for that are said before the first error, by what was done to bring them back",
            "localize", low=0, high=1,
        ),
    ),
)  # fmt: skip
