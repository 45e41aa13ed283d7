"""The sets of an edit: which paragraphs to forget, which to keep, and what a new text is."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Shaped

from localize.axes import MEMORIZED, OWN
from localize.errors import InputError, LocalizeError, caller
from localize.keyed import keyed_integer
from localize.measure.inputs import reads_inputs
from localize.measure.labels import groups_of
from localize.measure.pairs import copies_held
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.clusters import near_duplicate_clusters
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


class EditSets(NamedTuple):
    """Paragraphs dealt out by whole clusters of near-duplicates.

    Attributes:
        forget: To be forgotten: one of each cluster chosen.
        keep: To be held while that is done.
        others: Neither: the forgotten ones' near-duplicates, and clusters that the edit does not see, to judge it by. None if there
            are none.
    """

    forget: Paragraphs
    keep: Paragraphs
    others: Paragraphs | None


@reads_inputs("paragraphs")
def edit_sets(
    model: HookedModel,
    paragraphs: Paragraphs,
    *,
    forget: int = 10,
    group: str = MEMORIZED,
    keep: float = 0.5,
    seed: int = 0,
) -> EditSets:
    """Deal paragraphs out into a forget set, a keep set and others that an edit does not see; no cluster is in two of them.

    Args:
        model: A hooked model, whose recall makes the groups, unless the paragraphs bring their own.
        paragraphs: To deal out.
        forget: How many to forget, each from another cluster; drawn at random.
        group: The group that these are from.
        keep: Share of every group's other clusters that is kept, in (0, 1).
        seed: Of the draws, which are keyed by the clusters' first paragraphs: they do not hang on the order of paragraphs.

    Raises:
        LocalizeError: If there is no such group, it has fewer clusters than `forget`, or `keep` is out of range.
    """
    groups = groups_of(paragraphs, recall_of(model, paragraphs))
    if group not in groups:
        raise LocalizeError(
            f"{caller()}: group={group!r} has no paragraph; there are {', '.join(sorted(set(groups)))}."
        )
    if not 0 < keep < 1:
        raise LocalizeError(f"{caller()}: keep={keep} must lie between 0 and 1, both left out.")
    clusters = paragraphs.clusters
    candidates = _shuffled(paragraphs, np.flatnonzero(groups == group), "forget", seed)
    chosen = [rows[0] for rows in candidates]
    if not 1 <= forget <= len(chosen):
        raise LocalizeError(
            f"{caller()}: forget={forget} must lie in 1..{len(chosen)}, the clusters of {group} paragraphs."
        )
    forgotten = np.sort(chosen[:forget])
    free = np.flatnonzero(~np.isin(clusters, clusters[forgotten]))
    if not len(free):
        raise LocalizeError(f"{caller()}: forget={forget} leaves no cluster to keep.")
    kept = free[deal_kept(paragraphs[free], groups[free], keep, seed)]
    left = np.setdiff1d(np.arange(len(paragraphs)), np.concatenate([forgotten, kept]))
    return EditSets(paragraphs[forgotten], paragraphs[kept], paragraphs[left] if len(left) else None)


def deal_kept(
    paragraphs: Paragraphs, groups: Shaped[np.ndarray, " paragraph"], share: float, seed: int
) -> Int[np.ndarray, " row"]:
    """Rows to keep, ascending: that share of the clusters of every group, at least one; a cluster is of its first paragraph's group."""
    clusters = paragraphs.clusters
    first_group = {cluster: groups[np.argmax(clusters == cluster)] for cluster in np.unique(clusters)}
    kept: list[int] = []
    for name in sorted(set(first_group.values())):
        of_group = np.flatnonzero(np.isin(clusters, [c for c, g in first_group.items() if g == name]))
        dealt = _shuffled(paragraphs, of_group, "keep", seed)
        kept += [row for rows in dealt[: max(1, round(share * len(dealt)))] for row in rows]
    return np.sort(kept)


