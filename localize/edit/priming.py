"""What one new text raises elsewhere: its words behind unrelated prefixes, after a few steps of training on it alone."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from localize.axes import RESETS
from localize.edit.descent import ChosenWeights, Steps, descend, weights_put_back
from localize.edit.masks import choose_weights
from localize.edit.objectives import nll
from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.batches import SHOW_AFTER
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import finite_recall, logit_pieces, recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

LogP = Float[np.ndarray, "context vocab"]


@reads_inputs("paragraphs")
def priming(
    model: HookedModel,
    paragraphs: Paragraphs,
    contexts: Paragraphs | None = None,
    *,
    steps: int = 8,
    learning_rate: float = 1e-3,
    reset: float = 0.08,
    prefixes: int = 32,
    seed: int = 0,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """Teach a model one text, and see what it then says of its words where they have nothing to do: behind prefixes of other texts.

    Beside each word of the text stands a matched one: not in the text, and as likely behind these prefixes before. Then the weights
    that changed most go back to what they were, or as many at random.

    Args:
        model: A hooked model; it stays as it is.
        paragraphs: The texts, each taught alone to the model as it is; of the continuation that they hold.
        contexts: Texts whose prefixes are read; None for the paragraphs themselves, of other clusters than the one that is taught.
        steps: Of AdamW on the text's NLL, without decay, on all weights of the blocks' components.
        learning_rate: Of each.
        reset: Share of these weights that is put back, above 0 and below 1.
        prefixes: How many are read at most.
        seed: Of the choice of prefixes and of random weights.
        batch_size: Prefixes a forward pass.

    Returns:
        Along `reset` ("none", "largest", "random"): `priming` (decades), of each token of the continuation the mean over prefixes of
        log10 P after less before; `priming_matched`, the same of the matched token; and `primed_nll` (nats per token), the text's own
        NLL. Recall of the model as it is is attached: its `token_nll` says how unexpected each token was.

    Raises:
        InputError: If paragraphs or contexts do not fit the model, or a paragraph has no prefix of another cluster.
        LocalizeError: If an option is out of range, or a loss is not finite.

    Source:
        Sun et al. 2025, "How new data permeates LLM knowledge" (arXiv 2504.09522): keywords; all tokens and matched ones: ours.
    """
    how = Steps(steps, learning_rate, batch_size=batch_size)
    how.check()
    if not 0 < reset < 1:
        raise LocalizeError(f"{caller()}: reset={reset} must be a share above 0 and below 1.")
    if isinstance(prefixes, bool) or prefixes < 1:
        raise LocalizeError(f"{caller()}: prefixes={prefixes} must be a whole number of at least 1.")
    pool = _pool(paragraphs if contexts is None else contexts, prefixes, seed)
    pool.check_fits(model)
    recall, before = recall_of(model, paragraphs), log_p_behind(model, pool, batch_size)
    mask, length = choose_weights(model), paragraphs.continuation_length
    own, matched = (np.empty((len(paragraphs), len(RESETS), length)) for _ in range(2))
    after_nll = np.empty((len(paragraphs), len(RESETS)))
    for row in tqdm(range(len(paragraphs)), desc="priming", unit="text", delay=SHOW_AFTER, leave=False):
        one = replace(paragraphs[[row]], true_tokens=None)
        used = np.ones(len(pool), bool) if contexts is not None else pool.clusters != paragraphs.clusters[row]
        if not used.any():
            raise InputError(
                f"{caller()}: paragraph {paragraphs.ids[row]!r} has no prefix of another cluster to be read behind."
            )
        words = one.tokens[0, one.prefix_length :].numpy()
        beside = matched_tokens(before[used].mean(0), words, one.tokens[0].numpy())
        with weights_put_back(model, mask) as chosen:
            descend(model, chosen, [nll("taught", one, 1.0)], how, on_step=lambda step, values: False)
            for at, values in enumerate(_with_resets(chosen, reset, seed, paragraphs.hashes[row])):
                chosen.write(values)
                rise = (log_p_behind(model, pool[np.flatnonzero(used)], batch_size) - before[used]).mean(0)
                own[row, at], matched[row, at] = rise[words], rise[beside]
                after_nll[row, at] = finite_recall(model, one, one.tokens, show=False).token_nll.mean()
    call = {"measurement": "priming", **how._asdict(), "reset": reset, "prefixes": len(pool), "seed": seed}
    arrays = {"priming": own, "priming_matched": matched, "primed_nll": after_nll}
    return labelled(model, paragraphs, recall, arrays, call=call, axes={"reset": RESETS})


def log_p_behind(model: HookedModel, pool: Paragraphs, batch_size: int) -> LogP:
    """log10 of the probability of every token behind each prefix."""
    found = []
    with torch.no_grad():
        for start in range(0, len(pool), batch_size):
            rows = pool.prefixes[start : start + batch_size].to(model.device)
            states = model.final_states(rows, read=slice(-1, None))[:, 0]
            for piece in logit_pieces(model, len(states)):
                found.append(model.hf.lm_head(states[piece]).double().log_softmax(-1).cpu())
    return torch.cat(found).numpy() / np.log(10)


def matched_tokens(
    base: Float[np.ndarray, " vocab"], words: Int[np.ndarray, " word"], text: Int[np.ndarray, " position"]
) -> Int[np.ndarray, " word"]:
    """For each word the token that is not in the text whose base rate is nearest; of equals the first.

    >>> matched_tokens(np.array([0.0, -1.0, -1.1, -3.0]), np.array([1]), np.array([1]))
    array([2])
    """
    others = np.setdiff1d(np.arange(len(base)), text)
    return others[np.abs(base[others] - base[words][:, None]).argmin(1)]


def _pool(contexts: Paragraphs, prefixes: int, seed: int) -> Paragraphs:
    """Some of the texts, drawn by key, in their order."""
    keys = [keyed_integer(2**32, "prefixes", seed, key) for key in contexts.hashes]
    return contexts[np.sort(np.argsort(keys, kind="stable")[:prefixes])]


def _with_resets(chosen: ChosenWeights, reset: float, seed: int, key: bytes) -> list[Tensor]:
    """The weights as they are, with the largest changes put back, and with as many at random."""
    after = chosen.read()
    before = torch.cat([part.to(after.dtype) for part in chosen.before.values()])
    count = max(1, round(reset * len(after)))
    largest = (after - before).abs().topk(count).indices
    generator = np.random.default_rng(keyed_integer(2**32, "reset", seed, key))
    drawn = torch.from_numpy(generator.permutation(len(after))[:count]).to(after.device)
    return [after, *(after.index_copy(0, places, before[places]) for places in (largest, drawn))]
