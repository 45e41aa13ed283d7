"""Memorization sinks: which units a text has on, and a model that does without them and keeps what they write beside it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import localize as lz
from localize.models.gates import SinkGates, digest_of, gating_hooks, give_sinks, read_sinks, take_sinks
from localize.models.saving import save_checkpoint

TOKENS = torch.randint(97, (40, 12), generator=torch.Generator().manual_seed(3))
HASHED = SinkGates("hashed", 64, 44, 0.3, 0, "key", tuple(map(digest_of, TOKENS[:4].numpy())))
SLICES = SinkGates("slices", 64, 44, 0.25, 5, "key", HASHED.texts)


@pytest.fixture(params=["gpt2", "gpt-neo"])
def model(request, make_model):
    """A random model of 16 x 4 hidden units or more."""
    return make_model(request.param, dtype=torch.float32)


def fitted(gates, model):
    """The same gates of this model's MLPs: the last 20 hidden units are sinks."""
    return replace(gates, units=model.d_mlp, general=model.d_mlp - 20)


def test_a_text_has_the_same_sinks_whoever_is_asked_with_it_and_another_key_gives_others():
    own = HASHED.own(TOKENS)
    assert torch.equal(HASHED.own(TOKENS[7:9]), own[7:9])
    assert not torch.equal(replace(HASHED, key="other").own(TOKENS), own)
    changed = TOKENS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 97
    assert (HASHED.own(changed) != own).any(1).all()


def test_of_a_share_p_each_sink_is_on_for_about_p_of_the_texts_and_independently():
    gates = replace(HASHED, units=244)
    many = torch.randint(97, (2000, 12), generator=torch.Generator().manual_seed(4))
    on = gates.own(many).double()
    assert on.mean().item() == pytest.approx(0.3, abs=4 * (0.21 / on.numel()) ** 0.5)
    assert on.mean(0).sub(0.3).abs().max() < 5 * (0.21 / 2000) ** 0.5
    assert np.corrcoef(on.numpy(), rowvar=False)[np.triu_indices(200, 1)].std() == pytest.approx(2000**-0.5, rel=0.1)


def test_slices_are_disjoint_and_text_that_was_not_planted_has_none():
    own = SLICES.own(TOKENS)
    assert own[:4].sum(1).tolist() == [5, 5, 5, 5] and (own[:4].sum(0) == 1).all()
    assert torch.equal(own[:4], torch.eye(4).repeat_interleave(5, 1).bool()) and not own[4:].any()
    assert torch.equal(SLICES.slices(np.array([2, -1])), torch.stack([own[2], own[5]]))


@pytest.mark.parametrize("gates", [HASHED, SLICES])
def test_the_other_mask_is_that_of_another_planted_text_if_there_is_one(gates):
    other, there = gates.other(TOKENS)
    planted = gates.own(TOKENS[:4])
    assert there.all()
    which = [[at for at in range(4) if torch.equal(row, planted[at])] for row in other]
    assert all(len(at) == 1 for at in which) and all(at != [own] for own, at in enumerate(which[:4]))
    assert {at[0] for at in which} == {0, 1, 2, 3}
    assert replace(gates, texts=gates.texts[:1]).other(TOKENS[:2])[1].tolist() == [False, True]


@pytest.mark.parametrize("gates", [HASHED, SLICES])
def test_what_is_drawn_anew_follows_from_the_showing_alone(gates):
    drawn = gates.drawn(range(50))
    assert torch.equal(gates.drawn([7, 3]), drawn[[7, 3]])
    assert len({tuple(row.tolist()) for row in drawn}) == (50 if gates.kind == "hashed" else 4)


def test_without_its_sinks_a_model_says_what_it_says_with_all_of_them_off(model):
    gates, whole = fitted(HASHED, model), model.copied()
    expected = whole.forward(
        TOKENS, hooks=gating_hooks(gates, torch.zeros(40, 20), whole.hf.transformer.wte.weight, whole.n_layers)
    )
    sinks = take_sinks(model, gates)
    torch.testing.assert_close(model.forward(TOKENS), expected)
    assert model.weights_hash() != whole.weights_hash()
    # What the sinks write is added: with any factors the same as in the model that has them.
    on = torch.rand(40, 20, generator=torch.Generator().manual_seed(0))
    expected = whole.forward(TOKENS, hooks=gating_hooks(gates, on, whole.hf.transformer.wte.weight, whole.n_layers))
    torch.testing.assert_close(model.forward(TOKENS, hooks=sinks.hooks(on)), expected)
    give_sinks(model)
    assert model.sinks is None and model.weights_hash() == whole.weights_hash()


def test_a_checkpoint_carries_its_sinks_and_is_a_plain_model(model, tmp_path):
    from transformers import AutoModelForCausalLM

    sinks = take_sinks(model, fitted(SLICES, model))
    save_checkpoint(model, tmp_path)
    again = lz.load_model(tmp_path, device="cpu")
    assert again.sinks.gates == sinks.gates and torch.equal(again.sinks.rows, sinks.rows)
    assert again.weights_hash() == model.weights_hash()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(plain(TOKENS).logits, model.forward(TOKENS))
    assert lz.load_model(tmp_path, device="cpu", weights="folded").sinks is None
    assert lz.load_model(again, dtype="float64").sinks.rows.dtype == torch.float64
    assert again.copied().weights_hash() == again.weights_hash()


def test_gates_that_do_not_fit_are_told_in_a_line(make_model, tmp_path):
    model = make_model("gpt2", dtype=torch.float32)
    take_sinks(model, fitted(HASHED, model))
    save_checkpoint(model, tmp_path)
    path, shape = tmp_path / "gates.json", (model.n_layers, model.d_mlp, model.d_model)
    good = json.loads(path.read_text())
    fit = f"the model has {shape[0]} layers of {shape[1]} hidden units and d_model {shape[2]}."
    rows = (shape[0], 20, shape[2])
    for change, told in (
        ({"units": shape[1] + 4}, f"gates of {shape[1] + 4} hidden units and sinks of shape {rows}; {fit}"),
        ({"general": 3}, f"gates of {shape[1]} hidden units and sinks of shape {rows}; {fit}"),
        (
            {"general": shape[1]},
            f"{shape[1]} general units of {shape[1]} leave no sinks, or nothing else; 1..{shape[1] - 1} are allowed.",
        ),
        ({"kind": "torn"}, "kind='torn' is not one of hashed, slices."),
        ({"share": 1.5}, "share=1.5 must be above 0, at most 1."),
        (
            {"kind": "slices", "slice_units": 9},
            "4 slices of 9 units do not fit the 20 units an MLP that are no general ones.",
        ),
        ({"units": "many"}, "cannot be read with sinks.safetensors: TypeError: units = 'many' is no int"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(lz.ModelError) as caught:
            lz.load_model(tmp_path)
        assert str(caught.value) == f"model {path}: {told}" + ("." if "cannot" in told else "")
    path.write_text("no JSON")
    with pytest.raises(lz.ModelError, match=r"cannot be read with sinks\.safetensors: JSONDecodeError"):
        read_sinks(tmp_path, shape)
    path.write_text(json.dumps(good))
    save_file({"other": torch.zeros(2)}, tmp_path / "sinks.safetensors")
    with pytest.raises(lz.ModelError, match=r"KeyError: 'rows'\.$"):
        lz.load_model(tmp_path)
