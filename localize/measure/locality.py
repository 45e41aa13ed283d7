"""Whether a text's memory lies in few units: its own loss and other texts' with its best units ablated together."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from localize.axes import MEMORIZED
from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.ablated_rows import ablated_rows
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.reference_text import reference_text
from localize.measure.scoring import finite_recall, recall_of
from localize.measure.stored_units import ratio_scores
from localize.measure.unit_means import unit_means
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.statistics.ranking import ranks

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

NUMBERS = (4, 8, 16, 32, 64, 128, 256)
"""Of units ablated together, where nothing else is asked for."""


@reads_inputs("paragraphs", "reference")
@torch.no_grad()
def locality(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    scores: Any = None,
    numbers: int | Sequence[int] | None = None,
    texts: int | None = 24,
    others: int = 4,
    reference: Paragraphs | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> "MemorizationSignature":
    """What is lost when the MLP units that score highest for a paragraph are taken out together, and what other texts lose by it.

    If the memory is local, few units raise the own NLL far, and other texts' hardly. A unit's activation is replaced, at every
    position, by its mean over a reference text. The null of the choice are as many random units of the same layers.

    Args:
        model: A hooked model; its weights are left as they are.
        paragraphs: The paragraphs, of the continuation that they hold. Those tried are of the group "memorized" where there are any.
        scores: Which units are best: a signature that `stored_units` gave, `Scores` of any localizer, or an array `(paragraph,
            layer, unit)`; None measures those of `stored_units`. A paragraph with a score of nan is not tried.
        numbers: How many units are ablated together; None for 4, 8, 16, ... 256, as far as the model has so many.
        texts: At most so many paragraphs are tried, one of a cluster, at random; None tries all.
        others: So many paragraphs of other clusters, at random and alike for all numbers of units, have the same units ablated. Scores of
            `stored_units` divide by what these do, among others, to a unit: what they lose lies on the low side.
        reference: Over which text the mean is taken; see `ablate`.
        seed: Of paragraphs and random units, keyed by it and the paragraph.
        batch_size: Rows a forward pass; a paragraph gives 2 + `others` for each number.

    Returns:
        `located_rise`, `located_others_rise`, `located_random_rise` (nats per token) and `located_lost_match` (tokens), nan for
        paragraphs that were not tried and where an NLL is not finite. Recall is attached.

    Raises:
        InputError: If paragraphs or reference do not fit the model, or scores are of another model or other paragraphs.
        LocalizeError: If scores have another shape, or a number is none that is allowed.
    """
    numbers = _numbers(numbers, model.n_layers * model.d_mlp)
    for name, given in (("texts", texts), ("others", others)):
        if given is not None and not (isinstance(given, Integral) and given >= 1):
            raise LocalizeError(f"{caller()}: {name}={given!r} must be a whole number of at least 1.")
    recall = recall_of(model, paragraphs)
    whole = recall if paragraphs.true_tokens is None else finite_recall(model, paragraphs, paragraphs.tokens)
    by_unit, told = _scores(model, paragraphs, scores)
    eligible = groups_of(paragraphs, recall) == MEMORIZED
    eligible = eligible if eligible.any() else np.ones(len(eligible), dtype=bool)
    tried = texts_tried(paragraphs, eligible & np.isfinite(by_unit).all((1, 2)), texts, seed)
    text = reference_text(model, paragraphs, paragraphs.tokens, reference)
    means = unit_means(model, text.tokens, weights=text.weights, batch_size=batch_size)
    beside = [partners(paragraphs, eligible, row, others, seed) for row in tried.tolist()]
    units = [ablated_units(by_unit[row], numbers, paragraphs.hashes[row], seed) for row in tried.tolist()]
    jobs = [
        (at, number, what, row)
        for at, own in enumerate(tried.tolist())
        for number in range(len(numbers))
        for what, rows in enumerate(([own, *beside[at]], [own]))
        for row in rows
    ]
    nll, match = (np.full(len(jobs), np.nan) for _ in range(2))

    def work(some: slice) -> None:
        masks = torch.from_numpy(np.stack([units[at][what, number] for at, number, what, _ in jobs[some]]))
        rows = [row for *_, row in jobs[some]]
        found = ablated_rows(model, paragraphs.tokens[rows], paragraphs.prefix_length, mlp=masks, means=means)
        loss = found[1].mean(1).cpu().numpy()
        finite = np.isfinite(loss)
        match[some], nll[some] = np.where(finite, found[0].cpu().numpy(), np.nan), np.where(finite, loss, np.nan)

    in_batches(work, len(jobs), batch_size, what="locality", unit="ablation")
    before = whole.token_nll.mean(1)
    dtype, size = before.dtype, (len(paragraphs), len(numbers))
    names = ("located_rise", "located_others_rise", "located_random_rise", "located_lost_match")
    arrays = {name: np.full(size, np.nan, dtype) for name in names}
    of_others: dict[tuple[int, int], list[float]] = {}
    for (at, number, what, row), loss, matched in zip(jobs, nll, match, strict=True):
        own, rise = int(tried[at]), loss - before[row]
        if what:
            arrays["located_random_rise"][own, number] = rise
        elif row != own:
            of_others.setdefault((own, number), []).append(rise)
        else:
            arrays["located_rise"][own, number] = rise
            arrays["located_lost_match"][own, number] = whole.exact_match[own] - matched
    for place, rises in of_others.items():
        arrays["located_others_rise"][place] = np.mean(rises)
    call = {
        "measurement": "locality", "scores": told, "numbers": numbers, "texts": texts, "others": others,
        "reference": text.name, "seed": seed, "batch_size": batch_size,
    }  # fmt: skip
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"units_ablated": numbers})


def ablated_units(
    scores: Float[np.ndarray, "layer unit"], numbers: Sequence[int], key: bytes, seed: int
) -> Bool[np.ndarray, "what number layer unit"]:
    """The best units of a paragraph, and as many random ones of the same layers, for each number; of more units, fewer are a part."""
    layers, width = scores.shape
    rank = ranks(scores)
    best = np.stack([rank < number for number in numbers])  # (number, layer, unit)
    rng = np.random.default_rng(keyed_integer(2**32, "random units", seed, key))
    turn = rng.permuted(np.tile(np.arange(width), (layers, 1)), axis=1)
    return np.stack([best, turn < best.sum(2, keepdims=True)])


def texts_tried(
    paragraphs: Paragraphs, eligible: Bool[np.ndarray, " paragraph"], most: int | None, seed: int
) -> Int[np.ndarray, " row"]:
    """The paragraphs tried: all that are eligible, or the first of each cluster in a random order, at most so many."""
    rows = np.flatnonzero(eligible)
    if most is None:
        return rows
    order = _shuffled(paragraphs, rows, "texts tried", seed)
    _, first = np.unique(paragraphs.clusters[order], return_index=True)
    return np.sort(order[np.sort(first)][:most])


def partners(
    paragraphs: Paragraphs, eligible: Bool[np.ndarray, " paragraph"], row: int, most: int, seed: int
) -> list[int]:
    """Paragraphs of other clusters, at random: eligible ones where there are any."""
    other = paragraphs.clusters != paragraphs.clusters[row]
    rows = np.flatnonzero(other & eligible if (other & eligible).any() else other)
    return _shuffled(paragraphs, rows, f"partners of {paragraphs.hashes[row].hex()}", seed)[:most].tolist()


def _shuffled(paragraphs: Paragraphs, rows: Int[np.ndarray, " row"], what: str, seed: int) -> Int[np.ndarray, " row"]:
    drawn = [keyed_integer(2**32, what, seed, paragraphs.hashes[row]) for row in rows.tolist()]
    return rows[np.argsort(drawn, kind="stable")]


def _numbers(given: int | Sequence[int] | None, units: int) -> list[int]:
    """The numbers asked for, each once and ascending."""
    if given is None:
        return [number for number in NUMBERS if number <= units] or [units]
    asked: list[int] = [given] if isinstance(given, int | np.integer) else list(given)
    for number in asked:
        if not isinstance(number, Integral) or not 1 <= number <= units:
            raise LocalizeError(
                f"{caller()}: number {number!r} must be a whole number in 1..{units}, the MLP units of the model."
            )
    if not asked:
        raise LocalizeError(f"{caller()}: numbers={given!r} is empty; at least one in 1..{units} is needed.")
    return sorted({int(number) for number in asked})


def _scores(
    model: HookedModel, paragraphs: Paragraphs, given: Any
) -> tuple[Float[np.ndarray, "paragraph layer unit"], str]:
    """Scores of MLP units, and where they are from."""
    from localize.signature.signature import MemorizationSignature

    if given is None:
        with torch.enable_grad():
            return ratio_scores(model, paragraphs).mlp.numpy(), "stored_units"
    if isinstance(given, MemorizationSignature):
        if "unit_score" not in given:
            raise InputError(
                f"{caller()}: scores has no 'unit_score'; measure it with localize.stored_units(model, paragraphs)."
            )
        about = given.dataset.attrs
        _check_same(model, paragraphs, about["model"]["weights_hash"], about["paragraphs"]["data_hash"])
        values, told = given["unit_score"].values, "stored_units"
    elif hasattr(given, "mlp"):
        if given.mlp is None:
            raise InputError(f"{caller()}: scores={given!r} has none of MLP units, which are what is ablated.")
        _check_same(model, paragraphs, given.weights_hash, given.data_hash)
        values, told = given.mlp, given.name
    else:
        values, told = np.asarray(given), "given"
    if (shape := (len(paragraphs), model.n_layers, model.d_mlp)) != values.shape:
        raise LocalizeError(f"{caller()}: scores are {values.shape}; {shape}, (paragraph, layer, unit), is needed.")
    return values.astype(np.float64), told


def _check_same(model: HookedModel, paragraphs: Paragraphs, weights_hash: str, data_hash: str) -> None:
    for what, kind, theirs, ours in (
        ("another model", "weights_hash", weights_hash, model.weights_hash()),
        ("other paragraphs", "data_hash", data_hash, paragraphs.data_hash),
    ):
        if theirs != ours:
            raise InputError(
                f"{caller()}: scores are of {what} ({kind} {theirs[:12]}) than those given ({kind} {ours[:12]}); they must be the same."
            )
