"""How well a model has memorized a text, by metrics that need not agree: recital, extraction, membership and bits."""

import math
import zlib
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from rapidfuzz.distance import LCSseq
from torch import Tensor

from localize.axes import TRUE
from localize.errors import InputError, LocalizeError, caller
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.ngrams import (
    ngram_lengths,
    rows_facts,
    sampled_continuations,
    sampling_logits,
    shares_in_rows,
    token_rows,
)
from localize.measure.scoring import FINITE_IS_NEEDED, logit_pieces, recall_of, token_scores
from localize.models.hooks import HookedModel
from localize.models.load import load_model
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature

PREFIXES = (8, 16, 32)
"""Tokens given unless told otherwise, where the prefix is longer, and beside the whole prefix."""

ROUNDING = 1e-9
"""A share of so many tokens that is a whole number but for rounding is that number."""


@reads_inputs("paragraphs")
@torch.no_grad()
def memory(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    reference: HookedModel | str | Path | None = None,
    prefixes: int | Sequence[int] | None = None,
    temperature: float = 1.0,
    top_k: int | None = 40,
    tries: int = 100,
    k: float = 0.2,
    rows: Any = None,
    samples: int = 4,
    ngrams: int | Sequence[int] | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> MemorizationSignature:
    """Metrics of how well each text is memorized, beside each other; of each a higher value is more memory.

    Recital and extraction are given the first tokens of the text and asked for those that follow: always for as many as the
    continuation has, so that numbers compare; behind the whole prefix it is the continuation. The others are of the whole text but
    its first token, which nothing predicts.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; their true text where it is known.
        reference: A model of the same vocabulary that has not memorized the texts, or what `load_model` reads; None leaves out what
            is held against it.
        prefixes: How many of the text's first tokens are given: one or several numbers up to the prefix's length; None for 8, 16 and
            32, where the prefix is longer, and the whole prefix.
        temperature: Of the sampling that extracts.
        top_k: Only so many likeliest tokens are sampled from (and those as likely as the last of them); None for all.
        tries: How often it is sampled.
        k: Share of the tokens that Min-K% and Min-K%++ average: the lowest.
        rows: What the model was trained on: token ids (row, position), or the path of a .npy file of them; None leaves out what is
            sampled and looked up there.
        samples: Continuations that are sampled behind the whole prefix, as extraction samples, and looked up.
        ngrams: Tokens of the n-grams that are looked up, up to the continuation's length; None for 2, 3, 4, 6 and 8, as far as it has
            as many.
        seed: Of the samples.
        batch_size: Paragraphs a forward pass.

    Returns:
        Behind each number of tokens given: `continued_exact_match` (tokens), the verbatim length; `continued_rouge_l` (in [0, 1];
        both sides are equally long, so that precision, recall and F1 are one number); `extraction_probability` of all true
        tokens in one try (float64: its logarithm is there down to -745), 0 where one is not among the top k, and
        `extraction_chance`, 1 - (1 - p)^tries. Of the whole
        text: `text_log_p`, `min_k` (nats per token) and `min_k_plus_plus` (standard deviations; a token is 0 where the model finds
        all tokens alike or is certain to the last digit); `text_log_p_per_byte` (nats per byte), where a text or a tokenizer that
        decodes is there; with a reference `text_log_p_gain` (nats per token) and `memorized_bits` (bits a text, a lower bound).
        With rows, for each length of n-grams, `sampled_ngrams_in_rows`: the share (in [0, 1]) of the sampled continuations' n-grams
            that stand in a row; 1 less it is what novelty is called. N-grams lie wholly in what was sampled: none holds tokens of
            the prefix, which are no saying of the model's, and none goes beyond the end of a row. Beside it, as its null,
            `true_ngrams_in_rows`: the same of the true continuation, 1 where the text is one of the rows.
        Recall is attached.

    Raises:
        InputError: If the paragraphs do not fit the model or the reference, or the rows are none.
        LocalizeError: If a number of tokens lies outside the prefix or the continuation, another option outside its range, the
            reference has another vocabulary, or a log probability is not a finite number.

    Source:
        Given the first tokens of the text: Hubble (arXiv 2510.19811). Extraction: Hayes et al. 2024. Min-K%++: Zhang et al. 2024.
        Bits: Morris et al. 2025. N-grams of what is sampled: McCoy et al. 2023 (RAVEN, arXiv 2111.09509).
    """
    given, lengths = _given(prefixes, paragraphs.prefix_length), ngram_lengths(ngrams, paragraphs.continuation_length)
    _check_options(temperature, top_k, tries, k, samples)
    trained_on = None if rows is None else token_rows(rows)
    recall = recall_of(model, paragraphs)
    reference = _reference(model, paragraphs, reference)
    tokens, asked = paragraphs.recall_tokens, paragraphs.continuation_length
    count, length = tokens.shape
    precise = np.float64 if model.dtype == torch.float64 else np.float32
    exact_match, rouge, log_extraction = (np.empty((count, len(given))) for _ in range(3))
    log_p, standardized = (np.empty((count, length - 1), precise) for _ in range(2))

    def of_logits(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        right = logits.max(-1).indices == targets
        return right, sampled_log_p(logits, targets, temperature, top_k), *standardized_log_p(logits, targets)

    def work(part: slice) -> None:
        batch = tokens[part].to(model.device)
        right, sampled, *of_text = by_pieces(model, model.final_states(batch[:, :-1]), batch[:, 1:], of_logits)
        log_p[part], standardized[part] = (of.cpu().numpy() for of in of_text)
        for column, number in enumerate(given):
            wanted, predicted = batch[:, number : number + asked], slice(number - 1, number - 1 + asked)
            exact_match[part, column] = right[:, predicted].cumprod(1).sum(1).cpu().numpy()
            log_extraction[part, column] = sampled[:, predicted].double().sum(1).cpu().numpy()
            said = continued_greedily(model, batch[:, :number], wanted, right[:, predicted].all(1))
            rouge[part, column] = rouge_l(said.cpu().numpy(), wanted.cpu().numpy())

    in_batches(work, count, batch_size, what="memory")
    _check_finite(model, paragraphs, log_p)
    probability = np.exp(np.minimum(log_extraction, 0.0))  # rounding lies above 0 where all is certain
    arrays: dict[str, Any] = {
        "continued_exact_match": exact_match,
        "continued_rouge_l": rouge,
        "extraction_probability": probability,
        "extraction_chance": chance_of_a_hit(probability, tries),
        "text_log_p": log_p.mean(1),
        "min_k": lowest_mean(log_p, k),
        "min_k_plus_plus": lowest_mean(standardized, k),
    }
    if (sizes := zlib_bytes(model, paragraphs)) is not None:
        arrays["text_log_p_per_byte"] = log_p.sum(1) / sizes
    call: dict[str, Any] = {"measurement": "memory", "prefixes": given, "temperature": temperature, "top_k": top_k}
    call |= {"tries": tries, "k": k, "batch_size": batch_size}
    if reference is not None:
        gain = log_p.sum(1, dtype=np.float64) - _text_log_p(reference, paragraphs, batch_size).sum(1)
        arrays |= {
            "text_log_p_gain": gain / (length - 1),
            "memorized_bits": np.maximum(gain, 0.0) / math.log(2),
        }
        call["reference"] = {"name": reference.name, "weights_hash": reference.weights_hash()}
    if trained_on is not None:
        said = sampled_continuations(
            model, paragraphs, samples, temperature=temperature, top_k=top_k, seed=seed, batch_size=batch_size
        )
        texts = np.concatenate(
            [said, tokens[:, None, -asked:].numpy()], axis=1
        )  # (paragraph, sample and truth, position)
        shares = shares_in_rows(texts.reshape(-1, asked), trained_on, lengths).reshape(count, samples + 1, len(lengths))
        arrays |= {"sampled_ngrams_in_rows": shares[:, :-1].mean(1), "true_ngrams_in_rows": shares[:, -1]}
        call |= {"rows": rows_facts(trained_on), "samples": samples, "ngrams": lengths, "seed": seed}
    which, axes = paragraphs.recall_continuation, {"tokens_given": given, "ngram": lengths}
    return labelled(model, paragraphs, recall, arrays, call=call, continuation=which, axes=axes)


def standardized_log_p(
    logits: Float[Tensor, "row vocab"], targets: Int[Tensor, " row"]
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """Log probability of each row's target, in nats, and how many standard deviations it lies above its mean.

    Mean and deviation are those of log p(token) where tokens come as the model has them; without any deviation it is 0.
    """
    logs = logits.log_softmax(-1)
    likely = logs.exp()
    mean = (likely * logs).sum(-1)
    spread = (likely * (logs - mean[:, None]) ** 2).sum(-1).sqrt()
    log_p = logs.gather(-1, targets[:, None])[:, 0]
    return log_p, torch.where(spread > 0, (log_p - mean) / spread, 0.0)


def sampled_log_p(
    logits: Float[Tensor, "row vocab"], targets: Int[Tensor, " row"], temperature: float, top_k: int | None
) -> Float[Tensor, " row"]:
    """Log probability that sampling takes each row's target, in nats; -inf where it is not among the top k."""
    return sampling_logits(logits, temperature, top_k).log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def chance_of_a_hit(probability: Float[np.ndarray, "*cell"], tries: int) -> Float[np.ndarray, "*cell"]:
    """1 - (1 - p)^tries, precise where p is far below rounding.

    >>> float(chance_of_a_hit(np.array(1e-30), 50))
    5e-29
    """
    with np.errstate(divide="ignore"):  # a certain hit
        return -np.expm1(tries * np.log1p(-probability))


def by_pieces(
    model: HookedModel,
    states: Float[Tensor, "paragraph position d_model"],
    targets: Int[Tensor, "paragraph position"],
    of_logits: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
) -> tuple[Shaped[Tensor, "paragraph position"], ...]:
    """What follows from each position's logits and target; all logits together are never held."""
    rows, wanted = states.flatten(0, 1), targets.flatten()
    found = []
    for piece in logit_pieces(model, len(rows)):
        logits = model.hf.lm_head(rows[piece])
        found.append(of_logits(logits.to(torch.promote_types(logits.dtype, torch.float32)), wanted[piece]))
    return tuple(torch.cat(parts).view(targets.shape) for parts in zip(*found, strict=True))


def continued_greedily(
    model: HookedModel,
    given: Int[Tensor, "paragraph given"],
    wanted: Int[Tensor, "paragraph wanted"],
    whole: Bool[Tensor, " paragraph"],
) -> Int[Tensor, "paragraph wanted"]:
    """What the model says after the tokens given; where that is known to be the whole of what is wanted, nothing is decoded."""
    said = wanted.clone()
    if not whole.all():
        said[~whole] = model.continue_greedily(given[~whole], wanted.shape[1])
    return said


def rouge_l(
    said: Int[np.ndarray, "paragraph continuation_position"], wanted: Int[np.ndarray, "paragraph continuation_position"]
) -> Float[np.ndarray, " paragraph"]:
    """Longest common subsequence of equally long continuations over their length: ROUGE-L, F1, on token ids.

    >>> rouge_l(np.array([[5, 9, 6, 7]]), np.array([[5, 6, 7, 8]]))
    array([0.75])
    """
    pairs = zip(said.tolist(), wanted.tolist(), strict=True)
    return np.array([LCSseq.similarity(*pair) for pair in pairs], dtype=np.float64) / wanted.shape[1]


def lowest_mean(values: Float[np.ndarray, "paragraph token"], share: float) -> Float[np.ndarray, " paragraph"]:
    """The mean of the lowest share of each row's values: whole tokens, at least one.

    >>> lowest_mean(np.array([[4.0, 1.0, 3.0, 2.0, 5.0]]), 0.4)
    array([1.5])
    """
    count = max(1, int(share * values.shape[1] + ROUNDING))
    return np.sort(values, axis=1)[:, :count].mean(1)


def zlib_bytes(model: HookedModel, paragraphs: Paragraphs) -> Float[np.ndarray, " paragraph"] | None:
    """Bytes that zlib compresses each text to; nan where there is none, None where there is none at all.

    A text is that of the paragraph, else what the tokenizer makes of its tokens.
    """
    texts = list(paragraphs.texts or (None,) * len(paragraphs))
    if paragraphs.recall_continuation != TRUE:
        texts = [None] * len(paragraphs)
    decode = getattr(model.tokenizer, "decode", None)
    if decode is not None:
        rows = paragraphs.recall_tokens.tolist()
        texts = [decode(row) if text is None else text for text, row in zip(texts, rows, strict=True)]
    if all(text is None for text in texts):
        return None
    return np.array([np.nan if text is None else len(zlib.compress(text.encode())) for text in texts], np.float64)


def _text_log_p(model: HookedModel, paragraphs: Paragraphs, batch_size: int) -> Float[np.ndarray, "paragraph token"]:
    """Log probability of all tokens but the first, in nats."""
    tokens = paragraphs.recall_tokens
    found = np.empty((len(tokens), tokens.shape[1] - 1))

    def work(rows: slice) -> None:
        batch = tokens[rows].to(model.device)
        found[rows] = -token_scores(model, model.final_states(batch[:, :-1]), batch[:, 1:])[1].cpu().numpy()

    in_batches(work, len(tokens), batch_size, what="reference")
    _check_finite(model, paragraphs, found)
    return found


def _check_finite(model: HookedModel, paragraphs: Paragraphs, log_p: Float[np.ndarray, "paragraph token"]) -> None:
    if not np.isfinite(log_p).all():
        row, at = (int(i) for i in np.argwhere(~np.isfinite(log_p))[0])
        raise LocalizeError(
            f"{caller()}: the log probability that {model.name} gives paragraph {paragraphs.ids[row]!r} at position {at + 1} is "
            f"{log_p[row, at]}; {FINITE_IS_NEEDED}."
        )


def _given(prefixes: int | Sequence[int] | None, prefix_length: int) -> list[int]:
    """The numbers of tokens asked for, each once and ascending."""
    if prefixes is None:
        return [*(number for number in PREFIXES if number < prefix_length), prefix_length]
    numbers = [prefixes] if isinstance(prefixes, int) else list(prefixes)
    for number in numbers:
        if not isinstance(number, Integral) or not 1 <= number <= prefix_length:
            raise LocalizeError(
                f"{caller()}: prefixes={number!r} must be a whole number in 1..{prefix_length}, the tokens of the prefix."
            )
    if not numbers:
        raise LocalizeError(
            f"{caller()}: prefixes={prefixes!r} is empty; at least one in 1..{prefix_length} is needed."
        )
    return sorted({int(number) for number in numbers})


def _check_options(temperature: Any, top_k: Any, tries: Any, k: Any, samples: Any) -> None:
    """Raise a `LocalizeError` for an option outside its range."""
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise LocalizeError(f"{caller()}: temperature={temperature!r} must be a number above 0.")
    if not isinstance(k, int | float) or not 0 < k <= 1:
        raise LocalizeError(f"{caller()}: k={k!r} must lie above 0 and be at most 1: a share of the tokens.")
    if top_k is not None and (not isinstance(top_k, Integral) or top_k < 1):
        raise LocalizeError(
            f"{caller()}: top_k={top_k!r} must be a whole number of at least 1, or None for all tokens."
        )
    for name, value in (("tries", tries), ("samples", samples)):
        if not isinstance(value, Integral) or value < 1:
            raise LocalizeError(f"{caller()}: {name}={value!r} must be a whole number of at least 1.")


def _reference(model: HookedModel, paragraphs: Paragraphs, given: Any) -> HookedModel | None:
    """The reference model, loaded where it is not."""
    if given is None:
        return None
    reference = given if isinstance(given, HookedModel) else load_model(given)
    if reference.vocab_size != model.vocab_size:
        raise InputError(
            f"{caller()}: the reference {reference.name} has {reference.vocab_size} tokens in its vocabulary, {model.name} has "
            f"{model.vocab_size}; one with the same vocabulary is needed."
        )
    paragraphs.check_fits(reference)
    return reference
