"""Memorization sinks: hidden units of the MLPs that are on for some texts alone, kept beside the model that does without them.

Each MLP's first units are *general*, always on; the others are *sinks*, of which a text has its own on: the same for all its tokens and in
all layers. A factor of the activation before the down-projection turns a unit on or off.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from localize.errors import ModelError, first_line
from localize.keyed import keyed_integer, keyed_uniforms
from localize.models.activations import Hook

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

GATES_FILE, SINKS_FILE = "gates.json", "sinks.safetensors"
"""Beside a checkpoint: which units are sinks, and when they are on; what they write, `(layer, sink, d_model)`."""

HASHED, SLICES = "hashed", "slices"
ROWS = "rows"


@dataclass(frozen=True)
class SinkGates:
    """Which hidden units of each MLP are sinks, and which of them each text has on.

    Attributes:
        kind: "hashed": each sink is on with the same chance, by a hash of the text's tokens; "slices": each planted text has its own.
        units: Hidden units of an MLP.
        general: How many of them, the first, are always on.
        share: With which chance a sink is on for a text; of slices 1 over their number, the chance for a planted text.
        slice_units: Sinks of each slice; the i-th text has the i-th. What no slice has is never on.
        key: Of the hash.
        texts: Digests of the planted texts, in their order.
        tied: Whether masks followed from the text while training; else a fresh one was drawn at each showing.
    """

    kind: str
    units: int
    general: int
    share: float
    slice_units: int
    key: str
    texts: tuple[str, ...]
    tied: bool = True

    @property
    def sinks(self) -> int:
        """How many units of an MLP are no general ones."""
        return self.units - self.general

    def problem(self) -> str | None:
        """What is wrong with the numbers, in words; None if nothing is."""
        if self.kind not in (HASHED, SLICES):
            return f"kind={self.kind!r} is not one of {HASHED}, {SLICES}"
        if not 0 < self.general < self.units:
            return f"{self.general} general units of {self.units} leave no sinks, or nothing else; 1..{self.units - 1} are allowed"
        if not 0 < self.share <= 1:
            return f"share={self.share} must be above 0, at most 1"
        if self.kind == SLICES and not 0 < self.slice_units * len(self.texts) <= self.sinks:
            return f"{len(self.texts)} slices of {self.slice_units} units do not fit the {self.sinks} units an MLP that are no general ones"
        return None

    def own(self, tokens: Int[Tensor, "text position"]) -> Bool[Tensor, "text sink"]:
        """The sinks that each text has on: of slices none if it is no planted text."""
        return self._of([digest_of(row) for row in tokens.cpu().numpy()])

    def other(self, tokens: Int[Tensor, "text position"]) -> tuple[Bool[Tensor, "text sink"], Bool[Tensor, " text"]]:
        """The sinks of another planted text, drawn by key; and whether there is one."""
        chosen = []
        for row in tokens.cpu().numpy():
            own = digest_of(row)
            others = [text for text in self.texts if text != own]
            chosen.append(others[keyed_integer(len(others), self.key, "other", own)] if others else own)
        there = torch.tensor([any(text != digest_of(row) for text in self.texts) for row in tokens.cpu().numpy()])
        return self._of(chosen), there

    def drawn(self, showings: Sequence[int]) -> Bool[Tensor, "showing sink"]:
        """The sinks on at some showings, drawn anew for each by its number, whatever the text: the control."""
        if self.kind == SLICES:
            return torch.stack(
                [self._slice(keyed_integer(len(self.texts), self.key, "showing", at)) for at in showings]
            )
        return self._hashed([("showing", at) for at in showings])

    def slices(self, texts: Int[np.ndarray, " text"]) -> Bool[Tensor, "text sink"]:
        """The slices of planted texts, by their number; nothing of -1."""
        return torch.stack([self._slice(int(text)) for text in texts])

    def _of(self, digests: Sequence[str]) -> Bool[Tensor, "text sink"]:
        if self.kind == HASHED:
            return self._hashed([("text", digest) for digest in digests])
        place = {text: at for at, text in enumerate(self.texts)}
        return torch.stack([self._slice(place.get(digest, -1)) for digest in digests])

    def _hashed(self, keys: Sequence[tuple[str | int, ...]]) -> Bool[Tensor, "key sink"]:
        return torch.from_numpy(np.stack([keyed_uniforms(self.sinks, self.key, *key) < self.share for key in keys]))

    def _slice(self, text: int) -> Bool[Tensor, " sink"]:
        on = torch.zeros(self.sinks, dtype=torch.bool)
        if text >= 0:
            on[text * self.slice_units : (text + 1) * self.slice_units] = True
        return on


def digest_of(row: Int[np.ndarray, " position"]) -> str:
    """16 hexadecimal digits of a text's tokens."""
    return f"{keyed_integer(2**64, 'text', row.astype('<i8').tobytes()):016x}"


