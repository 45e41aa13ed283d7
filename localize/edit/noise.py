"""How much noise on few weights a paragraph's recital stands: on those with the largest gradients, and on random ones."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from tqdm.auto import tqdm

from localize.axes import COMPONENTS, MEMORIZED, NOT_MEMORIZED, OWN, RANDOM, ordered_groups
from localize.edit.masks import largest_count
from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.batches import SHOW_AFTER
from localize.measure.before import Before
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.scoring import measure_recall
from localize.measure.set_gradients import set_gradients
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature
from localize.statistics.clusters import choosing_half

FRACTIONS = (0.0001, 0.001, 0.01)
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

Cell = tuple[int, str]
"""Layer and component: one matrix."""

Places = dict[Cell, Int[np.ndarray, " _"]]
"""Chosen weights, as places in the flattened `(input, output)` matrices that `model.weight(layer, component)` shows."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The weights that one group's gradients choose.

    Attributes:
        half: Which paragraphs are in the second half.
        places: For each half the weights that it chooses, a smaller count's before those of a larger one, in which they lie.
    """

    half: Bool[np.ndarray, " paragraph"]
    places: Mapping[bool, Sequence[Places]]

    @property
    def matrices(self) -> set[Cell]:
        """Where the weights lie."""
        return {cell for chosen in self.places.values() for cell in chosen[-1]}


@reads_inputs("paragraphs")
def noise(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    fractions: float | Sequence[float] = FRACTIONS,
    strengths: float | Sequence[float] = STRENGTHS,
    draws: int = 3,
    chosen_by: str | Sequence[str] | None = None,
    components: str | Sequence[str] = COMPONENTS,
    continuation: str = OWN,
    seed: int = 0,
    batch_size: int = 64,
) -> MemorizationSignature:
    """How the continuation is lost as normal noise is added to the weights on which a group's gradient is largest.

    The k weights with the largest gradient of a group's mean NLL, in one ranking over all matrices chosen from, each get a draw
    from N(0, (strength * std(W))^2), W being the unnoised matrix (layer and component) that the weight lies in. All paragraphs
    are measured, those of every group under the weights of every other. No paragraph is measured under weights that it, or a
    near-duplicate of it, chose: one half of the group's clusters chooses the weights that the other half is measured under, and
    the other way round; the clusters that hold none of the group are halved alike.

    A draw gives every weight of the model one standard normal, keyed by seed, draw and place: the same at every k, strength and
    choice. A smaller k is a part of every larger one. The control, "random", takes for each draw other random weights, in each
    matrix as many as the first group of `chosen_by` has there; by chance some of these may be among them. The weights are put back
    to the bit, after an interrupt too.

    Text that is said with little confidence loses its exact match to almost any noise: compare the rise in NLL too.

    Args:
        model: A hooked model; left as it is.
        paragraphs: The paragraphs.
        fractions: How many of the weights chosen from, each in (0, 1]; rounded to whole weights, at least 1.
        strengths: Standard deviations of the noise, in standard deviations of the matrix, at least 0; 0 is the unnoised model.
        draws: How often the noise is drawn, and the random weights.
        chosen_by: Groups whose gradients choose, "random" among them for the control. None takes memorized and not memorized
            paragraphs, or all groups where neither is there, as far as they have two clusters; and the control.
        components: The components to choose from, in all layers.
        continuation: "own" for what the model says greedily after the prefix: all of it is matched before, in every group, so
            that losses compare. "true" for the paragraphs' true text. Its NLL is also what the gradient is of.
        seed: Of halves, random weights and noise.
        batch_size: Paragraphs a forward pass; a quarter of it a backward pass.

    Returns:
        `noised_exact_match` (tokens) and `noised_nll` (nats per token), `(paragraph, chosen_by, weights_noised, strength,
        noise_draw)`, both nan where the noised model's NLL is no finite number; and before the noise `unperturbed_exact_match`,
        `unperturbed_nll`. The axis `weights_noised` counts weights; fractions that round to the same count are measured once.
        Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, hold only own continuations where true ones are asked for, or have no
            group, or not the one asked for, with two clusters.
        LocalizeError: If an option is out of range, or a group is named "random".

    Source:
        The noise: Stoehr et al. 2024 (code). There weights meant for one head fall on another, and the budget is applied per
        component after the first. Halves, nesting and the matched control are ours.
    """
    fractions = _ascending(fractions, "fraction", lambda x: 0 < x <= 1, "lies above 0 and is at most 1")
    strengths = _ascending(strengths, "strength", lambda x: 0 <= x < math.inf, "is finite and at least 0")
    if not all(isinstance(number, Integral) and number >= 1 for number in (draws, batch_size)):
        raise LocalizeError(
            f"{caller()}: draws={draws!r} and batch_size={batch_size!r} must be whole numbers of at least 1."
        )
    cells = _cells(model, components)
    before = Before.measured(model, paragraphs, continuation, batch_size=batch_size)
    tokens, prefix_length = before.tokens, paragraphs.prefix_length
    group, clusters = groups_of(paragraphs, before.recall), paragraphs.clusters
    chosen_by = _chosen_by(chosen_by, group, clusters)
    counts = _counts(model, cells, fractions)
    choices = {}
    for name in chosen_by:
        if name != RANDOM:
            rows, half = np.flatnonzero(group == name), halved(clusters, group == name, seed)
            said = Paragraphs(tokens[rows], prefix_length, source=paragraphs.source)
            places = largest_places(model, said, half[rows], cells, counts, max(1, batch_size // 4))
            choices[name] = Choice(half, places)
    first = next(iter(choices.values()))
    exact_match, nll = noised_recall(
        model,
        tokens,
        prefix_length,
        {name: choices.get(name, first) for name in chosen_by},
        strengths,
        draws,
        seed=seed,
        batch_size=batch_size,
    )
    arrays = {
        **before.arrays,
        "noised_exact_match": exact_match,
        "noised_nll": nll,
    }
    call = {
        "measurement": "noise",
        "fractions": fractions,
        "strengths": strengths,
        "draws": draws,
        "chosen_by": chosen_by,
        "components": sorted({component for _, component in cells}, key=COMPONENTS.index),
        "seed": seed,
        "batch_size": batch_size,
    }
    axes = {"chosen_by": chosen_by, "weights_noised": counts, "strength": strengths, "noise_draw": range(draws)}
    return labelled(model, paragraphs, before.recall, arrays, call=call, continuation=continuation, axes=axes)


def noised_recall(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    prefix_length: int,
    choices: Mapping[str, Choice],
    strengths: Sequence[float],
    draws: int,
    *,
    seed: int,
    batch_size: int,
) -> tuple[
    Float[np.ndarray, "paragraph chosen_by weights_noised strength noise_draw"],
    Float[np.ndarray, "paragraph chosen_by weights_noised strength noise_draw"],
]:
    """Exact match (tokens) and NLL (nats per token), each paragraph under the weights that the other half chose.

    Both are nan where a token's NLL is no finite number. The choice named "random" gives the sizes of the control.
    """
    counts = len(next(iter(choices.values())).places[False])
    spread = {cell: _spread(model, cell) for choice in choices.values() for cell in choice.matrices}
    shape = (len(tokens), len(choices), counts, len(strengths), draws)
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    exact_match, nll = np.empty(shape, dtype), np.empty(shape, dtype)
    with tqdm(total=2 * exact_match[0].size, desc="noise", unit="pass", delay=SHOW_AFTER, leave=False) as bar:
        for (column, (name, choice)), choosing, draw in product(
            enumerate(choices.items()), (False, True), range(draws)
        ):
            rows, chosen = np.flatnonzero(choice.half != choosing), choice.places[choosing]
            if name == RANDOM:
                chosen = random_places(model, chosen, seed, draw)
            for (k, added), (s, strength) in product(
                enumerate(drawn_noise(model, chosen, spread, seed, draw)), enumerate(strengths)
            ):
                with noised(model, chosen[k], added, strength):
                    found = measure_recall(model, tokens[rows], prefix_length, batch_size=batch_size, show=False)
                loss = found.token_nll.mean(1)
                exact_match[rows, column, k, s, draw] = np.where(np.isfinite(loss), found.exact_match, np.nan)
                nll[rows, column, k, s, draw] = np.where(np.isfinite(loss), loss, np.nan)
                bar.update()
    return exact_match, nll


def _spread(model: HookedModel, cell: Cell) -> float:
    """The standard deviation of a matrix's weights."""
    return float(model.weight(*cell).cpu().double().numpy().std())


