"""What the gradients of the contrastive objective declare."""

from localize.axes import TERMS
from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.sources import PAPER

GRADIENT = ("layer", "component")
HEAD_GRADIENT = ("layer", "attention_component", "head")
PER_WEIGHT = "nats per weight unit"


def passes(work: Workload) -> float:
    """A forward pass of what is kept, and a backward pass."""
    return 1.0 + BACKWARD


MEASUREMENT = Measurement(
    "contrastive_gradients", words="contrastive gradients", place=13, passes=passes,
    axes=(
        Axis("term", "term of the objective", labels=TERMS),
    ),
    variables=(
        Variable(
            "contrastive_gradient_max", ("term", *GRADIENT), "float", PER_WEIGHT, "max |gradient of the objective|",
            "largest absolute gradient of -c NLL(forget) + KL(keep), and of either term, over a component",
            PAPER + ", section 4", low=0,
        ),
        Variable(
            "contrastive_gradient_norm", ("term", *GRADIENT), "float", PER_WEIGHT, "norm of the objective's gradient",
            "L2 norm of the gradient of -c NLL(forget) + KL(keep), and of either term, over a component",
            PAPER + ", section 4", low=0,
        ),
        Variable(
            "contrastive_head_gradient_max", ("term", *HEAD_GRADIENT), "float", PER_WEIGHT,
            "max |gradient of the objective|",
            "largest absolute gradient of -c NLL(forget) + KL(keep), and of either term, over one head's weights",
            PAPER + ", section 4", low=0,
        ),
        Variable(
            "contrastive_head_gradient_norm", ("term", *HEAD_GRADIENT), "float", PER_WEIGHT,
            "norm of the objective's gradient",
            "L2 norm of the gradient of -c NLL(forget) + KL(keep), and of either term, over one head's weights",
            PAPER + ", section 4", low=0,
        ),
    ),
)  # fmt: skip
