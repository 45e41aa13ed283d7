"""What is told of each paragraph beside what is measured while a model is trained."""

from localize.measurements.declaration import Measurement, Variable

MEASUREMENT = Measurement(
    "exposures", words="exposures in training", place=1, asked=False,
    variables=(
        Variable(
            "exposures", ("paragraph",), "integer", "rows", "exposures",
            "rows trained on so far that are this paragraph", "Hubble (arXiv 2510.19811)", low=0, role="set-up",
        ),
        Variable(
            "steps_since_exposure", ("paragraph",), "float", "steps", "steps since the last exposure",
            "steps of training since the last row that was this paragraph; nan before the first", "localize", low=0, role="set-up",
        ),
    ),
)  # fmt: skip
