"""How a variable of a signature is described, and the axes that there are; `localize.signature.schema` lists the variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from localize.errors import LocalizeError
from localize.statistics import UNBOUNDED, Range

if TYPE_CHECKING:
    import xarray as xr


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
        high: Largest possible value, None if there is none; one of `LENGTHS` where it follows from the paragraphs' length.
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
    high: int | str | None = None
    pieces: bool = False

    def range(self, prefix: int, continuation: int) -> Range:
        """Where its values can lie in paragraphs of so many tokens."""
        high = LENGTHS[self.high](prefix, continuation) if isinstance(self.high, str) else self.high
        return Range(-np.inf if self.low is None else self.low, np.inf if high is None else high)


LENGTHS: Mapping[str, Callable[[int, int], float]] = MappingProxyType(
    {
        "prefix": lambda prefix, continuation: prefix,
        "continuation": lambda prefix, continuation: continuation,
        "last prefix position": lambda prefix, continuation: prefix - 1,
        "last position": lambda prefix, continuation: prefix + continuation - 1,
        "log of the paragraph": lambda prefix, continuation: np.log(prefix + continuation),
    }
)
"""Largest values that follow from the tokens of prefix and continuation."""

_REGISTRY: dict[str, Variable] = {}
REGISTRY = MappingProxyType(_REGISTRY)
"""Every known variable by name."""


def register(variable: Variable) -> Variable:
    """Make a variable known, so that signatures can hold it.

    Raises:
        LocalizeError: If another variable has the name, or `high` is a word that is none of `LENGTHS`.
    """
    if _REGISTRY.get(variable.name, variable) != variable:
        raise LocalizeError(f"register: a variable {variable.name!r} with another definition is registered already.")
    if isinstance(variable.high, str) and variable.high not in LENGTHS:
        raise LocalizeError(
            f"register: high={variable.high!r} of {variable.name!r} is not one of {', '.join(LENGTHS)}; it is one of them, a number "
            "or None."
        )
    _REGISTRY[variable.name] = variable
    return variable


def range_of(dataset: "xr.Dataset", name: str) -> Range:
    """Where a variable of a signature's dataset can lie; of its mean over anything likewise."""
    about = dataset.attrs["paragraphs"]
    lengths = [about.get(f"{part}_length", np.inf) for part in ("prefix", "continuation")]
    return REGISTRY[name].range(*lengths) if name in REGISTRY else UNBOUNDED


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
