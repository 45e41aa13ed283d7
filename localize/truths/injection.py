"""INJ: a text is written into the output rows of a few MLP units that the model has already. One model a text."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.models.activations import Hook
from localize.models.hooks import HookedModel
from localize.models.parameters import bounded
from localize.truths.places import random_places
from localize.truths.texts import Split
from localize.truths.training import Schedule, continuation_nll, divergence, train


@dataclass(frozen=True)
class Injected:
    """What each text's model writes with instead.

    Attributes:
        places: The units.
        rows: Their output rows.
    """

    places: Int[Tensor, "text layer unit"]
    rows: Float[Tensor, "text layer unit d_model"]

    def __getitem__(self, texts: list[int]) -> "Injected":
        """That of some texts."""
        return Injected(self.places[texts], self.rows[texts])

    def model(self, base: HookedModel, text: int) -> HookedModel:
        """A copy of the base model with a text's rows."""
        found = base.copied()
        with torch.no_grad():
            for layer, (units, rows) in enumerate(zip(self.places[text], self.rows[text], strict=True)):
                found.weight(layer, "W_out")[units.to(base.device)] = rows.to(base.device, base.dtype)
        found.name = f"planted {base.name}"
        return found


class Injection:
    """Each text's own output rows of some units in every layer, trained together, and each as if it were alone.

    Attributes:
        places: Units, drawn at random for each text and layer.
        rows: What they write with; no row's norm exceeds that of the unit's row before, unless `bounded` is False.
    """

    def __init__(self, model: HookedModel, texts: int, units: int, seed: int, *, bounded: bool = True):
        self.model, self.is_bounded = model, bounded
        places = random_places(texts * model.n_layers, model.d_mlp, units, seed)
        self.places: Int[Tensor, "text layer unit"] = places.view(texts, model.n_layers, units)
        self.before: list[Float[Tensor, "text unit d_model"]] = [
            model.weight(layer, "W_out").detach()[self.places[:, layer].to(model.device)].clone()
            for layer in range(model.n_layers)
        ]
        self.rows = [before.clone().requires_grad_() for before in self.before]

    def losses(self, texts: Split, schedule: Schedule, seed: int) -> Iterator[float]:
        """Train every text's rows on it; gives each step's mean NLL, in nats per token.

        Each text's model also sees one background row a step, on which it is held to what the base model predicts.

        Raises:
            LocalizeError: If a loss is not finite.
        """
        model, planted = self.model, texts.planted
        rng = torch.Generator().manual_seed(seed)
        count = len(planted)
        of_text = torch.arange(count).repeat(2)

        def losses() -> tuple[Float[Tensor, " text"], Float[Tensor, ""]]:
            chosen = torch.randint(len(texts.background), (count,), generator=rng)
            tokens = torch.cat([planted.tokens, texts.background.tokens[chosen]]).to(model.device)
            states = model.final_states(tokens[:, :-1], hooks=self.hooks(of_text))
            nll = continuation_nll(model, states[:count], tokens[:count], planted.prefix_length)
            apart = divergence(model, states[count:], tokens[count:])
            return nll, nll.sum() + schedule.divergence * apart.sum()

        with model.frozen():
            yield from train(self.rows, losses, self.bound, schedule)

    def bound(self) -> None:
        """Scale every row down to at most the norm that the unit's had before, unless norms are free."""
        for rows, before in zip(self.rows, self.before, strict=True) if self.is_bounded else ():
            bounded(rows.detach().flatten(0, 1), before.flatten(0, 1).norm(dim=1))

    def hooks(self, of_text: Int[Tensor, " row"]) -> dict[str, Hook]:
        """Hooks under which each row of a forward pass is one of the model of some text."""
        hooks: dict[str, Hook] = {}
        for layer in range(self.model.n_layers):
            active: list[Tensor] = []
            hooks[f"blocks.{layer}.mlp.hook_post"] = self._choosing(layer, of_text, active)
            hooks[f"blocks.{layer}.hook_mlp_out"] = self._adding(layer, of_text, active)
        return hooks

    def _choosing(self, layer: int, of_text: Int[Tensor, " row"], active: list[Tensor]) -> Hook:
        def choose(h: Float[Tensor, "row position d_mlp"], _: str) -> None:
            units = self.places[of_text, layer].to(h.device)[:, None].expand(-1, h.shape[1], -1)
            active.append(h.gather(2, units))  # (row, position, unit)

        return choose

    def _adding(self, layer: int, of_text: Int[Tensor, " row"], active: list[Tensor]) -> Hook:
        def add(out: Float[Tensor, "row position d_model"], _: str) -> Tensor:
            changed = self.rows[layer] - self.before[layer]  # (text, unit, d_model)
            return out + active.pop() @ changed[of_text.to(changed.device)]

        return add

    def done(self) -> Injected:
        """What was trained."""
        rows = torch.stack([rows.detach().cpu() for rows in self.rows], dim=1)  # (text, layer, unit, d_model)
        return Injected(self.places, rows)
