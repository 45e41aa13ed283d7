"""What replacing one prefix token does to the continuation."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from localize.axes import OWN
from localize.errors import LocalizeError
from localize.keyed import keyed_integer
from localize.measure.batches import in_batches
from localize.measure.continuation import continued
from localize.measure.labels import labelled
from localize.measure.recall import measure_recall, recall_of, score
from localize.models.hooks import HookedModel
from localize.models.key_values import KeyValues
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


def uniform_replacements(
    paragraphs: Paragraphs, vocab_size: int, draws: int, seed: int
) -> Int[np.ndarray, "paragraph draw prefix_position"]:
    """For every prefix token, `draws` others, uniform over the rest of the vocabulary; keyed by seed, paragraph, position, draw."""
    prefixes = paragraphs.prefixes.numpy()
    drawn = np.empty((len(paragraphs), draws, paragraphs.prefix_length), dtype=np.int64)
    for row, key in enumerate(paragraphs.hashes):
        for draw in range(draws):
            for position, token in enumerate(prefixes[row]):
                other = keyed_integer(vocab_size - 1, "replace", seed, key, position, draw)
                drawn[row, draw, position] = other + (other >= token)
    return drawn


@torch.no_grad()
def perturbed_recall(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    replacements: Int[Tensor, "paragraph draw prefix_position"],
) -> tuple[Int[Tensor, "paragraph draw prefix_position"], Tensor]:
    """Exact match and mean NLL of the continuation with one prefix token replaced, for each replacement.

    What stands before the replaced token does not change: its keys and values are computed once per paragraph. Up to the first error
    the text decoded is the text asked for, so no decoding is needed.

    Args:
        model: A hooked model.
        tokens: Prefix and continuation.
        replacements: The token put in the place of each prefix token.

    Returns:
        Exact match in tokens, and NLL in nats per token `(paragraph, draw, prefix_position)`.
    """
    count, draws, prefix_length = replacements.shape
    known = KeyValues()
    model.forward(tokens[:, :prefix_length], cache=known, read=slice(0, 0))
    row = torch.arange(count, device=tokens.device).repeat_interleave(draws)
    targets = tokens[row, prefix_length:]
    matched, nll = [], []
    for position in range(prefix_length):
        changed = replacements[:, :, position].reshape(-1, 1)
        suffix = torch.cat([changed, tokens[row, position + 1 : -1]], dim=1)
        states = model.final_states(
            suffix, cache=known.first(position).rows(row), read=slice(prefix_length - 1 - position, None)
        )
        exact, loss = score(model, states, targets)
        matched.append(exact.view(count, draws))
        nll.append(loss.mean(1).view(count, draws))
    return torch.stack(matched, dim=-1), torch.stack(nll, dim=-1)


def perturb_prefix(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    draws: int = 2,
    continuation: str = OWN,
    seed: int = 0,
    batch_size: int = 64,
) -> "MemorizationSignature":
    """How much of the continuation is lost when one prefix token, the first one too, is replaced by a random other.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs.
        draws: Random replacements per position; their spread is kept.
        continuation: "own" compares with what the model says greedily after the unchanged prefix: all of it is matched before, in
            every group, so that losses compare. "true" compares with the paragraphs' true text.
        seed: Seed of the replacements, which are keyed by it, the paragraph, the position and the draw.
        batch_size: Rows a forward pass, a paragraph giving `draws` of them.

    Returns:
        `perturbed_exact_match` (tokens), `perturbed_nll` (nats per token), `replacement` (token ids), and before the change
        `unperturbed_exact_match`, `unperturbed_nll`. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, or hold only own continuations where true ones are asked for.

    Source:
        Stoehr et al. 2024, section 6. There: one draw, position 0 never changed, and the earliest of the most changed positions.
    """
    if draws < 1 or batch_size < 1:
        raise LocalizeError(f"perturb_prefix: draws={draws} and batch_size={batch_size} must both be at least 1.")
    tokens = continued(model, paragraphs, continuation, "perturb_prefix")
    recall = recall_of(model, paragraphs)
    before = measure_recall(model, tokens, paragraphs.prefix_length)
    replacements = uniform_replacements(paragraphs, model.vocab_size, draws, seed)
    matched = np.zeros(replacements.shape, dtype=np.int64)
    nll = np.zeros(replacements.shape, dtype=before.token_nll.dtype)

    def work(rows: slice) -> None:
        changed = torch.from_numpy(replacements[rows]).to(model.device)
        exact, loss = perturbed_recall(model, tokens[rows].to(model.device), changed)
        matched[rows], nll[rows] = exact.cpu().numpy(), loss.cpu().numpy()

    in_batches(work, len(paragraphs), max(1, batch_size // draws), what="prefix perturbation")
    arrays = {
        "unperturbed_exact_match": before.exact_match,
        "unperturbed_nll": before.token_nll.mean(1),
        "perturbed_exact_match": matched,
        "perturbed_nll": nll,
        "replacement": replacements,
    }
    call = {
        "measurement": "perturb_prefix",
        "draws": draws,
        "seed": seed,
        "batch_size": batch_size,
    }
    return labelled(model, paragraphs, recall, arrays, call=call, continuation=continuation)
