"""Edge attribution patching with integrated gradients: how much the NLL needs the strongest edge that leaves a unit."""

from jaxtyping import Int
from torch import Tensor

from localize.errors import LocalizeError, caller
from localize.keyed import keyed_integer
from localize.localizers.localizer import localizer
from localize.localizers.scores import Scores
from localize.measure.edge_effects import edge_cost, edge_effects
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

STEPS = 5
"""On the way between the two texts, as published."""


@localizer(
    "the largest edge that leaves each MLP unit and each head: the estimated rise of the NLL, in nats per token, "
    "if one head, one MLP or the unembedding above reads of it what it gives on another text. "
    f"The other text is one of the others, drawn for each paragraph; {STEPS} steps between the two",
    "EAP-IG: Hanna et al. 2024 (arXiv 2403.17806)",
    needs_others=True,
)
def edge_attribution(model: HookedModel, paragraphs: Paragraphs, others: Paragraphs | None) -> Scores:
    """Scores of MLP units and heads. A node is part of a circuit as soon as one of its edges is, which is why the largest counts."""
    assert others is not None
    found = edge_effects(model, paragraphs, drawn_texts(paragraphs, others), steps=STEPS)
    return Scores.of(model, paragraphs, mlp=found.mlp, heads=found.heads, cost=edge_cost(model, paragraphs, STEPS))


def drawn_texts(paragraphs: Paragraphs, others: Paragraphs) -> Int[Tensor, "paragraph position"]:
    """For each paragraph one of the others, as long as it; the same whatever its company."""
    length = paragraphs.tokens.shape[1]
    if others.tokens.shape[1] < length:
        raise LocalizeError(
            f"{caller()}: the others have {others.tokens.shape[1]} tokens each; at least {length}, as many as the paragraphs, are needed."
        )
    return others.tokens[[keyed_integer(len(others), "other text", key) for key in paragraphs.hashes], :length]
