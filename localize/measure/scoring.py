"""From final states to how much of a continuation the model says, and how likely it finds each token."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear

from localize.errors import LocalizeError
from localize.measure.batches import in_batches
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


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


FINITE_IS_NEEDED = "a finite number is needed (damaged weights, or a dtype too narrow?)"

LOGITS_AT_ONCE = {"cpu": 2**18, "cuda": 2**26}
"""How many logits are held at once where only their score is wanted: on a CPU what its cache holds, 1 MiB of float32."""

FEWEST_ROWS = 128
"""Of logits at once: with fewer, reading the unembedding costs more than multiplying by it."""


def logit_pieces(model: HookedModel, count: int) -> Iterator[slice]:
    """Rows of states whose logits are held together."""
    size = max(FEWEST_ROWS, LOGITS_AT_ONCE[model.device.type] // model.vocab_size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


SCORED_AT_ONCE = {"cpu": (1024, 1024), "cuda": (8192, 2**16)}
"""States and tokens of the vocabulary whose logits are held at once where only their score is wanted: on a CPU what its cache holds."""


@torch.no_grad()
def token_scores(
    model: HookedModel, states: Float[Tensor, "*position d_model"], targets: Int[Tensor, "*position"]
) -> tuple[Bool[Tensor, "*position"], Float[Tensor, "*position"]]:
    """Whether each target is the likeliest token, and its NLL in nats, from final states; all logits together are never held."""
    rows, wanted = states.flatten(0, -2), targets.flatten()
    at_once = SCORED_AT_ONCE[model.device.type][0]
    pieces = [_scores(model, *pair) for pair in zip(rows.split(at_once), wanted.split(at_once), strict=True)]
    right, nll = (torch.cat(parts).view(targets.shape) for parts in zip(*pieces, strict=True))
    return right, nll


def _scores(
    model: HookedModel, states: Float[Tensor, "state d_model"], targets: Int[Tensor, " state"]
) -> tuple[Bool[Tensor, " state"], Float[Tensor, " state"]]:
    """One piece of `token_scores`: the largest logit so far and the sum of exponentials below it, a part of the vocabulary at a time."""
    precise = torch.promote_types(states.dtype, torch.float32)
    best = torch.full(targets.shape, -torch.inf, dtype=precise, device=states.device)
    likeliest, wanted, total = torch.zeros_like(targets), best.clone(), torch.zeros_like(best)
    for first, part in _logit_parts(model, states):
        logits = part.to(precise)
        inside = (targets >= first) & (targets < first + logits.shape[1])
        at = (targets - first).clamp(0, logits.shape[1] - 1)
        wanted = torch.where(inside, logits.gather(1, at[:, None])[:, 0], wanted)
        top, index = logits.max(1)
        likeliest = torch.where(top > best, index + first, likeliest)  # of equals the first, as decoding takes it
        higher = torch.maximum(top, best)
        total = total * (best - higher).exp() + logits.sub_(higher[:, None]).exp_().sum(1)
        best = higher
    return likeliest == targets, best + total.log() - wanted


def _logit_parts(
    model: HookedModel, states: Float[Tensor, "state d_model"]
) -> Iterator[tuple[int, Float[Tensor, "state part"]]]:
    """Logits of one part of the vocabulary after the other, each with its first token; fresh arrays."""
    unembed = model.hf.lm_head
    if type(unembed) is not torch.nn.Linear or unembed._forward_hooks or unembed._forward_pre_hooks:
        yield 0, unembed(states).clone()  # somebody else's module, or hooks of his: it is called as a whole
        return
    at_once = SCORED_AT_ONCE[model.device.type][1]
    for first in range(0, len(unembed.weight), at_once):
        part = slice(first, first + at_once)
        yield first, linear(states, unembed.weight[part], None if unembed.bias is None else unembed.bias[part])


def score(
    model: HookedModel, states: Float[Tensor, "paragraph position d_model"], targets: Int[Tensor, "paragraph position"]
) -> tuple[Int[Tensor, " paragraph"], Float[Tensor, "paragraph position"]]:
    """Exact match (tokens) and token NLL (nats) of final states; see `token_scores`.

    Up to the first error the text decoded is the true text, so that teacher-forced states give the number that decoding would.

    Source:
        Stoehr et al. 2024, section 3.
    """
    right, nll = token_scores(model, states, targets)
    return right.cumprod(-1).sum(-1), nll


def measure_recall(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    prefix_length: int,
    *,
    batch_size: int = 64,
    show: bool = True,
) -> Recall:
    """Exact match and token NLL of every row, in one teacher-forced pass."""
    right, nll = measure_tokens(model, tokens, prefix_length, batch_size=batch_size, show=show)
    return Recall(right.cumprod(1).sum(1), nll)


def measure_tokens(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    prefix_length: int,
    *,
    batch_size: int = 64,
    show: bool = True,
) -> tuple[Bool[np.ndarray, "paragraph continuation_position"], Float[np.ndarray, "paragraph continuation_position"]]:
    """Whether each continuation token is the likeliest after the true ones before it, and its NLL in nats, in one pass."""
    nll = _unmeasured(model, tokens, prefix_length).token_nll
    right = np.zeros(nll.shape, bool)

    def work(rows: slice) -> None:
        found, of_token = score_tokens(model, tokens[rows].to(model.device), prefix_length)
        right[rows], nll[rows] = found.cpu().numpy(), of_token.cpu().numpy()

    in_batches(work, len(tokens), batch_size, what="recall", show=show)
    return right, nll


@torch.no_grad()
def score_tokens(
    model: HookedModel, batch: Int[Tensor, "paragraph position"], prefix_length: int
) -> tuple[Bool[Tensor, "paragraph continuation_position"], Float[Tensor, "paragraph continuation_position"]]:
    """The same of one batch, on its device."""
    states = model.final_states(batch[:, :-1], read=slice(prefix_length - 1, None))
    return token_scores(model, states, batch[:, prefix_length:])


def _unmeasured(model: HookedModel, tokens: Int[Tensor, "paragraph position"], prefix_length: int) -> Recall:
    count, length = tokens.shape
    nll = np.zeros((count, length - prefix_length), np.float64 if model.dtype == torch.float64 else np.float32)
    return Recall(np.zeros(count, np.int64), nll)


def recall_of(model: HookedModel, paragraphs: Paragraphs, *, show: bool = True) -> Recall:
    """Recall of the paragraphs' true continuations (of their own ones, where the true ones are not known)."""
    paragraphs.check_fits(model)
    return finite_recall(model, paragraphs, paragraphs.recall_tokens, show=show)


