"""What an edit changed: each number against a decode or a plain pass."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.edit.prompts import one_changed
from localize.measure.unit_effects import unit_effects

pytestmark = pytest.mark.gpt2_is_slow("family")


PREFIX, LENGTH = 24, 40


@pytest.fixture
def crowd(model):
    """Eight paragraphs that the model says itself after their prefixes, a near-duplicate of the first, and five others."""
    tokens = torch.randint(0, 97, (14, LENGTH), generator=torch.Generator().manual_seed(9))
    tokens[:8, PREFIX:] = model.continue_greedily(tokens[:8, :PREFIX], LENGTH - PREFIX)
    tokens[8] = tokens[0]
    tokens[8, 2] = (tokens[8, 2] + 1) % 97
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.fixture
def change(model, crowd):
    general = lz.load_paragraphs(
        torch.randint(0, 97, (3, LENGTH), generator=torch.Generator().manual_seed(1)),
        prefix_length=24,
        continuation_length=16,
    )
    edit = lz.unlearn(model, crowd[:2], crowd[[2, 3, 9]], steps=4, learning_rate=3e-3, c=1.0)
    return edit, lz.evaluate_edit(model, edit, crowd, general=general, draws=2, seed=3)


def decoded_match(model, prefix, wanted):
    """Tokens right before the first error, by decoding one after the other without a cache."""
    text = prefix.clone()
    for step, token in enumerate(wanted.tolist()):
        said = int(model(text[None])[0, -1].argmax())
        if said != token:
            return step
        text = torch.cat([text, torch.tensor([token])])
    return len(wanted)


def test_every_paragraph_has_its_part(change):
    groups = change[1].before["group"].values.tolist()
    assert groups[:4] == ["forget", "forget", "kept_memorized", "kept_memorized"]
    assert groups[4:8] == ["memorized"] * 4
    assert groups[8] == "near_duplicate"
    assert groups[9] in ("kept_not_memorized", "kept_partial")
    assert groups[14:] == ["general"] * 3
    assert groups == change[1].after["group"].values.tolist()


def test_recall_before_and_after_is_that_of_a_decode(model, crowd, change):
    edit, found = change
    own = model.continue_greedily(crowd.prefixes, 16)
    for side, applied in ((found.before, False), (found.after, True)):
        if applied:
            edit.apply(model)
        for row in (0, 1, 4, 8, 10):
            assert side["exact_match"].values[row] == decoded_match(
                model, crowd.prefixes[row], crowd.continuations[row]
            )
            assert side["reference_exact_match"].values[row] == decoded_match(model, crowd.prefixes[row], own[row])
            for said, name in ((crowd.continuations, "nll"), (own, "reference_nll")):
                text = torch.cat([crowd.prefixes[row], said[row]])
                logits = model(text[None, :-1])[0, PREFIX - 1 :]
                assert side[name].values[row] == pytest.approx(cross_entropy(logits, said[row]).item(), abs=1e-10)
            right = model(crowd.tokens[row][None, :-1])[0, PREFIX - 1 :].argmax(-1) == crowd.continuations[row]
            assert side["token_accuracy"].values[row] == pytest.approx(float(right.double().mean()))
    edit.undo(model)
    assert (found.before["reference_exact_match"].values == 16).all()
    assert found.after["exact_match"].values[:2].mean() < 16


def test_other_prompts_ask_for_what_they_do_not_give(model, crowd, change):
    edit, found = change
    edit.apply(model)
    recalled = found.after["prompted_recall"]
    for row in (0, 4, 8):
        text, prefix = crowd.tokens[row], crowd.prefixes[row]

        def share(given, wanted):
            return decoded_match(model, given, wanted) / len(wanted)

        assert recalled.sel(prompt="as_is").values[row] == share(prefix, text[24:])
        assert recalled.sel(prompt="second_half").values[row] == share(prefix[12:], text[24:])
        assert recalled.sel(prompt="fifth_given").values[row] == share(text[:27], text[27:])
        assert recalled.sel(prompt="half_given").values[row] == share(text[:32], text[32:])
        changed = [one_changed(crowd, np.arange(97), draw, 3)[row] for draw in range(2)]
        expected = np.mean([share(copy[:24], text[24:]) for copy in changed])
        assert recalled.sel(prompt="one_changed").values[row] == pytest.approx(expected)
    edit.undo(model)


def test_one_prefix_token_is_changed_at_random_and_by_the_seed_alone(neo):
    tokens = torch.randint(0, 3, (300, 8), generator=torch.Generator().manual_seed(0))
    paragraphs = lz.load_paragraphs(tokens, prefix_length=5, continuation_length=3)
    changed = one_changed(paragraphs, np.arange(3), 0, 0)
    differs = changed != tokens
    assert differs.sum(1).tolist() == [1] * 300
    assert not differs[:, 5:].any()
    assert differs[:, :5].sum(0).min() > 30
    assert int(changed.min()) >= 0
    assert int(changed.max()) < 3
    assert torch.equal(changed[10:20], one_changed(paragraphs[10:20], np.arange(3), 0, 0))
    assert not torch.equal(changed, one_changed(paragraphs, np.arange(3), 1, 0))
    assert not torch.equal(changed, one_changed(paragraphs, np.arange(3), 0, 1))


def test_the_changed_token_is_one_that_the_tokenizer_has(neo):
    tokens = torch.randint(0, 9, (300, 8), generator=torch.Generator().manual_seed(0))
    paragraphs = lz.load_paragraphs(tokens, prefix_length=5, continuation_length=3)
    changed = one_changed(paragraphs, np.array([2, 4, 7]), 0, 0)
    differs = changed != tokens
    assert differs.sum(1).tolist() == [1] * 300
    for own in range(9):  # each of the ids but the token itself, also where it is none of them
        assert set(changed[differs][tokens[differs] == own].tolist()) == {2, 4, 7} - {own}


def test_of_a_rewriting_the_new_text_is_measured_where_there_is_one(neo):
    tokens = torch.randint(0, 97, (9, LENGTH), generator=torch.Generator().manual_seed(9))
    rows = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=16)
    edit = lz.rewrite(neo, (rows[:2], rows[6:8]), rows[2:4], steps=60, learning_rate=3e-3, c=1.0, stop_at=12.0)
    change = lz.evaluate_edit(neo, edit, rows, draws=1)
    with edit.applied(neo):
        expected = [decoded_match(neo, rows.prefixes[row], rows.continuations[row + 6]) for row in (0, 1)]
    assert change.after["rewritten_exact_match"].values[:2].tolist() == expected
    assert np.mean(expected) >= 12
    assert np.isnan(change.after["rewritten_exact_match"].values[2:]).all()
    assert change.after["rewritten_nll"].values[:2].mean() < change.before["rewritten_nll"].values[:2].mean()


def test_the_model_is_its_own_again_and_the_hashes_tell_which_is_which(model, change):
    edit, found = change
    assert model.weights_hash() == edit.weights_hash
    told = [side.dataset.attrs["model"]["weights_hash"] for side in (found.before, found.after)]
    assert told[0] == edit.weights_hash != told[1]
    with edit.applied(model):
        assert model.weights_hash() == told[1]
    call = found.after.dataset.attrs["calls"][0]
    assert call["edited"] is True
    assert call["edit"]["changed"] == len(edit)


def test_paragraphs_without_a_forgotten_one_are_refused(neo, rows):
    edit = lz.unlearn(neo, rows[:3], rows[3:7], steps=1)
    with pytest.raises(lz.InputError) as caught:
        lz.evaluate_edit(neo, edit, rows[3:])
    assert str(caught.value) == (
        "evaluate_edit: none of the 9 paragraphs of Tensor is among the 3 that the edit was to forget."
    )
    with pytest.raises(lz.LocalizeError) as caught:
        lz.evaluate_edit(neo, edit, rows, draws=0)
    assert str(caught.value) == "evaluate_edit: draws=0 must be at least 1."


def test_a_near_duplicate_of_what_was_kept_was_not_unseen(neo, rows):
    near = rows.tokens[[3]].clone()
    near[0, 5] = (near[0, 5] + 1) % 97
    crowd = lz.Paragraphs(torch.cat([rows.tokens, near]), 24)
    change = lz.evaluate_edit(neo, lz.unlearn(neo, crowd[:3], crowd[3:7], steps=1), crowd, draws=1)
    groups = change.before["group"].values
    assert groups[3].startswith("kept_")
    assert groups[12].startswith("kept_")
    assert not groups[7].startswith("kept_")


def test_general_text_near_what_the_edit_saw_is_refused(neo, rows):
    edit = lz.unlearn(neo, rows[:3], rows[3:7], steps=1)
    for seen, role in ((2, "forget"), (4, "kept_not_memorized")):
        general = lz.Paragraphs(rows.tokens[[8, seen]] + torch.tensor([[1], [0]]) * (rows.tokens[[8, seen]] < 96), 24)
        with pytest.raises(lz.InputError) as caught:
            lz.evaluate_edit(neo, edit, rows, general=general, draws=1)
        assert str(caught.value) == (
            f"evaluate_edit: 'general 1' is a near-duplicate of '{seen}', which the edit saw as {role}; general text must be none of it."
        )


def test_what_was_forgotten_may_come_back_through_the_same_weights(neo, rows):
    edit = lz.unlearn(neo, rows[:3], rows[3:7], lz.top_weights(neo, rows[:3], 0.01), steps=2)
    with edit.applied(neo):
        whole = neo.weights_hash()
        found = lz.relearn(neo, rows[:3], mask=edit.mask, steps=2, learning_rate=1e-3)
        assert neo.weights_hash() == whole
    nll = found["relearned_nll"].values.mean(0)
    assert nll[2] < nll[1] < nll[0]
    assert found.dataset.attrs["calls"][0]["masked"] == len(edit)


def test_relearning_is_plain_training_watched(model, rows, by_hand):
    taught, watched = rows[:3], rows[5:8]

    def objective(moved):
        logits = moved(taught.tokens[:, :-1], read=slice(PREFIX - 1, None))
        return cross_entropy(logits.transpose(1, 2), taught.continuations)

    whole = model.weights_hash()
    found = lz.relearn(model, taught, watched, steps=3, learning_rate=1e-3)
    assert model.weights_hash() == whole
    assert found["relearned_nll"].dims == ("paragraph", "step")
    assert found["group"].values.tolist() == ["taught"] * 3 + ["watched"] * 3
    everything = lz.choose_weights(model)
    for steps in (0, 1, 3):
        moved = by_hand(model, objective, everything, steps, 1e-3)
        recall = lz.recall(moved, rows[[0, 1, 2, 5, 6, 7]])
        assert np.allclose(found["relearned_nll"].values[:, steps], recall["nll"].values, atol=1e-9)
        assert found["relearned_exact_match"].values[:, steps].tolist() == recall["exact_match"].values.tolist()


def test_relearning_own_continuations_watches_those(neo, rows):
    own = rows[:3].with_own_continuation(neo)
    found = lz.relearn(neo, own, steps=1)
    assert found["relearned_exact_match"].values[:, 0].tolist() == [16.0] * 3


def test_zeroed_units_are_those_that_the_forget_set_needs_more_than_the_kept_text_is_moved_by_them(model, sets):
    forget, keep = sets
    edit = lz.zero_units(model, forget, keep, 0.01)
    rise, usual = unit_effects(model, forget).mlp, unit_effects(model, keep).mlp.abs().mean(0)
    ratio = (rise / (usual + usual.mean())).mean(0)
    budget = int(0.01 * lz.choose_weights(model).total / model.d_model)
    order = sorted((-float(ratio[la, un]), la, un) for la in range(model.n_layers) for un in range(model.d_mlp))[
        :budget
    ]
    assert edit.call["units"] == [[layer, unit] for _, layer, unit in order]
    with edit.applied(model):
        zeroed = [
            [layer, unit]
            for layer in range(model.n_layers)
            for unit in range(model.d_mlp)
            if not model.weight(layer, "W_out")[unit].any()
        ]
    assert sorted(zeroed) == sorted(edit.call["units"])
    assert len(edit) == budget * model.d_model
    assert edit.total == sum(model.weight(la, name).numel() for la in range(model.n_layers) for name in COMPONENTS)


def test_units_are_zeroed_by_any_localizers_scores_and_those_of_others_are_refused(neo, sets):
    forget, keep = sets
    scores = lz.localizers.get("norm")(neo, forget)
    edit = lz.zero_units(neo, forget, keep, 0.001, scores=scores)
    norms = torch.stack([neo.weight(layer, "W_out").norm(dim=1) for layer in range(neo.n_layers)])
    first = divmod(int(norms.argmax()), neo.d_mlp)
    assert edit.call["units"][0] == list(first) and edit.call["localizer"] == "norm"
    for wrong, told in (
        (lz.localizers.get("norm")(neo, keep), "zero_units: scores are of other paragraphs than the forget set."),
        (
            lz.localizers.get("weight_gradient")(neo, forget),
            "zero_units: scores are of no MLP units, which is what is zeroed.",
        ),
    ):
        with pytest.raises(lz.LocalizeError) as caught:
            lz.zero_units(neo, forget, keep, scores=wrong)
        assert str(caught.value) == told


def test_a_share_of_units_out_of_range_is_refused(neo, sets):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.zero_units(neo, *sets, fraction=1.5)
    assert str(caught.value) == "zero_units: fraction=1.5 must lie above 0 and be at most 1."


@pytest.fixture
def poisoned(make_model):
    """A model in which every text with a token from 50 on gives no number; it never says one itself. And paragraphs without them."""
    model = make_model("gpt2", tie_word_embeddings=False)
    with torch.no_grad():
        model.hf.transformer.wte.weight[50:] = torch.nan
        model.hf.lm_head.weight[50:] = 0.0
    tokens = torch.randint(0, 50, (12, LENGTH), generator=torch.Generator().manual_seed(9))
    return model, lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


def test_prompts_that_give_no_number_are_refused(poisoned):
    model, paragraphs = poisoned
    edit = lz.unlearn(model, paragraphs[:2], paragraphs[2:4], steps=2, learning_rate=1e-3, c=1.0)
    with pytest.raises(lz.LocalizeError, match=r"behind a changed prefix is nan; a finite number is needed"):
        lz.evaluate_edit(model, edit, paragraphs, draws=2)


def test_own_continuations_that_give_no_number_are_refused(poisoned):
    model, paragraphs = poisoned
    with torch.no_grad():
        model.hf.lm_head.weight[60] = 1e3 * model.hf.lm_head.weight[0]
    edit = lz.unlearn(model, paragraphs[:2], paragraphs[2:4], steps=2, learning_rate=1e-3, c=1.0)
    with pytest.raises(lz.LocalizeError, match=rf"at position {PREFIX} is nan; a finite number is needed"):
        lz.evaluate_edit(model, edit, paragraphs, draws=2)


def test_relearning_that_leaves_no_number_for_the_watched_is_refused(poisoned, monkeypatch):
    from localize.edit import relearning

    model, paragraphs = poisoned
    watched = int(
        set(paragraphs.tokens[4:].unique().tolist()).difference(paragraphs.tokens[:2].unique().tolist()).pop()
    )

    def descend(model, chosen, terms, how, on_step):
        model.hf.transformer.wte.weight.data[watched] = torch.nan
        on_step(0, {})

    monkeypatch.setattr(relearning, "descend", descend)
    with pytest.raises(
        lz.LocalizeError, match=r"the NLL of paragraph '\d+' at position \d+ is nan; a finite number is needed"
    ):
        lz.relearn(model, paragraphs[:2], paragraphs[4:], steps=1)
