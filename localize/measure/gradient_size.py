"""How large per-paragraph weight gradients are, from a linear map's inputs and output gradients, without keeping any."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from localize.axes import ATTENTION_COMPONENTS, ATTENTION_SCALES, COMPONENTS, IN_W_Q
from localize.errors import LocalizeError, caller
from localize.models.blocks import attention_scale as scale_of
from localize.models.hooks import HookedModel

STATISTICS = ("max", "norm")

MATRICES_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
"""Gradient entries formed at once: on a CPU one matrix at a time, so that it is reduced before it leaves the cache."""


def outer_and_inner(
    component: str, x: Float[Tensor, "paragraph position input"], d: Float[Tensor, "paragraph position output"]
) -> tuple[Tensor, Tensor]:
    """The two sides of a gradient, that which divides into heads first: outputs of W_Q W_K W_V, inputs of W_O."""
    return (x, d) if component == "W_O" else (d, x)


def gradient_sizes(
    outer: Float[Tensor, "paragraph position outer"],
    inner: Float[Tensor, "paragraph position inner"],
    heads: int,
    statistics: Sequence[str] = STATISTICS,
) -> dict[str, Float[Tensor, "paragraph head"]]:
    """Largest absolute entry and L2 norm of each row's sum over positions of outer_t inner_t^T, per head.

    Entries are formed only where their maximum is asked for; a norm alone comes from the two sides' products with
    themselves, |G|^2 = sum over s, t of (outer_s . outer_t)(inner_s . inner_t), where that is less work.

    Args:
        outer: The side that divides into heads.
        inner: The other side.
        heads: Equal parts of `outer`; 1 for the whole.
        statistics: Some of "max" and "norm".

    Returns:
        The statistics asked for.
    """
    positions, wide, high = outer.shape[1], inner.shape[2], outer.shape[2]
    if "max" not in statistics and positions * (wide + high) < wide * high:
        return {"norm": _norm_of_products(outer, inner, heads)}
    count = len(outer)
    precise = torch.promote_types(outer.dtype, torch.float32)
    sizes = {name: torch.zeros(count, heads, dtype=precise, device=outer.device) for name in statistics}
    step = min(count, max(1, MATRICES_AT_ONCE[outer.device.type] // (wide * high)))
    room = torch.empty(step, high, wide, dtype=outer.dtype, device=outer.device)
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        gradient = room[: rows.stop - start]
        torch.bmm(outer[rows].transpose(1, 2), inner[rows], out=gradient)
        if "norm" in statistics:
            lines = torch.linalg.vector_norm(gradient, dim=-1, dtype=precise).unflatten(-1, (heads, high // heads))
            sizes["norm"][rows] = torch.linalg.vector_norm(lines, dim=-1)
        if "max" in statistics:
            sizes["max"][rows] = gradient.abs_().view(len(gradient), heads, -1).amax(-1).to(precise)
    return sizes


def _norm_of_products(
    outer: Float[Tensor, "paragraph position outer"], inner: Float[Tensor, "paragraph position inner"], heads: int
) -> Float[Tensor, "paragraph head"]:
    return gradient_products((outer, inner), (outer, inner), heads).clamp(min=0).sqrt()


def gradient_products(
    one: tuple[Float[Tensor, "paragraph position outer"], Float[Tensor, "paragraph position inner"]],
    other: tuple[Float[Tensor, "paragraph other_position outer"], Float[Tensor, "paragraph other_position inner"]],
    heads: int,
) -> Float[Tensor, "paragraph head"]:
    """Inner product of two gradients of one weight, row by row and per head, neither of them formed."""
    precise = torch.promote_types(one[0].dtype, torch.float32)
    (outer_a, inner_a), (outer_b, inner_b) = ([side.to(precise) for side in pair] for pair in (one, other))
    outer_a, outer_b = (side.unflatten(-1, (heads, -1)).transpose(1, 2) for side in (outer_a, outer_b))
    outer_product = outer_a @ outer_b.transpose(-1, -2)  # (paragraph, head, position, other_position)
    return (outer_product * (inner_a @ inner_b.transpose(-1, -2))[:, None]).sum((-1, -2))


def query_scales(model: HookedModel, attention_scale: str) -> list[float]:
    """For each layer what the gradient of W_Q is divided by: y = s x W, and a gradient by s W is that by W over s.

    Raises:
        LocalizeError: If `attention_scale` is none.
    """
    if attention_scale not in ATTENTION_SCALES:
        raise LocalizeError(
            f"{caller()}: attention_scale={attention_scale!r} is not one of {', '.join(ATTENTION_SCALES)}."
        )
    return [scale_of(model, layer) if attention_scale == IN_W_Q else 1.0 for layer in range(model.n_layers)]


class Sizes:
    """The statistics of a number of gradients, per component and, for attention, per head.

    Attributes:
        arrays: `gradient_max`, `gradient_norm`, `head_gradient_max`, `head_gradient_norm`, as far as asked for, on the CPU.
    """

    def __init__(self, model: HookedModel, count: int, statistics: Sequence[str] = STATISTICS):
        self.n_heads = model.n_heads
        self.statistics = tuple(statistics)
        whole = (count, model.n_layers, len(COMPONENTS))
        heads = (count, model.n_layers, len(ATTENTION_COMPONENTS), model.n_heads)
        dtype = torch.promote_types(model.dtype, torch.float32)
        self.arrays = {
            f"{which}gradient_{name}": torch.zeros(shape, dtype=dtype)
            for which, shape in (("", whole), ("head_", heads))
            for name in self.statistics
        }

    def fill(
        self,
        rows: slice,
        layer: int,
        component: str,
        x: Float[Tensor, "paragraph position input"],
        d: Float[Tensor, "paragraph position output"],
    ) -> None:
        """Write the sizes of one component's gradients, one matrix per row."""
        heads = self.n_heads if component in ATTENTION_COMPONENTS else 1
        sizes = gradient_sizes(*outer_and_inner(component, x, d), heads, self.statistics)
        self._write(rows, layer, component, sizes)

    def fill_formed(self, row: int, layer: int, component: str, gradient: Float[Tensor, "input output"]) -> None:
        """Write the sizes of one component's gradient that is there as a matrix."""
        sides = gradient if component == "W_O" else gradient.T
        heads = self.n_heads if component in ATTENTION_COMPONENTS else 1
        parts = sides.reshape(1, heads, -1)
        sizes = {"max": parts.abs().amax(-1), "norm": torch.linalg.vector_norm(parts, dim=-1)}
        self._write(slice(row, row + 1), layer, component, {name: sizes[name] for name in self.statistics})

    def _write(self, rows: slice, layer: int, component: str, sizes: dict[str, Tensor]) -> None:
        c = COMPONENTS.index(component)
        for name, values in sizes.items():
            values = values.cpu()
            if component in ATTENTION_COMPONENTS:
                self.arrays[f"head_gradient_{name}"][rows, layer, c] = values
            whole = values.amax(-1) if name == "max" else torch.linalg.vector_norm(values, dim=-1)
            self.arrays[f"gradient_{name}"][rows, layer, c] = whole


def shares(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each component's, and each head's, part of a row's squared norm over all layers and components; nan where that is 0."""
    squares = arrays["gradient_norm"].double().square()
    total = squares.sum((-1, -2), keepdim=True)
    heads = arrays["head_gradient_norm"].double().square() / total[..., None]
    dtype = arrays["gradient_norm"].dtype
    return {"gradient_share": (squares / total).to(dtype), "head_gradient_share": heads.to(dtype)}