def halved(
    clusters: Int[np.ndarray, " paragraph"], members: Bool[np.ndarray, " paragraph"], seed: int
) -> Bool[np.ndarray, " paragraph"]:
    """A random half of the clusters that hold a member, and of those that hold none; a cluster is never divided."""
    with_member = np.isin(clusters, clusters[members])
    half = np.empty(len(clusters), dtype=bool)
    for part in (with_member, ~with_member):
        half[part] = choosing_half(clusters[part], seed)
    return half


def largest_places(
    model: HookedModel,
    paragraphs: Paragraphs,
    half: Bool[np.ndarray, " paragraph"],
    cells: Sequence[Cell],
    counts: Sequence[int],
    batch_size: int,
) -> dict[bool, list[Places]]:
    """For each half of the paragraphs the weights with the largest gradient of its mean NLL, for each count of them.

    Of equal gradients those of earlier matrices and places come first, so that a smaller count is a part of a larger one.
    """
    found = set_gradients(model, paragraphs, half, batch_size=batch_size, what="weights to noise", cells=cells).by_set
    chosen: dict[bool, list[Places]] = {}
    for choosing in (False, True):
        sizes = {cell: found[choosing][cell].abs() for cell in cells}
        masks = [largest_count(model, sizes, count, "noise") for count in counts]
        chosen[choosing] = [
            {cell: places.numpy() for cell, places in mask.indices.items() if len(places)} for mask in masks
        ]
    return chosen


