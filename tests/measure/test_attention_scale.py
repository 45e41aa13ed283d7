"""One function as a GPT-2 and as a GPT-Neo: by a W_Q that holds the attention's scale, its gradients are the same in both."""

import warnings

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import COMPONENTS
from localize.models.blocks import attention_scale

SCALINGS = [{}, {"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}]
VARIABLES = (
    "gradient_max", "gradient_norm", "gradient_share", "head_gradient_max", "head_gradient_norm", "head_gradient_share",
    "set_gradient_max", "set_gradient_norm", "set_head_gradient_max", "set_head_gradient_norm", "set_cancellation",
)  # fmt: skip
UNLIKE = (
    "gradients by W_Q are in other units from model to model, so that shares do not compare; with "
    "gradients(attention_scale='in_W_Q') they do"
)


@torch.no_grad()
def both_families(make_model, **settings):
    """A GPT-2 without biases of queries, keys and values, which GPT-Neo has not, and the same function as a GPT-Neo."""
    gpt2 = make_model("gpt2", **settings)
    neo = make_model("gpt-neo", num_layers=3, attention_types=[[["global"], 3]])
    for name in ("wte", "wpe", "ln_f"):
        getattr(neo.hf.transformer, name).load_state_dict(getattr(gpt2.hf.transformer, name).state_dict())
    for layer, (theirs, ours) in enumerate(zip(neo.blocks, gpt2.blocks, strict=True)):
        ours.attn.c_attn.bias.zero_()
        for name in ("ln_1", "ln_2"):
            getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())
        for component in COMPONENTS:
            scale = attention_scale(gpt2, layer) if component == "W_Q" else 1.0
            neo.weight(layer, component).copy_(gpt2.weight(layer, component) * scale)
        theirs.attn.attention.out_proj.bias.copy_(ours.attn.c_proj.bias)
        theirs.mlp.c_fc.bias.copy_(ours.mlp.c_fc.bias)
        theirs.mlp.c_proj.bias.copy_(ours.mlp.c_proj.bias)
    return gpt2, neo


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36).with_groups("aabbbb")


@pytest.mark.parametrize("settings", SCALINGS, ids=str)
def test_by_a_W_Q_that_holds_the_scale_both_families_have_the_same_gradients(make_model, paragraphs, settings):
    gpt2, neo = both_families(make_model, **settings)
    assert torch.allclose(gpt2(paragraphs.tokens), neo(paragraphs.tokens), rtol=1e-12)
    one, other = (lz.gradients(model, paragraphs, attention_scale="in_W_Q", batch_size=4) for model in (gpt2, neo))
    for name in VARIABLES:
        assert np.allclose(one[name], other[name], rtol=1e-9, atol=1e-13), name


def test_apart_from_the_scale_they_have_not(make_model, paragraphs):
    gpt2, neo = both_families(make_model)
    one, other = (lz.gradients(model, paragraphs) for model in (gpt2, neo))
    ratio = (one["gradient_norm"] / other["gradient_norm"]).sel(component="W_Q")
    assert np.allclose(ratio, 8**-0.5, rtol=1e-10)  # heads of 8 dimensions
    assert np.allclose(ratio, (one["set_gradient_max"] / other["set_gradient_max"]).sel(component="W_Q").values[0, 0])
    assert np.abs(one["gradient_share"] - other["gradient_share"]).max() > 1e-3


def test_only_queries_are_in_another_unit_their_biases_too(gpt2, paragraphs):
    apart, inside = (
        lz.gradients(gpt2, paragraphs, biases=True, attention_scale=scale) for scale in ("apart", "in_W_Q")
    )
    for name, axis in (
        ("gradient_norm", "component"),
        ("bias_gradient_max", "bias"),
        ("set_gradient_max", "component"),
    ):
        ratio = (inside[name] / apart[name]).values
        assert np.allclose(ratio[..., 0], 8**0.5, rtol=1e-12), name
        assert np.allclose(ratio[..., 1:], 1, rtol=1e-12), (name, axis)


def test_a_gpt_neo_has_one_convention(neo, paragraphs):
    apart, inside = (lz.gradients(neo, paragraphs, attention_scale=scale) for scale in ("apart", "in_W_Q"))
    assert apart.dataset.equals(inside.dataset)


