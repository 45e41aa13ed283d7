"""What patching does to one paragraph's NLL: exact, in a random direction, and estimated."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import DIRECTIONS, PATCH_METRICS, SITES, STREAMS
from localize.keyed import keyed_integer
from localize.measure.pairs import Pairs
from localize.measure.patch_estimate import estimated_effect, nll_gradients
from localize.measure.patch_runs import (
    Activations,
    PatchedPlace,
    Patching,
    activation_name,
    patched_nll,
    patched_places,
    two_runs,
)
from localize.measure.scoring import token_scores
from localize.models.hooks import HookedModel
from localize.models.key_values import KeyValues

CHANGED: Final = "changed"
ALL: Final = "all"
EACH: Final = "each"
WHERE: Final = (CHANGED, ALL, EACH)
"""Positions patched: the one whose token differs, all at once, or each by turns."""

EFFECT, NULL, ESTIMATE, MAP, ESTIMATE_MAP = "effect", "null", "estimate", "map", "estimate_map"
"""What is measured, by the last words of the variables' names."""


@dataclass(frozen=True)
class PatchPlan:
    """What is patched and how it is judged.

    Attributes:
        parts: Of `SITES` and `STREAMS`.
        metrics: Of `PATCH_METRICS`.
        at: Of `WHERE`.
        directions: Of `DIRECTIONS`.
        layers: 0-based.
        null: Whether a random direction is patched too, where not each position by itself is.
        estimate: Whether effects are estimated too.
        seed: Of the random directions.
    """

    parts: tuple[str, ...]
    metrics: tuple[str, ...]
    at: str
    directions: tuple[str, ...]
    layers: tuple[int, ...]
    null: bool
    estimate: bool
    seed: int

    @property
    def measured(self) -> tuple[str, ...]:
        """What is emitted of heads and of streams, by the last words of the names."""
        exact, estimate = (MAP, ESTIMATE_MAP) if self.at == EACH else (EFFECT, ESTIMATE)
        null = (NULL,) if self.null and self.at != EACH else ()
        return (exact, *null, *((estimate,) if self.estimate else ()))

    @property
    def bases(self) -> list[int]:
        """Which run is patched in each direction: 0 the clean one, 1 the corrupted one."""
        return [1 if direction == DIRECTIONS[0] else 0 for direction in self.directions]

    @property
    def others(self) -> list[int]:
        """Which run is put into it."""
        return [1 - base for base in self.bases]

    @property
    def rows(self) -> list[int]:
        """Where each direction stands along its axis."""
        return [DIRECTIONS.index(direction) for direction in self.directions]


class Results(NamedTuple):
    """What all pairs gave, nan where nothing was asked for.

    Attributes:
        nll: Without a patch `(run, paragraph, metric)`, nats per token.
        effects: The variables `head_patch_...` and `stream_patch_...`, in the axes of their schema.
    """

    nll: Float[np.ndarray, "run paragraph metric"]
    effects: dict[str, np.ndarray]

    @classmethod
    def empty(cls, model: HookedModel, pairs: Pairs, plan: PatchPlan) -> "Results":
        """Nan everywhere."""
        dtype = np.float64 if model.dtype == torch.float64 else np.float32
        count, length = pairs.clean.shape
        position = (length,) if plan.at == EACH else ()
        axes = {"head": (SITES, (model.n_layers, model.n_heads)), "stream": (STREAMS, (model.n_layers,))}
        shape = (count, len(DIRECTIONS), len(plan.metrics))
        effects = {
            f"{of}_patch_{what}": np.full((*shape, len(parts), *inner, *position), np.nan, dtype)
            for of, (parts, inner) in axes.items()
            if set(parts) & set(plan.parts)
            for what in plan.measured
        }
        return cls(np.full((2, count, len(plan.metrics)), np.nan, dtype), effects)

    def cell(self, what: str, row: int, place: PatchedPlace) -> Float[np.ndarray, "direction metric head *position"]:
        """Where the numbers of one pair and place are written, a view; a stream counts as one head."""
        if place.part in SITES:
            values = self.effects[f"head_patch_{what}"][row, :, :, SITES.index(place.part), place.layer]
            return values[:, :, place.heads.start : place.heads.stop]
        return self.effects[f"stream_patch_{what}"][row, :, :, STREAMS.index(place.part), place.layer, None]

    def variables(self) -> dict[str, np.ndarray]:
        """By the names that a signature gives them."""
        return {"clean_nll": self.nll[0], "corrupted_run_nll": self.nll[1], **self.effects}


