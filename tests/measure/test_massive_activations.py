"""Sizes of activations: read one by one from the cached streams, a massive one that was planted, and the twin with random weights."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.analysis.massive_activations import MASSIVE, RATIO
from localize.errors import LocalizeError, SignatureError


@pytest.fixture(scope="module", params=["gpt2", "gpt-neo"])
def model(request, make_model):
    return make_model(request.param)


@pytest.fixture(scope="module")
def paragraphs(model):
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (8, 12))
    rows = lz.load_paragraphs(tokens, prefix_length=7, continuation_length=5)
    return rows.with_groups(["a"] * 4 + ["b"] * 4)


def hoyer(values):
    """Of one vector, by its definition."""
    root = np.sqrt(len(values))
    return (root - np.abs(values).sum() / np.sqrt((values**2).sum())) / (root - 1)


def test_every_number_is_that_of_the_cached_streams(model, paragraphs):
    found = lz.massive_activations(model, paragraphs, untrained=False, batch_size=3)
    for row in range(8):
        sites = ("hook_resid_post", "mlp.hook_post")
        names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in sites]
        _, cache = model.run_with_cache(paragraphs.tokens[row : row + 1], names)
        for layer in range(model.n_layers):
            stream = cache[f"blocks.{layer}.hook_resid_post"][0].detach().numpy()
            hidden = cache[f"blocks.{layer}.mlp.hook_post"][0].detach().numpy()
            size = np.abs(stream)
            place = np.unravel_index(size.argmax(), size.shape)
            at = {
                name: found[name].values[row, layer]
                for name in found.variables
                if found[name].dims == ("paragraph", "layer")
            }
            assert (at["largest_position"], at["largest_dimension"]) == place
            assert at["largest_activation"] == pytest.approx(size.max(), rel=1e-5)
            middle = np.sort(size.ravel())[(size.size - 1) // 2]  # of an even number the lower one
            assert at["activation_ratio"] == pytest.approx(size.max() / middle, rel=1e-4)
            for name, values in (("stream_sparsity", stream), ("mlp_sparsity", hidden)):
                assert at[name] == pytest.approx(
                    np.mean([hoyer(values[position]) for position in range(6, 11)]), rel=1e-4
                )


def test_the_twin_is_a_model_with_random_weights(model, paragraphs):
    found = lz.massive_activations(model, paragraphs, seed=3)
    twin = lz.massive_activations(lz.untrained(model, 3), paragraphs, untrained=False)
    for name in ("activation_ratio", "stream_sparsity", "mlp_sparsity"):
        np.testing.assert_array_equal(found[f"{name}_untrained"], twin[name])


@pytest.mark.filterwarnings("ignore:few effective clusters")
def test_a_massive_activation_that_was_planted_is_found_where_it_is(make_model, paragraphs):
    model = make_model("gpt2").copied()
    before = lz.massive_activation_table(lz.massive_activations(model, paragraphs))
    assert (before.xs(MASSIVE, level="quantity")["estimate"] == 0).all()
    with torch.no_grad():
        model.hf.transformer.wpe.weight[0, 5] = 5000.0
    table = lz.massive_activation_table(lz.massive_activations(model, paragraphs))
    groups = table[table.index.get_level_values("group").isin(["a", "b"])]
    share = groups.xs(MASSIVE, level="quantity")
    assert (share["estimate"] == 1).all() and (share["dimension"] == 5).all() and (share["position"] == 0).all()
    assert (share["same_place"] == 1).all() and (share["largest"] > 1000).all()
    ratio = groups.xs(RATIO, level="quantity")
    assert (
        (ratio["estimate"] > 1000).all() and (ratio["null"] < 100).all() and (ratio["p_value"] == 0.125).all()
    )  # the least of 4 signs
    strict = lz.massive_activation_table(lz.massive_activations(model, paragraphs), least=1e6)
    assert (strict.xs(MASSIVE, level="quantity")["estimate"] == 0).all()


def test_the_embedded_model_has_none():
    model, paragraphs = lz.load_model(), lz.load_paragraphs().spaced(60)
    found = lz.massive_activations(model, paragraphs, untrained=False)
    assert found["activation_ratio"].max() < 50 and found["largest_activation"].max() < 100


def test_what_is_not_there_is_told(model, paragraphs):
    found = lz.massive_activations(model, paragraphs, untrained=False)
    with pytest.raises(LocalizeError, match=r"massive_activation_table: times=0\.0 must be above 0"):
        lz.massive_activation_table(found, times=0.0)
    with pytest.raises(SignatureError, match="activation_ratio"):
        lz.massive_activation_table(lz.recall(model, paragraphs))
