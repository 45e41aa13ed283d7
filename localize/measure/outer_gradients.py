"""Per-paragraph gradients of what lies outside the six components: embeddings, unembedding and biases."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import BIASES, COMPONENTS, EMBEDDINGS
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.parameters import linear_modules


class OuterSizes:
    """Sizes of the embeddings' and biases' gradients, filled a batch at a time as far as they are asked for.

    Attributes:
        arrays: `embedding_gradient_...` and `bias_gradient_...`, on the CPU; nan for what the model does not have.
    """

    def __init__(self, model: HookedModel, count: int, statistics: Sequence[str], *, embeddings: bool, biases: bool):
        self._model, self._statistics = model, tuple(statistics)
        self._embeddings, self._biases = embeddings, biases
        dtype = torch.promote_types(model.dtype, torch.float32)
        shapes = {"embedding": (count, len(EMBEDDINGS)), "bias": (count, model.n_layers, len(BIASES))}
        asked = [name for name, there in (("embedding", embeddings), ("bias", biases)) if there]
        self.arrays = {
            f"{name}_gradient_{statistic}": torch.full(shapes[name], torch.nan, dtype=dtype)
            for name in asked
            for statistic in self._statistics
        }
        self._seen: dict[str, Tensor] = {}

    def fill_bias(self, rows: slice, layer: int, component: str, d: Float[Tensor, "paragraph position output"]) -> None:
        """A bias's gradient is the sum of its outputs' over positions."""
        if not self._biases:
            return
        module, _ = linear_modules(self._model.blocks[layer], self._model.family)[component]
        if module.bias is not None:
            self._write("bias", (rows, layer, COMPONENTS.index(component)), d.sum(1))

    def hooks(self) -> dict[str, Hook]:
        """What the forward pass must carry for `fill_embeddings`."""
        if not self._embeddings:
            return {}

        def embedded(value: Tensor, _: str) -> None:
            value.register_hook(lambda gradient: self._seen.__setitem__("by_embedded", gradient))

        def final(value: Tensor, _: str) -> None:
            self._seen["states"] = value.detach()

        return {"hook_embed": embedded, "ln_final.hook_out": final}

    def fill_embeddings(
        self, rows: slice, tokens: Int[Tensor, "paragraph position"], scored: Bool[Tensor, "paragraph position"]
    ) -> None:
        """One paragraph at a time: W_U's gradient is as large as W_U."""
        if not self._embeddings:
            return
        by_embedded, states = self._seen.pop("by_embedded"), self._seen.pop("states")
        head, read = self._model.hf.lm_head, by_embedded.shape[1]
        tied = head.weight is self._model.hf.transformer.wte.weight
        targets, counted = (side[:, 1 + read - states.shape[1] : 1 + read] for side in (tokens, scored))
        for row in range(len(tokens)):
            at = rows.start + row
            ids, by_input = tokens[row, :read], by_embedded[row]
            unembedding = unembedding_gradient(head(states[row]), states[row], targets[row], counted[row])
            self._write("embedding", (at, EMBEDDINGS.index("W_U")), unembedding)
            self._write("embedding", (at, EMBEDDINGS.index("W_pos")), by_input)
            used, place = ids.unique(return_inverse=True)
            embedding = by_input.new_zeros(len(used), by_input.shape[1]).index_add_(0, place, by_input)
            self._write("embedding", (at, EMBEDDINGS.index("W_E")), embedding)
            if tied:
                both = unembedding.index_add_(0, used, embedding.to(unembedding.dtype))
                self._write("embedding", (at, EMBEDDINGS.index("W_E + W_U")), both)

    def _write(self, what: str, at: tuple, gradient: Float[Tensor, "*row weight"]) -> None:
        """Sizes over the last axis for a batch of biases, over the whole for one embedding."""
        flat = gradient if what == "bias" else gradient.flatten()
        for name in self._statistics:
            size = flat.abs().amax(-1) if name == "max" else torch.linalg.vector_norm(flat.double(), dim=-1)
            self.arrays[f"{what}_gradient_{name}"][at] = size.to(self.arrays[f"{what}_gradient_{name}"].dtype).cpu()


@torch.no_grad()
def unembedding_gradient(
    logits: Float[Tensor, "position vocab"],
    states: Float[Tensor, "position d_model"],
    targets: Int[Tensor, " position"],
    counted: Bool[Tensor, " position"],
) -> Float[Tensor, "vocab d_model"]:
    """Gradient of the counted targets' mean NLL by the unembedding, as it is used on the way out."""
    by_logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    by_logits[torch.arange(len(targets), device=targets.device), targets] -= 1
    by_logits = by_logits * (counted.to(by_logits.dtype) / counted.sum())[:, None]
    return by_logits.T @ states.to(by_logits.dtype)
