"""What the similarity of sets' gradients declares."""

from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.sources import PAPER

GRADIENT = ("layer", "component")


def passes(work: Workload) -> float:
    """A backward pass."""
    return BACKWARD


MEASUREMENT = Measurement(
    "set_similarity", words="gradient similarity of groups", place=11, passes=passes, also=("set_size", "set_count"),
    axes=(
        Axis("other_set", "other set of paragraphs"),
    ),
    variables=(
        Variable(
            "set_similarity", ("set", "other_set", *GRADIENT), "float", "cosine", "gradient similarity",
            "cosine between the gradients of two sets' mean NLL, mean over the sets of two groups", PAPER + ", appendix", low=-1, high=1,
        ),
        Variable(
            "set_split_similarity", ("set", "other_set", *GRADIENT), "float", "cosine", "gradient similarity of half sets",
            "mean cosine between half of one set's clusters and half of another's; on the diagonal the two halves of one set",
            "localize", low=-1, high=1,
        ),
    ),
)  # fmt: skip
