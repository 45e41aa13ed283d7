"""The localizer that knows: its scores are the truth."""

import numpy as np

from localize.localizers import Localizer, Scores
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.truths.planting import OWN
from localize.truths.truth import Truth

ORACLE = "oracle"


def oracle(truth: Truth) -> Localizer:
    """A localizer of one truth's texts that gives 1 for their live units (of a control: their planted ones), 0 for others.

    It shows that the scoring can give 1, and is the best that any localizer can do.
    """
    known = true_units(truth)

    def scores(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
        rows = [truth.paragraphs.ids.index(name) for name in paragraphs.ids]
        return Scores.of(model, paragraphs, **{truth.part: known[rows].astype(np.float32)}, cost=0.0)

    return Localizer(ORACLE, scores, "1 for the units that the text is known to be kept in, 0 for others", "a control")


def true_units(truth: Truth) -> np.ndarray:
    """What is to be found: the live units; of a control, in which none needs to be, those that were planted."""
    return truth.live if truth.routing == OWN else truth.nominal
