"""What an edit changed, and what it did not: the same paragraphs before and after it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from localize.analysis.change import Change
from localize.axes import FORGET, GENERAL, KEPT, NEAR_DUPLICATE, PROMPTS, RECALL_GROUPS
from localize.edit.prompts import prompted_recall
from localize.edit.weight_edit import WeightEdit
from localize.errors import InputError, LocalizeError, caller, warn
from localize.measure.inputs import reads_inputs
from localize.measure.labels import NOT_MEMORIZED_SHARE, groups_of, labelled
from localize.measure.scoring import Recall, check_finite, finite_recall, measure_tokens, recall_of
from localize.models.hooks import HookedModel
from localize.models.vocabulary import text_tokens_words
from localize.paragraphs.joined import joined
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


RUN = 16
"""Tokens in a row that no two texts share by chance: who says so many of a forgotten text says that text."""


@reads_inputs("paragraphs", "general")
def evaluate_edit(
    model: HookedModel,
    edit: WeightEdit,
    paragraphs: Paragraphs,
    *,
    general: Paragraphs | None = None,
    draws: int = 3,
    seed: int = 0,
    batch_size: int = 64,
) -> Change:
    """Recall before and after an edit: of what it should remove, of what it should hold, and of what it never saw.

    Groups follow from the edit, which knows its paragraphs: `forget`; `near_duplicate`, in the cluster of one of these, or with a
    continuation, be it the true one or what the model says, that has 16 tokens in a row of theirs; `kept_...`, the keep set and its
    near-duplicates by their recall; all others by theirs, before the edit: `memorized`, `partial`, `not_memorized`.
    An edit that names no paragraph (`curvature_edit`) has the latter alone.

    Args:
        model: A hooked model, not edited; it is edited for a while, and is then as it was, to the bit.
        edit: What changes it.
        paragraphs: The forget and keep sets among them, and others by which the edit is judged.
        general: Text of the same lengths that the model should not know by heart; of its NLL perplexity is made. Group `general`.
            What is recited of it is told by a warning.
        draws: Random tokens tried where the prompt is changed by one.
        seed: Of these.
        batch_size: Paragraphs a pass.

    Returns:
        Two signatures, before and after: `exact_match` and `nll` of the true continuation; `token_accuracy`, the true tokens before given:
        what is left where only the first words have gone; `reference_exact_match` and `reference_nll` of the continuation that the
        unedited model says, whole before (in half precision nearly: decoding rounds otherwise than reading); `prompted_recall` behind
        other prompts; of a rewriting `rewritten_exact_match` and `rewritten_nll`. `.table()` tells the changes.

    Raises:
        InputError: If none of the paragraphs is of the forget set, one of the general text is a near-duplicate of what the edit saw, or
            is what its curvature was measured on, or they do not fit.
        LocalizeError: If the edit is of another model.
    """
    if draws < 1:
        raise LocalizeError(f"{caller()}: draws={draws} must be at least 1.")
    own = paragraphs.with_own_continuation(model).tokens
    groups = _roles(model, edit, paragraphs, own)
    if general is not None:
        named = [f"{GENERAL} {name}" for name in general.ids]
        paragraphs = joined(paragraphs, general, ids=named)
        groups += [GENERAL] * len(general)
        _check_unseen(paragraphs, groups)
        _check_not_fitted(general, edit)
        own = torch.cat([own, general.with_own_continuation(model).tokens])
    paragraphs = paragraphs.with_groups(groups)
    told = {name: edit.call[name] for name in edit.call if name not in ("forget", "keep", "new", "log")}
    call = {"measurement": "evaluate_edit", "draws": draws, "drawn_from": text_tokens_words(model), "seed": seed}
    call |= {"batch_size": batch_size}
    call |= {"edit": {**told, "changed": len(edit), "of_weights": edit.weights_hash}}

    def measured(edited: bool) -> "MemorizationSignature":
        recall, arrays = _measured(model, paragraphs, own, edit.call.get("new"), draws, seed, batch_size)
        check_finite(model, paragraphs, recall)
        return labelled(model, paragraphs, recall, arrays, call={**call, "edited": edited}, axes={"prompt": PROMPTS})

    before = measured(False)
    if general is not None:
        _warn_of_recited(before, model)
    with edit.applied(model):
        return Change(before, measured(True))


def _roles(
    model: HookedModel, edit: WeightEdit, paragraphs: Paragraphs, own: Int[Tensor, "paragraph position"]
) -> list[str]:
    """What each paragraph is to the edit, given the tokens that the model says after each prefix."""
    forgotten, kept = (set(edit.call.get(name, ())) for name in ("forget", "keep"))
    digests = [digest.hex() for digest in paragraphs.hashes]
    in_forget = np.array([digest in forgotten for digest in digests])
    if forgotten and not in_forget.any():
        raise InputError(
            f"{caller()}: none of the {len(paragraphs)} paragraphs of {paragraphs.source} is among the {len(forgotten)} that the "
            "edit was to forget."
        )
    in_keep = np.array([digest in kept for digest in digests])
    near, near_kept = (np.isin(paragraphs.clusters, paragraphs.clusters[part]) for part in (in_forget, in_keep))
    prefix = paragraphs.prefix_length
    gone = paragraphs.recall_tokens[in_forget, prefix:]
    for said in (paragraphs.recall_tokens, own):
        near |= shares_run(said[:, prefix:], gone, RUN)
    recalled = groups_of(_ungrouped(paragraphs), recall_of(model, paragraphs))
    assert set(recalled) <= set(RECALL_GROUPS)
    roles = np.where(near_kept, np.char.add(f"{KEPT}_", recalled.astype(str)), recalled.astype(str)).astype(object)
    roles[near & ~in_keep] = NEAR_DUPLICATE
    roles[in_forget] = FORGET
    return roles.tolist()


def shares_run(
    tokens: Int[Tensor, "paragraph position"], others: Int[Tensor, "other position"], length: int
) -> Bool[np.ndarray, " paragraph"]:
    """Which rows hold so many tokens in a row that stand so in one of the others.

    >>> shares_run(torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]]), torch.tensor([[9, 2, 3, 9]]), 2)
    array([ True, False])
    """
    runs = {tuple(row[at : at + length]) for row in others.tolist() for at in range(len(row) - length + 1)}
    return np.array(
        [
            any(tuple(row[at : at + length]) in runs for at in range(len(row) - length + 1))
            for row in tokens.tolist()
        ],
        dtype=bool,
    )  # fmt: skip


def _warn_of_recited(before: "MemorizationSignature", model: HookedModel) -> None:
    """Warn of general text that the unedited model says: its perplexity is then that of memory."""
    text = before.where(group=GENERAL)
    length = before.dataset.sizes["continuation_position"]
    recited = int((text["exact_match"].values > NOT_MEMORIZED_SHARE * length).sum())
    if recited:
        warn(
            f"{caller()}: {recited} of {len(text)} paragraphs of the general text are recited by {model.name} before the edit (exact "
            f"match above {NOT_MEMORIZED_SHARE:.0%} of the continuation): their perplexity is that of memory too."
        )


def _check_unseen(paragraphs: Paragraphs, groups: list[str]) -> None:
    """Raise an `InputError` if general text is near what the edit saw."""
    group, clusters = np.array(groups), paragraphs.clusters
    unseen = np.isin(group, (*RECALL_GROUPS, GENERAL))
    leaked = np.flatnonzero((group == GENERAL) & np.isin(clusters, clusters[~unseen]))
    if len(leaked):
        other = int(np.flatnonzero((clusters == clusters[leaked[0]]) & ~unseen)[0])
        raise InputError(
            f"{caller()}: {paragraphs.ids[leaked[0]]!r} is a near-duplicate of {paragraphs.ids[other]!r}, which the edit saw as "
            f"{groups[other]}; general text must be none of it."
        )


def _check_not_fitted(general: Paragraphs, edit: WeightEdit) -> None:
    """Raise an `InputError` if general text is what an edit was told not to harm."""
    fitted = set(edit.call.get("general", ()))
    if both := [name for name, digest in zip(general.ids, general.hashes, strict=True) if digest.hex() in fitted]:
        raise InputError(
            f"{caller()}: {both[0]!r} of the general text is among what the curvature was measured on ({len(both)} of {len(general)}); an "
            "edit is judged by other text."
        )


def _measured(
    model: HookedModel,
    paragraphs: Paragraphs,
    own: Int[Tensor, "paragraph position"],
    new: Mapping[str, list[int]] | None,
    draws: int,
    seed: int,
    batch_size: int,
) -> tuple[Recall, dict[str, Any]]:
    """Recall and all else of one model, edited or not."""
    tokens, prefix = paragraphs.recall_tokens, paragraphs.prefix_length
    right, nll = measure_tokens(model, tokens, prefix, batch_size=batch_size)
    reference = finite_recall(model, paragraphs, own, batch_size=batch_size)
    prompted = prompted_recall(model, paragraphs, right, draws, seed, batch_size)
    arrays: dict[str, Any] = {
        "token_accuracy": right.mean(1),
        "reference_exact_match": reference.exact_match,
        "reference_nll": reference.token_nll.mean(1),
        "prompted_recall": np.stack([prompted[prompt] for prompt in PROMPTS], axis=1),
    }
    if new is not None:
        arrays |= _rewritten(model, paragraphs, new, batch_size)
    return Recall(right.cumprod(1).sum(1), nll), arrays


def _rewritten(
    model: HookedModel, paragraphs: Paragraphs, new: Mapping[str, list[int]], batch_size: int
) -> dict[str, Float[np.ndarray, " paragraph"]]:
    """Recall of the new continuations; nan for paragraphs that have none."""
    exact_match, nll = (np.full(len(paragraphs), np.nan) for _ in range(2))
    rows = [row for row, digest in enumerate(paragraphs.hashes) if digest.hex() in new]
    said = torch.tensor([new[paragraphs.hashes[row].hex()] for row in rows])
    tokens = torch.cat([paragraphs.prefixes[rows], said], dim=1)
    recall = finite_recall(model, paragraphs[rows], tokens, batch_size=batch_size)
    exact_match[rows], nll[rows] = recall.exact_match, recall.token_nll.mean(1)
    return {"rewritten_exact_match": exact_match, "rewritten_nll": nll}


def _ungrouped(paragraphs: Paragraphs) -> Paragraphs:
    """Without the user's own groups, so that recall makes them."""
    from dataclasses import replace

    return replace(paragraphs, groups=None, em_bins=None)
