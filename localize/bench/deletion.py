"""DEL: what a localizer's best units are to text that the model recites by itself."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from localize.axes import MLP_PART
from localize.bench.unit_scores import unit_scores
from localize.errors import InputError, caller, public
from localize.keyed import keyed_integer
from localize.localizers import Localizer
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.statistics.ranking import ranks
from localize.truths.gates import scored_with
from localize.truths.texts import not_recited

SHARES = (0.005, 0.02)
"""Of all MLP units, zeroed for each text."""
TEXTS = 16
RANDOM = "as many random units"


@dataclass(frozen=True)
class Deleted:
    """What zeroing the best units for one text does.

    Attributes:
        localizer: Whose best units, or "as many random units".
        text: For which.
        share: Of all MLP units that are zeroed.
        units: How many that is.
        own: Rise of the text's own NLL, nats per token.
        others: Mean rise of other recited texts' NLL.
        held_out: Mean rise of text that is not recited.
        recited: Whether the text is still recited.
    """

    localizer: str
    text: str
    share: float
    units: int
    own: float
    others: float
    held_out: float
    recited: bool


def natural_texts(model: HookedModel, pool: Paragraphs) -> tuple[Paragraphs, Paragraphs]:
    """Texts that the model recites, one of each near-duplicate cluster, and as many that it does not, spread evenly over the pool.

    Raises:
        InputError: If there are fewer than two of either.
    """
    match = recall_of(model, pool).exact_match
    full, low = match >= pool.continuation_length, not_recited(match, pool.continuation_length)
    found = []
    for which, words in ((full, "recited"), (low, "not recited")):
        _, first = np.unique(np.where(which, pool.clusters, -1), return_index=True)
        rows = np.array([row for row in np.sort(first) if which[row]])
        if len(rows) < 2:
            raise InputError(
                f"{caller()}: {len(rows)} of {len(pool)} paragraphs are {words} by {model.name}; DEL needs 2."
            )
        found.append(pool[rows[np.linspace(0, len(rows) - 1, min(TEXTS, len(rows))).round().astype(int)]])
    return found[0], found[1]


@public
def delete(
    model: HookedModel, localizers: list[Localizer], texts: Paragraphs, held_out: Paragraphs, seed: int = 0
) -> list[Deleted]:
    """Zero each localizer's best MLP units of each text, and as many random ones.

    Args:
        model: A hooked model.
        localizers: To compare; those that score no MLP units are left out.
        texts: That the model recites; each is also among the others' controls.
        held_out: That it does not recite, at least two. From every other one localizers tell the texts apart; the rise is measured
            on those between.
        seed: Of the random units.
    """
    others, unseen = held_out[list(range(0, len(held_out), 2))], held_out[list(range(1, len(held_out), 2))]
    scores = {}
    for one in localizers:
        if (units := unit_scores(one, model, texts, others, MLP_PART).units) is not None:
            scores[one.name] = units
    drawn = [np.random.default_rng(keyed_integer(2**63, seed, "DEL", key)) for key in texts.hashes]
    scores[RANDOM] = np.stack([draw.random((model.n_layers, model.d_mlp)) for draw in drawn])
    everything = np.ones((model.n_layers, model.d_mlp), bool)
    rows = torch.cat([texts.tokens, unseen.tokens])
    before, _ = _scored(model, rows, texts.prefix_length, everything)
    found: list[Deleted] = []
    for name, of_texts in scores.items():
        place = ranks(of_texts)
        for share in SHARES:
            count = max(1, round(share * everything.size))
            for row in range(len(texts)):
                nll, recited = _scored(model, rows, texts.prefix_length, place[row] >= count)
                rise = nll - before
                own, other = float(rise[row]), np.delete(rise[: len(texts)], row)
                held = float(rise[len(texts) :].mean())
                found.append(
                    Deleted(name, texts.ids[row], share, count, own, float(other.mean()), held, bool(recited[row]))
                )
    return found


def _scored(
    model: HookedModel, rows: torch.Tensor, prefix: int, keep: Bool[np.ndarray, "layer unit"]
) -> tuple[Float[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """NLL of rows with some units alone, and whether each is recited."""
    kept = torch.from_numpy(keep)
    nll, said = scored_with(
        model, rows, prefix, lambda which: kept.expand(len(rows[which]), -1, -1), MLP_PART, what="without units"
    )
    return nll.numpy(), said.numpy()
