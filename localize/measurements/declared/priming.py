"""What the spread of a new text's words declares."""

from localize.axes import RESETS
from localize.measurements.declaration import Axis, Measurement, Variable

PERMEATES = "Sun et al. 2025 (arXiv 2504.09522)"
OF_TOKEN = ("paragraph", "reset", "continuation_position")

MEASUREMENT = Measurement(
    "priming", words="priming by a new text", place=93, asked=False,
    axes=(
        Axis("reset", "weights put back", labels=RESETS, counted="{} put back"),
    ),
    variables=(
        Variable(
            "priming", OF_TOKEN, "float", "decades", "priming",
            "log10 of a token's probability behind unrelated prefixes after a model was taught the text, less before", PERMEATES,
        ),
        Variable(
            "priming_matched", OF_TOKEN, "float", "decades", "priming of a matched token",
            "the same of a token that is not in the text and was as likely behind these prefixes", "localize", role="null", of="priming",
        ),
        Variable(
            "primed_nll", ("paragraph", "reset"), "float", "nats per token", "NLL of the text taught",
            "mean NLL of the text after a model was taught it", "localize", low=0,
        ),
    ),
)  # fmt: skip
