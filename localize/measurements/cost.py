"""About how much is to be computed for a paragraph, in forward passes; for `--dry-run`, not for results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BACKWARD = 2.0
"""A backward pass costs about two forward ones."""


@dataclass(frozen=True)
class Workload:
    """What the cost of a measurement follows from.

    What it saves by resuming at a layer or position is counted with its mean.

    Attributes:
        options: All of its options.
        layers: How many the model has.
        heads: How many a layer has.
        prefix: Tokens.
        continuation: Tokens.
    """

    options: Mapping[str, Any]
    layers: int
    heads: int
    prefix: int
    continuation: int

    @property
    def after_prefix(self) -> float:
        """The part of a pass behind a change in the prefix: what was read before it is kept."""
        return (self.prefix / 2 + self.continuation) / (self.prefix + self.continuation)

    @property
    def draws(self) -> int:
        """How often everything is drawn."""
        return self.options.get("draws", 1)

    def count(self, option: str, otherwise: int) -> int:
        """How many an option gives: one, some, or None for all."""
        given = self.options[option]
        return otherwise if given is None else len(given) if isinstance(given, list) else 1

    def chosen_layers(self) -> list[int]:
        """The layers that the option `layers` chooses."""
        given = self.options.get("layers")
        return list(range(self.layers)) if given is None else given if isinstance(given, list) else [given]
