"""Small random signatures, measured by the real functions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import localize as lz
from localize.axes import DIRECTIONS, ORDERS, PATCH_METRICS, QUERIES, SITES, STREAMS
from localize.measurements import REGISTRY
from localize.signature.signature import MemorizationSignature
from localize.train.loop import build_model
from localize.train.recipe import Shape

PREFIX, LENGTH, VOCAB = 12, 20, 97


def random_paragraphs(groups, *, hostile_text="<script>alert(1)</script>"):
    tokens = torch.randint(0, VOCAB, (len(groups), LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[1], tokens[3] = tokens[0], tokens[2]  # near-duplicates: fewer clusters than paragraphs
    loaded = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    copies = tuple(index % 3 for index in range(len(groups)))
    return replace(loaded.with_groups(groups), duplicates=copies, texts=(hostile_text,) * len(groups))


def random_model(**shape):
    model = build_model(Shape(window=6, **shape), VOCAB, 0)
    for parameter in model.hf.parameters():
        parameter.data.mul_(3)
    return model


@pytest.fixture(scope="session")
def model():
    return random_model(d_model=16, heads=4, layers=4)


@pytest.fixture(scope="session")
def paragraphs():
    return random_paragraphs(["memorized"] * 8 + ["partial"] * 6 + ["not_memorized"] * 10)


@pytest.fixture(scope="session")
def signature(model, paragraphs):
    return (
        lz.gradients(model, paragraphs) | lz.rare_token_heads(model, paragraphs) | lz.perturb_prefix(model, paragraphs)
    )


@pytest.fixture(scope="session")
def one_draw(model, paragraphs):
    return lz.perturb_prefix(model, paragraphs, draws=1, continuation="true")


@pytest.fixture(scope="session")
def twelve_by_twelve():
    model, paragraphs = (
        random_model(d_model=24, heads=12, layers=12),
        random_paragraphs(["memorized"] * 4 + ["not_memorized"] * 4),
    )
    return lz.gradients(model, paragraphs, sets=False) | lz.rare_token_heads(model, paragraphs, null_draws=2)


def made_signature(
    layers=4, heads=4, prefix=10, length=16, groups=("memorized",) * 8 + ("not_memorized",) * 6, **arrays
):
    """What perturbation, patching, corruption and attention emit, drawn at random, two paragraphs a cluster.

    Head L1.H2's z carries most of the difference between the runs. What is given by name stands instead.
    """
    rng, count, rest = np.random.default_rng(0), len(groups), length - prefix
    noise = lambda *shape, size=1.0: size * rng.standard_normal(shape)  # noqa: E731
    token_nll, tried = rng.gamma(1.0, size=(count, rest)), np.array([1, 2, 4, prefix])
    lost = rng.uniform(0, rest, (count, 2, 2, prefix)).round()
    lost[:, 1, :, 0] = np.nan  # nothing predicts the first token, so it has no second choice
    tokens = rng.integers(97, size=(count, length))
    at = np.nanargmax(lost.mean(2), axis=2)
    copies = np.repeat(tokens[:, None], 2, axis=1)
    copies[:, :, prefix + 2] = (copies[:, :, prefix + 2] + 1) % 97
    np.put_along_axis(copies, at[:, :, None], 96 - np.take_along_axis(copies, at[:, :, None], 2), 2)
    effect = noise(count, 2, 2, 4, layers, heads, size=0.02)
    effect[:, 0, :, 3, 1, 2] -= 1
    effect[:, 1, :, 3, 1, 2] += 0.8
    kept = rest - np.minimum(rest, np.cumsum(rng.uniform(0, 3, (count, 5, 2, 4)), axis=-1)).round()
    kept[:, 1:, 1] = np.nan  # only the random order has a second draw
    broken = kept < rest / 2
    moved = np.zeros((count, 2, 2, 3, layers, length))
    moved[:, :, :, :, :, prefix - 2 : prefix + 1] = noise(count, 2, 2, 3, layers, 3)
    values = {
        "exact_match": np.where(np.array(groups) == "memorized", rest, 2), "nll": token_nll.mean(1), "token_nll": token_nll,
        "unperturbed_exact_match": np.full(count, rest), "unperturbed_nll": token_nll.mean(1),
        "unperturbed_token_nll": token_nll, "perturbed_exact_match": rest - lost,
        "perturbed_nll": token_nll.mean(1)[:, None, None, None] + 0.2 * lost + noise(count, 2, 2, prefix, size=0.1),
        "perturbed_token_error": rng.uniform(size=(count, 2, rest)), "replacement": rng.integers(97, size=lost.shape),
        "copy_position": at, "copy_tokens": copies, "copy_exact_match": np.full((count, 2), 2),
        "clean_nll": rng.uniform(0, 0.1, (count, 2)), "corrupted_run_nll": rng.uniform(2, 3, (count, 2)),
        "patch_position": np.full(count, prefix - 2), "patch_target": np.full(count, prefix + 2),
        "head_patch_effect": effect, "head_patch_null": noise(*effect.shape, size=0.02),
        "head_patch_estimate": 0.8 * effect, "stream_patch_effect": noise(count, 2, 2, 3, layers),
        "stream_patch_null": noise(count, 2, 2, 3, layers, size=0.1),
        "stream_patch_estimate": noise(count, 2, 2, 3, layers), "stream_patch_map": moved,
        "head_patch_estimate_map": noise(count, 2, 2, 4, layers, heads, length),
        "corrupted_exact_match": kept, "corrupted_nll": 3 - kept / rest,
        "tokens_to_break": np.where(broken.any(-1), tried[broken.argmax(-1)], np.nan),
        "prefix_attention": rng.dirichlet(np.full(prefix, 0.2), (count, 2, layers, heads)),
    }  # fmt: skip
    values = {name: array for name, array in (values | arrays).items() if array is not None}
    recalled = ("exact_match", "nll", "token_nll")
    variables = {
        name: (REGISTRY[name].dims, array, {"continuation": "true" if name in recalled else "own"})
        for name, array in values.items()
    }
    numbered = {"layer": layers, "head": heads, "prefix_position": prefix, "position": length}
    coords = {dim: np.arange(size) for dim, size in numbered.items()} | {
        "paragraph": ("paragraph", np.array([f"p{row}" for row in range(count)])),
        "group": ("paragraph", np.array(groups)), "cluster": ("paragraph", np.arange(count) // 2),
        "tokens": (("paragraph", "position"), tokens), "continuation_position": np.arange(prefix, length),
        "kind": ["uniform", "second_choice"], "site": list(SITES), "stream": list(STREAMS), "order": list(ORDERS),
        "direction": list(DIRECTIONS), "metric": list(PATCH_METRICS), "query": list(QUERIES), "tokens_replaced": tried,
        "window": ("layer", np.arange(layers) % 2 * 6),
    }  # fmt: skip
    about = {"source": "made", "data_hash": "d" * 64, "prefix_length": prefix, "continuation_length": rest}
    model = {"name": "made", "family": "gpt-neo", "weights": "raw", "weights_hash": "a" * 64, "revision": None}
    about, model = (
        about | {"continuation": "true", "skipped": []},
        model | {"layers": layers, "heads": heads, "d_model": 8},
    )
    calls = [{"measurement": "made", "seed": 0, "versions": {"localize": "0"}}]
    dataset = xr.Dataset(variables, coords, {"schema": 3, "model": model, "paragraphs": about, "calls": calls})
    return MemorizationSignature(dataset)


@pytest.fixture
def make_signature():
    """`make_signature(layers=4, heads=4, ..., **arrays)`; see `made_signature`."""
    return made_signature


@pytest.fixture(scope="session")
def made():
    """14 paragraphs of 10 + 6 tokens in a model of 4 x 4 heads, every new measurement made up."""
    return made_signature()
