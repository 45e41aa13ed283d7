"""Routing on parameters: which text may use a unit, and which text's gradient may change its weights, row by row.

A linear map's output is computed with weights that get no gradient, plus, for the rows that may change them, a term that is 0 and
has the weights' gradient. So a row's values and its gradients with respect to activations are the model's own, in full, and only
what reaches the *weights* is routed.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Routes:
    """For a batch of rows, by text: whose units are on, and whose weights a row's gradient reaches. 0 or 1 each.

    Attributes:
        on: Units of a text that is 0 here are silent in the row.
        learns: The weights of a text's units get the row's gradient.
        silent: A text's units are to stay silent in the row, whether on or off.
    """

    on: Float[Tensor, "row text"]
    learns: Float[Tensor, "row text"]
    silent: Float[Tensor, "row text"]

    def of_units(self, owner: Int[Tensor, " unit"]) -> "Routes":
        """The same by unit, `(row, unit)`; a unit that is nobody's is off."""
        nobody = (owner < 0).to(self.on)
        of = owner.clamp(min=0)
        return Routes(*(part[:, of] * (1 - nobody) for part in (self.on, self.learns, self.silent)))


def routed(
    live: Float[Tensor, "row position *unit"], still: Float[Tensor, "row position *unit"], learns: Tensor
) -> Float[Tensor, "row position *unit"]:
    """A linear map's output whose weights only some rows' gradients reach.

    Args:
        live: The map of detached inputs by live weights.
        still: The map of live inputs by detached weights; equal to `live` in value.
        learns: 1 where the row's gradient reaches the weights; broadcasts.
    """
    return still + learns * (live - live.detach())
