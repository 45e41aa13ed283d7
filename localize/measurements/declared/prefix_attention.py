"""What the attention to prefix tokens declares."""

from localize.measurements.declaration import Measurement, Variable, always

LOOKING = ("query", "layer", "head")
SHARE = "share"


MEASUREMENT = Measurement(
    "prefix_attention", words="attention to each prefix token", place=30, by_default=True, alone=always,
    alone_if="always", formerly=("attention",),
    variables=(
        Variable(
            "prefix_attention", ("paragraph", *LOOKING, "prefix_position"), "float", SHARE, "attention to the token",
            "attention that the last prefix token, or the continuation's tokens on average, pay to each prefix token",
            "localize", low=0, high=1,
        ),
    ),
)  # fmt: skip