class Scored(NamedTuple):
    """Which tokens of a pair are scored, and how each metric weighs their NLL.

    Attributes:
        metrics: Indices of the metrics that this pair has.
        first: The first position scored.
        last: The last one.
        weights: Of each token's NLL in each of these metrics.
    """

    metrics: list[int]
    first: int
    last: int
    weights: Float[Tensor, "metric scored"]


def scored_tokens(plan: PatchPlan, prefix_length: int, length: int, target: int, model: HookedModel) -> Scored | None:
    """The tokens scored of one pair; None where it has none: no token changes, and only that would be scored."""
    first_changed, continuation = PATCH_METRICS
    there = [m for m, metric in enumerate(plan.metrics) if metric == continuation or target >= 0]
    if not there:
        return None
    first, last = (prefix_length, length - 1) if continuation in plan.metrics else (target, target)
    weights = torch.zeros(len(there), last - first + 1, dtype=torch.promote_types(model.dtype, torch.float32))
    for weight, m in zip(weights, there, strict=True):
        if plan.metrics[m] == first_changed:
            weight[target - first] = 1
        else:
            weight.fill_(1 / len(weight))
    return Scored(there, first, last, weights.to(model.device))


class RunPair(NamedTuple):
    """One pair's two runs, and what is patched into what.

    Attributes:
        base: The run patched, for each direction asked for.
        put: The run whose activations are put into it.
        past: Keys and values of what stands before the first position that differs.
        start: That position.
        scored: The tokens scored.
        targets: These tokens.
        nll: Theirs in the base runs, in nats.
    """

    base: Activations
    put: Activations
    past: KeyValues
    start: int
    scored: Scored
    targets: Int[Tensor, " scored"]
    nll: Float[Tensor, "direction scored"]


@torch.no_grad()
def patch_pair(
    model: HookedModel,
    pairs: Pairs,
    row: int,
    prefix_length: int,
    key: bytes,
    plan: PatchPlan,
    tokens_at_once: int,
    results: Results,
) -> None:
    """Measure one pair and write what it gives into the results; nothing where it has no token to be judged by.

    Args:
        model: A hooked model.
        pairs: The pairs.
        row: Which of them.
        prefix_length: How many of the positions are the prefix.
        key: What the null's directions are keyed by, with the seed.
        plan: What is measured.
        tokens_at_once: How many tokens of patched rows are carried on together, at most.
        results: Where it is written.
    """
    scored = scored_tokens(plan, prefix_length, pairs.clean.shape[1], int(pairs.target[row]), model)
    if scored is None:
        return
    start = int(pairs.position[row])
    both = torch.stack([pairs.clean[row], pairs.corrupted[row]]).to(model.device)
    targets = both[0, scored.first : scored.last + 1]
    parts = [(layer, part) for layer in plan.layers for part in plan.parts]
    gradients: list[Activations] = []
    if plan.estimate:
        model.check_differentiable()
    with model.frozen(), torch.set_grad_enabled(plan.estimate):
        runs = two_runs(model, both[:, : scored.last], start, slice(scored.first - 1 - start, None))
        if plan.estimate:
            names = [activation_name(layer, part) for layer, part in parts]
            gradients = nll_gradients(model, runs, names, targets.expand(2, -1), scored.weights)
    nll = token_scores(model, runs.states.detach(), targets.expand(2, -1))[1]
    results.nll[:, row, scored.metrics] = (nll @ scored.weights.T).cpu().numpy()
    known = {name: value.detach() for name, value in runs.activations.items()}
    base, put = ({name: value[index] for name, value in known.items()} for index in (plan.bases, plan.others))
    pair = RunPair(base, put, runs.past, start, scored, targets, nll[plan.bases])
    if plan.at == EACH:
        # Before the first position that differs both runs agree, and past the last one read nothing is asked.
        for place, what in product(patched_places(model, plan.layers, plan.parts, model.n_heads), plan.measured):
            results.cell(what, row, place)[np.ix_(plan.rows, scored.metrics)] = 0.0
    _write_patched(model, pair, plan, tokens_at_once, results, MAP if plan.at == EACH else EFFECT, row)
    if NULL in plan.measured:
        other = pair._replace(put=random_put(pair, parts, plan, key))
        _write_patched(model, other, plan, tokens_at_once, results, NULL, row)
    if plan.estimate:
        _write_estimates(model, pair, gradients, plan, results, row)


