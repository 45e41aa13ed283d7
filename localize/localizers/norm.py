"""How large a unit's writing weights are, whatever the paragraph: what a truth must not leak."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.written_sizes import writing_norms
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "L2 norm of each MLP unit's row of W_out and of each head's part of W_O, the same for every paragraph",
    "a control",
)
def norm(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    mlp, heads = (norms.expand(len(paragraphs), -1, -1) for norms in writing_norms(model))
    return Scores.of(model, paragraphs, mlp=mlp, heads=heads, cost=0.0)
