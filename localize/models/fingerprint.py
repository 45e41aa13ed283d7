"""A hash of all that a model's numbers depend on: weights, wiring, and what others put into it."""

import functools
import hashlib
import secrets
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from localize.models.blocks import wiring
from localize.models.foreign import EVERYWHERE, PACKAGES, called_modules, foreign_hooks, hooks_of

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel

PROCESS = secrets.token_hex()
"""Of this process: what is written by others can hang on anything, so that no other process takes it for the same."""

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""What torch keeps in each module."""


def fingerprint(model: "HookedModel") -> str:
    """SHA-256 of what the forward pass reads; see `HookedModel.weights_hash`."""
    digest = hashlib.sha256(repr(_read(model)).encode())
    for name, value in sorted(model.hf.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(_bytes(value))
    if model.sinks is not None:  # which a measurement of them reads
        digest.update(repr(model.sinks.gates).encode())
        digest.update(_bytes(model.sinks.rows))
    if told := foreign_hooks(model):
        digest.update(repr((PROCESS, told)).encode())
        hooks = [
            hook for module in called_modules(model) for kind in hooks_of(module).values() for hook in kind.items()
        ]
        hooks += [hook for kind in EVERYWHERE for hook in getattr(nn.modules.module, kind).items()]
        replaced = [vars(module).get("forward") for module in called_modules(model)]
        for part in _content((*hooks, *replaced), set()):
            digest.update(part)
    return digest.hexdigest()


def _read(model: "HookedModel") -> list[Any]:
    """What is read beside the weights, the same in every process and on every device."""
    body = model.hf.transformer
    read: list[Any] = [model.family, *(_module(module) for module in (body.wte, body.wpe, body.ln_f, model.hf.lm_head))]
    for layer in range(model.n_layers):
        reads = wiring(model, layer)
        for field in reads:
            parts = field if isinstance(field, tuple) else (field,)
            read.append([_module(part) if isinstance(part, nn.Module) else part for part in parts])
    return read


def _module(module: nn.Module) -> list[Any]:
    """What a module computes, beside its weights: of those that the models are made of what their forward passes read."""
    if type(module) is nn.LayerNorm:
        return ["LayerNorm", tuple(module.normalized_shape), module.eps]
    if type(module) is nn.Embedding:
        return ["Embedding", module.max_norm, module.norm_type]
    if type(module).__name__ in ("Linear", "Conv1D"):
        return [type(module).__name__]
    return [hashlib.sha256(b"".join(_content(module, set()))).hexdigest()]


def _content(value: Any, seen: set[int]) -> Iterator[bytes]:
    """What a value says, piece by piece; of an object that says nothing of itself, which one it is."""
    yield f"<{_name(type(value))}>".encode()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype):
        yield repr(value).encode()
        return
    if isinstance(value, torch.device) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield repr((tuple(value.shape), value.dtype)).encode()
        yield _bytes(value)
        return
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield repr((value.shape, value.dtype)).encode()
        yield value.tobytes()
        return
    for part in _parts(value):
        yield from _content(part, seen)


def _parts(value: Any) -> list[Any]:
    """What a value is made of. Lists and dictionaries are left out: hooks collect in them what they see."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, list | dict | set):
        return []
    if isinstance(value, functools.partial):
        return [value.func, value.args, *value.keywords.items()]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, CodeType):
        return [value.co_code, value.co_consts, value.co_names]
    if isinstance(value, type) or (callable(value) and _is_known(value)):
        return [_name(value)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_name(value), value.__code__, value.__defaults__, *(value.__kwdefaults__ or {}).items(), *cells]
    if isinstance(value, nn.Module):
        own = [item for item in vars(value).items() if item[0] not in OF_EVERY_MODULE]
        return [*own, *value._parameters.items(), *value._buffers.items(), *value._modules.items()]
    return [*vars(value).items()] if hasattr(value, "__dict__") else [id(value)]


def _is_known(function: Any) -> bool:
    """Whether a function is torch's or transformers' own, so that its name says what it does."""
    home = getattr(function, "__module__", None) or ""
    return hasattr(function, "__qualname__") and home.partition(".")[0] in (*PACKAGES, "builtins")


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _bytes(tensor: Tensor) -> Any:
    """A tensor's bytes, wherever it lies."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
