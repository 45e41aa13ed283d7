"""Edges between what MLP units and heads write and what heads, MLPs and the unembedding read: how much the NLL needs each.

Nodes are heads, MLPs and the unembedding; an MLP's output is the sum of what its units write, so that an edge from an MLP is the sum of
edges from its units. An edge is the message that a lower node's output is to a higher node's input alone.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.unit_effects import UnitScores
from localize.models.activations import Hook
from localize.models.blocks import wiring
from localize.models.hooks import HookedModel
from localize.models.parameters import split_heads
from localize.paragraphs.paragraphs import Paragraphs

Combine = Callable[[Tensor, Tensor], Tensor]
"""How a unit's number follows from its edges, two at a time."""


class NodePulls(NamedTuple):
    """Gradients of each row's NLL by what the nodes read from the residual stream, each by what it alone reads.

    Attributes:
        heads: By the input of each head, before the norm, for each layer.
        mlps: By the input of each layer's MLP, before the norm.
        final: By what the unembedding reads, before the norm.
    """

    heads: list[Float[Tensor, "row position head d_model"]]
    mlps: list[Float[Tensor, "row position d_model"]]
    final: Float[Tensor, "row position d_model"]

    def above(self, half: int) -> Iterator[Float[Tensor, "row position d_model"]]:
        """Those of all nodes above a half block: `2 * layer` is attention, `2 * layer + 1` the MLP."""
        for layer in range(len(self.mlps)):
            if 2 * layer > half:
                yield from self.heads[layer].unbind(2)
            if 2 * layer + 1 > half:
                yield self.mlps[layer]
        yield self.final


def edge_effects(
    model: HookedModel,
    paragraphs: Paragraphs,
    corrupt: Int[Tensor, "paragraph position"],
    *,
    steps: int,
    combine: Combine = torch.maximum,
    batch_size: int = 16,
    what: str = "edges",
) -> UnitScores:
    """For every MLP unit and head, its edges' estimated rises of the NLL (nats per token), combined.

    An edge's rise: to first order, what the NLL gains if its message is that of a corrupted text. With z the sender's output and z' on
    the corrupted text, the sum over positions of (z' - z) times the gradient by the receiver's input, which is averaged over texts on
    the way between the two: their embeddings in equal steps, as integrated gradients have it.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; of the continuation that they hold.
        corrupt: For each a text of the same length.
        steps: On the way, at the middle of so many equal parts of it.
        combine: What is made of the edges of a unit: the largest, or `torch.add`.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.
        what: Words for the progress bar.

    Source:
        EAP-IG: Hanna et al. 2024 (arXiv 2403.17806), which interpolates the embeddings too; there a path has its right ends.
    """
    mlp, heads = found = UnitScores.zeros(model, len(paragraphs))
    precise = mlp.dtype

    def work(rows: slice) -> None:
        tokens, other = (part[rows].to(model.device) for part in (paragraphs.tokens, corrupt))
        scored = continuation_mask(tokens, paragraphs.prefix_length)
        pulls = _path_pulls(model, tokens, other, scored, steps)
        clean, corrupted = (_outputs(model, part[:, :-1]) for part in (tokens, other))
        for layer in range(model.n_layers):
            w_o = model.weight(layer, "W_O")
            change = (corrupted[f"blocks.{layer}.attn.hook_z"] - clean[f"blocks.{layer}.attn.hook_z"]).to(precise)

            def of_heads(pull: Tensor, change: Tensor = change, w_o: Tensor = w_o) -> Tensor:
                return (change * (pull @ w_o.T).view(change.shape)).sum((1, 3))

            heads[rows, layer] = _combined(pulls, 2 * layer, of_heads, combine).cpu()
            w_out = model.weight(layer, "W_out")
            change = (corrupted[f"blocks.{layer}.mlp.hook_post"] - clean[f"blocks.{layer}.mlp.hook_post"]).to(precise)

            def of_units(pull: Tensor, change: Tensor = change, w_out: Tensor = w_out) -> Tensor:
                return (change * (pull @ w_out.T)).sum(1)

            mlp[rows, layer] = _combined(pulls, 2 * layer + 1, of_units, combine).cpu()

    in_batches(work, len(paragraphs), batch_size, what=what)
    return found


def _combined(pulls: NodePulls, half: int, edges: Callable[[Tensor], Tensor], combine: Combine) -> Tensor:
    """Of every unit of a half block, its edges to all nodes above, combined as they come."""
    found: Tensor | None = None
    for pull in pulls.above(half):
        found = edges(pull) if found is None else combine(found, edges(pull))
    assert found is not None, "the unembedding is above every block"
    return found


