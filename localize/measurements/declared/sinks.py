"""What memorization sinks declare."""

from localize.axes import GATES
from localize.measurements.declaration import Axis, Measurement, Variable

SOURCE = "memorization sinks (arXiv 2507.09937)"
GATED = ("paragraph", "gate")


MEASUREMENT = Measurement(
    "sinks", words="memorization sinks, on and off", place=3, asked=False,  # a model without sinks has none to ask for
    axes=(Axis("gate", "sinks that are on", labels=GATES),),
    variables=(
        Variable(
            "sink_nll", GATED, "float", "nats per token", "NLL by sinks",
            "mean NLL of the continuation with sinks of the MLPs on: all times their chance, none, the text's own, another text's", SOURCE,
            low=0,
        ),
        Variable(
            "sink_exact_match", GATED, "float", "tokens", "exact match by sinks",
            "continuation tokens right before the first error, decoding greedily, with the same sinks on", SOURCE, low=0,
            high="continuation",
        ),
    ),
)  # fmt: skip
