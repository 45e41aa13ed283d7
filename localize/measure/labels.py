"""From plain arrays to a labelled signature that says what made it."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, MEMORIZED, NOT_MEMORIZED, PARTIAL
from localize.errors import LocalizeError, SignatureError
from localize.measure.scoring import Recall, recall_of
from localize.measurements import AXES, MEASUREMENTS, REGISTRY
from localize.measurements.declaration import plain_value
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.signature.signature import SCHEMA_VERSION, MemorizationSignature
from localize.threads import waiting

NOT_MEMORIZED_SHARE = 0.2
"""Largest share of the continuation that a paragraph counted as not memorized gets right."""


def groups_of(paragraphs: Paragraphs, recall: Recall) -> np.ndarray:
    """Each paragraph's group: the user's label, else the user's bin of exact match, else what exact match says.

    Where only some have a label, the others are "unlabelled".
    """
    if paragraphs.labels is not None:
        return np.array(paragraphs.labels)
    length, matched = paragraphs.continuation_length, recall.exact_match
    if paragraphs.em_bins is not None:
        return np.array([paragraphs.em_bin(int(em)) for em in matched])
    named = np.where(matched <= NOT_MEMORIZED_SHARE * length, NOT_MEMORIZED, PARTIAL)
    return np.where(matched == length, MEMORIZED, named)


def labelled(
    model: HookedModel,
    paragraphs: Paragraphs,
    recall: Recall,
    arrays: Mapping[str, Any],
    *,
    call: Mapping[str, Any],
    continuation: str | None = None,
    axes: Mapping[str, Sequence[str] | Sequence[int]] | None = None,
) -> MemorizationSignature:
    """A signature of measured arrays, recall beside them.

    Args:
        model: What was measured.
        paragraphs: On what.
        recall: Exact match and NLL of the same paragraphs.
        arrays: Registered variables, each with the axes of its schema.
        call: Name and options of the measurement, for the provenance.
        continuation: Which continuation the arrays are of; None means that of the paragraphs.
        axes: Labels along the axes that differ from one measurement to the next: `set`, `null`, `term`, ....
    """
    import xarray as xr

    recalled = {"exact_match": recall.exact_match, "nll": recall.token_nll.mean(1), "token_nll": recall.token_nll}
    variables = {}
    for name, values in {**recalled, **arrays}.items():
        schema = REGISTRY[name]
        which = paragraphs.recall_continuation if name in recalled else continuation or paragraphs.continuation
        attrs = {"unit": schema.unit, "description": schema.description, "source": schema.source, "continuation": which}
        if schema.pieces:
            cells = (*MEASUREMENTS[call["measurement"]].cells, "batch_size")
            attrs["options"] = json.dumps({key: plain_value(value) for key, value in call.items() if key not in cells})
        variables[name] = (schema.dims, _numpy(values), attrs)
    coords: dict[str, Any] = {"group": ("paragraph", groups_of(paragraphs, recall)), **paragraph_coords(paragraphs)}
    dims = {dim for dims, _, _ in variables.values() for dim in dims}
    along = {
        **{name: np.array(axis.labels) for name, axis in AXES.items() if axis.labels},
        **model_axes(model, paragraphs),
    }
    along |= {dim: np.array(labels) for dim, labels in (axes or {}).items()}
    coords |= {dim: values for dim, values in along.items() if dim in dims}
    if "layer" in dims:
        coords["window"] = ("layer", windows(model))
    return MemorizationSignature(xr.Dataset(variables, coords, _provenance(model, paragraphs, call, continuation)))


def measured_signature(
    model: HookedModel,
    paragraphs: Paragraphs,
    arrays: Mapping[str, Any],
    *,
    measurement: str,
    options: Mapping[str, Any] | None = None,
    continuation: str | None = None,
    axes: Mapping[str, Sequence[str] | Sequence[int]] | None = None,
) -> MemorizationSignature:
    """The signature that a measurement of your own gives: its arrays, labelled, with recall beside them.

    Args:
        model: What was measured.
        paragraphs: On what.
        arrays: By the names of registered variables, each with the axes that its declaration has.
        measurement: The name that it is declared by; see `localize.register`.
        options: Its options, for the provenance.
        continuation: Which continuation the arrays are of, "true" or "own"; None means that of the paragraphs.
        axes: Labels along axes of your own that do not always have the same.

    Raises:
        LocalizeError: If there is no such measurement.
        SignatureError: If a variable is unknown, or an array does not fit its declaration.
    """
    if measurement not in MEASUREMENTS:
        raise LocalizeError(
            f"measured_signature: measurement={measurement!r} is not registered; localize.register(localize.Measurement(...)) does that."
        )
    for name in arrays:
        if name not in REGISTRY:
            raise SignatureError(
                f"measured_signature: {name!r} is no variable that is registered; declare it with {measurement!r}."
            )
    call = {"measurement": measurement, **(options or {})}
    recall = recall_of(model, paragraphs)
    return labelled(model, paragraphs, recall, arrays, call=call, continuation=continuation, axes=axes)


def paragraph_coords(paragraphs: Paragraphs) -> dict[str, tuple[str | tuple[str, ...], np.ndarray]]:
    """Coordinates that the paragraphs bring, each with its axes; their groups follow from recall."""
    length = paragraphs.tokens.shape[1]
    coords: dict[str, tuple[str | tuple[str, ...], np.ndarray]] = {
        "paragraph": ("paragraph", np.array(paragraphs.ids)),
        "cluster": ("paragraph", paragraphs.clusters),
        "tokens": (("paragraph", "position"), paragraphs.recall_tokens.numpy()),
        "position": ("position", np.arange(length)),
        "continuation_position": ("continuation_position", np.arange(paragraphs.prefix_length, length)),
    }
    if paragraphs.texts is not None:
        coords["text"] = ("paragraph", np.array([text or "" for text in paragraphs.texts]))
    if paragraphs.duplicates is not None:
        known = None not in paragraphs.duplicates  # else a float: nan where it is not known
        coords["duplicates"] = ("paragraph", np.array(paragraphs.duplicates, np.int64 if known else np.float64))
    return coords


def model_axes(model: HookedModel, paragraphs: Paragraphs) -> dict[str, np.ndarray]:
    """Labels along the axes that a model and the split of its paragraphs determine."""
    return {
        "layer": np.arange(model.n_layers),
        "head": np.arange(model.n_heads),
        "component": np.array(COMPONENTS),
        "attention_component": np.array(ATTENTION_COMPONENTS),
        "prefix_position": np.arange(paragraphs.prefix_length),
    }


def windows(model: HookedModel) -> np.ndarray:
    """How far each layer sees; 0 stands for "everything before it", so that the axis stays whole numbers."""
    return np.array([model.window(layer) or 0 for layer in range(model.n_layers)])


def model_facts(model: HookedModel, weights_hash: str) -> dict[str, Any]:
    """What a model is, for the provenance."""
    return {
        "name": model.name,
        "family": model.family,
        "revision": model.revision,
        "weights_hash": weights_hash,
        "weights": model.weights,
        "foreign_hooks": list(model.foreign_hooks),
        "layers": model.n_layers,
        "heads": model.n_heads,
        "d_model": model.d_model,
    }


def paragraph_facts(paragraphs: Paragraphs) -> dict[str, Any]:
    """What paragraphs are, for the provenance."""
    return {
        "source": paragraphs.source,
        "data_hash": paragraphs.data_hash,
        "prefix_length": paragraphs.prefix_length,
        "continuation_length": paragraphs.continuation_length,
        "continuation": paragraphs.continuation,
        "skipped": list(paragraphs.skipped),
        "notes": list(paragraphs.notes),
    }


def _numpy(values: Any) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _provenance(
    model: HookedModel, paragraphs: Paragraphs, call: Mapping[str, Any], continuation: str | None
) -> dict[str, Any]:
    from localize import __version__

    return {
        "schema": SCHEMA_VERSION,
        "model": model_facts(model, model.weights_hash()),
        "paragraphs": paragraph_facts(paragraphs),
        "calls": [
            {
                "continuation": continuation or paragraphs.continuation,
                **{name: plain_value(value) for name, value in call.items()},
                "dtype": str(model.dtype).removeprefix("torch."),
                "device": _device_name(model.device),
                "threads": torch.get_num_threads(),
                "threads_wait": waiting(),
                "attention": "fused on CPU where the pattern is not read, else eager",
                "tf32": torch.backends.cuda.matmul.allow_tf32,
                "versions": {
                    "localize": __version__,
                    "torch": torch.__version__,
                    "transformers": version("transformers"),
                    "python": platform.python_version(),
                },
            }
        ],
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
