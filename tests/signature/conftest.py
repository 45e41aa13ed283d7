"""Signatures made by hand, and one measured in a small model."""

import numpy as np
import pytest
import torch
import xarray as xr

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, KINDS, NULLS, QUERIES
from localize.signature.schema import REGISTRY
from localize.signature.signature import MemorizationSignature

PREFIX, CONTINUATION = 6, 4
VERSIONS = {"localize": "0", "torch": "0"}


def made_dataset(
    group, arrays=None, *, cluster=None, ids=None, continuation="true", call=None, model=None, about=None, **coords
):
    """A dataset as a measurement makes it: recall, and the given arrays with the axes of their schema.

    Args:
        group: One name per paragraph.
        arrays: Registered variables; what is of one kind of replacement may go without that axis.
        cluster: One number per paragraph; each its own if left out.
        ids: Names of the paragraphs.
        continuation: What the given arrays are of; recall is of the true continuation.
        call: Changes to what is told of the measurement.
        model: Changes to what is told of the model.
        about: Changes to what is told of the paragraphs.
        coords: More coordinates along the paragraphs.
    """
    count, rng = len(group), np.random.default_rng(0)
    token_nll = rng.gamma(2.0, size=(count, CONTINUATION))
    recalled = {"exact_match": np.arange(count) % (CONTINUATION + 1), "nll": token_nll.mean(1), "token_nll": token_nll}
    variables = {}
    for name, values in {**recalled, **(arrays or {})}.items():
        schema = REGISTRY[name]
        attrs = {"unit": schema.unit, "continuation": "true" if name in recalled else continuation}
        values = np.array(values, dtype=float) if schema.kind == "float" else np.array(values)
        if "kind" in schema.dims and values.ndim == len(schema.dims) - 1:
            values = np.expand_dims(values, schema.dims.index("kind"))
        variables[name] = (schema.dims, values, attrs)
    sizes = {dim: size for dims, values, _ in variables.values() for dim, size in zip(dims, values.shape, strict=True)}
    labels = {
        "layer": np.arange(sizes.get("layer", 0)),
        "head": np.arange(sizes.get("head", 0)),
        "component": np.array(COMPONENTS),
        "attention_component": np.array(ATTENTION_COMPONENTS),
        "prefix_position": np.arange(PREFIX),
        "set": np.array(list(dict.fromkeys(group))),
        "query": np.array(QUERIES[: sizes.get("query", 0)]),
        "kind": np.array(KINDS[: sizes.get("kind", 0)]),
        "null": np.array(NULLS[: sizes.get("null", 0)]),
    }
    along = {
        "paragraph": ("paragraph", np.array([f"p{i}" for i in range(count)] if ids is None else ids)),
        "group": ("paragraph", np.array(group)),
        "cluster": ("paragraph", np.arange(count) if cluster is None else np.array(cluster)),
        "continuation_position": np.arange(PREFIX, PREFIX + CONTINUATION),
    }
    along |= {dim: values for dim, values in labels.items() if dim in sizes}
    for name, values in coords.items():
        dims = ("paragraph", "position") if name == "tokens" else ("paragraph",)
        along[name] = (dims, np.array(values))
    told = {
        "name": "made", "family": "gpt2", "revision": None, "weights_hash": "a" * 64, "weights": "raw",
        "layers": 2, "heads": 2, "d_model": 8,
    } | (model or {})  # fmt: skip
    matched = [values for name, (_, values, _) in variables.items() if name.endswith("exact_match")]
    longest = max(int(np.ceil(np.nanmax(values, initial=0))) for values in matched)
    data = {
        "source": "made.csv", "data_hash": "d" * 64, "prefix_length": PREFIX, "continuation_length": max(CONTINUATION, longest),
        "continuation": "true", "skipped": [],
    } | (about or {})  # fmt: skip
    calls = [{"measurement": "made", "seed": 0, "versions": VERSIONS} | (call or {})]
    return xr.Dataset(variables, along, {"schema": 1, "model": told, "paragraphs": data, "calls": calls})


def gradients_of(layers, count=None, heads=2):
    """Gradient arrays whose cells are the given number per layer, or per paragraph and layer."""
    layers = np.asarray(layers, dtype=float)
    layers = np.tile(layers, (count, 1)) if layers.ndim == 1 else layers
    return {
        "gradient_max": np.repeat(layers[:, :, None], len(COMPONENTS), axis=2),
        "head_gradient_max": np.tile(layers[:, :, None, None], (1, 1, len(ATTENTION_COMPONENTS), heads)),
    }


@pytest.fixture
def make_dataset():
    return made_dataset


@pytest.fixture
def make():
    """`make(group, arrays, ...)`: a signature made by hand; see `made_dataset`."""
    return lambda *args, **options: MemorizationSignature(made_dataset(*args, **options))


@pytest.fixture
def layered():
    return gradients_of


@pytest.fixture(scope="session")
def parts():
    """Recall, gradients, heads and perturbation of the same 12 paragraphs in a small random model: four signatures."""
    from transformers import GPT2Config, GPT2LMHeadModel

    import localize as lz

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=97, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=None, eos_token_id=None
    )
    model = lz.HookedModel(GPT2LMHeadModel(config).double(), name="small")
    paragraphs = lz.load_paragraphs(torch.randint(97, (12, 16)), prefix_length=8, continuation_length=8)
    paragraphs = paragraphs.with_groups(["memorized", "not_memorized"] * 6)
    return (
        lz.recall(model, paragraphs),
        lz.gradients(model, paragraphs),
        lz.rare_token_heads(model, paragraphs),
        lz.perturb_prefix(model, paragraphs),
    )


@pytest.fixture(scope="session")
def measured(parts):
    """All of `parts` in one."""
    recall, gradients, heads, perturbation = parts
    return recall | gradients | heads | perturbation
