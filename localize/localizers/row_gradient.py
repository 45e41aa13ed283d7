"""How large the gradient is on a unit's weights: what maps of weight gradients show, by unit."""

from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.unit_gradients import unit_gradient_norms
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@localizer(
    "L2 norm of the gradient of the paragraph's NLL by the weights of each MLP unit (its column of W_in and row of W_out) "
    "and each head (its parts of W_Q, W_K, W_V, W_O), in nats per weight unit",
    "gradients by weight: Stoehr et al. 2024, section 4.2",
)
def row_gradient(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads."""
    found = unit_gradient_norms(model, paragraphs)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=3.0)
