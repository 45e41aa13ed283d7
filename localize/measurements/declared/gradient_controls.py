"""What the gradients that memorized text's are held against declare."""

from localize.axes import OWN
from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Variable, always

OF_TOKENS = ("paragraph", "tokens_in_set", "loss_level")
GRADIENT = ("layer", "component")
HEAD_GRADIENT = ("layer", "attention_component", "head")
PER_WEIGHT = "nats per weight unit"
SHARE = "share"
TOKENS = "a set of tokens whose NLL is near a level common to all paragraphs"
SAID = "the model's own greedy continuation; nan where that is the true one"


def passes(work: Workload) -> float:
    """A forward and a backward pass for every set of tokens, and for the own continuation."""
    sets = work.count("levels", 1) * work.count("sizes", 1)
    return (1 + BACKWARD) * (sets + (work.options["continuation"] == OWN))


MEASUREMENT = Measurement(
    "gradient_controls", words="gradients at like loss", place=15, by_default=True, alone=always, alone_if="always",
    passes=passes,
    axes=(
        Axis("tokens_in_set", "tokens in a set", counted="sets of {} tokens"),
        Axis("loss_level", "level of the NLL (nats)", counted="near {} nats"),
    ),
    variables=(
        Variable(
            "token_set_nll", OF_TOKENS, "float", "nats per token", "NLL of the set",
            f"mean NLL of {TOKENS}; nan where a paragraph has no such set", "localize", low=0,
        ),
        Variable(
            "token_gradient_max", (*OF_TOKENS, *GRADIENT), "float", PER_WEIGHT, "max |gradient|",
            f"largest absolute gradient of the mean NLL of {TOKENS}", "localize", low=0,
        ),
        Variable(
            "token_gradient_norm", (*OF_TOKENS, *GRADIENT), "float", PER_WEIGHT, "gradient norm",
            f"L2 norm of the gradient of the mean NLL of {TOKENS}", "localize", low=0,
        ),
        Variable(
            "token_head_gradient_max", (*OF_TOKENS, *HEAD_GRADIENT), "float", PER_WEIGHT, "max |gradient|",
            f"largest absolute gradient over one head's weights of the mean NLL of {TOKENS}", "localize", low=0,
        ),
        Variable(
            "token_gradient_share", (*OF_TOKENS, *GRADIENT), "float", SHARE, "share of the squared gradient",
            f"a component's part of the squared gradient norm of {TOKENS}", "localize", low=0, high=1,
        ),
        Variable(
            "token_head_gradient_share", (*OF_TOKENS, *HEAD_GRADIENT), "float", SHARE, "share of the squared gradient",
            f"one head's part of the squared gradient norm of {TOKENS}", "localize", low=0, high=1,
        ),
        Variable(
            "own_nll", ("paragraph",), "float", "nats per token", "NLL of the own continuation", f"mean NLL of {SAID}",
            "localize", low=0,
        ),
        Variable(
            "own_gradient_max", ("paragraph", *GRADIENT), "float", PER_WEIGHT, "max |gradient|",
            f"largest absolute gradient of the mean NLL of {SAID}", "localize", low=0,
        ),
        Variable(
            "own_gradient_norm", ("paragraph", *GRADIENT), "float", PER_WEIGHT, "gradient norm",
            f"L2 norm of the gradient of the mean NLL of {SAID}", "localize", low=0,
        ),
        Variable(
            "own_head_gradient_max", ("paragraph", *HEAD_GRADIENT), "float", PER_WEIGHT, "max |gradient|",
            f"largest absolute gradient over one head's weights of the mean NLL of {SAID}", "localize", low=0,
        ),
        Variable(
            "own_gradient_share", ("paragraph", *GRADIENT), "float", SHARE, "share of the squared gradient",
            f"a component's part of the squared gradient norm of {SAID}", "localize", low=0, high=1,
        ),
        Variable(
            "own_head_gradient_share", ("paragraph", *HEAD_GRADIENT), "float", SHARE, "share of the squared gradient",
            f"one head's part of the squared gradient norm of {SAID}", "localize", low=0, high=1,
        ),
    ),
)  # fmt: skip
