"""What others put into a model that is measured: hooks, replaced modules, weights that are not plain floating ones.

A hook on a module that the forward pass calls takes effect, and is recorded. One on a module that it does not call, such as a
whole block, would not, and the numbers would be those of a model without it: that is refused.
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from localize.axes import DTYPES
from localize.errors import ModelError
from localize.models.blocks import wiring

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Where a module keeps what is called with it."""

EVERYWHERE = (
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
)
"""Where torch keeps what is called with every module."""

PACKAGES = ("torch", "transformers")
"""Whose modules do what their names say."""

FLOATING = frozenset(getattr(torch, name) for name in DTYPES)

PLAIN = ("torch.nn.modules.linear", "torch.nn.modules.sparse", "transformers.pytorch_utils")
"""Where the forward passes of plain linear maps and embeddings are written."""


def called_modules(model: "HookedModel") -> Iterator[nn.Module]:
    """Every module that the forward pass calls, and what is inside of it."""
    body = model.hf.transformer
    blocks = [module for layer in range(model.n_layers) for module in wiring(model, layer).modules]
    for module in (body.wte, body.wpe, *blocks, body.ln_f, model.hf.lm_head):
        yield from module.modules()


def foreign_hooks(model: "HookedModel") -> tuple[str, ...]:
    """What of others the forward pass calls, in words: hooks, and modules that are neither torch's nor transformers'."""
    found = {id(module): module for module in called_modules(model) if hooks_of(module) or is_foreign(module)}
    names = {id(module): name for name, module in model.hf.named_modules()}
    told = []
    for key, module in found.items():
        parts = [f"{len(hooks)} {kind}" for kind, hooks in hooks_of(module).items()]
        parts += [f"a {type(module).__name__}"] if is_foreign(module) else []
        told.append(f"{names[key]}: {', '.join(parts)}")
    if everywhere := sum(len(getattr(nn.modules.module, kind)) for kind in EVERYWHERE):
        told.append(f"every module: {everywhere} global hooks")
    return tuple(told)


def hooks_of(module: nn.Module) -> dict[str, dict[int, Any]]:
    """The hooks of a module by kind and by number, which no other hook of the process has."""
    kept = {kind.strip("_").replace("_", " "): dict(getattr(module, kind)) for kind in HOOKS}
    return {kind: hooks for kind, hooks in kept.items() if hooks}


def is_foreign(module: nn.Module) -> bool:
    """Whether what a module computes is written neither in torch nor in transformers."""
    return "forward" in vars(module) or not _is_of_package(type(module))


@cache
def _is_of_package(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in PACKAGES


@cache
def _is_plain(kind: type) -> bool:
    return kind.forward.__module__ in PLAIN


def check_plain(model: "HookedModel") -> None:
    """Raise a `ModelError` unless what is measured is the Hugging Face model with weights of its own.

    Whole blocks, attention and MLP modules are not called, so that nothing may be hooked to them or put in their place; linear maps
    and embeddings hold a floating weight that a view can write through, which an adapter, a parametrization or a quantised map
    does not.
    """
    hf = model.hf
    body = hf.transformer
    for module in (hf, body, *_uncalled(model)):
        of_module = vars(module)  # a forward pass begins with this: it must take no time
        if any(of_module[kind] for kind in HOOKS) or (module is not hf and is_foreign(module)):
            raise ModelError(f"{model.name}: {_words(model, module)}")
    for layer in range(model.n_layers):
        for module in wiring(model, layer).linear_maps:
            _check_weight(model, module)
    for module in (body.wte, body.wpe, hf.lm_head):
        _check_weight(model, module)


def _uncalled(model: "HookedModel") -> Iterator[nn.Module]:
    """The modules whose forward passes are written anew here."""
    for block in model.blocks:
        attn = block.attn
        if model.family == "gpt-neo":
            yield attn
            attn = attn.attention
        yield from (block, attn, block.mlp, attn.attn_dropout, attn.resid_dropout, block.mlp.dropout)
    yield model.hf.transformer.drop


def _words(model: "HookedModel", module: nn.Module) -> str:
    """What is wrong with a module that is never called."""
    name = next((name for name, other in model.hf.named_modules() if other is module), "") or "the model itself"
    if hooks := hooks_of(module):
        kind = next(iter(hooks)).removesuffix("s")
        return (
            f"{name} has a {kind}, which would never be called: the forward pass here calls linear maps, norms, activation functions "
            "and embeddings; put it on one of those (on mlp.c_proj for what a block writes), or take it off."
        )
    return (
        f"{name} has a forward pass of its own ({type(module).__name__}), which would never be called; the modules of transformers' "
        "gpt_neo and gpt2 can be localized."
    )


def _check_weight(model: "HookedModel", module: nn.Module) -> None:
    weight = module._parameters.get("weight")
    if weight is not None and weight.dtype in FLOATING and _is_plain(type(module)):
        return
    name = next(name for name, other in model.hf.named_modules() if other is module)
    given = getattr(module, "weight", None)
    of = f" of {str(given.dtype).removeprefix('torch.')} weights" if isinstance(given, torch.Tensor) else ""
    raise ModelError(
        f"{model.name}: {name} is a {type(module).__name__}{of}; plain linear maps and embeddings with {', '.join(DTYPES)} weights of "
        "their own can be localized: load the model unquantised, and merge adapters into it."
    )
