"""What a model that was trained with memorization sinks says of a text with its sinks on, and without them."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import GATES
from localize.errors import ModelError, caller
from localize.measure.batches import in_batches
from localize.measure.inputs import reads_inputs
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of, score
from localize.models.gates import Sinks
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import MemorizationSignature


@reads_inputs("paragraphs")
def sinks(model: HookedModel, paragraphs: Paragraphs, *, batch_size: int = 64) -> MemorizationSignature:
    """NLL and exact match of paragraphs with all sinks on, none, each paragraph's own, and another text's.

    A checkpoint that `[sinks]` of a recipe left is the model without its sinks: its recall is that of "dropped".

    Args:
        model: A hooked model with sinks beside it, as `load_model` reads them from such a checkpoint.
        paragraphs: The paragraphs; of their true continuation where it is known. Their own sinks follow from all their tokens, so that
            they must be cut as the rows were that the model was trained on.
        batch_size: Rows a forward pass.

    Returns:
        `sink_nll` (nats per token) and `sink_exact_match` (tokens), along the axis `gate`: "all", each sink's activation times its chance
        to be on while training (of slices 1 over their number, the chance for a planted text); "dropped", none; "own", the paragraph's
        own, times 1 (of slices none of a paragraph that was not planted); "other", those of another planted text, drawn by key (nan
        where there is none). Of sinks that were trained untied, the control, "own" are those that a tied training would have had.
        Recall is attached.

    Raises:
        ModelError: If the model has no sinks.
        InputError: If the paragraphs exceed the model's context or vocabulary.

    Source:
        Memorization sinks (arXiv 2507.09937). There the model is evaluated without its sinks.
    """
    if model.sinks is None:
        raise ModelError(
            f"{caller()}: {model.name} has no memorization sinks beside it; a checkpoint that a recipe with [sinks] left is needed."
        )
    recall = recall_of(model, paragraphs)
    tokens, first = paragraphs.recall_tokens, paragraphs.prefix_length
    shape = (len(paragraphs), len(GATES))
    nll, exact_match = np.empty(shape, recall.token_nll.dtype), np.empty(shape)
    of = model.sinks

    def work(rows: slice) -> None:
        some = tokens[rows].to(model.device)
        for gate, factor in enumerate(gate_factors(of, some)):
            hooks = of.hooks(torch.nan_to_num(factor))
            states = model.final_states(some[:, :-1], hooks=hooks, read=slice(first - 1, None))
            exact, loss = (part.cpu().numpy() for part in score(model, states, some[:, first:]))
            there = ~factor.isnan().any(1).cpu().numpy()
            nll[rows, gate] = np.where(there, loss.mean(1), np.nan)
            exact_match[rows, gate] = np.where(there, exact, np.nan)

    with torch.no_grad():
        in_batches(work, len(paragraphs), batch_size, what="sinks")
    arrays = {"sink_nll": nll, "sink_exact_match": exact_match}
    return labelled(model, paragraphs, recall, arrays, call={"measurement": "sinks", "batch_size": batch_size})


def gate_factors(of: Sinks, tokens: Int[Tensor, "row position"]) -> tuple[Float[Tensor, "row sink"], ...]:
    """What each sink's activation is multiplied by for each row, by gate, in the order of the axis; nan where there is no such text."""
    own, (other, there) = of.gates.own(tokens), of.gates.other(tokens)
    precise = own.to(of.rows)
    beside = torch.where(there[:, None].to(precise.device), other.to(of.rows), torch.nan)
    return torch.full_like(precise, of.gates.share), torch.zeros_like(precise), precise, beside


def sinks_or_none(model: HookedModel, paragraphs: Paragraphs) -> MemorizationSignature:
    """The same; of a model without sinks what it says, whatever the gate: an arm without them beside others that have some."""
    if model.sinks is not None:
        return sinks(model, paragraphs)
    recall = recall_of(model, paragraphs)
    one = {"sink_nll": recall.token_nll.mean(1), "sink_exact_match": recall.exact_match.astype(float)}
    arrays = {name: np.repeat(values[:, None], len(GATES), 1) for name, values in one.items()}
    return labelled(model, paragraphs, recall, arrays, call={"measurement": "sinks"})
