"""How a variable of a signature is described, and the axes that there are; `localize.signature.schema` lists the variables."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from localize.errors import LocalizeError


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
        pieces: Whether nan means that a cell was not asked for, so that two signatures fill each other's cells.
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
    pieces: bool = False


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
        "other_set": "other set of paragraphs",
        "embedding": "embedding",
        "bias": "bias",
        "site": "activation",
        "term": "term of the objective",
        "query": "looking from",
        "null": "null",
        "correlation": "correlation",
        "replaced": "prefix tokens replaced",
        "kind": "kind of replacement",
        "order": "order of replacement",
        "corruption_draw": "draw",
        "tokens_replaced": "prefix tokens replaced (tokens)",
        "direction": "direction of patching",
        "metric": "judged by",
        "stream": "activation",
        "prompt": "prompt",
        "step": "step of training",
        "chosen_by": "weights chosen by the gradient of",
        "weights_noised": "weights noised",
        "strength": "noise (std of the weight matrix)",
        "noise_draw": "draw",
    }
)
"""Every axis and its words on a plot. Two axes of tokens in one dataset have different lengths, hence different names."""
