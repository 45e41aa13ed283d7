"""What heads of random weights score: several models of the same shape, so that the best head stands beside their best ones.

Of many heads the one that looks most at rare tokens looks at them in an untrained model too. So a model's best head is held against the
best head of each of many untrained ones, chosen as it was.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from localize.axes import MEMORIZED
from localize.keyed import keyed_integer
from localize.measure.attention import unit_ranks
from localize.measure.batches import in_batches
from localize.measure.looking import LAST_PREFIX, View
from localize.models.hooks import HookedModel
from localize.models.untrained import untrained
from localize.paragraphs.paragraphs import Paragraphs

MOST_PARAGRAPHS = 128
"""Of how many paragraphs untrained models are scored: what their best heads reach is known well enough then."""


def rows_scored(group: Shaped[np.ndarray, " paragraph"], hashes: Sequence[bytes], seed: int) -> Int[np.ndarray, " row"]:
    """The paragraphs that untrained models are scored on: the memorized, where there are any, as they choose the best head too.

    If they are more than `MOST_PARAGRAPHS`, so many of them at random, keyed by seed and paragraph.
    """
    rows = np.flatnonzero(group == MEMORIZED) if MEMORIZED in group else np.arange(len(group))
    drawn = np.argsort(
        [keyed_integer(2**32, "untrained rows", seed, hashes[row]) for row in rows.tolist()], kind="stable"
    )
    return np.sort(rows[drawn[:MOST_PARAGRAPHS]])


def model_seed(seed: int, number: int) -> int:
    """Of the weights of one of the untrained models."""
    return keyed_integer(2**31, "untrained model", seed, number)


def rarity_ranks(own: Int[Tensor, "row key"], partners: Int[Tensor, "row draw key"]) -> Float[Tensor, "row 2 key"]:
    """Unit ranks of each key's rarity, and the mean of those of the partners: with the attention's they give score and mismatched null.

    A partner whose tokens are all equally rare is left out.
    """
    return torch.stack([unit_ranks(-own), unit_ranks(-partners).nanmean(1)], dim=1)


def untrained_scores(
    model: HookedModel,
    paragraphs: Paragraphs,
    counts: Int[Tensor, "paragraph prefix_position"],
    partners: Int[np.ndarray, "paragraph draw"],
    seen_by: Sequence[View],
    *,
    rows: Int[np.ndarray, " row"],
    models: int,
    seed: int,
    batch_size: int,
) -> Float[np.ndarray, "2 paragraph untrained_model layer head"]:
    """Rare-token scores of the last prefix token's attention, and their mismatched null, in models of random weights.

    Args:
        model: What they are of the shape of.
        paragraphs: What they read; the prefix alone.
        counts: Of each paragraph's prefix tokens.
        partners: Indices of paragraphs from other clusters, as the model's own null has them.
        seen_by: As `views` gives it.
        rows: Of which paragraphs; the others are nan.
        models: How many models, one in memory at a time.
        seed: Of their weights.
        batch_size: Paragraphs a forward pass.
    """
    found = np.full((2, len(paragraphs), models, model.n_layers, model.n_heads), np.nan, np.float32)
    last = [view for view in seen_by if view.query == LAST_PREFIX]
    prefixes, chosen = paragraphs.prefixes, torch.from_numpy(rows)
    rarity = [
        rarity_ranks(counts[chosen][:, keys], counts[torch.from_numpy(partners[rows])][..., keys]).to(model.device)
        for keys in (view.keys.cpu() for view in last)
    ]

    def score_one(number: int) -> None:
        twin = untrained(model, model_seed(seed, number))

        def work(some: slice) -> None:
            attention = last_looks(twin, prefixes[chosen[some]].to(model.device))
            for view, by_rarity in zip(last, rarity, strict=True):
                ranks = unit_ranks(attention[:, view.layers].index_select(-1, view.keys))
                both = torch.einsum("plhk,psk->splh", ranks, by_rarity[some]).cpu().numpy()
                for into, values in zip(found, both, strict=True):
                    into[rows[some][:, None], number, view.layers] = values

        in_batches(work, len(rows), batch_size, what=f"untrained model {number + 1} of {models}")

    for number in range(models):
        score_one(number)
    return found


@torch.no_grad()
def last_looks(
    model: HookedModel, prefixes: Int[Tensor, "paragraph prefix_position"]
) -> Float[Tensor, "paragraph layer head prefix_position"]:
    """The attention of the last prefix token, from a pass that ends with the last layer's attention."""
    names = {f"blocks.{layer}.attn.hook_pattern": layer for layer in range(model.n_layers)}
    body, length = model.hf.transformer, prefixes.shape[1]
    looks: dict[int, Tensor] = {}

    def on_pattern(pattern: Tensor, name: str) -> None:
        looks[names[name]] = pattern[:, :, -1].to(torch.promote_types(model.dtype, torch.float32))

    resid = body.wte(prefixes) + body.wpe(torch.arange(length, device=prefixes.device))
    start, stop = "blocks.0.hook_resid_pre", f"blocks.{model.n_layers - 1}.hook_resid_mid"
    model.resume(resid, at=start, to=stop, hooks=dict.fromkeys(names, on_pattern), read=slice(-1, None))
    return torch.stack([looks[layer] for layer in range(model.n_layers)], dim=1)
