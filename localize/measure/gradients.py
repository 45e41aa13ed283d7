"""Where a paragraph's continuation pulls on the weights: gradients of its NLL, per layer, component and head."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from localize.axes import APART
from localize.errors import LocalizeError, caller
from localize.measure.backward import Passed, backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.chosen_tokens import ChosenTokens, chosen_mask
from localize.measure.gradient_size import STATISTICS, Sizes, query_scales, shares
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.outer_gradients import OuterSizes
from localize.measure.scoring import Recall, check_finite, recall_in_passing, recall_of
from localize.measure.set_gradients import SetSums, cancellation
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs")
def gradients(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    statistics: str | Sequence[str] = STATISTICS,
    tokens: ChosenTokens | None = None,
    sets: bool = True,
    embeddings: bool = False,
    biases: bool = False,
    attention_scale: str = APART,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """Where a paragraph's continuation pulls on the weights.

    For every paragraph the gradient of its mean continuation NLL, per layer and component (W_Q W_K W_V W_O W_in W_out) and,
    for the first four, per head. Absolute sizes follow the loss, several times larger for text that is not memorized; what
    compares between groups is the *share*, a component's part of the paragraph's squared norm. And, for every group, the
    gradient of the group's mean NLL: one matrix for the whole set, in which paragraphs can cancel.

    Args:
        model: A hooked model; its weights and their `.grad` stay as they are. Load it with `weights="folded"` for the paper's
            processing.
        paragraphs: The paragraphs; gradients are of the continuation they hold, the true or the model's own.
        statistics: "max", "norm" or both; norms alone are cheaper, and shares need them.
        tokens: Of which tokens of the continuation the mean NLL is taken, at least one of each paragraph: a mask (paragraph, token
            of the continuation), or for each paragraph their places in the continuation, from 0 on. None takes all of them.
        sets: Also the set-level gradients, which hold one copy of the weights per group in memory.
        embeddings: Also those of W_E, W_pos and W_U, at a cost of one matrix product with W_U's shape per paragraph.
        biases: Also those of the components' biases. Layer norms are left out.
        attention_scale: "apart": by W_Q as the model has it. GPT-2 divides its scores by sqrt(d_head) outside of W_Q, which scales
            W_Q's gradient down by as much; GPT-Neo does not. "in_W_Q": by a W_Q that holds the scale, for which GPT-2's gradients
            of W_Q and b_Q are divided by it. Between families, and between GPT-2s of other d_head, only these compare, shares too.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.

    Returns:
        `gradient_max`, `gradient_norm`, `head_gradient_max`, `head_gradient_norm`, in nats per weight unit, at least 0;
        `gradient_share`, `head_gradient_share`, in [0, 1]; with `sets` the first four as `set_...`, and `set_cancellation` beside
        `set_cancellation_null`; with `embeddings`, `biases` `embedding_gradient_...`, `bias_gradient_...`. Recall is attached.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.
        LocalizeError: If `statistics` holds another word, or none, or `attention_scale` is one; if an NLL is not finite; or if
            `tokens` has another shape, chooses none of a paragraph, or a token that is not there.

    Source:
        Stoehr et al. 2024, section 4: set-level, max. Per paragraph, the L2 norm, shares and cancellation: ours.
    """
    statistics = _checked((statistics,) if isinstance(statistics, str) else statistics)
    scales = query_scales(model, attention_scale)
    chosen = None if tokens is None else chosen_mask(tokens, paragraphs)
    recall, filling = recall_in_passing(model, paragraphs) if chosen is None else (recall_of(model, paragraphs), False)
    sizes, sums = Sizes(model, len(paragraphs), statistics), SetSums()
    outer = OuterSizes(model, len(paragraphs), statistics, embeddings=embeddings, biases=biases)

    def work(rows: slice) -> None:
        read = paragraphs.tokens[rows].to(model.device)
        members: dict[Hashable, Tensor] = {}
        sums.discard()

        def on_scored(passed: Passed) -> None:
            if filling:
                recall.fill(rows, passed.exact_match, passed.token_loss)
            if sets:
                members.update(_members(paragraphs[rows], recall.rows(rows), model.device))

        def on_linear(layer: int, component: str, x: Tensor, d: Tensor) -> None:
            if component == "W_Q" and scales[layer] != 1:
                d = d / scales[layer]  # y = s x W: by s W, a gradient is that by W over s
            sizes.fill(rows, layer, component, x, d)
            outer.fill_bias(rows, layer, component, d)
            sums.add(members, layer, component, x, d)

        scored = continuation_mask(read, paragraphs.prefix_length)
        if chosen is not None:
            scored = chosen[rows].to(model.device)
        backward_pass(model, read, scored, on_linear=on_linear, on_scored=on_scored, hooks=outer.hooks())
        outer.fill_embeddings(rows, read, scored)
        sums.commit()

    in_batches(work, len(paragraphs), batch_size, what="gradients")
    check_finite(model, paragraphs, recall)
    arrays = sizes.arrays | outer.arrays
    if "norm" in statistics:
        arrays |= shares(sizes.arrays)
    names: tuple[str, ...] = ()
    if sets:
        names, of_sets = _set_arrays(model, paragraphs, recall, sizes, sums)
        arrays |= of_sets
    call = {
        "measurement": "gradients",
        "statistics": list(statistics),
        "tokens": None
        if chosen is None
        else f"{int(chosen.sum())} of {paragraphs.tokens[:, paragraphs.prefix_length :].numel()}",
        "sets": sets,
        "embeddings": embeddings,
        "biases": biases,
        "attention_scale": attention_scale,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"set": names})


def _checked(statistics: Sequence[str]) -> tuple[str, ...]:
    if not statistics or set(statistics) - set(STATISTICS):
        raise LocalizeError(
            f"{caller()}: statistics={list(statistics)} must hold one or both of {', '.join(STATISTICS)}."
        )
    return tuple(name for name in STATISTICS if name in statistics)


def _members(paragraphs: Paragraphs, recall: Recall, device: torch.device) -> dict[str, Tensor]:
    """Which rows of a batch are in each group that it has."""
    group = groups_of(paragraphs, recall)
    return {str(name): torch.from_numpy(group == name).to(device) for name in dict.fromkeys(group.tolist())}


def _set_arrays(
    model: HookedModel, paragraphs: Paragraphs, recall: Recall, sizes: Sizes, sums: SetSums
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Names of the sets, and the sizes of their mean gradients with what cancels in them."""
    group = groups_of(paragraphs, recall)
    names = tuple(dict.fromkeys(group.tolist()))
    of_mean = Sizes(model, len(names), sizes.statistics)
    for row, name in enumerate(names):
        for (layer, component), matrix in sums.sums(name).items():
            of_mean.fill_formed(row, layer, component, matrix / int((group == name).sum()))
    arrays = {f"set_{name}": values for name, values in of_mean.arrays.items()}
    if "norm" in sizes.statistics:
        pairs = [
            cancellation(sizes.arrays["gradient_norm"], (group == name).nonzero()[0].tolist(), of_set)
            for name, of_set in zip(names, of_mean.arrays["gradient_norm"], strict=True)
        ]
        arrays["set_cancellation"], arrays["set_cancellation_null"] = (
            torch.stack(side) for side in zip(*pairs, strict=True)
        )
    return names, arrays
