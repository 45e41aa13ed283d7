"""How much of planted truths a localizer finds, text by text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.bench.ranking import chance_of, chosen, named_right, recall_at_truth
from localize.bench.unit_scores import LocatedUnits, unit_scores
from localize.bench.upper_bound import true_units
from localize.errors import public
from localize.localizers import Localizer
from localize.statistics.ranking import ranks
from localize.truths.gates import area, scored_with
from localize.truths.kinds import LAYER, SINKS
from localize.truths.planting import OWN
from localize.truths.truth import Truth

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

NAN = float("nan")


@dataclass(frozen=True)
class TextScore:
    """What a localizer found of one text. Shares from 0 to 1; nan where there is nothing to find.

    Attributes:
        localizer: Its name.
        text: The text's.
        recall: At |truth|: the share of its live units among as many of its highest scores; its own dead units are not ranked.
        within: The same, ranking only units that were planted for any text; nan where none are ("inj").
        nominal: The same for all units planted for it, live or dead, ranking all units.
        auroc: How often a live unit scores above one that is not planted for the text.
        chance: Of `recall`, for random scores.
        chance_within: Of `within`.
        chance_nominal: Of `nominal`.
        taken: What zeroing as many of the highest scores raises the text's NLL by, over what zeroing its live units does.
        layer: The text's layer, where it has one.
        voted: Whether most of as many of the highest scores as there are live units lie in it; a share of 1 where layers tie.
        summed: Whether the sum of all scores of a layer is highest in it.
        cost: Forward passes a text, a backward pass counted as two; nan if nobody counted.
        seconds: Wall time a text.
        voted_layer: The layer that most of these highest scores lie in, of several the lowest; None where no layer is asked for.
    """

    localizer: str
    text: str
    recall: float
    within: float
    nominal: float
    auroc: float
    chance: float
    chance_within: float
    chance_nominal: float
    taken: float
    layer: int | None
    voted: float
    summed: float
    cost: float
    seconds: float
    voted_layer: int | None = None


@public
def score_localizer(localizer: Localizer, truth: Truth) -> list[TextScore]:
    """How much of a truth a localizer finds, for each of its texts; nothing if it scores no such units.

    Of "sinks" a text's recall is that among the units that are on with its own slice. Within the reserved units each is ranked by
    its place among the units that are on beside it, in the model in which its slice is on: a localizer that names whichever slice is
    on, not the text's own, is at chance.

    In a control (`routing` other than "own") no text has a place of its own, and what is looked for are the units that carry its name.

    Args:
        localizer: Such as `localize.localizers.get("ratio")`; run once in each planted model.
        truth: Of `localize.plant` or `localize.load_truth`.

    Raises:
        LocalizeError: If what the localizer gives are no scores of the model.
    """
    if truth.kind == SINKS:
        return _score_on_slices(localizer, truth)
    rows: list[TextScore] = []
    for model, held in truth.models():
        found = unit_scores(localizer, model, truth.paragraphs[held], truth.others, truth.part)
        if found.units is None:
            return []
        taken = _taken(truth, model, held, found.units)
        rows += [
            _of_text(localizer.name, truth, int(row), place, found, float(taken[place]))
            for place, row in enumerate(held)
        ]
    return rows


def _score_on_slices(localizer: Localizer, truth: Truth) -> list[TextScore]:
    """The same where each text's model is the one with its own slice on; every text is scored in all of them."""
    from scipy.stats import rankdata

    own: list[LocatedUnits] = []
    taken: list[float] = []
    placed = np.zeros(
        truth.nominal.shape
    )  # (text, layer, unit): where each slice's units come among all that are on with them
    for row, (model, held) in enumerate(truth.models()):
        found = unit_scores(localizer, model, truth.paragraphs, truth.others, truth.part)
        if found.units is None:
            return []
        slice_, present = truth.nominal[row], truth.present[row]
        placed[:, slice_] = rankdata(found.units[:, present], axis=1)[:, slice_[present]]
        own.append(found)
        taken += _taken(truth, model, held, found.units[held]).tolist()
    return [_of_text(localizer.name, truth, row, row, own[row], taken[row], placed[row]) for row in range(len(own))]


def _of_text(
    name: str,
    truth: Truth,
    row: int,
    place: int,
    found: LocatedUnits,
    taken: float,
    reserved: Float[np.ndarray, "layer unit"] | None = None,
) -> TextScore:
    """One text's numbers, from the scores in its place; the reserved units' where they are others."""
    assert found.units is not None
    scores, real, nominal = found.units[place], true_units(truth)[row], truth.nominal[row]
    candidates = (truth.candidates if truth.routing == OWN else np.ones_like(truth.nominal))[row]
    within, everything = candidates & truth.reserved, truth.present[row]
    candidates = candidates & everything
    has_within = bool(truth.reserved.any())
    layer = int(nominal.any(1).argmax()) if truth.kind == LAYER else None
    votes = chosen(scores, candidates, int(real.sum())).sum(1) if layer is not None and real.any() else None
    return TextScore(
        localizer=name,
        text=truth.paragraphs.ids[row],
        recall=recall_at_truth(scores, real, candidates),
        within=recall_at_truth(scores if reserved is None else reserved, real, within) if has_within else NAN,
        nominal=recall_at_truth(scores, nominal, everything),
        auroc=area(scores, real, candidates & ~nominal),
        chance=chance_of(real, candidates),
        chance_within=chance_of(real, within) if has_within else NAN,
        chance_nominal=chance_of(nominal, everything),
        taken=taken,
        layer=layer,
        voted=NAN if votes is None or layer is None else named_right(votes, layer),
        summed=NAN if layer is None else named_right(found.layers[place], layer),
        cost=NAN if found.cost is None else found.cost,
        seconds=found.seconds,
        voted_layer=None if votes is None else int(votes.argmax()),
    )


def _taken(
    truth: Truth, model: "HookedModel", held: np.ndarray, scores: Float[np.ndarray, "text layer unit"]
) -> Float[np.ndarray, " text"]:
    """The rise of each text's NLL without its best units, over that without its live ones; nan of controls."""
    import torch

    real = true_units(truth)[held]
    if truth.routing != OWN or not real.any():
        return np.full(len(held), NAN)
    best = ranks(np.where(truth.present[held], scores, -np.inf)) < real.sum((1, 2), keepdims=True)
    texts, found = truth.paragraphs[held], []
    for off in (np.zeros_like(real), best, real):
        keep = torch.from_numpy(~off)
        found.append(
            scored_with(model, texts.tokens, texts.prefix_length, lambda rows, keep=keep: keep[rows], truth.part,
                        what="found units off").nll.numpy()
        )  # fmt: skip
    before, without_best, without_real = found
    return (without_best - before) / np.where(real.any((1, 2)), without_real - before, NAN)
