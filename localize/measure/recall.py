"""How much of a paragraph's continuation the model says, and how likely it finds the rest."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.errors import LocalizeError
from localize.measure.batches import in_batches
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


class Recall(NamedTuple):
    """Recall of each paragraph.

    Attributes:
        exact_match: Continuation tokens right before the first error, int64 `(paragraph,)`.
        token_nll: Nats, `(paragraph, continuation_position)`.
    """

    exact_match: np.ndarray
    token_nll: np.ndarray

    def fill(self, rows: slice, exact_match: Int[Tensor, " row"], token_nll: Float[Tensor, "row position"]) -> None:
        """Write what was measured of some paragraphs."""
        self.exact_match[rows], self.token_nll[rows] = exact_match.cpu().numpy(), token_nll.cpu().numpy()

    def rows(self, rows: slice) -> "Recall":
        """Of some paragraphs; a view."""
        return Recall(self.exact_match[rows], self.token_nll[rows])


def exact_match(
    logits: Float[Tensor, "paragraph position vocab"], targets: Int[Tensor, "paragraph position"]
) -> Int[Tensor, " paragraph"]:
    """How many targets are right before the first wrong one, taking the likeliest token each time.

    Up to the first error the text decoded is the true text, so that teacher-forced logits give the number that decoding would.

    Args:
        logits: Those that predict each target: of the position before it.
        targets: The true tokens.

    Returns:
        0 .. positions, in tokens.

    Source:
        Stoehr et al. 2024, section 3.
    """
    likeliest = logits.max(-1).indices  # on a CPU more than twice as fast as argmax
    return (likeliest == targets).cumprod(-1).sum(-1)


def token_nll(
    logits: Float[Tensor, "paragraph position vocab"], targets: Int[Tensor, "paragraph position"]
) -> Float[Tensor, "paragraph position"]:
    """-log p(target) in nats, in at least float32."""
    precise = torch.promote_types(logits.dtype, torch.float32)
    logits = logits.to(precise)
    # Without the whole matrix of log-probabilities, which costs more to write than to compute.
    return logits.logsumexp(-1) - logits.gather(-1, targets[..., None])[..., 0]


LOGITS_AT_ONCE = {"cpu": 2**18, "cuda": 2**26}
"""How many logits are held at once where only their score is wanted: on a CPU what its cache holds, 1 MiB of float32."""

FEWEST_ROWS = 128
"""Of logits at once: with fewer, reading the unembedding costs more than multiplying by it."""


def logit_pieces(model: HookedModel, count: int) -> Iterator[slice]:
    """Rows of states whose logits are held together."""
    size = max(FEWEST_ROWS, LOGITS_AT_ONCE[model.device.type] // model.vocab_size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@torch.no_grad()
def score(
    model: HookedModel, states: Float[Tensor, "paragraph position d_model"], targets: Int[Tensor, "paragraph position"]
) -> tuple[Int[Tensor, " paragraph"], Float[Tensor, "paragraph position"]]:
    """Exact match and token NLL of final states, a few rows of logits at a time: together they would be the largest array."""
    rows, wanted = states.flatten(0, 1), targets.flatten()
    right, nll = [], []
    for piece in logit_pieces(model, len(rows)):
        logits, target = model.hf.lm_head(rows[piece])[:, None], wanted[piece, None]
        right.append(exact_match(logits, target))
        nll.append(token_nll(logits, target)[:, 0])
    matched = torch.cat(right).view(targets.shape).cumprod(-1).sum(-1)
    return matched, torch.cat(nll).view(targets.shape)


def continuation_logits(
    model: HookedModel, tokens: Int[Tensor, "paragraph position"], prefix_length: int, **options
) -> Float[Tensor, "paragraph continuation_position vocab"]:
    """The logits that predict each continuation token: those of positions `prefix_length - 1 .. last - 1`."""
    return model.forward(tokens[:, :-1], read=slice(prefix_length - 1, None), **options)


@torch.no_grad()
def measure_recall(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    prefix_length: int,
    *,
    batch_size: int = 64,
    show: bool = True,
) -> Recall:
    """Exact match and token NLL of every row, in one teacher-forced pass."""
    recall = _unmeasured(model, tokens, prefix_length)

    def work(rows: slice) -> None:
        batch = tokens[rows].to(model.device)
        states = model.final_states(batch[:, :-1], read=slice(prefix_length - 1, None))
        matched, nll = score(model, states, batch[:, prefix_length:])
        recall.fill(rows, matched, nll)

    in_batches(work, len(tokens), batch_size, what="recall", show=show)
    return recall


def _unmeasured(model: HookedModel, tokens: Int[Tensor, "paragraph position"], prefix_length: int) -> Recall:
    count, length = tokens.shape
    nll = np.zeros((count, length - prefix_length), np.float64 if model.dtype == torch.float64 else np.float32)
    return Recall(np.zeros(count, np.int64), nll)


def recall_of(model: HookedModel, paragraphs: Paragraphs, *, show: bool = True) -> Recall:
    """Recall of the paragraphs' true continuations (of their own ones, where the true ones are not known)."""
    paragraphs.check_fits(model)
    recall = measure_recall(model, paragraphs.recall_tokens, paragraphs.prefix_length, show=show)
    check_finite(model, paragraphs, recall)
    return recall


def recall_in_passing(model: HookedModel, paragraphs: Paragraphs) -> tuple[Recall, bool]:
    """Recall for a measurement whose own passes see the logits.

    Returns:
        Where those passes are of the continuations that recall is asked of: zeros for them to `fill`, and True; the measurement
        then calls `check_finite`. Else recall as `recall_of` measures it, and False.
    """
    if paragraphs.true_tokens is not None:
        return recall_of(model, paragraphs), False
    paragraphs.check_fits(model)
    return _unmeasured(model, paragraphs.tokens, paragraphs.prefix_length), True


def check_finite(model: HookedModel, paragraphs: Paragraphs, recall: Recall) -> None:
    """Raise a `LocalizeError` if a token's NLL is not a finite number."""
    if not np.isfinite(recall.token_nll).all():
        row, offset = (int(i) for i in np.argwhere(~np.isfinite(recall.token_nll))[0])
        raise LocalizeError(
            f"{model.name}: the NLL of paragraph {paragraphs.ids[row]!r} at position {paragraphs.prefix_length + offset} is "
            f"{recall.token_nll[row, offset]}; a finite number is needed (damaged weights, or a dtype too narrow?)."
        )


def recall(model: HookedModel, paragraphs: Paragraphs) -> "MemorizationSignature":
    """Exact match, NLL and groups of paragraphs; every other measurement attaches the same.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; recall is of the true continuation where it is known.

    Returns:
        `exact_match` (tokens, 0 .. continuation length), `nll` (nats per token) and `token_nll` (nats).

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.

    Source:
        Stoehr et al. 2024, section 3.
    """
    from localize.measure.labels import labelled

    return labelled(model, paragraphs, recall_of(model, paragraphs), {}, call={"measurement": "recall"})