def test_the_convention_is_recorded_and_the_models_own_is_the_default(gpt2, paragraphs):
    told = [lz.gradients(gpt2, paragraphs, **options).dataset.attrs["calls"][0]["attention_scale"]
            for options in ({}, {"attention_scale": "in_W_Q"})]  # fmt: skip
    assert told == ["apart", "in_W_Q"]


def test_gradients_of_two_conventions_do_not_join(gpt2, paragraphs):
    with pytest.raises(lz.SignatureError, match="with different values; measure both with the same options"):
        lz.gradients(gpt2, paragraphs) | lz.gradients(gpt2, paragraphs, attention_scale="in_W_Q")


def test_an_unknown_convention_is_refused(gpt2, paragraphs):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.gradients(gpt2, paragraphs, attention_scale="in_W_K")
    assert str(caught.value) == "gradients: attention_scale='in_W_K' is not one of apart, in_W_Q."


# Where two models stand beside each other


@pytest.fixture
def signatures(make_model, paragraphs):
    """Of each family by convention."""
    models = dict(zip(("gpt2", "gpt-neo"), both_families(make_model), strict=True))
    return {
        (family, scale): lz.gradients(model, paragraphs, attention_scale=scale)
        for family, model in models.items()
        for scale in ("apart", "in_W_Q")
    }


def told_by_pairs(one, other, variables):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        lz.compare_paired(one, other, variables, resamples=200)
    return [str(warning.message) for warning in seen if "compare_paired: gradients by W_Q" in str(warning.message)]


def test_pairs_across_families_are_told_where_their_units_differ_and_only_there(signatures):
    gpt2, neo = signatures["gpt2", "apart"], signatures["gpt-neo", "apart"]
    assert told_by_pairs(gpt2, neo, "gradient_share") == [f"compare_paired: {UNLIKE}."]
    assert told_by_pairs(gpt2, signatures["gpt2", "in_W_Q"], "gradient_max") == [f"compare_paired: {UNLIKE}."]
    assert told_by_pairs(gpt2, neo, "nll") == []
    assert told_by_pairs(signatures["gpt2", "in_W_Q"], neo, "gradient_share") == []
    assert told_by_pairs(gpt2, gpt2, "gradient_share") == []


def test_a_report_of_two_families_tells_where_their_units_differ_and_only_there(signatures, tmp_path):
    for scale, there in (("apart", True), ("in_W_Q", False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            page = lz.report([signatures["gpt2", scale], signatures["gpt-neo", scale]], tmp_path / f"{scale}.html")
        text = page.read_text(encoding="utf-8")
        assert ("Gradients by W_Q are in other units from model to model" in text) == there
        assert "Between runs nothing is tested." in text


def test_a_figure_of_two_families_tells_where_their_units_differ_and_only_there(make_model, tokens, tmp_path):
    """Through a sweep from files: the option is swept, hashed and read back."""
    folders = {}
    for model in both_families(make_model):
        folders[model.family] = tmp_path / model.family
        model.hf.save_pretrained(folders[model.family])
    np.save(tmp_path / "rows.npy", tokens.numpy())
    grid = {
        "model": [{"source": str(folder), "dtype": "float64", "name": name} for name, folder in folders.items()],
        "paragraphs": [{"source": str(tmp_path / "rows.npy"), "prefix": 24, "continuation": 36}],
        "measure": [
            {"measurement": "gradients", "options": {"sets": False}, "over": {"attention_scale": ["apart", "in_W_Q"]}}
        ],
    }
    done = lz.run_sweep(grid, tmp_path / "swept")
    shares = done["gradient_share"]
    inside = shares.sel(attention_scale="in_W_Q")
    assert np.allclose(inside.sel(model="gpt2"), inside.sel(model="gpt-neo"), rtol=1e-9)
    apart = shares.sel(attention_scale="apart")
    assert not np.allclose(apart.sel(model="gpt2"), apart.sel(model="gpt-neo"), rtol=1e-2)

    def words(variable, grid_of, against="layer"):
        figure = lz.plots.sweep(grid_of, variable, against)
        return " ".join(note.text for note in figure.layout.annotations)

    assert UNLIKE[1:] in words("gradient_share", done).replace("<br>", " ")
    assert "by W_Q" not in words("nll", done, "size")
    alone = {**grid, "measure": [{"measurement": "gradients", "options": {"sets": False, "attention_scale": "in_W_Q"}}]}
    assert "by W_Q" not in words("gradient_share", lz.run_sweep(alone, tmp_path / "alone"))
