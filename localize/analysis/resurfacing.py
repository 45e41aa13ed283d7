"""What attacks bring back of forgotten texts, beside text that was never trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.draws import Draws
from localize.analysis.rows import NO_NULL, rows_of
from localize.axes import FORGET, NEVER_TRAINED
from localize.errors import SignatureError, caller, public
from localize.statistics import ZERO_TO_ONE

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

    Runs = MemorizationSignature | Sequence[MemorizationSignature]

WORST = "worst"
"""Of each text the attack that brings most of it back."""


@dataclass(frozen=True, eq=False)
class Attacked:
    """What attacks on one edit brought back of each text, all of its runs one below the other.

    Attributes:
        shares: By attack, "worst" last, the share of the tokens asked for that is said before the first error.
        group: `forget` or `never_trained`.
        clusters: The cluster of each text; a text of two runs is in one.
    """

    shares: Mapping[str, Float[np.ndarray, " row"]]
    group: Shaped[np.ndarray, " row"]
    clusters: Int[np.ndarray, " row"]

    @classmethod
    def of(cls, edit: str, given: "Runs") -> "Attacked":
        """The runs of the edit of that name.

        Raises:
            SignatureError: If there is none, or one does not hold attacks.
        """
        signatures = list(given) if isinstance(given, Sequence) else [given]
        if not signatures or any("resurfaced_recall" not in one for one in signatures):
            raise SignatureError(
                f"{caller()}: {edit!r} does not hold resurfaced_recall; localize.resurface(model, edit, ...) gives it."
            )
        held = [one["resurfaced_recall"].transpose("paragraph", "attack") for one in signatures]
        values = np.concatenate([one.values for one in held]).astype(float)
        of_attack = {str(name): values[:, at] for at, name in enumerate(held[0]["attack"].values)}
        group = np.concatenate([one["group"].values for one in signatures]).astype(str)
        return cls({**of_attack, WORST: values.max(1)}, group, _clusters(signatures))


@public
def resurfacing_table(
    runs: "Mapping[str, Runs]",
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """How much of what several edits were to remove comes back under each attack.

    Args:
        runs: By the edit's name what `localize.resurface` gave; several of one edit, with other forget sets, are pooled.
        seed: Of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Indexed by `edit`, `attack` and `group`: `forget`, `never_trained`, which is the null, and their difference, of which alone it
        can be said that something came back. The estimate is the mean share of the tokens asked for that is said before the first
        error, with its 95 % interval by bootstrap over clusters; p of the difference by labels permuted over clusters. "worst" takes
        of each text, forgotten or not, the attack that does most.

    Raises:
        SignatureError: If there is no run, or one does not hold attacks.
    """
    from localize.analysis.tables import table_of

    if not runs:
        raise SignatureError(f"{caller()}: runs is empty; at least one signature from localize.resurface is needed.")
    draws, rows = Draws(seed, resamples), []
    for edit, given in runs.items():
        attacked = Attacked.of(edit, given)
        for attack, shares in attacked.shares.items():
            found = rows_of(
                attack,
                shares,
                attacked.group,
                attacked.clusters,
                draws,
                lambda _: NO_NULL,
                ZERO_TO_ONE,
                pair=(FORGET, NEVER_TRAINED),
            )
            rows += [{"edit": edit, "attack": attack} | row for row in found]
    return table_of(rows, ("edit", "attack", "group"))


def _clusters(signatures: "Sequence[MemorizationSignature]") -> Int[np.ndarray, " row"]:
    """The cluster of each row of several runs: those of a run, joined where a text stands in several runs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    tokens = np.concatenate([one["tokens"].values for one in signatures])
    text = np.unique(tokens, axis=0, return_inverse=True)[1].reshape(-1)
    own = np.concatenate([one["cluster"].values for one in signatures])
    run = np.repeat(np.arange(len(signatures)), [len(one["cluster"]) for one in signatures])
    cluster = np.unique(np.stack([run, own]), axis=1, return_inverse=True)[1].reshape(-1)
    size = text.max() + 1 + cluster.max() + 1  # texts, then clusters of a run: a row joins one of each
    joined = coo_array((np.ones(len(text)), (text, text.max() + 1 + cluster)), shape=(size, size))
    return connected_components(joined, directed=False)[1][text]
