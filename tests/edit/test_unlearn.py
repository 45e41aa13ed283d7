"""Steps on chosen weights, against AdamW written out on whole matrices and objectives written out with autograd."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

import localize as lz
from localize.axes import COMPONENTS
from localize.edit.descent import ChosenWeights, Steps, drawn_rows, edited
from localize.edit.objectives import nll
from localize.edit.unlearn import METHODS, usual_rate
from localize.models.parameters import weight_view

pytestmark = pytest.mark.gpt2_is_slow("family")


RATE = 3e-3


def token_nll(model, paragraphs):
    read = slice(paragraphs.prefix_length - 1, None)
    logits = model(paragraphs.tokens[:, :-1], read=read)
    return cross_entropy(logits.transpose(1, 2), paragraphs.continuations, reduction="none")


def logs(model, paragraphs):
    return model(paragraphs.tokens[:, :-1], read=slice(paragraphs.prefix_length - 1, None)).log_softmax(-1)


def divergence(model, reference, keep):
    with torch.no_grad():
        before = logs(reference, keep)
    return kl_div(logs(model, keep), before, reduction="none", log_target=True).sum(-1).mean()


def objective_of(method, reference, forget, keep, c, beta=0.1):
    """What each method lowers, written out."""
    with torch.no_grad():
        before = token_nll(reference, forget).sum(1)

    def contrastive(model):
        return -c * token_nll(model, forget).mean() + divergence(model, reference, keep)

    def npo(model):
        log_ratio = before - token_nll(model, forget).sum(1)
        value = -2 / beta * torch.log(torch.sigmoid(-beta * log_ratio)) / forget.continuation_length
        return c * value.mean() + divergence(model, reference, keep)

    def gradient_difference(model):
        return -c * token_nll(model, forget).mean() + token_nll(model, keep).mean()

    return {"contrastive": contrastive, "npo": npo, "gradient_difference": gradient_difference}[method]


def largest_difference(edit, model, oracle):
    with edit.applied(model):
        return max(
            float((model.weight(layer, name) - oracle.weight(layer, name)).abs().max())
            for layer in range(model.n_layers)
            for name in COMPONENTS
        )


@pytest.mark.parametrize("method", ["contrastive", "npo", "gradient_difference"])
def test_some_steps_are_those_of_adamw_on_autograds_gradient(model, sets, by_hand, method):
    mask = lz.top_weights(model, sets[0], 0.02)
    options = {"c": 0.3} | ({"beta": 0.2} if method == "npo" else {})
    edit = lz.unlearn(model, *sets, mask, method=method, steps=3, learning_rate=RATE, batch_size=2, **options)
    oracle = by_hand(model, objective_of(method, model, *sets, **options), mask, 3, RATE)
    assert largest_difference(edit, model, oracle) < 1e-9
    assert len(edit) == len(mask)


def test_only_the_first_tokens_need_be_forgotten(gpt2, sets, rows, by_hand):
    mask = lz.top_weights(gpt2, sets[0], 0.02)
    begun = lz.load_paragraphs(rows.tokens[:3, :29], prefix_length=24, continuation_length=5)
    for method in ("contrastive", "npo"):
        edit = lz.unlearn(gpt2, *sets, mask, method=method, c=0.3, beta=0.1, first=5, steps=3, learning_rate=RATE)
        oracle = by_hand(gpt2, objective_of(method, gpt2, begun, sets[1], 0.3), mask, 3, RATE)
        assert largest_difference(edit, gpt2, oracle) < 1e-9
        assert edit.call["forget"] == [digest.hex() for digest in sets[0].hashes]


def test_decay_is_decoupled_and_of_the_masks_weights_alone(gpt2, sets, by_hand, all_weights):
    mask, before = lz.top_weights(gpt2, sets[0], 0.02), all_weights(gpt2)
    edit = lz.unlearn(gpt2, *sets, mask, method="contrastive", steps=2, learning_rate=RATE, weight_decay=0.5)
    oracle = by_hand(gpt2, objective_of("contrastive", gpt2, *sets, 0.1), mask, 2, RATE, weight_decay=0.5)
    assert largest_difference(edit, gpt2, oracle) < 1e-9
    with edit.applied(gpt2):
        after = all_weights(gpt2)
    for cell, matrix in before.items():
        outside = ~mask.matrix(*cell)
        assert torch.equal(matrix[outside], after[cell][outside])


def test_rewriting_teaches_the_new_text_after_the_prefix_and_the_new_words_before_it(model, sets, rows, by_hand):
    forget, keep = sets
    copies = rows[7:10]
    mask = lz.top_weights(model, forget, 0.02)
    new = torch.cat([forget.prefixes, copies.continuations], 1)
    taught = lz.load_paragraphs(new, prefix_length=24, continuation_length=16)

    def objective(moved):
        return 0.4 * token_nll(moved, taught).mean() + divergence(moved, model, keep)

    edit = lz.rewrite(model, (forget, copies), keep, mask, c=0.4, steps=3, learning_rate=RATE)
    assert largest_difference(edit, model, by_hand(model, objective, mask, 3, RATE)) < 1e-9


def test_no_other_weight_moves_and_the_model_is_its_own_again_to_the_bit(model, sets, all_weights):
    before, whole = all_weights(model), model.weights_hash()
    others = {name: value.clone() for name, value in model.hf.state_dict().items()}
    mask = lz.top_weights(model, sets[0], 0.005).random_like(3)
    edit = lz.unlearn(model, *sets, mask, steps=4, learning_rate=0.01)
    assert model.weights_hash() == whole
    with edit.applied(model):
        after = all_weights(model)
        components = {id(weight_view(model, 0, name)) for name in COMPONENTS}
        assert components
        moved = sum(
            int((value != others[name]).sum()) for name, value in model.hf.state_dict().items() if "lm_head" not in name
        )
    changed = sum(int((after[cell] != before[cell]).sum()) for cell in before)
    assert moved == changed == len(edit) <= len(mask)
    for cell in before:
        assert torch.equal(before[cell][~mask.matrix(*cell)], after[cell][~mask.matrix(*cell)])
    assert model.weights_hash() == whole


def test_all_weights_are_the_mask_where_none_is_given(neo, sets):
    edit = lz.unlearn(neo, *sets, steps=1)
    assert edit.call["masked"] == edit.call["of"] == edit.total == lz.choose_weights(neo).total
    assert len(edit) > 0.99 * edit.total


def test_forgetting_raises_the_nll_and_the_log_tells_it(neo, sets):
    forget, keep = sets
    edit = lz.unlearn(neo, forget, keep, method="contrastive", steps=5, learning_rate=1e-3, c=1.0)
    log = edit.call["log"]
    assert [row["step"] for row in log] == [0, 1, 2, 3, 4, 5]
    with torch.no_grad():
        before = token_nll(neo, forget).mean()
        with edit.applied(neo):
            after = token_nll(neo, forget).mean()
    assert log[0]["forget_loss"] == pytest.approx(float(before))
    assert log[-1]["forget_loss"] == pytest.approx(float(after))
    assert after > before + 0.1
    assert log[0]["keep_loss"] == pytest.approx(0, abs=1e-12)
    assert log[-1]["keep_loss"] > 1e-4


def test_it_stops_once_the_forget_set_says_little_enough(neo, rows):
    own = rows.with_own_continuation(neo)
    forget, keep = own[:3], own[3:7]
    edit = lz.unlearn(neo, forget, keep, steps=200, learning_rate=1e-3, c=1.0, stop_at=5.0)
    matched = [row["forget_exact_match"] for row in edit.call["log"]]
    assert matched[0] == 16
    assert matched[-1] <= 5 < min(matched[:-1])


def test_a_rewriting_stops_once_the_new_text_is_said(neo, rows):
    edit = lz.rewrite(neo, (rows[:1], rows[7:8]), rows[3:5], steps=400, learning_rate=3e-3, c=1.0, stop_at=16.0)
    assert edit.call["log"][-1]["new_exact_match"] == 16
    with edit.applied(neo):
        said = neo.continue_greedily(rows.prefixes[:1], 16)
    assert torch.equal(said, rows.continuations[7:8])


def test_npo_begins_as_the_contrastive_objective_and_then_fades(neo, sets):
    one, other = (
        lz.unlearn(neo, *sets, method=method, steps=1, learning_rate=1e-9, c=0.1, beta=0.1)
        for method in ("contrastive", "npo")
    )
    assert all(torch.equal(one.after[cell], other.after[cell]) for cell in one.after)
    far = [
        lz.unlearn(neo, *sets, method=m, steps=20, learning_rate=6e-3, c=1.0, beta=0.1).call["log"]
        for m in ("contrastive", "npo")
    ]
    assert far[0][-1]["forget_loss"] > 2 * far[0][0]["forget_loss"]
    assert far[1][0]["forget_loss"] == pytest.approx(2 / (0.1 * 16) * np.log(2))
    assert 0 < far[1][-1]["forget_loss"] < far[1][0]["forget_loss"]


def test_batches_change_nothing_beyond_rounding(model, sets):
    mask = lz.top_weights(model, sets[0], 0.01)
    one, other = (lz.unlearn(model, *sets, mask, steps=3, batch_size=size) for size in (1, 16))
    assert max(float((one.after[cell] - other.after[cell]).abs().max()) for cell in one.after) < 1e-9


def test_a_step_on_some_paragraphs_draws_them_by_the_seed(neo, sets):
    runs = [lz.unlearn(neo, *sets, steps=3, per_step=1, seed=seed) for seed in (0, 0, 1)]
    assert all(torch.equal(runs[0].after[cell], runs[1].after[cell]) for cell in runs[0].after)
    assert any(not torch.equal(runs[0].after[cell], runs[2].after[cell]) for cell in runs[0].after)


def test_a_step_goes_down_the_objective_of_the_paragraphs_drawn(gpt2, sets, by_hand):
    forget, keep = sets
    mask, how = lz.top_weights(gpt2, forget, 0.02), Steps(1, RATE, per_step=2, seed=4)
    drawn = [drawn_rows(len(part), how, name, 0) for part, name in ((forget, "forget"), (keep, "keep"))]
    assert [len(rows) for rows in drawn] == [2, 2]
    edit = lz.unlearn(
        gpt2, forget, keep, mask, method="gradient_difference", steps=1, learning_rate=RATE, c=0.1, per_step=2, seed=4
    )
    objective = objective_of("gradient_difference", gpt2, forget[drawn[0]], keep[drawn[1]], 0.1)
    assert largest_difference(edit, gpt2, by_hand(gpt2, objective, mask, 1, RATE)) < 1e-9
    times = np.bincount(np.concatenate([drawn_rows(5, how, "keep", step) for step in range(100)]), minlength=5)
    assert 25 <= times.min() <= times.max() <= 55


def test_half_precision_weights_move_by_steps_kept_in_full(make_model, rows):
    model = make_model("gpt-neo", dtype=torch.bfloat16)
    edit = lz.unlearn(model, rows[:3], rows[3:7], steps=12, learning_rate=2e-4)
    assert edit.dtype == torch.bfloat16
    moved = torch.cat([(edit.after[cell].float() - edit.before[cell].float()).abs() for cell in edit.after])
    assert float(moved.max()) > 1e-3  # a single step rounds away; twelve do not


def test_chosen_weights_are_read_and_written_in_one_order(model, sets):
    mask = lz.top_weights(model, sets[0], 0.01)
    chosen = ChosenWeights(model, mask)
    expected = torch.cat([model.weight(*cell).flatten()[places] for cell, places in mask.indices.items()])
    assert torch.equal(chosen.read(), expected)
    chosen.write(torch.arange(len(mask), dtype=torch.float64))
    assert torch.equal(chosen.read(), torch.arange(len(mask), dtype=torch.float64))
    of_itself = {cell: model.weight(*cell).contiguous() for cell in mask.shapes}
    assert torch.equal(chosen.of(of_itself), chosen.read())


def test_an_interrupted_edit_leaves_the_model_as_it_was(neo, sets, monkeypatch):
    whole, calls = neo.weights_hash(), []

    def interrupted(self, values):
        write(self, values)
        calls.append(len(values))
        if len(calls) == 3:
            raise KeyboardInterrupt

    write = ChosenWeights.write
    monkeypatch.setattr(ChosenWeights, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lz.unlearn(neo, *sets, steps=9, learning_rate=0.1)
    assert neo.weights_hash() == whole


def test_a_loss_that_is_no_number_stops_restores_and_says_when(neo, sets):
    whole = neo.weights_hash()
    with pytest.raises(lz.LocalizeError) as caught:
        lz.unlearn(neo, *sets, steps=7, learning_rate=1e200)
    assert str(caught.value) == (
        "unlearn: the loss of the forget set is nan after step 1 of 7; the model is as it was before. "
        "A learning_rate below 1e+200 is needed."
    )
    assert neo.weights_hash() == whole


def test_a_damaged_model_is_told_before_the_first_step(neo, sets):
    neo.weight(1, "W_in")[3, 3] = float("nan")
    with pytest.raises(lz.LocalizeError) as caught:
        lz.unlearn(neo, *sets, lz.choose_weights(neo, layers=[0]), method="gradient_difference")
    assert str(caught.value) == (
        "unlearn: the loss of the forget set is nan before the first step (damaged weights, or a dtype too narrow?)."
    )


def test_numpys_numbers_are_recorded_as_pythons(neo, sets):
    how = Steps(np.int64(1), np.float32(1e-3), per_step=np.int64(2))
    call = {"measurement": "test", **how._asdict()}
    edit = edited(neo, lz.choose_weights(neo, layers=[0]), [nll("forget", sets[0], 1.0)], how, call=call)
    assert (edit.call["steps"], edit.call["per_step"]) == (1, 2)


def test_each_method_has_its_usual_weight(neo, sets):
    weights = {name: lz.unlearn(neo, *sets, method=name, steps=1).call["c"] for name in METHODS}
    assert weights == {"contrastive": 0.1, "npo": 0.05, "gradient_difference": 1.0}


def levels_by_step(model, forget, keep, first, steps, **options):
    """Exact match and NLL of the whole forget set after each of so many steps, each edit made anew."""
    levels = []
    for count in range(1, steps + 1):
        with lz.unlearn(model, forget, keep, steps=count, first=first, **options).applied(model), torch.no_grad():
            logits = model(forget.tokens[:, :-1], read=slice(forget.prefix_length - 1, None))[:, :first]
        said = (logits.argmax(-1) == forget.continuations[:, :first]).double()
        losses = cross_entropy(logits.transpose(1, 2), forget.continuations[:, :first], reduction="none")
        levels.append((float(said.cumprod(1).sum(1).mean()), float(losses.mean())))
    return levels


@pytest.mark.parametrize("method", ["npo", "contrastive"])
@pytest.mark.parametrize("first", [None, 6])
def test_it_stops_at_the_first_step_at_which_the_whole_set_is_there_whatever_a_step_sees(neo, rows, first, method):
    own = rows.with_own_continuation(neo)
    forget, keep = own[:4], own[4:8]
    options = {"method": method, "learning_rate": 1e-4, "c": 1.0, "per_step": 1}
    levels = levels_by_step(neo, forget, keep, first, 12, **options)
    early, late = (tuple(np.add(levels[at - 1], levels[at]) / 2) for at in (2, 6))  # between two steps
    assert early[0] > late[0] and early[1] < late[1]
    for goals in (
        {"stop_at": late[0]}, {"stop_nll": late[1]}, {"stop_at": early[0], "stop_nll": late[1]}, {"stop_at": late[0], "stop_nll": early[1]},
    ):  # fmt: skip
        there = [
            match <= goals.get("stop_at", np.inf) and nll >= goals.get("stop_nll", -np.inf) for match, nll in levels
        ]
        edit = lz.unlearn(neo, forget, keep, steps=200, first=first, **goals, **options)
        assert edit.call["log"][-1]["step"] == there.index(True) + 1 > 2
        assert {name: edit.call[name] for name in goals} == goals


@torch.no_grad()
def test_the_loss_that_npo_logs_is_not_the_nll_that_it_stops_at(neo, rows):
    own = rows.with_own_continuation(neo)
    before = float(token_nll(neo, own[:4]).mean())
    edit = lz.unlearn(neo, own[:4], own[4:8], learning_rate=1e-3, c=1.0, steps=200, stop_nll=before + 2)
    log = [row["forget_loss"] for row in edit.call["log"]]
    with edit.applied(neo):
        after = float(token_nll(neo, own[:4]).mean())
    assert after >= before + 2
    assert log[-1] < log[0] < before + 2  # the term that is lowered falls while the NLL rises


def test_an_nll_that_is_there_already_needs_no_edit_unless_the_exact_match_is_asked_for_too(neo, rows):
    own = rows.with_own_continuation(neo)
    nll = token_nll(neo, own[:3]).mean().item()
    with pytest.raises(lz.LocalizeError) as caught:
        lz.unlearn(neo, own[:3], own[3:7], stop_at=16.0, stop_nll=0.01)
    assert str(caught.value) == (
        f"unlearn: before the first step the forget set's exact match is 16, at most stop_at=16 and NLL is {nll:.4g}, at least "
        "stop_nll=0.01; there is nothing to do."
    )
    edit = lz.unlearn(neo, own[:3], own[3:7], stop_at=15.0, stop_nll=0.01)
    assert edit.call["log"][-1]["step"] >= 1


def test_the_usual_rate_is_the_higher_the_fewer_weights_may_change(neo, sets):
    assert [usual_rate(share) for share in (1.0, 0.5, 0.05, 0.01, 1e-6)] == pytest.approx(
        [1e-4, 2e-4, 2e-3, 2e-3, 2e-3]
    )
    assert usual_rate(0.0501) == pytest.approx(1e-4 / 0.0501)
    mask = lz.top_weights(neo, sets[0], 0.1)
    total = sum(neo.weight(layer, name).numel() for layer in range(neo.n_layers) for name in COMPONENTS)
    for edit in (
        lz.unlearn(neo, *sets, mask, steps=1),
        lz.rewrite(neo, (sets[0], sets[1][:3]), sets[1][3:], mask, steps=1),
    ):
        assert edit.call["learning_rate"] == pytest.approx(1e-4 * total / len(mask))
    assert lz.unlearn(neo, *sets, steps=1).call["learning_rate"] == pytest.approx(1e-4)


def test_a_paragraph_is_rewritten_once(neo, rows):
    twice = lz.Paragraphs(rows.tokens[[0, 0]], 24)
    with pytest.raises(lz.InputError) as caught:
        lz.rewrite(neo, (twice, rows[7:9]), rows[3:5])
    assert str(caught.value) == "rewrite: a paragraph stands twice; each can be taught one new continuation."


def test_overlapping_sets_are_refused(neo, rows):
    with pytest.raises(lz.InputError) as caught:
        lz.unlearn(neo, rows[:3], rows[2:5])
    assert str(caught.value) == (
        "unlearn: paragraph '2' (row 2) of the forget set is '2' (row 0) of the keep set; the sets must not overlap."
    )


def test_near_duplicates_across_the_sets_are_refused(neo, rows):
    near = rows.tokens[[0, 4, 5]].clone()
    near[0, 7] = (near[0, 7] + 1) % 97
    keep = lz.load_paragraphs(near, prefix_length=24, continuation_length=16)
    with pytest.raises(lz.InputError) as caught:
        lz.unlearn(neo, rows[:3], keep)
    assert str(caught.value) == (
        "unlearn: paragraph '0' (row 0) of the forget set and '0' (row 0) of the keep set are in one cluster of near-duplicates; "
        "keep other clusters (see edit_sets)."
    )


def test_sets_of_other_lengths_are_refused(neo, rows):
    keep = lz.load_paragraphs(rows.tokens[3:6, :36], prefix_length=24, continuation_length=12)
    with pytest.raises(lz.InputError) as caught:
        lz.unlearn(neo, rows[:3], keep)
    assert str(caught.value) == (
        "unlearn: the forget set has paragraphs of 24 + 16 tokens, the keep set of 24 + 12; one length is needed."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ascent"}, "unlearn: method='ascent' is not one of npo, contrastive, gradient_difference."),
        ({"c": 0.0}, "unlearn: c=0.0 must be finite and above 0."),
        ({"beta": float("nan")}, "unlearn: beta=nan must be finite and above 0."),
        ({"first": 17}, "unlearn: first=17 must be a whole number in 1..16, the continuation's tokens."),
        ({"steps": 0}, "unlearn: steps=0 must be a whole number of at least 1."),
        ({"per_step": 0}, "unlearn: per_step=0 must be a whole number of at least 1."),
        ({"learning_rate": 0.0}, "unlearn: learning_rate=0.0 must be finite and above 0."),
        ({"weight_decay": -1.0}, "unlearn: weight_decay=-1.0 must be finite and at least 0."),
        ({"stop_at": float("nan")}, "unlearn: stop_at=nan must be a finite number."),
        ({"stop_nll": float("inf")}, "unlearn: stop_nll=inf must be a finite number."),
    ],
)
def test_options_out_of_range_are_refused(neo, sets, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.unlearn(neo, *sets, **options)
    assert str(caught.value) == message


def test_an_empty_mask_and_one_of_another_model_are_refused(neo, make_model, sets):
    mask = lz.top_weights(neo, sets[0], 0.01)
    empty = lz.WeightMask({cell: places[:0] for cell, places in mask.indices.items()}, mask.shapes, mask.weights_hash)
    with pytest.raises(lz.LocalizeError, match=r"^unlearn: .*mask"):
        lz.unlearn(neo, *sets, empty)
    with pytest.raises(lz.LocalizeError, match=r"^unlearn: .*mask"):
        lz.unlearn(make_model("gpt-neo", seed=1), *sets, mask)


def test_an_edit_that_changes_nothing_fails_loudly(make_model, rows):
    model = make_model("gpt-neo", dtype=torch.bfloat16)
    with pytest.raises(lz.LocalizeError) as caught:
        lz.unlearn(model, rows[:3], rows[3:7], lz.top_weights(model, rows[:3], 0.001), steps=1, learning_rate=1e-12)
    assert "none of the" in str(caught.value)
    assert "changed" in str(caught.value)


def test_a_set_that_says_no_more_than_asked_for_needs_no_edit(neo, rows):
    own = rows.with_own_continuation(neo)
    with pytest.raises(lz.LocalizeError) as caught:
        lz.unlearn(neo, own[:3], own[3:7], stop_at=16.0)
    assert str(caught.value) == (
        "unlearn: before the first step the forget set's exact match is 16, at most stop_at=16; there is nothing to do."
    )


def test_a_new_text_that_is_the_old_one_is_refused(neo, sets):
    with pytest.raises(lz.InputError) as caught:
        lz.rewrite(neo, (sets[0], sets[0]), sets[1])
    assert str(caught.value) == (
        "rewrite: the new continuation of paragraph '0' (row 0) is the one it has; another is needed."
    )


def test_copies_that_do_not_match_are_refused(neo, sets, rows):
    with pytest.raises(lz.InputError) as caught:
        lz.rewrite(neo, (sets[0], rows[7:9]), sets[1])
    assert str(caught.value) == (
        "rewrite: the copies are 2 x (24 + 16) tokens, the paragraphs 3 x (24 + 16); they must match row by row."
    )


def test_perturbed_copies_are_taught_from_their_signature(neo, sets):
    forget, keep = sets
    prefix = lz.perturb_prefix(neo, forget, draws=1)
    copies = torch.from_numpy(prefix["copy_tokens"].values[:, 0].astype(np.int64))
    mask = lz.top_weights(neo, forget, 0.01)
    edit = lz.rewrite(neo, (forget, prefix), keep, mask, steps=2)
    as_rows = lz.load_paragraphs(copies, prefix_length=24, continuation_length=16)
    again = lz.rewrite(neo, (forget, as_rows), keep, mask, steps=2)
    assert all(torch.equal(edit.after[cell], again.after[cell]) for cell in edit.after)
    assert list(edit.call["new"].values()) == copies[:, 24:].tolist()
