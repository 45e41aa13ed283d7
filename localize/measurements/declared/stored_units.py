"""What the scores of units and heads that store a text declare."""

from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Variable

RATIO = "ratio"
OURS = "localize; recall on planted truths: localize bench"


def passes(work: Workload) -> float:
    """A backward pass; of the untrained twin a forward one too."""
    return BACKWARD + (1 + BACKWARD if work.options["untrained"] else 0.0)


MEASUREMENT = Measurement(
    "stored_units", words="units and heads that store a text", place=5, by_default=True, passes=passes,
    axes=(
        Axis("unit", "MLP unit", counted="unit {}", averaged=True),
        Axis("unit_rank", "rank among all units", counted="rank {}"),
    ),
    variables=(
        Variable(
            "unit_score", ("paragraph", "layer", "unit"), "float", RATIO, "score of an MLP unit",
            "estimated rise of the paragraph's NLL without the unit, over the mean size of that on other texts plus a floor", OURS,
            role="set-up",  # each paragraph has units of its own: a mean over paragraphs is of none
        ),
        Variable(
            "unit_score_untrained", ("paragraph", "unit_rank"), "float", RATIO, "score of an MLP unit, random weights",
            "the highest scores of units in a model of the same shape with random weights, from the best one down", OURS,
            role="set-up",  # the null of the best units, however they are told: by rank, not by place
        ),
        Variable(
            "unit_score_sum_untrained", ("paragraph",), "float", RATIO, "sum of the scores above 0, random weights",
            "sum of all scores above 0 of the units of that model", OURS, low=0, role="set-up",
        ),
        Variable(
            "unit_layer_untrained", ("paragraph", "unit_rank"), "integer", "layer", "layer of a unit, random weights",
            "in which layer, counted from 0, these units lie; -1 where nothing has a score", OURS, low=-1, role="set-up",
        ),
        Variable(
            "head_score", ("paragraph", "layer", "head"), "float", RATIO, "score of a head",
            "estimated rise of the paragraph's NLL without the head, over the mean size of that on other texts plus a floor", OURS,
        ),
        Variable(
            "head_score_untrained", ("paragraph", "layer", "head"), "float", RATIO, "score of a head, random weights",
            "the same in a model of the same shape with random weights", OURS, role="null", of="head_score",
        ),
    ),
)  # fmt: skip
