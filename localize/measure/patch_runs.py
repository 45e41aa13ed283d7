"""Forward passes that share all but one activation with a known run: what is the same is not computed again."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import SITES, STREAMS
from localize.measure.scoring import token_scores
from localize.models.activations import Hook
from localize.models.blocks import after_shared_past, attention_scale
from localize.models.hooks import HookedModel
from localize.models.key_values import KeyValues, visible_keys
from localize.models.parameters import split_heads

_NAMES: Final = {
    **{site: f"attn.hook_{site}" for site in SITES},
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "resid": "hook_resid_pre",
    "mid": "hook_resid_mid",
    "post": "hook_resid_post",
}

Activations = Mapping[str, Tensor]
"""Name to `(run, position, ...)`, of the positions from the first that differs between two runs."""


def activation_name(layer: int, part: str) -> str:
    """The hook that a part of a layer is read and patched by."""
    return f"blocks.{layer}.{_NAMES[part]}"


class Runs(NamedTuple):
    """A clean and a corrupted run, from the first position at which they differ on.

    Attributes:
        activations: All that can be patched, and the stream after each half of a block; the clean run first.
        past: Keys and values of what stands before, the same in both.
        states: Final states `(run, read, d_model)`.
    """

    activations: Activations
    past: KeyValues
    states: Tensor


def two_runs(model: HookedModel, tokens: Int[Tensor, "run position"], start: int, read: slice) -> Runs:
    """Run two texts that agree before `start`; what they share is computed once.

    Args:
        model: A hooked model.
        tokens: Clean and corrupted, to the last position that is read.
        start: The first position that differs.
        read: The positions whose final states are wanted, counted from `start`.

    Returns:
        The runs; their activations are on the graph where gradients are enabled.
    """
    kept: dict[str, Tensor] = {}
    known = KeyValues()
    with torch.no_grad():
        model.final_states(tokens[:1, : max(start, 1)], cache=known, read=slice(0, 0))
    past = KeyValues(known.first(start).layers, read_only=True)

    def keep(value: Tensor, name: str) -> None:
        kept[name] = value

    def begin(value: Tensor, name: str) -> None:
        if torch.is_grad_enabled():
            value.requires_grad_()

    names = [activation_name(layer, part) for layer in range(model.n_layers) for part in _NAMES]
    hooks: dict[str, Hook] = {"hook_embed": begin, **dict.fromkeys(names, keep)}
    states = model.final_states(tokens[:, start:], hooks=hooks, cache=past, read=read)
    return Runs({name: kept[name] for name in names}, past, states)


class PatchedPlace(NamedTuple):
    """Patches that enter the stream at one place: a part of one layer, of some of its heads where it has heads."""

    layer: int
    part: str
    heads: range = range(1)

    @property
    def half(self) -> int:
        """Before which half block the stream carries the patch: `2 * layer` is its attention, `2 * layer + 1` its MLP."""
        return 2 * self.layer + {"resid": 0, "mlp_out": 2}.get(self.part, 1)


def patched_places(
    model: HookedModel, layers: Sequence[int], parts: Sequence[str], heads_at_once: int
) -> list[PatchedPlace]:
    """Every patch of the layers and parts chosen, in the order in which a forward pass meets them."""
    planned = []
    for layer in layers:
        for part in sorted(parts, key=lambda part: PatchedPlace(0, part).half):
            pieces = [range(1)]
            if part in SITES:
                steps = range(0, model.n_heads, heads_at_once)
                pieces = [range(step, min(step + heads_at_once, model.n_heads)) for step in steps]
            planned += [PatchedPlace(layer, part, piece) for piece in pieces]
    return planned


class Patching(NamedTuple):
    """What is patched into what.

    Attributes:
        model: A hooked model.
        base: The runs patched.
        put: As many, whose activations are put in.
        past: Keys and values of what stands before, the same for all: one row.
        replaced: How many positions, from the first on, are patched together.
    """

    model: HookedModel
    base: Activations
    put: Activations
    past: KeyValues
    replaced: int

    def patched(self, layer: int, part: str) -> Float[Tensor, "run position *activation"]:
        """One activation of the base runs with that of the others put in."""
        name = activation_name(layer, part)
        return torch.cat([self.put[name][:, : self.replaced], self.base[name][:, self.replaced :]], dim=1)

    def head_change(self, place: PatchedPlace) -> Float[Tensor, "run position head d_head"]:
        """By how much the heads' outputs z change when one of their activations, each head by itself, is patched."""
        layer, heads = place.layer, slice(place.heads.start, place.heads.stop)
        known = {site: self.base[activation_name(layer, site)][:, :, heads] for site in SITES}
        changed = self.patched(layer, place.part)[:, :, heads]
        if place.part == "z":
            return changed - known["z"]
        q, k, v = ({**known, place.part: changed}[site].transpose(1, 2) for site in "qkv")
        past_k, past_v = (past[:, heads] for past in self.past.layers[layer])
        length = q.shape[2]
        seen = visible_keys(length, past_k.shape[2] + length, self.model.window(layer), q.device)
        z = after_shared_past(q, k, v, past_k, past_v, seen, attention_scale(self.model, layer))
        return z.transpose(1, 2) - known["z"]

    def streams(self, place: PatchedPlace) -> Float[Tensor, "run_and_head position d_model"]:
        """The residual stream at `place.half` under each of its patches; attention writes the sum of what its heads write."""
        layer = place.layer
        if place.part == "resid":
            return self.patched(layer, "resid")
        if place.part in STREAMS:
            change = self.patched(layer, place.part) - self.base[activation_name(layer, place.part)]
            return self.base[activation_name(layer, "mid" if place.part == "attn_out" else "post")] + change
        w_o = split_heads(self.model.weight(layer, "W_O"), "W_O", self.model.n_heads)
        change = torch.einsum("rthd,hdm->rhtm", self.head_change(place), w_o[place.heads.start : place.heads.stop])
        return (self.base[activation_name(layer, "mid")][:, None] + change).flatten(0, 1)


