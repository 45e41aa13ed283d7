"""What recall declares."""

from localize.measurements.declaration import Measurement, Variable, always
from localize.measurements.sources import PAPER

MEASUREMENT = Measurement(
    "recall", words="recall", place=0, by_default=False, alone=always, alone_if="always",
    variables=(
        Variable(
            "exact_match", ("paragraph",), "integer", "tokens", "exact match",
            "continuation tokens right before the first error, decoding greedily from the prefix", PAPER, low=0,
            high="continuation",
        ),
        Variable(
            "nll", ("paragraph",), "float", "nats per token", "NLL",
            "mean negative log-likelihood of the continuation, teacher forced", PAPER, low=0,
        ),
        Variable(
            "token_nll", ("paragraph", "continuation_position"), "float", "nats", "token NLL",
            "negative log-likelihood of each continuation token, teacher forced", PAPER, low=0,
        ),
    ),
)  # fmt: skip
