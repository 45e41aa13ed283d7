"""Measurements of one model on the same paragraphs, put together, saved and taken apart."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.labels import labelled
from localize.measure.scoring import recall_of

PREFIX, LENGTH = 24, 60


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX).with_groups("aabbbb")


MEASUREMENTS = (
    lz.gradients,
    lz.memory,
    lz.activation_gradients,
    lz.set_similarity,
    lz.rare_token_heads,
    lz.ablate,
    lz.replace_rarest,
    lz.perturb_prefix,
    lz.corrupt_prefix,
    lz.prefix_attention,
    lz.patch,
)


@pytest.mark.parametrize("dtype", [pytest.param(torch.float64, marks=pytest.mark.slow), torch.bfloat16])
def test_everything_joins_in_every_precision(make_model, paragraphs, dtype, tmp_path):
    model = make_model("gpt-neo", dtype=dtype)
    signature = lz.recall(model, paragraphs)
    for measurement in MEASUREMENTS:
        signature |= measurement(model, paragraphs)
    assert len(signature.dataset.attrs["calls"]) == 1 + len(MEASUREMENTS)
    signature.save(tmp_path / "all.zarr.zip")
    assert lz.load_signature(tmp_path / "all.zarr.zip").variables == signature.variables


def test_numpys_numbers_as_options_are_saved_as_numbers(neo, paragraphs, tmp_path):
    call = {"measurement": "mine", "draws": np.int64(3), "weights": [np.float32(0.5)]}
    signature = labelled(neo, paragraphs, recall_of(neo, paragraphs), {}, call=call)
    signature.save(tmp_path / "numbers.zarr.zip")
    told = lz.load_signature(tmp_path / "numbers.zarr.zip").dataset.attrs["calls"][0]
    assert (told["draws"], told["weights"]) == (3, [0.5])


def test_a_group_alone_keeps_what_was_measured_of_it_as_a_set(neo, paragraphs):
    signature = lz.gradients(neo, paragraphs) | lz.set_similarity(neo, paragraphs)
    alone = signature.where(group="b")
    assert alone["set"].values.tolist() == alone["other_set"].values.tolist() == ["b"]
    assert np.array_equal(alone["set_gradient_max"][0], signature["set_gradient_max"].sel(set="b"))


def test_small_values_that_differ_do_not_join(neo, paragraphs):
    def at(c):
        return lz.contrastive_gradients(neo, paragraphs, forget="a", keep="b", c=c)

    assert float(at(1e-9)["contrastive_gradient_max"].max()) < 1e-6
    with pytest.raises(
        lz.SignatureError, match=r"^join: contrastive_gradient_max is in both signatures with different"
    ):
        at(1e-9) | at(2e-9)


def test_a_call_tells_which_continuation_it_is_of(neo, paragraphs):
    own = paragraphs.with_own_continuation(neo)
    told = [
        s.dataset.attrs["calls"][0]["continuation"] for s in (lz.gradients(neo, own), lz.gradients(neo, paragraphs))
    ]
    assert told == ["own", "true"]
    copies = [
        lz.copy_similarity(neo, paragraphs, other).dataset.attrs["calls"][0]["copies"] for other in (paragraphs, own)
    ]
    assert copies[0] != copies[1]
    assert "own continuation" in copies[1]


def test_nulls_do_not_depend_on_the_order_of_the_paragraphs(neo, paragraphs):
    order = [3, 1, 5, 0, 4, 2]
    counts = np.arange(97)[::-1].copy()
    here = lz.rare_token_heads(neo, paragraphs, counts=counts, untrained=False)["rare_token_null"].values[order]
    there = lz.rare_token_heads(neo, paragraphs[order], counts=counts, untrained=False)["rare_token_null"].values
    assert np.allclose(here, there, rtol=1e-10, equal_nan=True)


def test_a_single_word_is_taken_as_one(neo, paragraphs):
    assert "gradient_norm" not in lz.gradients(neo, paragraphs, statistics="max")
    assert {component for _, component in lz.top_weights(neo, paragraphs, components="W_V").shapes} == {"W_V"}


def test_an_empty_batch_is_refused(neo, paragraphs):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.set_similarity(neo, paragraphs, batch_size=0)
    assert str(caught.value) == "batch_size=0 must be a whole number of at least 1."


def test_parts_of_a_sweep_over_heads_join_to_the_whole(neo, paragraphs):
    whole = lz.ablate(neo, paragraphs, to="zero")
    parts = [lz.ablate(neo, paragraphs, layers, to="zero") for layers in ([0, 2], 1, [1, 3])]
    joined = parts[0] | parts[1] | parts[2]
    for name in ("ablated_nll", "ablated_exact_match"):
        assert np.allclose(joined[name], whole[name], rtol=1e-9)
        assert joined[name].attrs == whole[name].attrs
    with pytest.raises(
        lz.SignatureError,
        match=r"^join: ablated_(exact_match|nll) is of to='zero' on the left and of to='mean' on the right",
    ):
        parts[1] | lz.ablate(neo, paragraphs, [0, 1], to="mean")


def test_patches_at_one_position_and_at_all_do_not_fill_each_others_cells(neo, paragraphs):
    copies = lz.perturb_prefix(neo, paragraphs)
    changed, every = (
        lz.patch(neo, paragraphs, copies, at=at, layers=layer) for layer, at in ((0, "changed"), (1, "all"))
    )
    with pytest.raises(lz.SignatureError) as caught:
        changed | every
    assert str(caught.value) == (
        "join: head_patch_effect is of at='changed' on the left and of at='all' on the right; only parts of one measurement join."
    )
    rest = lz.patch(neo, paragraphs, copies, layers=[1, 2, 3])
    whole = lz.patch(neo, paragraphs, copies)
    assert np.allclose((changed | rest)["head_patch_effect"], whole["head_patch_effect"], rtol=1e-9, equal_nan=True)


def test_the_summary_of_three_groups_tells_of_the_main_two(neo, paragraphs):
    signature = lz.perturb_prefix(neo, paragraphs.with_groups(("memorized", "partial", "not_memorized") * 2))
    with pytest.warns(UserWarning, match="few effective clusters"):
        rows = signature.summary().loc["share of tokens made wrong, matched on each token's confidence"]
    assert rows.index.tolist() == ["memorized", "not_memorized", "memorized - not_memorized"]
    assert "partial" in signature._repr_html_()
