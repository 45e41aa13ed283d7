"""Which weights the loss of a paragraph's continuation is sensitive to: gradients of its NLL, per layer, component and head."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from localize.axes import APART
from localize.errors import LocalizeError, caller
from localize.measure.backward import Passed, backward_pass, continuation_mask
from localize.measure.batches import in_batches
from localize.measure.chosen_tokens import ChosenTokens, chosen_mask
from localize.measure.equal_sets import EQUAL, Sets, sets_of
from localize.measure.gradient_size import STATISTICS, Sizes, query_scales, shares
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of, labelled
from localize.measure.outer_gradients import OuterSizes
from localize.measure.scoring import check_finite, recall_in_passing, recall_of
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
    set_sizes: str = EQUAL,
    set_draws: int = 4,
    embeddings: bool = False,
    biases: bool = False,
    attention_scale: str = APART,
    seed: int = 0,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """Which weights the loss of a paragraph's continuation is sensitive to; where it is stored `stored_units` tells.

    For every paragraph the gradient of its mean continuation NLL, per layer and component (W_Q W_K W_V W_O W_in W_out) and,
    for the first four, per head. Absolute sizes follow the loss, several times larger for text that is not memorized; what
    compares between groups is the *share*, a component's part of the paragraph's squared norm. And, for every group, the
    gradient of a set's mean NLL: one matrix for the whole set, in which paragraphs can cancel, the more the larger the set.

    Args:
        model: A hooked model; its weights and their `.grad` stay as they are. Load it with `weights="folded"` for the paper's
            processing.
        paragraphs: The paragraphs; gradients are of the continuation they hold, the true or the model's own.
        statistics: "max", "norm" or both; norms alone are cheaper, and shares need them.
        tokens: Of which tokens of the continuation the mean NLL is taken, at least one of each paragraph: a mask (paragraph, token
            of the continuation), or for each paragraph their places in the continuation, from 0 on. None takes all of them.
        sets: Also the set-level gradients, which hold one copy of the weights per set in memory.
        set_sizes: "equal" draws of each group disjoint random sets as large as the smallest group, and averages what is
            measured of them: only sets of one size compare. "all" takes each group whole, as in the paper.
        set_draws: Sets of each group at most.
        embeddings: Also those of W_E, W_pos and W_U, at a cost of one matrix product with W_U's shape per paragraph.
        biases: Also those of the components' biases. Layer norms are left out.
        attention_scale: "apart": by W_Q as the model has it. GPT-2 divides its scores by sqrt(d_head) outside of W_Q, which scales
            W_Q's gradient down by as much; GPT-Neo does not. "in_W_Q": by a W_Q that holds the scale, for which GPT-2's gradients
            of W_Q and b_Q are divided by it. Between families, and between GPT-2s of other d_head, only these compare, shares too.
        seed: Of which paragraphs are drawn.
        batch_size: Paragraphs a backward pass; the numbers are the same for any, up to rounding.

    Returns:
        `gradient_max`, `gradient_norm`, `head_gradient_max`, `head_gradient_norm`, in nats per weight unit, at least 0;
        `gradient_share`, `head_gradient_share`, in [0, 1]; with `sets` the first four as `set_...`, `set_cancellation` beside
        `set_cancellation_null`, and `set_size`, paragraphs of each set, `set_count`, how many sets are averaged; with
        `embeddings`, `biases` `embedding_gradient_...`, `bias_gradient_...`. Recall is attached.

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.
        LocalizeError: If `statistics` holds another word, or none, or `attention_scale` or `set_sizes` is one; if `set_draws` is
            below 1; if an NLL is not finite; or if `tokens` has another shape, chooses none of a paragraph, or a token that is
            not there.

    Source:
        Stoehr et al. 2024, section 4: set-level, max. Equal sizes, per paragraph, the L2 norm, shares, cancellation: ours.
    """
    statistics = _checked((statistics,) if isinstance(statistics, str) else statistics)
    scales = query_scales(model, attention_scale)
    chosen = None if tokens is None else chosen_mask(tokens, paragraphs)
    recall, filling = recall_in_passing(model, paragraphs) if chosen is None else (recall_of(model, paragraphs), False)
    drawn = Sets.none(len(paragraphs))
    if sets:
        if filling and paragraphs.labels is None:
            recall, filling = recall_of(model, paragraphs), False  # who is in which set must be known before
        drawn = sets_of(groups_of(paragraphs, recall), paragraphs.hashes, sizes=set_sizes, draws=set_draws, seed=seed)
    sizes, sums = Sizes(model, len(paragraphs), statistics), SetSums()
    outer = OuterSizes(model, len(paragraphs), statistics, embeddings=embeddings, biases=biases)

    def work(rows: slice) -> None:
        read = paragraphs.tokens[rows].to(model.device)
        members = _members(drawn.of[rows], model.device)
        sums.discard()

        def on_scored(passed: Passed) -> None:
            if filling:
                recall.fill(rows, passed.exact_match, passed.token_loss)

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
    if sets:
        arrays |= _set_arrays(model, drawn, sizes, sums) | drawn.arrays()
    call = {
        "measurement": "gradients",
        "statistics": list(statistics),
        "tokens": None
        if chosen is None
        else f"{int(chosen.sum())} of {paragraphs.tokens[:, paragraphs.prefix_length :].numel()}",
        "sets": sets,
        "set_sizes": set_sizes,
        "set_draws": set_draws,
        "embeddings": embeddings,
        "biases": biases,
        "attention_scale": attention_scale,
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"set": drawn.names})


def _checked(statistics: Sequence[str]) -> tuple[str, ...]:
    if not statistics or set(statistics) - set(STATISTICS):
        raise LocalizeError(
            f"{caller()}: statistics={list(statistics)} must hold one or both of {', '.join(STATISTICS)}."
        )
    return tuple(name for name in STATISTICS if name in statistics)


def _members(of: Int[np.ndarray, " paragraph"], device: torch.device) -> dict[Hashable, Bool[Tensor, " paragraph"]]:
    """Which rows of a batch are in each set that it has."""
    return {int(drawn): torch.from_numpy(of == drawn).to(device) for drawn in np.unique(of[of >= 0])}


def _set_arrays(model: HookedModel, drawn: Sets, sizes: Sizes, sums: SetSums) -> dict[str, Tensor]:
    """Sizes of the sets' mean gradients with what cancels in them, averaged over the sets of each group."""
    of_mean = Sizes(model, len(drawn.group), sizes.statistics)
    for one, count in enumerate(drawn.sizes.tolist()):
        for (layer, component), matrix in sums.sums(one).items():
            of_mean.fill_formed(one, layer, component, matrix / count)
    arrays = {f"set_{name}": values for name, values in of_mean.arrays.items()}
    if "norm" in sizes.statistics:
        pairs = [
            cancellation(sizes.arrays["gradient_norm"], drawn.rows(one).tolist(), of_set)
            for one, of_set in enumerate(of_mean.arrays["gradient_norm"])
        ]
        arrays["set_cancellation"], arrays["set_cancellation_null"] = (
            torch.stack(side) for side in zip(*pairs, strict=True)
        )
    of_groups = [drawn.drawn(name) for name in drawn.names]
    return {name: torch.stack([values[some].mean(0) for some in of_groups]) for name, values in arrays.items()}
