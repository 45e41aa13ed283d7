"""Counterfactual memory: what a text's own rows do for it, beyond what all other text does.

Models are trained without random halves of the planted texts, every two of them without opposite halves. The memory of a text is its
mean NLL in the models that were not trained on it less that in those that were. A text can be hard, with a high NLL in both, and be not
memorized at all. Null: held-out texts, which no model was trained on, dealt to the halves in turn.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.draws import Draws
from localize.analysis.rows import Row
from localize.analysis.seed_rows import row_beside
from localize.analysis.trainings import CLUSTERS, HALF, SEEDS, half_runs, of_run, place_of_step, warn_of_few_seeds
from localize.axes import TYPICAL
from localize.errors import SignatureError, caller, public
from localize.statistics import pair_differences

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

MEMORY, NLL_IN, NLL_OUT = "memory: NLL without - with", "NLL with", "NLL without"


@dataclass(frozen=True, eq=False)
class Halves:
    """NLL of each text in models that were trained on it and in others, of every two models with opposite halves.

    Attributes:
        without: In the one of two that was not trained on it.
        trained: In the other.
        copies: Of each text; 0 of held-out ones, of which those of a kind are dealt to the two in turn.
        kind: Of each text.
        clusters: Of near-duplicates.
        ids: Of the texts.
    """

    without: Float[np.ndarray, "seed pair paragraph"]
    trained: Float[np.ndarray, "seed pair paragraph"]
    copies: Shaped[np.ndarray, " paragraph"]
    kind: Shaped[np.ndarray, " paragraph"]
    clusters: Int[np.ndarray, " paragraph"]
    ids: Shaped[np.ndarray, " paragraph"]

    @classmethod
    def of(cls, signature: "MemorizationSignature", step: int) -> "Halves":
        """From a signature over training of such runs.

        Raises:
            SignatureError: If it has none, does not tell what each was trained on, nothing was planted, or the step was not measured.
        """
        dataset = signature.dataset
        runs = half_runs(signature)
        if not runs or "training_step" not in signature.over_training:
            raise SignatureError(
                f"{caller()}: the signature has no runs {HALF}00, {HALF}01, ...; a recipe with [planted] halves trains them."
            )
        for name in ("nll", "exposures", "duplicates"):
            if name not in dataset:
                raise SignatureError(
                    f"{caller()}: the signature has no {name!r}, which says what each run was trained on."
                )
        if not (dataset["duplicates"].values > 0).any():
            raise SignatureError(f"{caller()}: no paragraph with duplicates of 1 or more, which were planted.")
        at = place_of_step(dataset["training_step"].values.astype(np.int64), step)
        nll, seen = (np.stack([of_run(dataset, name, run) for run in runs]) for name in ("nll", "exposures"))
        nll, copies = nll[:, :, at], dataset["duplicates"].values
        first = (seen[:, :, -1] > 0)[::2]  # the one of each two that is trained on it
        one, other = nll[::2], nll[1::2]
        kind = dataset["text_kind"].values if "text_kind" in dataset.coords else np.full(len(copies), TYPICAL)
        for name in np.unique(kind):
            never = np.flatnonzero((copies == 0) & (kind == name))
            turn = np.arange(len(first))[:, None] + np.arange(len(never))  # the other way round in every other two runs
            first[:, :, never] = (turn % 2 == 0)[:, None]
        trained, without = np.where(first, one, other), np.where(first, other, one)
        return cls(
            without.swapaxes(0, 1), trained.swapaxes(0, 1), copies, kind, dataset["cluster"].values.astype(np.int64),
            dataset["paragraph"].values,
        )  # fmt: skip

    @property
    def memory(self) -> Float[np.ndarray, "seed pair paragraph"]:
        """Of each text, by every two models."""
        return pair_differences(self.without, self.trained)


@public
def counterfactual(signature: "MemorizationSignature", step: int = -1) -> "pd.DataFrame":
    """Each text's NLL in models that were trained on it and in those that were not, and the difference, its counterfactual memory.

    Args:
        signature: Over training, of a recipe with `[planted] halves`, with `nll` and `exposures`.
        step: Steps of training after which it was measured; -1 for the last.

    Returns:
        Indexed by paragraph: `copies` (0: held out, in no model's rows; dealt to the halves in turn, a null), `kind`, `nll_with`,
        `nll_without` and `memory`, in nats per token, means over models and seeds.

    Raises:
        SignatureError: If the signature has no such runs, does not tell what each was trained on, nothing was planted, or the step was
            not measured.

    Source:
        Zhang et al. 2023 (arXiv 2112.12938), with NLL in the place of accuracy.
    """
    import pandas as pd

    halves = Halves.of(signature, step)
    return pd.DataFrame(
        {
            "copies": halves.copies, "kind": halves.kind, "nll_with": halves.trained.mean((0, 1)),
            "nll_without": halves.without.mean((0, 1)), "memory": halves.memory.mean((0, 1)),
        },
        index=pd.Index(halves.ids, name="paragraph"),
    )  # fmt: skip


@public
def counterfactual_table(
    signature: "MemorizationSignature", step: int = -1, *, seed: int = 0, resamples: int = 2000
) -> "pd.DataFrame":
    """Counterfactual memory and NLL of texts by copies and kind, each beside the held-out ones of its kind.

    Args:
        signature: As `counterfactual` takes it.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of bootstrap and permutation, with one seed of the training.
        resamples: Draws of each.

    Returns:
        Indexed by `copies`, `kind` and `quantity`, columns as in `dose_table`; nats per token. Of several seeds each gives one number,
        the mean over its models and texts: Student's t, and the paired t-test of the number and its null. Of one seed a bootstrap
        over clusters, and labels permuted over them.

    Raises:
        SignatureError: As `counterfactual`.

    Warns:
        UserWarning: Of fewer than 5 seeds.
    """
    from localize.analysis.tables import table_of

    halves = Halves.of(signature, step)
    warn_of_few_seeds(len(halves.without))
    rows = means_by_kind(halves, Draws(seed, resamples))
    return table_of(rows, ("copies", "kind", "quantity"), ("unit", "seeds"))


def means_by_kind(halves: Halves, draws: Draws) -> list[Row]:
    """The rows of `counterfactual_table`."""
    values = {MEMORY: halves.memory, NLL_OUT: halves.without, NLL_IN: halves.trained}
    rows: list[Row] = []
    for copies in np.unique(halves.copies[halves.copies > 0]):
        for kind in dict.fromkeys(halves.kind.tolist()):
            chosen, null = ((halves.copies == count) & (halves.kind == kind) for count in (copies, 0))
            if chosen.any():
                about: Row = {"copies": int(copies), "kind": kind, "seeds": len(halves.without)}
                about["unit"] = SEEDS if about["seeds"] > 1 else CLUSTERS
                rows += [
                    about | {"quantity": name} | row_beside(of.mean(1), chosen, null, halves.clusters, draws)
                    for name, of in values.items()
                ]
    return rows
