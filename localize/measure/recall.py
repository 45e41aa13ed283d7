"""How much of a paragraph's continuation the model says, and how likely it finds the rest."""

from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs")
def recall(model: HookedModel, paragraphs: Paragraphs) -> MemorizationSignature:
    """Exact match, NLL and groups of paragraphs; every other measurement attaches the same.

    Args:
        model: A hooked model.
        paragraphs: The paragraphs; recall is of the true continuation where it is known.

    Returns:
        `exact_match` (tokens, 0 .. continuation length), `nll` (nats per token) and `token_nll` (nats).

    Raises:
        InputError: If the paragraphs exceed the model's context or vocabulary.

    Source:
        Stoehr et al. 2024, section 3.
    """
    return labelled(model, paragraphs, recall_of(model, paragraphs), {}, call={"measurement": "recall"})