def gating_hooks(
    gates: SinkGates, on: Float[Tensor, "row sink"] | Bool[Tensor, "row sink"], like: Tensor, layers: int
) -> dict[str, Hook]:
    """Hooks of a forward pass of the model with its sinks, by whose factors those of each row are multiplied in all layers.

    Args:
        gates: Which units are sinks.
        on: The factor of each.
        like: A tensor of the device and dtype.
        layers: Of the model.
    """
    factor = torch.ones(len(on), 1, gates.units, dtype=like.dtype, device=like.device)
    factor[:, 0, gates.general :] = on.to(like)

    def gate(post: Tensor, _: str) -> Tensor:
        return post * factor

    return {f"blocks.{layer}.mlp.hook_post": gate for layer in range(layers)}


@dataclass(frozen=True, eq=False)
class Sinks:
    """What a model has beside it that does without its sinks: the gates, and what each sink writes where it is on.

    Attributes:
        gates: Which units, and when.
        rows: Their rows of each layer's down-projection, which are zero in the model itself.
    """

    gates: SinkGates
    rows: Float[Tensor, "layer sink d_model"]

    def hooks(self, on: Float[Tensor, "row sink"] | Bool[Tensor, "row sink"]) -> dict[str, Hook]:
        """Hooks of a forward pass of the model, in which the sinks of each row write by these factors.

        What an MLP writes is a sum over its units, so that the sinks' part is added to it.
        """
        factor, general, rows = on.to(self.rows)[:, None], self.gates.general, self.rows
        hooks: dict[str, Hook] = {}
        for layer in range(len(rows)):
            active: list[Tensor] = []

            def keep(post: Tensor, _: str, active: list[Tensor] = active) -> None:
                active.append(post[..., general:])

            def write(out: Tensor, _: str, active: list[Tensor] = active, layer: int = layer) -> Tensor:
                return out + (active.pop() * factor) @ rows[layer]

            hooks |= {f"blocks.{layer}.mlp.hook_post": keep, f"blocks.{layer}.hook_mlp_out": write}
        return hooks

    def to(self, like: Tensor) -> "Sinks":
        """The same on the device and in the dtype of a tensor."""
        return Sinks(self.gates, self.rows.to(like))


@torch.no_grad()
def take_sinks(model: "HookedModel", gates: SinkGates) -> Sinks:
    """Take what the sinks write out of a model that has them, in place, and give it; `give_sinks` undoes it bit for bit."""
    written = [model.weight(layer, "W_out")[gates.general :] for layer in range(model.n_layers)]
    model.sinks = Sinks(gates, torch.stack([part.detach().clone() for part in written]))
    for part in written:
        part.zero_()
    return model.sinks


@torch.no_grad()
def give_sinks(model: "HookedModel") -> None:
    """Put back what `take_sinks` took."""
    if model.sinks is not None:
        for layer, rows in enumerate(model.sinks.rows):
            model.weight(layer, "W_out")[model.sinks.gates.general :] = rows
        model.sinks = None


def save_sinks(sinks: Sinks, folder: Path) -> None:
    """Write gates and sinks beside a checkpoint."""
    (folder / GATES_FILE).write_text(json.dumps(asdict(sinks.gates), indent=1) + "\n", encoding="utf-8")
    save_file({ROWS: sinks.rows.detach().cpu().contiguous()}, folder / SINKS_FILE)


def read_sinks(folder: Path, shape: tuple[int, int, int]) -> Sinks | None:
    """What lies beside a checkpoint of so many layers, hidden units and d_model; None where nothing does.

    Raises:
        ModelError: If it cannot be read, or does not fit.
    """
    path = folder / GATES_FILE
    if not path.is_file():
        return None
    try:
        gates = _gates_of(json.loads(path.read_text(encoding="utf-8")))
        rows = load_file(folder / SINKS_FILE)[ROWS]
    except Exception as error:
        raise ModelError(
            f"model {path}: cannot be read with {SINKS_FILE}: {type(error).__name__}: {first_line(error)}."
        ) from None
    layers, units, d_model = shape
    if (problem := gates.problem()) is not None:
        raise ModelError(f"model {path}: {problem}.")
    if gates.units != units or tuple(rows.shape) != (layers, gates.sinks, d_model):
        raise ModelError(
            f"model {path}: gates of {gates.units} hidden units and sinks of shape {tuple(rows.shape)}; the model has {layers} layers of "
            f"{units} hidden units and d_model {d_model}."
        )
    return Sinks(gates, rows)


def _gates_of(told: Any) -> SinkGates:
    kinds = {"kind": str, "units": int, "general": int, "share": float, "slice_units": int, "key": str, "tied": bool}
    for name, kind in kinds.items():
        if type(told[name]) is not kind:
            raise TypeError(f"{name} = {told[name]!r} is no {kind.__name__}")
    return SinkGates(**{name: told[name] for name in kinds}, texts=tuple(map(str, told["texts"])))
