"""How many prefix tokens can be replaced until the model no longer recites the continuation."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import ORDERS, OWN
from localize.errors import LocalizeError, caller
from localize.measure.batches import in_batches
from localize.measure.before import Before
from localize.measure.earlier import call_of, check_perturbation
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.orders import EFFECT, RAREST, fixed_ranks, numbers_up_to, random_ranks
from localize.measure.scoring import check_changed, score
from localize.measure.substitutes import uniform_replacements
from localize.models.hooks import HookedModel
from localize.models.key_values import KeyValues
from localize.models.vocabulary import text_tokens, text_tokens_words
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.unigrams import corpus_counts, counts_hash
from localize.signature.signature import MemorizationSignature

BROKEN: Final = 0.5
"""The recital is broken when less than this share of the exact match before is left."""


def tokens_to_break(
    exact_match: Float[np.ndarray, "paragraph order corruption_draw tokens_replaced"],
    before: Int[np.ndarray, " paragraph"],
    numbers: Sequence[int],
) -> Float[np.ndarray, "paragraph order corruption_draw"]:
    """The fewest of some ascending numbers that leave less than half of the exact match before; nan if none does.

    Where nothing was right before, nothing breaks: nan.
    """
    broken = exact_match < BROKEN * before[:, None, None, None]
    return np.where(broken.any(-1), np.array(numbers, dtype=exact_match.dtype)[broken.argmax(-1)], np.nan)


@torch.no_grad()
def corrupted_recall(
    model: HookedModel,
    tokens: Int[Tensor, "row position"],
    replacements: Int[Tensor, "row prefix_position"],
    ranks: Int[Tensor, "row order prefix_position"],
    numbers: Sequence[int],
) -> tuple[Float[Tensor, "row order tokens_replaced"], Float[Tensor, "row order tokens_replaced"]]:
    """Exact match and mean NLL of the continuation with the first 1, 2, ... prefix tokens of each order replaced together.

    One pass for each order and number. What stands before the first replaced token of all rows is read once: the most of the
    prefix where it is replaced from its last token on.

    Args:
        model: A hooked model.
        tokens: Prefix and continuation.
        replacements: The token put in the place of each prefix token when its turn comes.
        ranks: When that is, 0 first.
        numbers: How many tokens are replaced.

    Returns:
        Exact match in tokens, and NLL in nats per token.
    """
    prefix_length, precise = replacements.shape[1], torch.promote_types(model.dtype, torch.float32)
    prefixes, targets = tokens[:, :prefix_length], tokens[:, prefix_length:]
    exact_match = torch.empty((*ranks.shape[:2], len(numbers)), dtype=precise, device=tokens.device)
    nll = torch.empty_like(exact_match)
    turned = [(ranks < number).any(0) for number in numbers]  # (order, prefix_position): in some row
    starts = torch.stack(turned, dim=1).int().argmax(-1).tolist()  # of each order, for each number
    known = KeyValues()
    if longest := max(max(row) for row in starts):
        model.forward(prefixes[:, :longest], cache=known, read=slice(0, 0))
    for order, of_order in enumerate(starts):
        for column, (number, start) in enumerate(zip(numbers, of_order, strict=True)):
            changed = torch.where(ranks[:, order] < number, replacements, prefixes)
            states = model.final_states(
                torch.cat([changed[:, start:], targets[:, :-1]], dim=1),
                cache=known.first(start) if start else None,
                read=slice(prefix_length - 1 - start, None),
            )
            exact, loss = score(model, states, targets)
            exact_match[:, order, column], nll[:, order, column] = exact.to(precise), loss.mean(1)
    return exact_match, nll


@reads_inputs("paragraphs")
@torch.no_grad()
def corrupt_prefix(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    orders: str | Sequence[str] | None = None,
    draws: int = 2,
    numbers: int | Sequence[int] | None = None,
    perturbation: MemorizationSignature | None = None,
    counts: Int[Tensor, " vocab"] | Int[np.ndarray, " vocab"] | None = None,
    continuation: str = OWN,
    seed: int = 0,
    batch_size: int = 64,
) -> MemorizationSignature:
    """How the continuation is lost as more and more prefix tokens are replaced together by random others.

    The order says which tokens go first. "random", another permutation for each draw, is the null of the others: "rarest" from the
    rarest token on, equally rare ones at random; "effect" from the one whose own replacement does most; "first" from the first
    token on; "last" from the last one back. Replacements are those that `perturb_prefix` draws with the same seed.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs.
        orders: One or several of these words; None for all, "effect" only where `perturbation` is given.
        draws: How often the replacements are drawn, and the random order.
        numbers: How many tokens are replaced; None for 1, 2, 3, 4, 6, 8, 12, ... up to the whole prefix.
        perturbation: What `perturb_prefix` measured on the same model, paragraphs and continuation, of which "effect" takes the
            mean over draws. What it drew is not drawn again: draws are then numbered, for every order, from its number of draws
            on, so that positions are chosen on other draws than those that score them.
        counts: Occurrences of each token in a reference corpus (`unigram_counts`), for "rarest". None takes the training
            corpus's, where the model's folder has them, else those of the paragraphs themselves.
        continuation: "own" compares with what the model says greedily after the unchanged prefix: all of it is matched before, in
            every group, so that losses compare. "true" compares with the paragraphs' true text.
        seed: Seed of orders and replacements, which are keyed by it, the paragraph, the position and the draw.
        batch_size: Rows a forward pass, a paragraph giving `draws` of them.

    Returns:
        `corrupted_exact_match` (tokens), `corrupted_nll` (nats per token), `tokens_to_break` (fewest of the numbers tried that
        leave less than half of the exact match before; nan if none does), and before the change `unperturbed_exact_match`,
        `unperturbed_nll`. Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model, or hold only own continuations where true ones are asked for.
        LocalizeError: If an order or `continuation` is none of the allowed words, a number lies outside the prefix, "effect" is
            asked for without a perturbation or with one of another model, other paragraphs or the other continuation, or
            `counts` has not one entry per token of the vocabulary.

    Source:
        Stoehr et al. 2024, section 6, replaces one token at a time; ours.
    """
    if not all(isinstance(number, Integral) and number >= 1 for number in (draws, batch_size)):
        raise LocalizeError(
            f"{caller()}: draws={draws!r} and batch_size={batch_size!r} must be whole numbers of at least 1."
        )
    orders, numbers = _orders(orders, perturbation), _numbers(numbers, paragraphs.prefix_length)
    if perturbation is not None:
        check_perturbation(model, paragraphs, perturbation, continuation, name="perturbation")
    before = Before.measured(model, paragraphs, continuation)
    told: dict[str, Any] = {}
    if perturbation is not None:
        told["perturbation"] = call_of(perturbation)
    if RAREST in orders:
        counts, corpus = corpus_counts(model, paragraphs, counts)
        told |= {"counts": corpus, "counts_hash": counts_hash(counts)}
    fixed = fixed_ranks(orders, paragraphs, counts, perturbation, seed)
    first_draw = perturbation.dataset.sizes["draw"] if perturbation is not None else 0
    ids = text_tokens(model)
    # A row is a draw of a paragraph, so that a batch halves however many draws there are.
    exact_match, nll = (np.empty((len(paragraphs) * draws, len(orders), len(numbers)), before.dtype) for _ in range(2))

    def work(rows: slice) -> None:
        paragraph, draw = np.divmod(np.arange(rows.start, rows.stop), draws)
        replacements = _replacements(paragraphs, ids, paragraph, draw + first_draw, seed)
        hashes = [paragraphs.hashes[row] for row in paragraph]
        ranks = [
            fixed[order][paragraph]
            if order in fixed
            else random_ranks(hashes, draw + first_draw, paragraphs.prefix_length, seed)
            for order in orders
        ]
        texts, put, turns = (
            part.to(model.device)
            for part in (
                before.tokens[paragraph],
                torch.from_numpy(replacements),
                torch.from_numpy(np.stack(ranks, axis=1)),
            )
        )
        exact, loss = corrupted_recall(model, texts, put, turns, numbers)
        exact_match[rows], nll[rows] = exact.cpu().numpy(), loss.cpu().numpy()
        check_changed(model, [paragraphs.ids[row] for row in paragraph], nll[rows])

    in_batches(work, len(exact_match), batch_size, what="prefix corruption", unit="draw")
    exact_match, nll = (
        values.reshape(len(paragraphs), draws, len(orders), len(numbers)).swapaxes(1, 2)
        for values in (exact_match, nll)
    )
    arrays = {
        **before.arrays,
        "corrupted_exact_match": exact_match,
        "corrupted_nll": nll,
        "tokens_to_break": tokens_to_break(exact_match, before.unperturbed.exact_match, numbers),
    }
    call = {
        "measurement": "corrupt_prefix",
        "orders": orders,
        "draws": draws,
        "first_draw": first_draw,
        "numbers": numbers,
        "drawn_from": text_tokens_words(model),
        **told,
        "seed": seed,
        "batch_size": batch_size,
    }
    axes = {"order": orders, "tokens_replaced": numbers}
    return labelled(model, paragraphs, before.recall, arrays, call=call, continuation=continuation, axes=axes)


def _replacements(
    paragraphs: Paragraphs,
    ids: Int[np.ndarray, " token"],
    paragraph: Int[np.ndarray, " row"],
    draw: Int[np.ndarray, " row"],
    seed: int,
) -> Int[np.ndarray, "row prefix_position"]:
    """What the draws of some paragraphs put in their prefixes."""
    distinct, of_row = np.unique(paragraph, return_inverse=True)
    drawn = uniform_replacements(paragraphs[distinct], ids, int(draw.max()) + 1, seed)
    return drawn[of_row, draw]


def _orders(orders: str | Sequence[str] | None, perturbation: MemorizationSignature | None) -> list[str]:
    """The orders asked for, each once and as in `ORDERS`."""
    if orders is None:
        return [order for order in ORDERS if order != EFFECT or perturbation is not None]
    given = [orders] if isinstance(orders, str) else list(orders)
    for order in given:
        if order not in ORDERS:
            raise LocalizeError(f"{caller()}: order {order!r} is not one of {', '.join(ORDERS)}.")
    if not given:
        raise LocalizeError(f"{caller()}: orders={orders!r} is empty; at least one of {', '.join(ORDERS)} is needed.")
    if EFFECT in given and perturbation is None:
        raise LocalizeError(
            f"{caller()}: the order 'effect' needs perturbation=localize.perturb_prefix(model, paragraphs), which measures it."
        )
    return [order for order in ORDERS if order in given]


def _numbers(numbers: int | Sequence[int] | None, prefix_length: int) -> list[int]:
    """The numbers asked for, each once and ascending."""
    given = (
        numbers_up_to(prefix_length) if numbers is None else [numbers] if isinstance(numbers, int) else list(numbers)
    )
    for number in given:
        if not isinstance(number, Integral) or not 1 <= number <= prefix_length:
            raise LocalizeError(
                f"{caller()}: number {number!r} must be a whole number in 1..{prefix_length}, the tokens of the prefix."
            )
    if not given:
        raise LocalizeError(f"{caller()}: numbers={numbers!r} is empty; at least one in 1..{prefix_length} is needed.")
    return sorted({int(number) for number in given})
