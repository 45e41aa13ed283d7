"""Gradients that memorized text's are held against: of tokens at like loss, and of what the model says itself."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.axes import APART, CONTINUATIONS, OWN, TRUE
from localize.errors import LocalizeError, caller
from localize.measure.backward import backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.chosen_tokens import nearest_tokens
from localize.measure.continuation import continued
from localize.measure.gradient_size import Sizes, query_scales, shares
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import Recall, measure_recall, recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature

LEVELS = (0.01, 0.1, 1.0)
SIZES = (1,)

OF_COMPONENTS = ("gradient_max", "gradient_norm", "gradient_share")
OF_HEADS = ("head_gradient_max", "head_gradient_share")
"""The norm over a head's weights follows from its share and the components' norms."""


@reads_inputs("paragraphs")
def gradient_controls(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    levels: float | Sequence[float] = LEVELS,
    sizes: int | Sequence[int] = SIZES,
    continuation: str = OWN,
    attention_scale: str = APART,
    batch_size: int = 32,
) -> MemorizationSignature:
    """Gradients at like loss, and of the own continuation: what those of memorized text are held against.

    Where a gradient lies follows how large the loss is, and memorized text has little of it. So: for every paragraph and every
    level of NLL, common to all paragraphs, the tokens of its continuation whose NLL is nearest to the level, and the gradient of
    their mean NLL. A set always has the same number of tokens, because the profile of a gradient depends on how many it sums.
    Two groups' sets of one size can then be compared at like NLL; `MemorizationSignature.beyond_loss` does. And for every paragraph
    the gradient of the mean NLL of what the model says itself, greedily, after the same prefix: of lower loss, and in no training data.

    Args:
        model: A hooked model; its weights and their `.grad` stay as they are.
        paragraphs: The paragraphs; their true continuations must be known.
        levels: NLLs in nats, ascending. A set is of a level if each of its tokens is nearer to it, as a ratio, than the middle
            between two levels that are as far apart as the nearest two; else the paragraph has none, and is nan there.
        sizes: Tokens in a set, ascending: 1 for single ones; (1, 4) for sets of 4 too, which are nearer to a whole continuation and
            cost as much again.
        continuation: "own" for the own continuation too, "true" for the tokens alone.
        attention_scale: As in `gradients`.
        batch_size: Sets a backward pass; the numbers are the same for any, up to rounding.

    Returns:
        `token_set_nll`, `token_gradient_max`, `token_gradient_norm`, `token_gradient_share`, `token_head_gradient_max`,
        `token_head_gradient_share` by `tokens_in_set` and `loss_level`; the same as `own_...`, without these axes. Recall is attached.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary, or hold own continuations only.
        LocalizeError: If levels or sizes are not positive and ascending, `continuation` or `attention_scale` is none, or an NLL is
            not finite.

    Source:
        localize.
    """
    levels, sizes = _checked(levels, sizes)
    if continuation not in CONTINUATIONS:
        raise LocalizeError(f"{caller()}: continuation={continuation!r} is not one of {', '.join(CONTINUATIONS)}.")
    scales, tokens = query_scales(model, attention_scale), continued(model, paragraphs, TRUE)
    recall = recall_of(model, paragraphs)
    places, scored, nll = _token_sets(recall, tokens, paragraphs.prefix_length, levels, sizes)
    measured = _sizes(model, tokens[torch.from_numpy(places[0])], scored, scales, batch_size, "gradients of tokens")
    shape = (len(paragraphs), len(sizes), len(levels))
    arrays = {"token_set_nll": nll} | {
        f"token_{name}": _placed(values, places, shape) for name, values in measured.items()
    }
    if continuation == OWN:
        arrays |= _of_own(model, paragraphs, recall, scales, batch_size)
    call = {
        "measurement": "gradient_controls",
        "levels": list(levels),
        "sizes": list(sizes),
        "continuation": TRUE,
        "attention_scale": attention_scale,
        "batch_size": batch_size,
    }
    axes = {"tokens_in_set": sizes, "loss_level": levels}
    signature = labelled(model, paragraphs, recall, arrays, call=call, continuation=TRUE, axes=axes)
    return _own_is_own(signature)


def _checked(levels: float | Sequence[float], sizes: int | Sequence[int]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    levels = tuple(map(float, levels)) if isinstance(levels, Sequence) else (float(levels),)
    sizes = tuple(map(int, sizes)) if isinstance(sizes, Sequence) else (int(sizes),)
    for name, given in (("levels", levels), ("sizes", sizes)):
        if not given or not all(0 < one < np.inf for one in given) or list(given) != sorted(set(given)):
            raise LocalizeError(
                f"{caller()}: {name}={list(given)} must hold one or several numbers above 0, ascending, none twice."
            )
    return levels, sizes


def reach_of(levels: Sequence[float]) -> float:
    """By what factor an NLL may differ from its level: the root of the smallest ratio of two levels; of a single one, that of 10."""
    ratios = [after / before for before, after in pairwise(levels)]
    return float(np.sqrt(min(ratios, default=10.0)))


def _token_sets(
    recall: Recall,
    tokens: Int[Tensor, "paragraph position"],
    prefix: int,
    levels: Sequence[float],
    sizes: Sequence[int],
) -> tuple[tuple[np.ndarray, ...], Bool[Tensor, "set position"], Float[np.ndarray, "paragraph size level"]]:
    """Paragraph, size and level of every set that there is; its tokens; and the mean NLL of all, nan where there is none.

    Sets come in the order of their last token, so that a batch of them reads no further than it must.
    """
    nll = np.full((len(tokens), len(sizes), len(levels)), np.nan, recall.token_nll.dtype)
    found: list[tuple[int, int, int]] = []
    rows: list[Int[np.ndarray, " token"]] = []
    for s, size in enumerate(sizes):
        for at, level in enumerate(levels):
            nearest = nearest_tokens(recall.token_nll, level, size, reach_of(levels))
            for row in np.flatnonzero(nearest[:, 0] >= 0):
                nll[row, s, at] = recall.token_nll[row, nearest[row]].mean()
                found.append((int(row), s, at))
                rows.append(nearest[row])
    order = np.argsort([chosen.max() for chosen in rows], kind="stable")
    places = tuple(np.array([found[i][part] for i in order], np.int64) for part in range(3))
    scored = torch.zeros(len(rows), tokens.shape[1], dtype=torch.bool)
    for at, i in enumerate(order):
        scored[at, prefix + torch.from_numpy(rows[i])] = True
    return places, scored, nll


def _sizes(
    model: HookedModel,
    tokens: Int[Tensor, "row position"],
    scored: Bool[Tensor, "row position"],
    scales: Sequence[float],
    batch_size: int,
    what: str,
) -> dict[str, Tensor]:
    """Sizes and shares of the gradient of each row's mean NLL over its scored tokens."""
    sizes = Sizes(model, len(tokens))

    def work(rows: slice) -> None:
        def on_linear(layer: int, component: str, x: Tensor, d: Tensor) -> None:
            sizes.fill(rows, layer, component, x, d / scales[layer] if component == "W_Q" else d)

        backward_pass(model, tokens[rows].to(model.device), scored[rows].to(model.device), on_linear=on_linear)

    in_batches(work, len(tokens), batch_size, what=what, unit="row")
    arrays = sizes.arrays | shares(sizes.arrays)
    return {name: arrays[name] for name in (*OF_COMPONENTS, *OF_HEADS)}


