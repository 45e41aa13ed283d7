"""The perturbed copies that a signature holds, as paragraphs that can be measured like any others."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from localize.axes import OWN
from localize.errors import InputError, caller, public
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@public
def copies_of(signature: "MemorizationSignature", paragraphs: Paragraphs, kind: str | None = None) -> Paragraphs:
    """The perturbed copies of paragraphs, made by `perturb_prefix`, with the ids, clusters and groups of their originals.

    A copy is the prefix with the token replaced that does most, and what the model then says: its own continuation. Measured,
    it stands row by row beside its original (`compare_paired`). What is the model's own on the one side is compared with the
    own continuation on the other: `paragraphs.with_own_continuation(model)`.

    Args:
        signature: Of `perturb_prefix`, of these paragraphs.
        paragraphs: What was perturbed.
        kind: Of replacement; None takes the first that was measured.

    Returns:
        As many paragraphs, in the same order; groups are those of the signature, so that a copy stays in its original's group.

    Raises:
        InputError: If the signature holds no copies, none of this kind, or is of other paragraphs.
    """
    if "copy_tokens" not in signature:
        raise InputError(
            f"{caller()}: the signature has no 'copy_tokens'; measure it with localize.perturb_prefix(model, paragraphs)."
        )
    signature.one_model(caller())
    dataset = signature.dataset
    theirs, ours = dataset.attrs["paragraphs"]["data_hash"], paragraphs.data_hash
    if theirs != ours or dataset["paragraph"].values.tolist() != list(paragraphs.ids):
        raise InputError(
            f"{caller()}: the signature is of {len(signature)} of {dataset.attrs['paragraphs']['source']} (data_hash {theirs[:12]}), "
            f"the paragraphs are {len(paragraphs)} of {paragraphs.source} (data_hash {ours[:12]}); the same ones, in the same "
            "order, are needed."
        )
    kinds = [str(name) for name in dataset["kind"].values]
    if kind is not None and kind not in kinds:
        raise InputError(f"{caller()}: kind={kind!r} is not one of those copied, {', '.join(kinds)}.")
    kind = kinds[0] if kind is None else kind
    return Paragraphs(
        torch.from_numpy(dataset["copy_tokens"].sel(kind=kind).values.astype(np.int64)),
        paragraphs.prefix_length,
        ids=paragraphs.ids,
        groups=tuple(str(name) for name in dataset["group"].values),
        duplicates=paragraphs.duplicates,
        continuation=OWN,
        source=f"{paragraphs.source}, copies with one token changed ({kind})",
        # A copy is no paragraph of its own: it counts with its original.
        known_clusters=dataset["cluster"].values.copy(),
    )
