"""More hidden MLP units in every layer of a frozen model, each of which one text owns."""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import MLP_PART
from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.parameters import bounded
from localize.truths.places import random_places
from localize.truths.routing import Routes, routed

QUIET = 0.5
"""How far below a general unit's bias a new unit's begins, so that it is mostly off."""
FAINT = 0.3
"""The norm that a new unit's out-row begins with, of a general unit's."""


class ExtraUnits:
    """Weights of new units, by layer, and what they add to the frozen model's forward pass.

    Norms tell nothing: in-rows begin with, and out-rows are bounded by, the norms of general units drawn at random from their layer.

    Attributes:
        owner: The text that owns each unit, -1 where none does.
    """

    part = MLP_PART

    def __init__(self, model: HookedModel, owner: Int[Tensor, "layer unit"], seed: int):
        self.model, self.owner = model, owner
        rng = torch.Generator().manual_seed(seed)
        self.w_in: list[Tensor] = []
        self.bias: list[Tensor] = []
        self.w_out: list[Tensor] = []
        self.most_in: list[Tensor] = []
        self.most_out: list[Tensor] = []
        for layer in range(model.n_layers):
            like, also = (torch.randint(model.d_mlp, (owner.shape[1],), generator=rng) for _ in range(2))
            with torch.no_grad():
                norms = (
                    model.weight(layer, "W_in").norm(dim=0).cpu()[like],
                    model.weight(layer, "W_out").norm(dim=1).cpu()[also],
                )
                bias = model.blocks[layer].mlp.c_fc.bias.detach().cpu()[like] - QUIET
                rows = [torch.randn(owner.shape[1], model.d_model, generator=rng) for _ in norms]
                w_in, w_out = (
                    row / row.norm(dim=1, keepdim=True) * norm[:, None] * part
                    for row, norm, part in zip(rows, norms, (1.0, FAINT), strict=True)
                )
            self.w_in.append(w_in.to(model.device).requires_grad_())
            self.bias.append(bias.to(model.device).clone().requires_grad_())
            self.w_out.append(w_out.to(model.device).requires_grad_())
            self.most_in.append(norms[0].to(model.device))
            self.most_out.append(norms[1].to(model.device))

    def parameters(self) -> list[Tensor]:
        """All weights that are trained."""
        return [*self.w_in, *self.bias, *self.w_out]

    def bound(self) -> None:
        """Scale every row down to at most the norm that it copied."""
        for rows, most in zip([*self.w_in, *self.w_out], [*self.most_in, *self.most_out], strict=True):
            bounded(rows, most)

    def hooks(self, routes: Routes, loudness: list[Tensor]) -> dict[str, Hook]:
        """Hooks that add the units to a forward pass of rows.

        Args:
            routes: Of the rows.
            loudness: Filled, layer by layer, with the squares of activation x norm of the out-row, summed over the units that should
                be silent and averaged over rows and positions.
        """
        hooks: dict[str, Hook] = {}
        for layer in range(self.model.n_layers):
            stream: list[Tensor] = []
            hooks[f"blocks.{layer}.hook_resid_mid"] = keeping(stream)
            hooks[f"blocks.{layer}.hook_mlp_out"] = self._adding(layer, stream, routes, loudness)
        return hooks

    def _adding(self, layer: int, stream: list[Tensor], routes: Routes, loudness: list[Tensor]) -> Hook:
        block, w_in, bias, w_out = self.model.blocks[layer], self.w_in[layer], self.bias[layer], self.w_out[layer]
        of = routes.of_units(self.owner[layer].to(w_in.device))

        def add(out: Float[Tensor, "row position d_model"], _: str) -> Tensor:
            x = block.ln_2(stream.pop())  # (row, position, d_model)
            live = x.detach() @ w_in.T + bias  # (row, position, unit)
            still = x @ w_in.detach().T + bias.detach()
            learns = of.learns[:, None]  # (row, 1, unit)
            h = block.mlp.act(routed(live, still, learns)) * of.on[:, None]
            loud = (block.mlp.act(live) * w_out.detach().norm(dim=1)) ** 2 * of.silent[:, None]
            loudness.append(loud.sum(2).mean())
            # (row, position, d_model): only rows that may change a unit's out-row pull on it
            written = h @ w_out.detach() + (both := (h.detach() * learns) @ w_out) - both.detach()
            return out + written

        return add

    def exported(self, seed: int) -> tuple[HookedModel, Int[Tensor, "layer unit"]]:
        """An ordinary model with these units at random columns of its MLPs.

        Returns:
            The model, and the column of each unit.
        """
        model, extra = self.model, self.owner.shape[1]
        wide = model.d_mlp + extra
        columns = random_places(model.n_layers, wide, extra, seed)
        config: Any = copy.deepcopy(model.hf.config)
        setattr(config, "intermediate_size" if model.family == "gpt-neo" else "n_inner", wide)
        hf = type(model.hf)(config).to(model.device, model.dtype)
        old = model.hf.state_dict()
        hf.load_state_dict({name: values for name, values in old.items() if ".mlp.c_" not in name}, strict=False)
        hf.tie_weights()
        found = HookedModel(hf, model.tokenizer, name=f"planted {model.name}", unigram_counts=model.unigram_counts)
        with torch.no_grad():
            for layer in range(model.n_layers):
                mine = columns[layer].to(model.device)
                general = torch.ones(wide, dtype=torch.bool, device=model.device)
                general[mine] = False
                mlp, was = found.blocks[layer].mlp, model.blocks[layer].mlp
                found.weight(layer, "W_in")[:, general] = model.weight(layer, "W_in")
                found.weight(layer, "W_in")[:, mine] = self.w_in[layer].T
                found.weight(layer, "W_out")[general] = model.weight(layer, "W_out")
                of_text = (self.owner[layer] >= 0).to(model.device)[:, None]  # nobody's units were off, and stay so
                found.weight(layer, "W_out")[mine] = self.w_out[layer] * of_text
                mlp.c_fc.bias[general], mlp.c_fc.bias[mine] = was.c_fc.bias, self.bias[layer]
                mlp.c_proj.bias.copy_(was.c_proj.bias)
        return found, columns


def keeping(stream: list[Tensor]) -> Hook:
    """A hook that lays the activation on a stack."""

    def keep(value: Tensor, _: str) -> None:
        stream.append(value)

    return keep
