"""Gradients of each paragraph's continuation NLL with respect to the weights, per layer, component and head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS
from localize.measure.batches import in_batches
from localize.measure.labels import groups_of, labelled
from localize.measure.recall import continuation_logits, recall_of, token_nll
from localize.models.hooks import HookedModel
from localize.models.parameters import linear_modules, split_heads
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

OnGradient = Callable[[int, str, Float[Tensor, "paragraph input output"]], None]
"""Called with layer, component and the per-paragraph gradients of that component's weights."""


class Size(NamedTuple):
    """How large a gradient is: over a component's matrix, and over each head's part of it (attention components only)."""

    max: Float[Tensor, "*batch layer component"]
    norm: Float[Tensor, "*batch layer component"]
    head_max: Float[Tensor, "*batch layer attention_component head"]
    head_norm: Float[Tensor, "*batch layer attention_component head"]

    @classmethod
    def empty(cls, model: HookedModel, count: int) -> "Size":
        """Zeros for so many gradients of the model, on the CPU."""
        whole = (count, model.n_layers, len(COMPONENTS))
        heads = (count, model.n_layers, len(ATTENTION_COMPONENTS), model.n_heads)
        return cls(*(torch.zeros(shape, dtype=model.dtype) for shape in (whole, whole, heads, heads)))

    def fill(
        self, rows: slice, layer: int, component: str, gradient: Float[Tensor, "batch input output"], n_heads: int
    ) -> None:
        """Write the sizes of one component's gradients, one matrix per row."""
        c = COMPONENTS.index(component)
        if component not in ATTENTION_COMPONENTS:
            self.max[rows, layer, c] = gradient.abs().amax((-2, -1)).cpu()
            self.norm[rows, layer, c] = gradient.square().sum((-2, -1)).sqrt().cpu()
            return
        heads = split_heads(gradient, component, n_heads)
        largest, squares = heads.abs().amax((-2, -1)).cpu(), heads.square().sum((-2, -1)).cpu()
        self.head_max[rows, layer, c], self.head_norm[rows, layer, c] = largest, squares.sqrt()
        self.max[rows, layer, c], self.norm[rows, layer, c] = largest.amax(-1), squares.sum(-1).sqrt()


@contextmanager
def weight_gradients(model: HookedModel, on_gradient: OnGradient) -> Iterator[None]:
    """Inside, a backward pass hands over every component's gradient for each row of the batch apart, and keeps none.

    The linear maps' inputs x and output gradients d suffice: a row's gradient is sum over positions of x_t d_t^T. Parameters
    should be frozen, so that autograd does not form their summed gradients as well. The loss must be a sum over rows of
    terms that depend on one row each.
    """

    def watch(layer: int, module: nn.Module, parts: dict[str, int]) -> Callable[[], None]:
        def on_forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach()

            def on_backward(d: Tensor) -> None:
                width = d.shape[-1] // len(parts)
                for component, part in parts.items():
                    piece = d[..., part * width : (part + 1) * width]
                    on_gradient(layer, component, x.transpose(1, 2) @ piece)

            output.register_hook(on_backward)

        return module.register_forward_hook(on_forward).remove

    removals = []
    try:
        for layer, block in enumerate(model.blocks):
            by_module: dict[nn.Module, dict[str, int]] = {}
            for component, (module, part) in linear_modules(block, model.family).items():
                by_module.setdefault(module, {})[component] = part
            removals += [watch(layer, module, parts) for module, parts in by_module.items()]
        yield
    finally:
        for remove in removals:
            remove()


def paragraph_losses(
    model: HookedModel, tokens: Int[Tensor, "paragraph position"], prefix_length: int
) -> Float[Tensor, " paragraph"]:
    """Mean NLL of each row's continuation, on a graph that starts at the embedding: the parameters are taken as frozen."""
    hooks = {"hook_embed": lambda value, _: value.requires_grad_()}
    logits = continuation_logits(model, tokens, prefix_length, hooks=hooks)
    return token_nll(logits, tokens[:, prefix_length:]).mean(1)


def gradients(
    model: HookedModel, paragraphs: Paragraphs, *, batch_size: int = 16, sets: bool = True
) -> "MemorizationSignature":
    """Where a paragraph's continuation pulls on the weights.

    For every paragraph the gradient of its mean continuation NLL, per layer and component (W_Q W_K W_V W_O W_in W_out) and,
    for the first four, per head; biases, layer norms, embeddings and unembedding are left out. And, for every group, the
    gradient of the group's mean NLL: one matrix for the whole set, in which paragraphs can cancel.

    Args:
        model: A hooked model; its weights and their `.grad` stay as they are.
        paragraphs: The paragraphs; gradients are of the continuation they hold, the true or the model's own.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.
        sets: Also the set-level gradients, which hold one copy of the weights per group in memory.

    Returns:
        `gradient_max`, `gradient_norm`, `head_gradient_max`, `head_gradient_norm` and, with `sets`, the same four as `set_...`;
        nats per weight unit, at least 0. Recall is attached.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.

    Source:
        Stoehr et al. 2024, section 4: set-level, max. Per paragraph, and the L2 norm: ours.
    """
    recall = recall_of(model, paragraphs)
    size = Size.empty(model, len(paragraphs))
    group = groups_of(paragraphs, recall)
    names = tuple(dict.fromkeys(group.tolist())) if sets else ()
    sums: dict[tuple[str, int, str], Tensor] = {}

    def work(rows: slice) -> None:
        members = {name: torch.from_numpy(group[rows] == name).to(model.device) for name in names}
        part: dict[tuple[str, int, str], Tensor] = {}

        def on_gradient(layer: int, component: str, gradient: Tensor) -> None:
            size.fill(rows, layer, component, gradient, model.n_heads)
            for name, chosen in members.items():
                if chosen.any():
                    part[name, layer, component] = gradient[chosen].sum(0)

        with weight_gradients(model, on_gradient):
            losses = paragraph_losses(model, paragraphs.tokens[rows].to(model.device), paragraphs.prefix_length)
            losses.sum().backward()
        # Only now, so that a batch that ran out of memory half-way has added nothing.
        for key, gradient in part.items():
            sums[key] = sums[key] + gradient if key in sums else gradient

    with model.frozen(), torch.enable_grad():
        in_batches(work, len(paragraphs), batch_size, what="gradients")

    arrays = {
        f"{'head_' * head}gradient_{kind}": getattr(size, f"{'head_' * head}{kind}")
        for head in (0, 1)
        for kind in ("max", "norm")
    }
    if sets:
        whole = Size.empty(model, len(names))
        for (name, layer, component), total in sums.items():
            row = names.index(name)
            whole.fill(slice(row, row + 1), layer, component, total[None] / int((group == name).sum()), model.n_heads)
        arrays |= {f"set_{name}": getattr(whole, name.replace("gradient_", "")) for name in tuple(arrays)}
    call = {"measurement": "gradients", "batch_size": batch_size, "sets": sets}
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"set": names})
