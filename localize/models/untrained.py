"""A model's untrained twin: the same shape with random weights, for what training does not explain."""

import copy

import torch

from localize.errors import public
from localize.models.hooks import HookedModel


@public
def untrained(model: HookedModel, seed: int = 0) -> HookedModel:
    """A model of the same configuration, initialised as transformers does it before training.

    Args:
        model: What to be a twin of; its weights are neither read nor copied.
        seed: Of the weights. They are drawn on the CPU, in float32, and are the same on every device.

    Returns:
        A model on the same device, in the same dtype, tied or untied as the configuration says, with the first one's tokenizer
        and token counts, and a name that says what it is. The global random state is left as it was.
    """
    config = copy.deepcopy(model.hf.config)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(int(seed))  # torch.manual_seed would seed every GPU as well
        hf = type(model.hf)(config)
    hf = hf.to(device=model.device, dtype=model.dtype)
    return HookedModel(hf, model.tokenizer, name=f"untrained {model.name}", unigram_counts=model.unigram_counts)