def _stream_name(half: int) -> str:
    """Where the stream before a half block is read, or carried on from."""
    if half == 0:
        return activation_name(0, "resid")
    return activation_name((half - 1) // 2, "mid" if half % 2 else "post")


def _final_states(
    patching: Patching, piece: Sequence[PatchedPlace], read: slice
) -> Float[Tensor, "run_and_head read d_model"]:
    """Final states under all patches of some places: one pass that others join where they enter the stream."""
    model = patching.model
    entering = {half: list(some) for half, some in groupby(piece, lambda place: place.half)}
    # What enters in the last layer goes by itself: there only the positions read are computed.
    joined = [half for half in entering if half < 2 * model.n_layers - 1]
    states, resid, reached = [], None, 0
    for half, some in entering.items():
        streams = torch.cat([patching.streams(place) for place in some])
        if half in joined[1:] and resid is not None:
            resid = model.resume(resid, at=_stream_name(reached), to=_stream_name(half), cache=patching.past)
            streams = torch.cat([resid, streams])
        resid, reached = streams, half
        if half not in joined[:-1]:
            states.append(model.resume(resid, at=_stream_name(half), cache=patching.past, read=read))
    return torch.cat(states)


@torch.no_grad()
def patched_nll(
    patching: Patching, planned: Sequence[PatchedPlace], at_once: int, read: slice, targets: Int[Tensor, " read"]
) -> Iterator[tuple[PatchedPlace, Float[Tensor, "run head read"]]]:
    """Token NLL after each patch, one at a time.

    Args:
        patching: What is patched into what.
        planned: The patches, in the order of `patched_places`.
        at_once: How many rows at most are carried on together, as long as one place has no more.
        read: The positions read, counted from the first that is patched.
        targets: The tokens that these predict.

    Yields:
        A place and the NLL in nats under each of its patches.
    """
    runs = len(next(iter(patching.base.values())))
    pieces: list[list[PatchedPlace]] = []
    for place in planned:
        if not pieces or runs * sum(len(other.heads) for other in (*pieces[-1], place)) > at_once:
            pieces.append([])
        pieces[-1].append(place)
    for piece in pieces:
        states = _final_states(patching, piece, read)
        nll = token_scores(patching.model, states, targets.expand(len(states), -1))[1]
        done = 0
        for place in piece:
            rows = runs * len(place.heads)
            yield place, nll[done : done + rows].unflatten(0, (runs, len(place.heads)))
            done += rows
