"""What parameter gradients declare."""

from localize.axes import BIASES, EMBEDDINGS
from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Options, Variable
from localize.measurements.sources import PAPER

GRADIENT = ("layer", "component")
HEAD_GRADIENT = ("layer", "attention_component", "head")
PER_WEIGHT = "nats per weight unit"
SHARE = "share"


def alone(options: Options, has_counts: bool) -> bool:
    """Sets aside, each paragraph's gradients are its own."""
    return options["sets"] is False


def passes(work: Workload) -> float:
    """A backward pass."""
    return BACKWARD


MEASUREMENT = Measurement(
    "gradients", words="parameter gradients (sensitivity)", place=10, by_default=True, alone=alone, alone_if="sets = false",
    passes=passes,
    axes=(
        Axis("embedding", "embedding", labels=EMBEDDINGS),
        Axis("bias", "bias", labels=BIASES),
    ),
    variables=(
        Variable(
            "gradient_max", ("paragraph", *GRADIENT), "float", PER_WEIGHT, "max |gradient|",
            "largest absolute gradient of a paragraph's mean NLL over the weights of a component", PAPER + ", section 4",
            low=0,
        ),
        Variable(
            "gradient_norm", ("paragraph", *GRADIENT), "float", PER_WEIGHT, "gradient norm",
            "L2 norm of the gradient of a paragraph's mean NLL over the weights of a component", "localize", low=0,
        ),
        Variable(
            "head_gradient_max", ("paragraph", *HEAD_GRADIENT), "float", PER_WEIGHT, "max |gradient|",
            "largest absolute gradient of a paragraph's mean NLL over one head's weights", PAPER + ", section 4", low=0,
        ),
        Variable(
            "head_gradient_norm", ("paragraph", *HEAD_GRADIENT), "float", PER_WEIGHT, "gradient norm",
            "L2 norm of the gradient of a paragraph's mean NLL over one head's weights", "localize", low=0,
        ),
        Variable(
            "gradient_share", ("paragraph", *GRADIENT), "float", SHARE, "share of the squared gradient",
            "a component's part of the paragraph's squared gradient norm, summed over all layers and components",
            "localize", low=0, high=1, part="gradients",
        ),
        Variable(
            "head_gradient_share", ("paragraph", *HEAD_GRADIENT), "float", SHARE, "share of the squared gradient",
            "one head's part of the paragraph's squared gradient norm, summed over all layers and components", "localize",
            low=0, high=1, part="gradients",
        ),
        Variable(
            "embedding_gradient_max", ("paragraph", "embedding"), "float", PER_WEIGHT, "max |gradient|",
            "largest absolute gradient of a paragraph's mean NLL over an embedding; nan for a use that the model does not have",
            "localize", low=0,
        ),
        Variable(
            "embedding_gradient_norm", ("paragraph", "embedding"), "float", PER_WEIGHT, "gradient norm",
            "L2 norm of the gradient of a paragraph's mean NLL over an embedding; nan for a use that the model does not have",
            "localize", low=0,
        ),
        Variable(
            "bias_gradient_max", ("paragraph", "layer", "bias"), "float", PER_WEIGHT, "max |gradient|",
            "largest absolute gradient of a paragraph's mean NLL over a bias; nan for one that the model does not have",
            "localize", low=0,
        ),
        Variable(
            "bias_gradient_norm", ("paragraph", "layer", "bias"), "float", PER_WEIGHT, "gradient norm",
            "L2 norm of the gradient of a paragraph's mean NLL over a bias; nan for one that the model does not have",
            "localize", low=0,
        ),
        Variable(
            "set_gradient_max", ("set", *GRADIENT), "float", PER_WEIGHT, "max |gradient of the mean NLL|",
            "largest absolute gradient of a set's mean NLL over a component, mean over a group's sets", PAPER + ", figure 3",
            low=0,
        ),
        Variable(
            "set_gradient_norm", ("set", *GRADIENT), "float", PER_WEIGHT, "norm of the gradient of the mean NLL",
            "L2 norm of the gradient of a set's mean NLL over a component, mean over a group's sets", "localize", low=0,
        ),
        Variable(
            "set_head_gradient_max", ("set", *HEAD_GRADIENT), "float", PER_WEIGHT, "max |gradient of the mean NLL|",
            "largest absolute gradient of a set's mean NLL over one head's weights, mean over a group's sets",
            PAPER + ", figure 3", low=0,
        ),
        Variable(
            "set_head_gradient_norm", ("set", *HEAD_GRADIENT), "float", PER_WEIGHT, "norm of the gradient of the mean NLL",
            "L2 norm of the gradient of a set's mean NLL over one head's weights, mean over a group's sets", "localize", low=0,
        ),
        Variable(
            "set_cancellation", ("set", *GRADIENT), "float", SHARE, "cancellation",
            "what of a set's gradients cancels in their mean: 1 - |mean gradient| / mean |gradient|, L2 norms", "localize",
            low=0, high=1,
        ),
        Variable(
            "set_cancellation_null", ("set", *GRADIENT), "float", SHARE, "cancellation, unrelated gradients",
            "the cancellation of gradients of the same norms at right angles to each other", "localize", low=0, high=1,
            role="null", of="set_cancellation",
        ),
        Variable(
            "set_size", ("set",), "integer", "paragraphs", "paragraphs of a set",
            "how many paragraphs each set holds whose mean NLL is differentiated; only sets of one size compare", "localize",
            low=1, role="set-up",
        ),
        Variable(
            "set_count", ("set",), "integer", "sets", "sets of a group",
            "how many disjoint sets of a group the set-level gradients are averaged over", "localize", low=1, role="set-up",
        ),
    ),
)  # fmt: skip
