"""Looking at a model in the middle of a training, which then goes on as if nobody had."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from localize.errors import ModelError, caller
from localize.models.hooks import HookedModel
from localize.models.load import load_model


@contextmanager
def left_as_it_is(model: Any) -> Iterator[HookedModel]:
    """The model, hooked and in evaluation mode; after it all that a training goes on from is as before.

    That is each module's mode, what asks for a gradient, the gradients, and the random numbers of torch, NumPy and Python.
    """
    hf = model.hf if isinstance(model, HookedModel) else model
    if not isinstance(hf, torch.nn.Module):
        raise ModelError(
            f"{caller()}: model is a {type(model).__name__}; a HookedModel or a transformers model is needed."
        )
    modes = [(module, module.training) for module in hf.modules()]
    weights = [(p, p.requires_grad, p.grad) for p in hf.parameters()]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = sorted({p.device.index for p, _, _ in weights if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        try:
            for p, _, _ in weights:
                p.grad = None  # so that nothing is added to it in place
            hf.eval()
            yield model if isinstance(model, HookedModel) else load_model(model)
        finally:
            for module, mode in modes:
                module.training = mode
            for p, asks, gradient in weights:
                p.requires_grad_(asks)
                p.grad = gradient
            np.random.set_state(numpy_state)
            random.setstate(python_state)
