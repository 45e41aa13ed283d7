"""What the ablation of a text's best units together declares."""

from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Variable

RISE = ("paragraph", "units_ablated")
MOST_NUMBERS = 7
"""Numbers of units tried, unless told otherwise."""


def passes(work: Workload) -> float:
    """Of each paragraph that is tried: itself without its best and without random units, and other texts without its best."""
    return work.count("numbers", MOST_NUMBERS) * (2 + work.options["others"])


MEASUREMENT = Measurement(
    "locality", words="ablation of a text's best units together", place=6, by_default=True, passes=passes,
    builds_on=("scores", "stored_units"),
    axes=(Axis("units_ablated", "MLP units ablated together", counted="{} units", chosen_by="numbers"),),
    variables=(
        Variable(
            "located_rise", RISE, "float", "nats per token", "NLL rise without the best units",
            "rise of the paragraph's own NLL with its best-scoring MLP units set to their mean over a reference text; nan for a "
            "paragraph that was not tried", "localize",
        ),
        Variable(
            "located_others_rise", RISE, "float", "nats per token", "NLL rise of other texts",
            "mean rise of the NLL of paragraphs of other clusters with the same units ablated", "localize", role="null",
            of="located_rise",
        ),
        Variable(
            "located_random_rise", RISE, "float", "nats per token", "NLL rise without random units",
            "rise of the paragraph's own NLL with as many random units of the same layers ablated", "localize", role="null",
            of="located_rise",
        ),
        Variable(
            "located_lost_match", RISE, "float", "tokens", "exact match lost without the best units",
            "exact match before less that with the paragraph's best-scoring units ablated", "localize",
            high="continuation",
        ),
    ),
)  # fmt: skip
