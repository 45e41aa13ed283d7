"""What tables of n-grams of the training's rows declare."""

from localize.measurements.declaration import Measurement, Variable

SMOOTHED = "Witten and Bell 1991"
NGRAM = ("paragraph", "ngram")

MEASUREMENT = Measurement(
    "ngram_nll", words="n-grams of the training rows", place=94, asked=False,
    variables=(
        Variable(
            "ngram_nll", NGRAM, "float", "nats per token", "NLL of an n-gram table",
            "mean NLL of the continuation in a table of n-grams of the rows the model was trained on", SMOOTHED, low=0,
        ),
        Variable(
            "ngram_nll_left_out", NGRAM, "float", "nats per token", "NLL of an n-gram table, own rows left out",
            "the same of a table without the rows that hold the continuation", SMOOTHED, low=0, role="null", of="ngram_nll",
        ),
        Variable(
            "rows_holding_text", ("paragraph",), "integer", "rows", "rows that hold the continuation",
            "rows the model was trained on that hold the whole continuation", "localize", low=0, role="set-up",
        ),
    ),
)  # fmt: skip
