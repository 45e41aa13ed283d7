"""How far a unit's number on a text lies from its numbers on other texts, in units of their spread."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from localize.errors import LocalizeError, caller

FEWEST = 3
"""Other texts without which there is no spread to speak of."""

FLOOR = 0.01
"""What is added to a unit's spread, in mean spreads over all units: one that does the same on all other texts has none."""

Deviation = Callable[
    [Float[Tensor, "paragraph layer unit"], Float[Tensor, "other layer unit"]], Float[Tensor, "paragraph layer unit"]
]
"""From a unit's numbers on some texts and on others to how far the former lie from the latter."""


def deviation(
    own: Float[Tensor, "paragraph layer unit"], others: Float[Tensor, "other layer unit"]
) -> Float[Tensor, "paragraph layer unit"]:
    """(own - mean of the others) / their standard deviation: a z score, dimensionless, float64.

    Raises:
        LocalizeError: If there are fewer than three others, or they are all alike in every unit.
    """
    _check(others)
    texts = others.double()
    return _over_spread(own.double() - texts.mean(0), texts.std(0))


def robust_deviation(
    own: Float[Tensor, "paragraph layer unit"], others: Float[Tensor, "other layer unit"]
) -> Float[Tensor, "paragraph layer unit"]:
    """(own - median of the others) / their median absolute deviation from it: dimensionless, float64.

    Raises:
        LocalizeError: As in `deviation`.
    """
    _check(others)
    texts = others.double()
    median = texts.quantile(0.5, dim=0)  # of an even number the mean of the middle two; torch.median takes the lower
    return _over_spread(own.double() - median, (texts - median).abs().quantile(0.5, dim=0))


def _check(others: Float[Tensor, "other layer unit"]) -> None:
    if len(others) < FEWEST:
        raise LocalizeError(f"{caller()}: there are {len(others)} other texts; at least {FEWEST} have a spread.")


def _over_spread(
    apart: Float[Tensor, "paragraph layer unit"], spread: Float[Tensor, "layer unit"]
) -> Float[Tensor, "paragraph layer unit"]:
    if not float(spread.mean()) > 0:
        raise LocalizeError(f"{caller()}: the other texts are alike in every unit; there is nothing to compare with.")
    return apart / (spread + FLOOR * spread.mean())