@torch.no_grad()
def _outputs(model: HookedModel, tokens: Int[Tensor, "row position"]) -> dict[str, Tensor]:
    """What every unit and head gives."""
    sites = ("mlp.hook_post", "attn.hook_z")
    kept: dict[str, Tensor] = {}
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in sites]
    model.final_states(tokens, hooks={name: lambda value, name: kept.update({name: value}) for name in names})
    return kept


def _path_pulls(model: HookedModel, tokens: Tensor, other: Tensor, scored: Tensor, steps: int) -> NodePulls:
    """The mean of `node_pulls` on the way from a text to another."""
    with torch.no_grad():
        away = model.hf.transformer.wte(other[:, :-1]) - model.hf.transformer.wte(tokens[:, :-1])
    total: NodePulls | None = None
    for step in range(steps):
        share = (step + 0.5) / steps
        found = node_pulls(model, tokens, scored, lambda value, _, share=share: value + share * away)
        if total is None:
            total = found
        else:
            for sums, parts in ((total.heads, found.heads), (total.mlps, found.mlps)):
                for whole, part in zip(sums, parts, strict=True):
                    whole.add_(part)
            total.final.add_(found.final)
    assert total is not None, "there is at least one step"
    return NodePulls([each / steps for each in total.heads], [each / steps for each in total.mlps], total.final / steps)


def node_pulls(model: HookedModel, tokens: Tensor, scored: Tensor, on_embed: Hook | None = None) -> NodePulls:
    """What each node's input pulls on each row's NLL, in one backward pass.

    The stream is passed on beside what an MLP makes of it: by its input alone the gradient is that by the stream before it less that
    after it. Heads read one stream; their parts are told apart by the gradients of their queries, keys and values.
    """
    pulled: dict[str, Tensor] = {}
    streams: dict[str, Tensor] = {}

    def keep(value: Tensor, name: str) -> None:
        if name.endswith("hook_resid_pre"):
            streams[name] = value.detach()
        value.register_hook(lambda g: pulled.update({name: g}))

    sites = ("hook_resid_pre", "attn.hook_q", "attn.hook_k", "attn.hook_v", "hook_resid_mid", "hook_resid_post")
    hooks: dict[str, Hook] = {f"blocks.{layer}.{site}": keep for layer in range(model.n_layers) for site in sites}
    if on_embed is not None:
        hooks["hook_embed"] = on_embed
    backward_pass(model, tokens, scored, hooks=hooks)
    heads, mlps = [], []
    for layer in range(model.n_layers):
        at = f"blocks.{layer}"
        heads.append(_head_pulls(model, layer, streams[f"{at}.hook_resid_pre"], pulled))
        mlps.append(pulled[f"{at}.hook_resid_mid"] - pulled[f"{at}.hook_resid_post"])
    return NodePulls(heads, mlps, pulled[f"blocks.{model.n_layers - 1}.hook_resid_post"])


def _head_pulls(
    model: HookedModel, layer: int, stream: Float[Tensor, "row position d_model"], pulled: dict[str, Tensor]
) -> Float[Tensor, "row position head d_model"]:
    """The gradients by each head's input, before the norm."""
    normed = torch.zeros(())
    for site, component in (("q", "W_Q"), ("k", "W_K"), ("v", "W_V")):
        weight = split_heads(model.weight(layer, component), component, model.n_heads)  # (head, d_model, d_head)
        normed = normed + torch.einsum("rthd,hmd->rthm", pulled[f"blocks.{layer}.attn.hook_{site}"], weight)
    with model.frozen(), torch.enable_grad():
        each = stream[:, :, None].expand(normed.shape).clone().requires_grad_()  # one stream a head
        return torch.autograd.grad(wiring(model, layer).ln_1(each), each, normed)[0]


def edge_cost(model: HookedModel, paragraphs: Paragraphs, steps: int) -> float:
    """What `edge_effects` takes for each paragraph, in forward passes: two, three for each step, and products with weights besides.

    These are those of each head's pull on its input, in every step as many as its queries, keys and values take, and of each edge, as
    many as what its sender writes takes.
    """
    attention, mlp = model.d_model**2, model.d_model * model.d_mlp
    layers, nodes = model.n_layers, model.n_heads + 1
    of_edges = sum((nodes * (layers - layer) - model.n_heads + 1) * attention for layer in range(layers))
    of_edges += sum((nodes * (layers - 1 - layer) + 1) * mlp for layer in range(layers))
    read = paragraphs.continuation_length / (paragraphs.tokens.shape[1] - 1)
    forward = layers * (4 * attention + 2 * mlp) + read * model.vocab_size * model.d_model
    return 2 + 3.0 * steps + (steps * layers * 3 * attention + of_edges) / forward