def _shuffled(paragraphs: Paragraphs, rows: Int[np.ndarray, " row"], what: str, seed: int) -> list[list[int]]:
    """The clusters of these rows, each with its rows, in random order; so are the rows of each."""
    hashes = paragraphs.hashes
    order = sorted(rows.tolist(), key=lambda row: (keyed_integer(2**32, "edit sets", what, seed, hashes[row]), row))
    by_cluster: dict[int, list[int]] = {}
    for row in order:
        by_cluster.setdefault(int(paragraphs.clusters[row]), []).append(row)
    return list(by_cluster.values())


def check_apart(model: HookedModel, forget: Paragraphs, keep: Paragraphs) -> None:
    """Raise an `InputError` if the sets do not fit the model, share a paragraph, or hold near-duplicates of each other."""
    for paragraphs in (forget, keep):
        paragraphs.check_fits(model)
    of_forget, of_keep = (f"{p.prefix_length} + {p.continuation_length}" for p in (forget, keep))
    if of_forget != of_keep:
        raise InputError(
            f"{caller()}: the forget set has paragraphs of {of_forget} tokens, the keep set of {of_keep}; one length is needed."
        )
    place = {digest: row for row, digest in enumerate(keep.hashes)}
    for row, digest in enumerate(forget.hashes):
        if digest in place:
            raise InputError(
                f"{caller()}: paragraph {forget.ids[row]!r} (row {row}) of the forget set is {keep.ids[place[digest]]!r} "
                f"(row {place[digest]}) of the keep set; the sets must not overlap."
            )
    clusters = near_duplicate_clusters(torch.cat([forget.recall_tokens, keep.recall_tokens]).numpy())
    first, second = clusters[: len(forget)], clusters[len(forget) :]
    if (shared := np.isin(first, second)).any():
        row = int(shared.argmax())
        other = int((second == first[row]).argmax())
        raise InputError(
            f"{caller()}: paragraph {forget.ids[row]!r} (row {row}) of the forget set and {keep.ids[other]!r} (row {other}) of the keep "
            "set are in one cluster of near-duplicates; keep other clusters (see edit_sets)."
        )


def rewritten_to(
    model: HookedModel, paragraphs: Paragraphs, copies: "Paragraphs | MemorizationSignature", kind: str | None
) -> Paragraphs:
    """The prefixes of the paragraphs, each with its copy's continuation.

    Raises:
        InputError: If the copies are not of these paragraphs, or one says what the paragraph says.
    """
    prefix = paragraphs.prefix_length
    if isinstance(copies, Paragraphs):
        if copies.tokens.shape != paragraphs.tokens.shape or copies.prefix_length != prefix:
            raise InputError(
                f"{caller()}: the copies are {len(copies)} x ({copies.prefix_length} + {copies.continuation_length}) tokens, the "
                f"paragraphs {len(paragraphs)} x ({prefix} + {paragraphs.continuation_length}); they must match row by row."
            )
        said = copies.continuations
    else:
        continuation = copies["copy_tokens"].attrs["continuation"] if "copy_tokens" in copies else OWN
        said = copies_held(model, paragraphs, copies, kind, continuation)[0][:, prefix:]
    if len(set(paragraphs.hashes)) < len(paragraphs):
        raise InputError(f"{caller()}: a paragraph stands twice; each can be taught one new continuation.")
    same = (said == paragraphs.continuations).all(1)
    if bool(same.any()):
        row = int(same.int().argmax())
        raise InputError(
            f"{caller()}: the new continuation of paragraph {paragraphs.ids[row]!r} (row {row}) is the one it has; another is needed."
        )
    tokens = torch.cat([paragraphs.prefixes, said], dim=1)
    new = Paragraphs(tokens, prefix, paragraphs.ids, source=f"{paragraphs.source}, rewritten")
    new.check_fits(model)
    return new


def begun(paragraphs: Paragraphs, first: int) -> Paragraphs:
    """With the first so many tokens of each continuation, as they are in `tokens`."""
    return replace(paragraphs, tokens=paragraphs.tokens[:, : paragraphs.prefix_length + first], true_tokens=None)
