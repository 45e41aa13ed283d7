"""Both ways between a Hugging Face model and TransformerLens's `TransformerBridge`, parameters shared."""

import copy
from typing import Any

import torch

from localize.errors import ModelError, caller
from localize.models.folding import add_biases

AGREEMENT = 1e-4
"""Largest relative difference of logits at which a bridge still computes what its parameters say."""


def is_bridge(model: Any) -> bool:
    """Known by its package, so that transformer-lens, which takes seconds to import, need not be."""
    return type(model).__module__.startswith("transformer_lens") and hasattr(model, "original_model")


def bridge_over(hf: Any, tokenizer: Any, name: str) -> Any:
    """A bridge over the parameters of `hf`, whose own modules stay as they are: a bridge rewires those it is given."""
    if tokenizer is None:
        raise ModelError(
            f"{caller()}: {name} has no tokenizer, and a TransformerBridge needs one; load_model(..., tokenizer=...)."
        )
    from transformer_lens.model_bridge import TransformerBridge

    shared = copy.deepcopy(hf, memo={id(p): p for p in hf.parameters()})
    return TransformerBridge.boot_transformers(
        name, hf_model=shared, tokenizer=copy.deepcopy(tokenizer), dtype=hf.dtype
    )


def model_behind(bridge: Any) -> Any:
    """A plain Hugging Face model that shares the parameters of a bridge.

    Raises:
        ModelError: If the bridge no longer computes what its parameters say, as `enable_compatibility_mode()` leaves it where
            it folds into rewritten copies.
    """
    wrapped = bridge.original_model
    parameters = {
        name.replace("._original_component", ""): p for name, p in wrapped.named_parameters(remove_duplicate=False)
    }
    plain = type(wrapped)(copy.deepcopy(wrapped.config))
    if "lm_head.bias" in parameters:  # of a folded model; a raw one's is a buffer of zeros
        add_biases(plain)
    names = dict(plain.named_parameters(remove_duplicate=False))
    if lacking := sorted(names.keys() - parameters.keys()):
        raise ModelError(
            f"TransformerBridge: no parameter {lacking[0]!r} in it; give load_model the transformers model instead."
        )
    plain.load_state_dict({name: parameters[name] for name in names}, assign=True)
    plain = plain.to(next(iter(parameters.values())).device).eval()
    tokens = torch.arange(min(16, plain.config.vocab_size), device=plain.device)[None]
    with torch.no_grad():
        expected, given = plain(tokens).logits, bridge(tokens)
    if (expected - given).abs().max() > AGREEMENT * expected.abs().max():
        raise ModelError(
            "TransformerBridge: its logits differ from those of its parameters (compatibility mode?); "
            "give load_model a bridge as boot_transformers makes it, or the transformers model."
        )
    return plain