def finite_recall(
    model: HookedModel,
    paragraphs: Paragraphs,
    tokens: Int[Tensor, "paragraph position"],
    *,
    batch_size: int = 64,
    show: bool = True,
) -> Recall:
    """Recall of the paragraphs' prefixes with these tokens after them; raises a `LocalizeError` if an NLL is not finite.

    A model that overflows gets no token right: without this it would pass for one that has memorized nothing.
    """
    prefix, shape = paragraphs.prefix_length, tuple(tokens.shape)
    recall = model.once(
        ("recall", tokens.numpy().tobytes(), shape, prefix, batch_size),
        lambda: measure_recall(model, tokens, prefix, batch_size=batch_size, show=show),
    )
    check_finite(model, paragraphs, recall)
    return Recall(*(part.copy() for part in recall))


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
            f"{recall.token_nll[row, offset]}; {FINITE_IS_NEEDED}."
        )


def check_changed(model: HookedModel, ids: Sequence[str], nll: Float[np.ndarray, "row *cell"]) -> None:
    """Raise a `LocalizeError` if an NLL behind a changed prefix, of the paragraph of that id, is not a finite number."""
    wrong = np.argwhere(~np.isfinite(nll))
    if len(wrong):
        raise LocalizeError(
            f"{model.name}: the NLL of paragraph {ids[wrong[0, 0]]!r} behind a changed prefix is {nll[tuple(wrong[0])]}; "
            f"{FINITE_IS_NEEDED}."
        )
