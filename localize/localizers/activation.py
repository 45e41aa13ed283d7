"""How much a unit writes, over the whole paragraph."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.written_sizes import written_sizes
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "mean over all positions of the norm of what each unit writes to the stream: "
    "the size of an MLP unit's activation times the norm of its row of W_out, or the norm of a head's output times its part of W_O",
    "activations: Chang et al. 2024 (arXiv 2311.09060), after Geva et al. 2022",
)
def activation(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = written_sizes(model, paragraphs.tokens)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=1.0)