def random_places(model: HookedModel, like: Sequence[Places], seed: int, draw: int) -> list[Places]:
    """As many random weights in each matrix, for each count: the first of one random order of the matrix's weights."""
    orders = {
        cell: _generator("random weights", seed, draw, cell).permutation(model.weight(*cell).numel())
        for cell in like[-1]
    }
    return [{cell: orders[cell][: len(chosen)] for cell, chosen in places.items()} for places in like]


def drawn_noise(
    model: HookedModel, chosen: Sequence[Places], spread: Mapping[Cell, float], seed: int, draw: int
) -> list[dict[Cell, Float[np.ndarray, " _"]]]:
    """Noise of strength 1 for the chosen weights of each count, in weight units.

    Each weight's standard normal is that of its place in the matrix, drawn in float32 on the CPU: the same on every device.
    """
    added: list[dict[Cell, np.ndarray]] = [{} for _ in chosen]
    for cell in chosen[-1]:
        field = _generator("weight noise", seed, draw, cell).standard_normal(model.weight(*cell).numel(), np.float32)
        for of_count, places in zip(added, chosen, strict=True):
            if cell in places:
                of_count[cell] = spread[cell] * field[places[cell]].astype(np.float64)
    return added


def _generator(what: str, seed: int, draw: int, cell: Cell) -> np.random.Generator:
    return np.random.default_rng(keyed_integer(2**32, what, seed, draw, *cell))


@contextmanager
def noised(
    model: HookedModel, places: Places, added: Mapping[Cell, Float[np.ndarray, " _"]], strength: float
) -> Iterator[None]:
    """Inside, `strength` times `added` stands on the chosen weights; then the saved ones are put back, whatever happened."""
    at, saved = {}, {}
    for cell, chosen in places.items():
        matrix = model.weight(*cell)
        rows, columns = np.divmod(chosen, matrix.shape[1])
        at[cell] = (torch.from_numpy(rows).to(matrix.device), torch.from_numpy(columns).to(matrix.device))
        saved[cell] = matrix[at[cell]]
    try:
        for cell, old in saved.items():
            new = old.cpu().double() + strength * torch.from_numpy(added[cell])
            model.weight(*cell)[at[cell]] = new.to(old)
        yield
    finally:
        for cell, old in saved.items():
            model.weight(*cell)[at[cell]] = old


def _ascending(given: float | Iterable[float], what: str, allowed: Callable[[float], bool], words: str) -> list[float]:
    """The numbers given, each once and ascending."""
    numbers = list(given) if isinstance(given, Iterable) else [given]
    if not numbers:
        raise LocalizeError(f"{caller()}: no {what} is given; at least one that {words} is needed.")
    for number in numbers:
        if not allowed(number):
            raise LocalizeError(f"{caller()}: {what}={number!r} is not one that {words}.")
    return sorted({float(number) for number in numbers})


def _cells(model: HookedModel, components: str | Sequence[str]) -> list[Cell]:
    """The matrices to choose from."""
    given = [components] if isinstance(components, str) else list(components)
    if not given or set(given) - set(COMPONENTS):
        raise LocalizeError(f"{caller()}: components={given} must be some of {', '.join(COMPONENTS)}.")
    return [(layer, component) for layer in range(model.n_layers) for component in COMPONENTS if component in given]


def _counts(model: HookedModel, cells: Sequence[Cell], fractions: Sequence[float]) -> list[int]:
    """How many weights the fractions are, each number once and ascending."""
    total = sum(model.weight(*cell).numel() for cell in cells)
    return sorted({max(1, round(fraction * total)) for fraction in fractions})


def _chosen_by(
    given: str | Sequence[str] | None, group: Shaped[np.ndarray, " paragraph"], clusters: Int[np.ndarray, " paragraph"]
) -> list[str]:
    """The groups that choose, each once, and the control where it is asked for."""
    sizes = {name: len(np.unique(clusters[group == name])) for name in ordered_groups(group.tolist())}
    told = ", ".join(f"{name} ({size})" for name, size in sizes.items())
    if RANDOM in sizes:
        raise LocalizeError(
            f"{caller()}: a group is named {RANDOM!r}, which stands for the control; give it another name."
        )
    if given is None:
        divisible = [name for name, size in sizes.items() if size >= 2]
        recalled = [name for name in divisible if name in (MEMORIZED, NOT_MEMORIZED)]
        chosen = [*(recalled or divisible), RANDOM]
    else:
        chosen = list(dict.fromkeys([given] if isinstance(given, str) else given))
    for name in chosen:
        if name != RANDOM and name not in sizes:
            raise InputError(f"{caller()}: chosen_by={name!r} is none of the groups; there are (clusters): {told}.")
        if name != RANDOM and sizes[name] < 2:
            raise InputError(
                f"{caller()}: group {name!r} is one cluster of near-duplicates; two are needed, "
                "as one half chooses the weights that the other is measured under."
            )
    if not set(chosen) - {RANDOM}:
        raise InputError(
            f"{caller()}: chosen_by={given!r} gives no group with two clusters to choose the weights; there are (clusters): {told}."
        )
    return chosen