def _write_patched(
    model: HookedModel, pair: RunPair, plan: PatchPlan, tokens_at_once: int, results: Results, what: str, row: int
) -> None:
    """The exact change of the NLL by every patch."""
    scored = pair.scored
    for offset, rows, patching in _patchings(model, pair, plan):
        length = next(iter(patching.base.values())).shape[1]
        at_once = max(1, tokens_at_once // length)
        planned = patched_places(model, plan.layers, plan.parts, max(1, at_once // len(rows)))
        # Tokens that positions before the patch predict keep their NLL.
        ahead = scored.first - 1 - pair.start - offset
        later = slice(max(0, -ahead), None)
        read, weights = slice(max(0, ahead), None), scored.weights[:, later]
        for place, after in patched_nll(patching, planned, at_once, read, pair.targets[later]):
            change = (after - pair.nll[rows][:, None, later]) @ weights.T
            cell = results.cell(what, row, place)
            cell = cell if plan.at != EACH else cell[..., pair.start + offset]
            chosen = np.ix_([plan.rows[index] for index in rows], scored.metrics)
            cell[chosen] = change.transpose(1, 2).cpu().numpy()


def _patchings(model: HookedModel, pair: RunPair, plan: PatchPlan) -> Iterator[tuple[int, list[int], Patching]]:
    """Where patches are put: how far from the first position that differs, of which directions, and the runs from there on."""
    length = next(iter(pair.base.values())).shape[1]
    rows = list(range(len(plan.directions)))
    if plan.at != EACH:
        yield 0, rows, Patching(model, pair.base, pair.put, pair.past, 1 if plan.at == CHANGED else length)
        return
    for row, offset in product(rows, range(length)):
        base, put = ({name: v[row : row + 1, offset:] for name, v in part.items()} for part in (pair.base, pair.put))
        layers = []
        for layer, known in enumerate(pair.past.layers):
            own = (pair.base[activation_name(layer, part)][row : row + 1, :offset].transpose(1, 2) for part in "kv")
            layers.append(tuple(torch.cat(both, dim=2) for both in zip(known, own, strict=True)))
        yield offset, [row], Patching(model, base, put, KeyValues(layers, read_only=True), 1)


def random_put(pair: RunPair, parts: list[tuple[int, str]], plan: PatchPlan, key: bytes) -> Activations:
    """Activations as far from the base runs' as the other runs' are, at each position and head, in random directions."""
    put = {}
    for layer, part in parts:
        name = activation_name(layer, part)
        base, difference = pair.base[name], pair.put[name] - pair.base[name]
        change = torch.empty_like(difference)
        for row, direction in enumerate(plan.directions):
            seed = keyed_integer(2**32, "patch null", plan.seed, key, direction, part, layer)
            # Position by position: how many are drawn, which hangs on the metrics, leaves the first as they are.
            drawn = np.random.default_rng(seed).standard_normal(difference.shape[1:])
            drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
            change[row] = torch.from_numpy(drawn).to(change)
        put[name] = base + change * torch.linalg.vector_norm(difference, dim=-1, keepdim=True)
    return put


def _write_estimates(
    model: HookedModel, pair: RunPair, gradients: list[Activations], plan: PatchPlan, results: Results, row: int
) -> None:
    """The change of the NLL by every patch to first order."""
    what = ESTIMATE_MAP if plan.at == EACH else ESTIMATE
    for place in patched_places(model, plan.layers, plan.parts, model.n_heads):
        name = activation_name(place.layer, place.part)
        found = [estimated_effect(pair.base[name], pair.put[name], g[name][plan.bases]) for g in gradients]
        effect = torch.stack(found, dim=1)  # (direction, metric, position), and head
        effect = (effect if place.part in SITES else effect[..., None]).transpose(2, 3)
        effect = effect.sum(-1) if plan.at == ALL else effect[..., 0] if plan.at == CHANGED else effect
        cell = results.cell(what, row, place)
        if plan.at == EACH:
            cell = cell[..., pair.start : pair.start + effect.shape[-1]]
        cell[np.ix_(plan.rows, pair.scored.metrics)] = effect.cpu().numpy()
