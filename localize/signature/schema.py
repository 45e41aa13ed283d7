"""What each variable of a signature is: its axes, unit and meaning. Checks, axis labels and views all read it here."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from localize.errors import LocalizeError

PAPER = "Stoehr et al. 2024 (arXiv 2403.19851)"


@dataclass(frozen=True)
class Variable:
    """One variable of a signature.

    Attributes:
        name: Its name in the dataset.
        dims: Its axes, in order.
        kind: "float" or "integer".
        unit: What one unit of it is.
        label: A few words for an axis title.
        description: One line that says what it is.
        source: Where the definition comes from.
        low: Smallest possible value, None if there is none.
        high: Largest possible value, None if there is none.
    """

    name: str
    dims: tuple[str, ...]
    kind: Literal["float", "integer"]
    unit: str
    label: str
    description: str
    source: str
    low: int | None = None
    high: int | None = None


_REGISTRY: dict[str, Variable] = {}
REGISTRY = MappingProxyType(_REGISTRY)
"""Every known variable by name."""


def register(variable: Variable) -> Variable:
    """Make a variable known, so that signatures can hold it.

    Raises:
        LocalizeError: If another variable has the name.
    """
    if _REGISTRY.get(variable.name, variable) != variable:
        raise LocalizeError(f"register: a variable {variable.name!r} with another definition is registered already.")
    _REGISTRY[variable.name] = variable
    return variable


DIMS = MappingProxyType(
    {
        "paragraph": "paragraph",
        "position": "position in the paragraph (tokens)",
        "prefix_position": "position in the prefix (tokens)",
        "continuation_position": "position in the paragraph (tokens)",
        "layer": "layer",
        "component": "component",
        "attention_component": "component",
        "head": "head",
        "draw": "draw",
        "set": "set of paragraphs",
    }
)
"""Every axis and its words on a plot. Two axes of tokens in one dataset have different lengths, hence different names."""

_GRADIENT = ("layer", "component")
_HEAD_GRADIENT = ("layer", "attention_component", "head")
_PER_WEIGHT = "nats per weight unit"

for _variable in (
    Variable(
        "exact_match", ("paragraph",), "integer", "tokens", "exact match",
        "continuation tokens right before the first error, decoding greedily from the prefix", PAPER, low=0,
    ),
    Variable(
        "nll", ("paragraph",), "float", "nats per token", "NLL",
        "mean negative log-likelihood of the continuation, teacher forced", PAPER, low=0,
    ),
    Variable(
        "token_nll", ("paragraph", "continuation_position"), "float", "nats", "token NLL",
        "negative log-likelihood of each continuation token, teacher forced", PAPER, low=0,
    ),
    Variable(
        "gradient_max", ("paragraph", *_GRADIENT), "float", _PER_WEIGHT, "max |gradient|",
        "largest absolute gradient of a paragraph's mean NLL over the weights of a component", PAPER + ", section 4", low=0,
    ),
    Variable(
        "gradient_norm", ("paragraph", *_GRADIENT), "float", _PER_WEIGHT, "gradient norm",
        "L2 norm of the gradient of a paragraph's mean NLL over the weights of a component", "localize", low=0,
    ),
    Variable(
        "head_gradient_max", ("paragraph", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "max |gradient|",
        "largest absolute gradient of a paragraph's mean NLL over one head's weights", PAPER + ", section 4", low=0,
    ),
    Variable(
        "head_gradient_norm", ("paragraph", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "gradient norm",
        "L2 norm of the gradient of a paragraph's mean NLL over one head's weights", "localize", low=0,
    ),
    Variable(
        "set_gradient_max", ("set", *_GRADIENT), "float", _PER_WEIGHT, "max |gradient of the mean NLL|",
        "largest absolute gradient of a group's mean NLL (one backward pass) over a component", PAPER + ", figure 3", low=0,
    ),
    Variable(
        "set_gradient_norm", ("set", *_GRADIENT), "float", _PER_WEIGHT, "norm of the gradient of the mean NLL",
        "L2 norm of the gradient of a group's mean NLL (one backward pass) over a component", "localize", low=0,
    ),
    Variable(
        "set_head_gradient_max", ("set", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "max |gradient of the mean NLL|",
        "largest absolute gradient of a group's mean NLL (one backward pass) over one head's weights",
        PAPER + ", figure 3", low=0,
    ),
    Variable(
        "set_head_gradient_norm", ("set", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "norm of the gradient of the mean NLL",
        "L2 norm of the gradient of a group's mean NLL (one backward pass) over one head's weights", "localize", low=0,
    ),
    Variable(
        "rare_token_score", ("paragraph", "layer", "head"), "float", "Spearman's rho", "rare-token score",
        "rank correlation, inside a paragraph, of the attention from the last prefix token with token rarity",
        PAPER + ", section 5, ranked inside each paragraph", low=-1, high=1,
    ),
    Variable(
        "rare_token_null", ("paragraph", "layer", "head"), "float", "Spearman's rho", "rare-token score, mismatched",
        "the same attention against the rarity of paragraphs from other clusters: position held, content not",
        "localize", low=-1, high=1,
    ),
    Variable(
        "unperturbed_exact_match", ("paragraph",), "integer", "tokens", "exact match, unperturbed",
        "exact match of the continuation that the perturbation compares with, before it", PAPER + ", section 6", low=0,
    ),
    Variable(
        "unperturbed_nll", ("paragraph",), "float", "nats per token", "NLL, unperturbed",
        "mean NLL of the continuation that the perturbation compares with, before it", PAPER + ", section 6", low=0,
    ),
    Variable(
        "perturbed_exact_match", ("paragraph", "draw", "prefix_position"), "integer", "tokens", "exact match, perturbed",
        "exact match after one prefix token has been replaced by a random one", PAPER + ", section 6", low=0,
    ),
    Variable(
        "perturbed_nll", ("paragraph", "draw", "prefix_position"), "float", "nats per token", "NLL, perturbed",
        "mean NLL of the same continuation after one prefix token has been replaced", PAPER + ", section 6", low=0,
    ),
    Variable(
        "replacement", ("paragraph", "draw", "prefix_position"), "integer", "token id", "replacement",
        "the token put in the place of the prefix token", PAPER + ", section 6", low=0,
    ),
):  # fmt: skip
    register(_variable)
