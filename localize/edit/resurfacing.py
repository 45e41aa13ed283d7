"""Whether a forgotten text is gone or only hidden: attacks of a stated budget that bring it back."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from localize.axes import ATTACKS, FORGET, NEVER_TRAINED
from localize.edit.descent import Steps, descend, weights_put_back
from localize.edit.masks import WeightMask, choose_weights, top_weights
from localize.edit.objectives import nll
from localize.edit.prompts import prompted_recall, said
from localize.edit.sets import begun as with_begun
from localize.edit.weight_edit import WeightEdit
from localize.errors import InputError, LocalizeError, caller
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import Recall, check_changed, check_finite, measure_tokens
from localize.models.hooks import HookedModel
from localize.models.parameters import block_weight_count
from localize.models.vocabulary import text_tokens_words
from localize.paragraphs.joined import joined
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@reads_inputs("forget", "never_trained", "others")
def resurface(
    model: HookedModel,
    edit: WeightEdit,
    forget: Paragraphs,
    never_trained: Paragraphs,
    others: Paragraphs,
    *,
    steps: int = 50,
    learning_rate: float = 1e-3,
    begun: int = 5,
    samples: int = 100,
    draws: int = 3,
    seed: int = 0,
    batch_size: int = 16,
) -> "MemorizationSignature":
    """What attacks bring back of texts that an edit was to remove, and of text that was never trained: the null.

    ======================== =====================================================================================================
    attack                   what is done, and what is asked for
    ======================== =====================================================================================================
    as_is                    nothing
    one_changed              the prefix has one random token changed; mean over draws
    second_half              half of the prefix is given
    fifth_given, half_given  a fifth or half of the continuation is given, and the rest asked for
    best_of_samples          the longest match of `samples` samples at temperature 1, in the mean
    float16                  the blocks' weights are rounded to float16
    relearned_others         all of the blocks' weights are trained on `others`
    relearned_others_largest the same, of as many weights as the edit changes, those with the text's largest gradient before it
    relearned_begun          they are trained on the text's first `begun` continuation tokens; the tokens after these are asked for
    ======================== =====================================================================================================

    Args:
        model: The model that the edit was made of, unedited; it is as it was afterwards, to the bit.
        edit: What changes it.
        forget: Texts that the edit was to remove; of their true continuations.
        never_trained: Text that the model was never trained on, attacked alike.
        others: Other texts of the kind of those to forget, that the edit was not to remove; ten are usual.
        steps: Of AdamW, over all that are trained on, without decay.
        learning_rate: Of each step.
        begun: Continuation tokens that are trained on in "relearned_begun".
        samples: At temperature 1.
        draws: Random tokens tried where the prompt is changed by one.
        seed: Of these.
        batch_size: Paragraphs a pass.

    Returns:
        `resurfaced_recall`, the share of the tokens asked for that is said before the first error, in the groups `forget` and
        `never_trained`. A text is only as gone as the worst attack on it says.

    Raises:
        InputError: If a text to forget is none of the edit's, one of the other two sets holds a near-duplicate of it, or they do not
            fit the model.
        LocalizeError: If an option is out of range, the edit is of another model, or an NLL on the way is not finite.
    """
    how = Steps(steps, learning_rate, batch_size=batch_size)
    how.check()
    if not 1 <= begun < forget.continuation_length:
        raise LocalizeError(
            f"{caller()}: begun={begun} must lie in 1..{forget.continuation_length - 1}, of the continuation's tokens some are asked for."
        )
    for name, value in (("samples", samples), ("draws", draws)):
        if value < 1:
            raise LocalizeError(f"{caller()}: {name}={value} must be at least 1.")
    named = set(edit.call.get("forget", ()))  # of `curvature_edit` none
    if named and (
        strange := [name for name, digest in zip(forget.ids, forget.hashes, strict=True) if digest.hex() not in named]
    ):
        raise InputError(
            f"{caller()}: forget: {strange[0]!r} is none of the {len(named)} paragraphs that the edit was to forget."
        )
    forget, never_trained, others = (_true(part) for part in (forget, never_trained, others))
    for name, part in (("never_trained", never_trained), ("others", others)):
        _check_apart(forget, part, name)
    both = joined(forget, never_trained, ids=[f"{NEVER_TRAINED} {name}" for name in never_trained.ids])
    both = both.with_groups([FORGET] * len(forget) + [NEVER_TRAINED] * len(never_trained))
    everything = choose_weights(model)
    largest = top_weights(model, forget, len(edit) / block_weight_count(model), batch_size=batch_size)
    sets = np.split(np.arange(len(both)), [len(forget)])

    def right() -> Bool[np.ndarray, "paragraph token"]:
        flags, loss = measure_tokens(model, both.tokens, both.prefix_length, batch_size=4 * batch_size, show=False)
        check_changed(model, both.ids, loss)
        return flags

    def after_training(on: Paragraphs, mask: WeightMask) -> Bool[np.ndarray, "paragraph token"]:
        with weights_put_back(model, mask) as chosen:
            descend(model, chosen, [nll("attack", on, 1.0)], how, on_step=lambda *_: False)
            return right()

    found: dict[str, Float[np.ndarray, " paragraph"]] = {}
    with edit.applied(model):
        flags, token_nll = measure_tokens(model, both.tokens, both.prefix_length, batch_size=4 * batch_size, show=False)
        recall = Recall(flags.cumprod(1).sum(1), token_nll)
        check_finite(model, both, recall)
        found |= prompted_recall(model, both, flags, draws, seed, 4 * batch_size)
        found["best_of_samples"] = longest_match(token_nll, samples) / both.continuation_length
        with weights_put_back(model, everything) as chosen:
            whole = chosen.read()
            chosen.write(whole.half().to(whole.dtype))
            found["float16"] = said(right())
        found["relearned_others"] = said(after_training(others, everything))
        found["relearned_others_largest"] = said(after_training(others, largest))
        found["relearned_begun"] = np.concatenate([
            said(after_training(with_begun(both[rows], begun), everything)[rows, begun:]) for rows in sets
        ])  # fmt: skip
        call: dict[str, Any] = {
            "measurement": "resurface", "steps": steps, "learning_rate": learning_rate, "begun": begun, "samples": samples,
            "draws": draws, "drawn_from": text_tokens_words(model), "seed": seed, "batch_size": batch_size,
            "others": [digest.hex() for digest in others.hashes], "edit": {"measurement": edit.call["measurement"], "changed": len(edit)},
        }  # fmt: skip
        arrays = {"resurfaced_recall": np.stack([found[attack] for attack in ATTACKS], axis=1)}
        return labelled(model, both, recall, arrays, call=call, axes={"attack": ATTACKS})


def longest_match(token_nll: Float[np.ndarray, "paragraph token"], samples: int) -> Float[np.ndarray, " paragraph"]:
    """The tokens before the first error of the best of some samples at temperature 1, in the mean over such draws of samples.

    A sample says the first j tokens with the probability S_j, the product of theirs. The best of n has at least j with
    1 - (1 - S_j)^n, and the mean of a count is the sum over j of that: no sample is drawn, and none is a matter of luck.

    >>> longest_match(-np.log(np.array([[0.5, 0.5]])), 1)
    array([0.75])
    """
    said_so_far = np.exp(-token_nll.astype(np.float64).cumsum(1))
    return -np.expm1(samples * np.log1p(-np.minimum(said_so_far, 1 - 1e-15))).sum(1)


def _true(paragraphs: Paragraphs) -> Paragraphs:
    """With the true continuations, where they are known, as `tokens`."""
    return replace(
        paragraphs, tokens=paragraphs.recall_tokens, true_tokens=None, continuation=paragraphs.recall_continuation
    )


def _check_apart(forget: Paragraphs, part: Paragraphs, name: str) -> None:
    """Raise an `InputError` if a paragraph is a near-duplicate of one to forget: training on it would be training on that."""
    clusters = joined(forget, part, ids=[f"{name} {one}" for one in part.ids]).clusters
    mine, theirs = clusters[: len(forget)], clusters[len(forget) :]
    if len(shared := np.flatnonzero(np.isin(theirs, mine))):
        twin = int(np.flatnonzero(mine == theirs[shared[0]])[0])
        raise InputError(
            f"{caller()}: {name}: {part.ids[shared[0]]!r} is a near-duplicate of {forget.ids[twin]!r}, which was to be forgotten."
        )
