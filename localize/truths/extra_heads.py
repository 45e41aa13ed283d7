"""More attention heads in every layer of a frozen model, each of which one text owns."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import ATTENTION_COMPONENTS, HEADS_PART
from localize.models.activations import Hook
from localize.models.blocks import wiring
from localize.models.hooks import HookedModel
from localize.models.key_values import visible_keys
from localize.models.parameters import bounded
from localize.truths.extra_units import FAINT, keeping
from localize.truths.places import random_places
from localize.truths.routing import Routes, routed


class ExtraHeads:
    """Weights of new heads, by layer, and what they add to the frozen model's forward pass.

    A head's four matrices begin with, and are bounded by, the Frobenius norms of general heads drawn at random from their layer.

    Attributes:
        owner: The text that owns each head.
    """

    part = HEADS_PART

    def __init__(self, model: HookedModel, owner: Int[Tensor, "layer head"], seed: int):
        self.model, self.owner = model, owner
        rng = torch.Generator().manual_seed(seed)
        self.weights: list[dict[str, Float[Tensor, "head a b"]]] = []
        self.most: list[dict[str, Float[Tensor, " head"]]] = []
        for layer in range(model.n_layers):
            weights, most = {}, {}
            for component in ATTENTION_COMPONENTS:
                like = torch.randint(model.n_heads, (owner.shape[1],), generator=rng).tolist()
                general = [model.weight(layer, component, head) for head in like]
                norm = torch.stack([matrix.norm() for matrix in general])
                drawn = torch.randn(owner.shape[1], *general[0].shape, generator=rng).to(model.device)
                part = FAINT if component == "W_O" else 1.0
                scaled = drawn / drawn.flatten(1).norm(dim=1)[:, None, None] * (part * norm)[:, None, None]
                weights[component], most[component] = scaled.requires_grad_(), norm
            self.weights.append(weights)
            self.most.append(most)

    def parameters(self) -> list[Tensor]:
        """All weights that are trained."""
        return [matrix for weights in self.weights for matrix in weights.values()]

    def bound(self) -> None:
        """Scale every matrix down to at most the norm that it copied."""
        for weights, most in zip(self.weights, self.most, strict=True):
            for component, matrix in weights.items():
                bounded(matrix.detach().flatten(1), most[component])

    def hooks(self, routes: Routes, loudness: list[Tensor]) -> dict[str, Hook]:
        """Hooks that add the heads to a forward pass of rows; arguments as those of `ExtraUnits.hooks`.

        A head's loudness is the square of |z| x |W_O|.
        """
        hooks: dict[str, Hook] = {}
        for layer in range(self.model.n_layers):
            stream: list[Tensor] = []
            hooks[f"blocks.{layer}.hook_resid_pre"] = keeping(stream)
            hooks[f"blocks.{layer}.hook_attn_out"] = self._adding(layer, stream, routes, loudness)
        return hooks

    def _adding(self, layer: int, stream: list[Tensor], routes: Routes, loudness: list[Tensor]) -> Hook:
        reads, weights = wiring(self.model, layer), self.weights[layer]
        of = routes.of_units(self.owner[layer].to(self.model.device))
        learns = of.learns[:, :, None, None]  # (row, head, 1, 1)

        def add(out: Float[Tensor, "row position d_model"], _: str) -> Tensor:
            x = reads.ln_1(stream.pop())[:, None]  # (row, 1, position, d_model)
            seen = visible_keys(x.shape[2], x.shape[2], reads.window, x.device)
            live = {name: x.detach() @ weights[name] for name in ("W_Q", "W_K", "W_V")}  # (row, head, position, d_head)
            still = {name: x @ weights[name].detach() for name in live}
            q, k, v = (routed(live[name], still[name], learns) for name in live)
            z = _read(q, k, v, seen, reads.scale) * of.on[:, :, None, None]
            w_o = weights["W_O"]
            size = w_o.detach().flatten(1).norm(dim=1)
            alone = _read(live["W_Q"], live["W_K"], live["W_V"], seen, reads.scale)
            loud = (alone**2).sum(3) * (size**2 * of.silent)[:, :, None]  # (row, head, position)
            loudness.append(loud.sum(1).mean())
            both = (z.detach() * learns) @ w_o
            return out + (z @ w_o.detach() + both - both.detach()).sum(1)

        return add

    def exported(self, seed: int) -> tuple[HookedModel, Int[Tensor, "layer head"]]:
        """A model with these heads among its own, at random places. No config describes it: `widened` makes it from the tensors.

        Returns:
            The model, and the place of each new head.
        """
        model, extra = self.model, self.owner.shape[1]
        places = random_places(model.n_layers, model.n_heads + extra, extra, seed)
        return widened(model, [dict(weights) for weights in self.weights], places), places


def widened(
    model: HookedModel, weights: list[dict[str, Float[Tensor, "head a b"]]], places: Int[Tensor, "layer head"]
) -> HookedModel:
    """A model with more heads, at these places among its own; the same function otherwise."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found, extra = model.copied(), places.shape[1]
    wide, d_head, d_model = model.n_heads + extra, model.d_head, model.d_model
    for layer, block in enumerate(found.blocks):
        mine = places[layer].tolist()
        general = [head for head in range(wide) if head not in set(mine)]
        rows = torch.tensor([[head * d_head + i for i in range(d_head)] for head in general]).flatten().to(model.device)
        if model.family == "gpt-neo":
            attn: Any = block.attn.attention
            for name in ("q_proj", "k_proj", "v_proj"):
                old = getattr(attn, name)
                new = nn.Linear(
                    d_model, wide * d_head, bias=old.bias is not None, device=model.device, dtype=model.dtype
                )
                if old.bias is not None:
                    new.bias.data.zero_()
                    new.bias.data[rows] = old.bias.data
                setattr(attn, name, new)
            new = nn.Linear(wide * d_head, d_model, bias=True, device=model.device, dtype=model.dtype)
            new.bias.data.copy_(attn.out_proj.bias.data)
            attn.out_proj = new
        else:
            attn = block.attn
            new = Conv1D(3 * wide * d_head, d_model).to(model.device, model.dtype)
            new.bias.data.zero_()
            new.bias.data.view(3, -1)[:, rows] = attn.c_attn.bias.data.view(3, -1)
            project = Conv1D(d_model, wide * d_head).to(model.device, model.dtype)
            project.bias.data.copy_(attn.c_proj.bias.data)
            attn.c_attn, attn.c_proj, attn.split_size = new, project, wide * d_head
        attn.num_heads = wide
    found = HookedModel(
        found.hf.requires_grad_(True),
        model.tokenizer,
        name=f"planted {model.name}",
        unigram_counts=model.unigram_counts,
    )
    with torch.no_grad():
        for layer in range(model.n_layers):
            mine = places[layer].tolist()
            general = [head for head in range(wide) if head not in set(mine)]
            for component in ATTENTION_COMPONENTS:
                for at, head in enumerate(general):
                    found.weight(layer, component, head).copy_(model.weight(layer, component, at))
                for at, head in enumerate(mine):
                    found.weight(layer, component, head).copy_(weights[layer][component][at])
    return found


def _read(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float) -> Float[Tensor, "row head position d_head"]:
    scores = (q * scale) @ k.transpose(-1, -2)
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1) @ v