def _placed(values: Tensor, places: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Rows where they belong; nan elsewhere."""
    array = np.full((*shape, *values.shape[1:]), np.nan, values.numpy().dtype)
    array[places] = values.numpy()
    return array


def _of_own(
    model: HookedModel, paragraphs: Paragraphs, recall: Recall, scales: Sequence[float], batch_size: int
) -> dict[str, np.ndarray]:
    """Of the own continuation, of the paragraphs whose own one is not the true one."""
    own = continued(model, paragraphs, OWN)
    other = np.flatnonzero((own != paragraphs.recall_tokens).any(1).numpy())
    said = own[torch.from_numpy(other)]
    scored = continuation_mask(said, paragraphs.prefix_length)
    measured = _sizes(model, said, scored, scales, batch_size, "gradients of own continuations")
    nll = np.full(len(paragraphs), np.nan, recall.token_nll.dtype)
    nll[other] = measure_recall(model, said, paragraphs.prefix_length).token_nll.mean(1)
    shape = (len(paragraphs),)
    return {"own_nll": nll} | {f"own_{name}": _placed(values, (other,), shape) for name, values in measured.items()}


def _own_is_own(signature: MemorizationSignature) -> MemorizationSignature:
    """The same, with what is of the own continuation called so."""
    dataset = signature.dataset
    for name in dataset.data_vars:
        if str(name).startswith("own_"):
            dataset[name].attrs["continuation"] = OWN
    return MemorizationSignature(dataset)
