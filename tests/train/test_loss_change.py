"""What each part of the weights changes in a loss sums to what changed, is the integral of the gradient, and costs the training no bit."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, NEVER_TRAINED, OUTSIDE, TRAINED
from localize.models.hooks import HookedModel
from localize.models.parameters import weight_view
from localize.train.weight_parts import part_sums

PARTS = ("loss_change", "outside_loss_change")


def told(function, *args, kind=lz.LocalizeError, **options):
    with pytest.raises(kind) as caught:
        function(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def planted(rows):
    """Seven paragraphs: of four a training shows copies, three are held out."""
    return replace(rows, duplicates=(2, 1, 0, 1, 0, 0, 1))


ORDER = np.array([0, -1, -1, -1, 1, 0, -1, -1, 3, 6, -1, -1])
"""Which paragraph each row of a training is: of two rows a step, steps 0, 2 and 4 show some."""
BATCH, STEPS = 2, 6


def training(model, paragraphs, *watched, rate=2e-4, steps=range(STEPS)):
    """A training on the rows of `ORDER`; other text is random. What came of it."""
    hf = model.hf if isinstance(model, HookedModel) else model
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    optimizer = torch.optim.Adam(hf.parameters(), lr=rate)
    others = torch.randint(97, (len(ORDER), paragraphs.tokens.shape[1]))
    tokens = torch.where(torch.from_numpy(ORDER)[:, None] < 0, others, paragraphs.tokens[ORDER])
    for watch in watched:
        watch(model, steps[0])
    for step in steps:
        of_step = tokens[step * BATCH : (step + 1) * BATCH]
        optimizer.zero_grad()
        cross_entropy(hf(of_step[:, :-1]).logits.flatten(0, 1), of_step[:, 1:].flatten()).backward()
        optimizer.step()
        for watch in watched:
            watch(model, step + 1)
    left = [p.detach().clone() for p in hf.parameters()] + [p.grad.clone() for p in hf.parameters()]
    return [*left, torch.rand(3), torch.from_numpy(np.random.rand(3)), torch.tensor(random.random())]


def loss(model, paragraphs, rows):
    """Mean NLL of the continuations, as transformers computes it."""
    tokens, first = paragraphs.tokens[rows], paragraphs.prefix_length
    logits = model.hf(tokens).logits[:, first - 1 : -1]
    return cross_entropy(logits.flatten(0, 1), tokens[:, first:].flatten())


def summed(signature, ending=""):
    """All parts of each set, at every step."""
    parts = [signature[name + ending] for name in PARTS]
    return sum(part.sum([dim for dim in part.dims if dim not in ("training_step", "set")]) for part in parts).values


# The numbers.


def test_all_parts_sum_to_what_changed_but_for_an_error_that_is_told(model, planted):
    change = lz.LossChange(planted, ORDER, BATCH, at=1)
    training(model, planted, change)
    signature = change.signature()
    nll = signature["nll"].values
    groups = signature["group"].values
    for at, name in enumerate(change.sets):
        of_set = nll[:, groups == name].mean(1)
        np.testing.assert_allclose(signature["set_nll_change"][:, at], of_set - of_set[0], atol=1e-12)
        found, wanted = summed(signature)[-1, at], of_set[-1] - of_set[0]
        assert abs(found - wanted) < 0.01 * abs(wanted)
        assert change.error[name] == pytest.approx(abs(found - wanted) / abs(wanted), rel=1e-6)
        assert change.error[name] > 1e-12
    assert change.sets == (TRAINED, NEVER_TRAINED)
    assert (summed(signature)[0] == 0).all()


def test_every_component_and_head_is_the_trapezoid_by_hand(model, planted):
    change = lz.LossChange(planted)
    seen = []

    def by_hand(hooked, step):
        hooked.hf.zero_grad()
        loss(hooked, planted, [0, 1, 3, 6]).backward()
        cells = [(layer, c, h) for layer in range(hooked.n_layers) for c in ATTENTION_COMPONENTS for h in range(4)]
        cells += [(layer, c, None) for layer in range(hooked.n_layers) for c in COMPONENTS]
        seen.append({
            cell: (weight_view(hooked, *cell).clone(), weight_view(hooked, *cell, grad=True).clone()) for cell in cells
        })  # fmt: skip

    training(model, planted, change, by_hand)
    signature = change.measured(model)
    for cell in seen[0]:
        pairs = [(one[cell], other[cell]) for one, other in pairwise(seen)]
        wanted = sum(float(((g + h) * (w - v)).sum()) / 2 for (v, g), (w, h) in pairs)
        layer, component, head = cell
        told_of = signature["loss_change"].sel(layer=layer, component=component)
        if head is not None:
            told_of = signature["head_loss_change"].sel(layer=layer, attention_component=component, head=head)
        assert float(told_of.sel(set=TRAINED, exposure="other")) == pytest.approx(wanted, rel=1e-5, abs=1e-9), (
            cell
        )  # GPT-Neo there is in float32
        assert np.isnan(told_of.sel(exposure="shown")).all()


def test_what_lies_outside_of_the_components_is_told_apart(make_model, family, planted):
    tied = {"biases", "layer_norms", "W_pos"}
    for settings, there in (({}, tied | {"W_E + W_U"}), ({"tie_word_embeddings": False}, tied | {"W_E", "W_U"})):
        model = make_model(family, **settings)
        values = {name: torch.full_like(weight, 1.0) for name, weight in model.hf.named_parameters()}
        sums = dict(zip(OUTSIDE, part_sums(model, values)[-len(OUTSIDE) :], strict=True))
        assert {name for name, count in sums.items() if not np.isnan(count)} == there
        assert sums["W_pos"] == 128 * 32
        assert sums["layer_norms"] == (2 * model.n_layers + 1) * 2 * 32
        assert np.nansum(part_sums(model, values)) == sum(p.numel() for p in model.hf.parameters())
        change = lz.LossChange(planted)
        training(model, planted, change)
        assert max(change.error.values()) < 0.01


def test_a_model_in_which_one_head_alone_moves_has_its_whole_change_there(model, planted):
    change, rows = lz.LossChange(planted), [0, 1, 3, 6]
    change(model, 0)
    before = loss(model, planted, rows).item()
    with torch.no_grad():
        weight_view(model, 1, "W_V", 2).add_(1e-3)
    change(model, 1)
    signature = change.measured(model)
    heads = signature["head_loss_change"].sel(set=TRAINED, exposure="other")
    moved = float(heads.sel(layer=1, attention_component="W_V", head=2))
    assert moved == pytest.approx(loss(model, planted, rows).item() - before, rel=1e-3)
    assert (heads.values != 0).sum() == 1
    components = signature["loss_change"].sel(set=TRAINED, exposure="other")
    assert (components.values != 0).sum() == 1
    assert float(components.sel(layer=1, component="W_V")) == pytest.approx(moved)


def test_it_is_the_integral_of_the_gradient_along_a_step_the_error_of_the_third_order(model, planted):
    """A fine midpoint rule of transformers' gradients along the line; a step of half the length has an eighth of the error."""
    generator, errors = torch.Generator().manual_seed(1), []
    ways = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in model.hf.parameters()]
    for length in (2e-4, 1e-4):
        moving, change = model.copied(), lz.LossChange(planted)
        change(moving, 0)
        points, total = 20, 0.0
        for _ in range(points):
            for half in (0, 1):
                with torch.no_grad():
                    for p, way in zip(moving.hf.parameters(), ways, strict=True):
                        p.add_(way, alpha=length / points / 2)
                if half == 0:
                    moving.hf.zero_grad()
                    loss(moving, planted, [2, 4, 5]).backward()
                    of_part = weight_view(moving, 0, "W_in", grad=True)
                    own = ways[[name for name, _ in moving.hf.named_parameters()].index(IN_NAME[model.family])]
                    own = own if model.family == "gpt2" else own.T
                    total += float((of_part * own).sum()) * length / points
        moving.hf.zero_grad()
        change(moving, 1)
        found = change.measured(moving)["loss_change"].sel(set=NEVER_TRAINED, layer=0, component="W_in")
        errors.append(float(found.sel(exposure="other")) - total)
        assert abs(errors[-1]) < 1e-2 * abs(total)
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.2)


IN_NAME = {"gpt2": "transformer.h.0.mlp.c_fc.weight", "gpt-neo": "transformer.h.0.mlp.c_fc.weight"}


def test_between_two_models_it_is_that_of_the_line_and_more_points_miss_less(model, planted):
    after = model.copied()
    training(after, planted, rate=1e-3)
    groups = np.array([TRAINED if count else NEVER_TRAINED for count in planted.duplicates])
    gap = np.array([
        (loss(after, planted, np.flatnonzero(groups == name)) - loss(model, planted, np.flatnonzero(groups == name))).item()
        for name in (TRAINED, NEVER_TRAINED)
    ])  # fmt: skip
    missed = [np.abs(summed(lz.loss_change(model, after, planted, points=points)) - gap) for points in (4, 8)]
    assert (missed[1] < 0.4 * missed[0]).all()
    assert (missed[1] < 0.02 * np.abs(gap)).all()
    signature = lz.loss_change(model, after, planted, points=2)
    assert signature.dataset.attrs["model"]["weights_hash"] == after.weights_hash()
    assert told(lz.loss_change, model, after, planted, points=0) == "loss_change: points=0 must be at least 1."


def test_models_of_two_shapes_have_no_line_between_them(neo, gpt2, planted):
    assert told(lz.loss_change, neo, gpt2, planted) == (
        "loss_change: small gpt-neo and small gpt2 differ in shape; two of one shape are needed."
    )


def test_steps_that_show_a_set_stand_apart_from_the_others_and_held_out_text_beside_at_the_same_steps(model, planted):
    labels = ["a", "b", NEVER_TRAINED, "a", NEVER_TRAINED, NEVER_TRAINED, "b"]
    groups = planted.with_groups(labels)
    change, each = lz.LossChange(groups, ORDER, BATCH, at=1), []
    training(model, groups, change, lambda hooked, step: each.append(step))
    signature = change.signature()
    whole = signature["loss_change"].sum("exposure").diff("training_step")  # (step, set, layer, component)
    showing = {"a": [0, 2, 4], "b": [2, 4], NEVER_TRAINED: []}  # rows 0, 5, 8: paragraphs 0, 0, 3; rows 4, 9: 1, 6
    for name, steps in showing.items():
        others = [step for step in range(STEPS) if step not in steps]
        for exposure, own in (("shown", steps), ("other", others)):
            found = signature["loss_change"].sel(set=name, exposure=exposure).isel(training_step=-1)
            np.testing.assert_allclose(
                found, whole.sel(set=name).isel(training_step=own).sum("training_step"), atol=1e-14
            )
            null = signature["loss_change_null"].sel(set=name, exposure=exposure).isel(training_step=-1)
            if name == NEVER_TRAINED:
                assert np.isnan(null).all()
                continue
            held_out = whole.sel(set=NEVER_TRAINED).isel(training_step=own).sum("training_step")
            np.testing.assert_allclose(null, held_out, atol=1e-14)
            assert (held_out != 0).any()
    assert each == list(range(STEPS + 1))


def test_the_held_out_set_is_that_of_its_name_or_the_one_asked_for(neo, planted):
    named = planted.with_groups(["a", "b", "c", "a", "b", "c", "c"])
    none, some = lz.LossChange(named), lz.LossChange(named, held_out="c")
    training(neo, named, none, some)
    none, some = (change.measured(neo) for change in (none, some))
    assert np.isnan(none["loss_change_null"]).all()
    null = some["loss_change_null"].sel(exposure="other")
    np.testing.assert_array_equal(null.sel(set="a"), none["loss_change"].sel(set="c", exposure="other"))
    assert np.isnan(null.sel(set="c")).all()


def test_batches_do_not_matter(model, planted):
    one, other = lz.LossChange(planted, batch_size=1), lz.LossChange(planted, batch_size=16)
    training(model, planted, one, other)
    one, other = (change.measured(model) for change in (one, other))
    np.testing.assert_allclose(one["head_loss_change"], other["head_loss_change"], rtol=1e-9, atol=1e-14)


def test_weights_that_do_not_move_change_nothing(neo, planted):
    for p in neo.hf.transformer.parameters():
        p.requires_grad_(False)
    neo.hf.transformer.h[0].mlp.c_fc.weight.requires_grad_(True)
    change = lz.LossChange(planted)
    change(neo, 0)
    loss(neo, planted, [0, 1]).backward()
    with torch.no_grad():
        weight = neo.hf.transformer.h[0].mlp.c_fc.weight
        weight.sub_(1e-3 * weight.grad)
    change(neo, 1)
    found = change.measured(neo)["loss_change"].sel(set=TRAINED, exposure="other")
    assert (found.values != 0).sum() == 1 and float(found.sel(layer=0, component="W_in")) < 0
    assert sum(p.requires_grad for p in neo.hf.parameters()) == 1


# The training.


def test_training_with_dropout_is_the_same_to_the_bit_with_and_without_it(fresh, family, planted):
    plain = training(fresh(family), planted)
    change = lz.LossChange(planted, ORDER, BATCH, at=[2, 6])
    hf = fresh(family)
    followed = training(hf, planted, change)
    assert all(torch.equal(a, b) for a, b in zip(plain, followed, strict=True))
    assert all(module.training for module in hf.modules())
    assert max(change.error.values()) < 0.01
    assert change.signature()["training_step"].values.tolist() == [2, 6]
    other = training(fresh(family), planted, lambda model, step: torch.rand(1))
    assert not all(torch.equal(a, b) for a, b in zip(plain, other, strict=True)), "the comparison sees no draw"


def test_hooks_on_the_accumulation_of_gradients_are_not_called(fresh, planted):
    hf, called = fresh(), []
    hf.lm_head.weight.register_post_accumulate_grad_hook(lambda p: called.append(1))
    change = lz.LossChange(planted)
    change(hf, 0), change(hf, 1)
    assert called == []
    assert all(p.grad is None for p in hf.parameters())


def test_a_resumed_one_gives_what_one_that_was_never_interrupted_gives(make_model, planted, tmp_path):
    whole, begun, resumed = (lz.LossChange(planted, ORDER, BATCH, at=2) for _ in range(3))
    assert begun.state() == {}

    def until_three(model, step):
        if step <= 3:
            begun(model, step)
        if step == 3:
            begun.signature().save(tmp_path / "begun.zarr.zip")
            resumed.resume({name: value.clone() for name, value in begun.state().items()})
            resumed.adopt(lz.load_signature(tmp_path / "begun.zarr.zip"))
        if step >= 3:
            resumed(model, step)

    training(make_model("gpt2").hf, planted, whole, until_three)
    assert resumed.signature().dataset.identical(whole.signature().dataset)
    assert resumed.error == whole.error


def test_it_is_a_measure_of_a_watch(neo, planted):
    change = lz.LossChange(planted, ORDER, BATCH, at=3)
    watch = lz.Watch(planted, 3, [change.measured, "gradients"], ORDER, BATCH)
    training(neo, planted, change, watch)
    np.testing.assert_array_equal(watch.signature()["loss_change"], change.signature()["loss_change"])
    assert "gradient_max" in watch.signature()


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_a_trainer_is_followed(fresh, planted, tmp_path):
    from transformers import Trainer, TrainingArguments

    items = [{"input_ids": row, "labels": row} for row in planted.tokens]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=3, learning_rate=1e-3, use_cpu=True, report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, seed=3, dataloader_pin_memory=False,
    )  # fmt: skip
    left = []
    for change in (None, lz.LossChange(planted, at=[0, 4])):
        hf, callbacks = fresh(), [] if change is None else [change.trainer_callback()]
        Trainer(model=hf, args=arguments, train_dataset=items, callbacks=callbacks).train()
        left.append([p.detach().clone() for p in hf.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*left, strict=True))
    assert change.error[TRAINED] < 0.01
    assert change.signature()["training_step"].values.tolist() == [0, 4]


def test_what_it_costs_is_told_before_it_begins(planted):
    change = lz.LossChange(planted, ORDER, BATCH)
    assert change.cost == (7, 3.5)
    assert repr(change) == (
        "LossChange(7 paragraphs in 2 sets; every step a forward and backward pass of 7 rows, 3.5 of a step of 2; no step seen yet)"
    )
    assert np.isnan(lz.LossChange(planted).cost.of_a_step)
    assert np.isnan(list(change.error.values())).all()


# What cannot be followed.


def test_what_cannot_be_followed_is_told(make_model, fresh, planted, make_rows):
    hf, change = fresh(), lz.LossChange(planted, ORDER, BATCH, at=1)
    assert told(change.measured, hf, kind=lz.SignatureError) == (
        "LossChange.measured: no step was seen yet; call change(model, step) before."
    )
    change(hf, 0)
    change(hf, 0)
    assert told(change, hf, 2) == (
        "LossChange: step=2 does not follow step 0; it is called before the first step and after every one."
    )
    for step in (-1, 1.0, True):
        assert told(change, hf, step) == f"LossChange: step={step!r}; a step is a whole number of at least 0."
    other = make_rows(7, seed=9)
    assert told(change.measured, hf, other, kind=lz.SignatureError) == (
        "LossChange.measured: these are other paragraphs, or in other groups, than those followed."
    )
    with torch.no_grad():
        hf.lm_head.weight.mul_(1.1)
    of_its_own = "step 0 was seen with other weights; another training needs a LossChange of its own."
    assert told(change, hf, 0) == f"LossChange: {of_its_own}"
    assert told(change.measured, hf) == f"LossChange.measured: {of_its_own}"
    late = lz.LossChange(planted, ORDER, BATCH)
    assert told(late, hf, 7) == "LossChange: step=7 must lie in 0..6, the steps of these rows."
    with torch.no_grad():
        hf.lm_head.weight.fill_(torch.nan)
    assert told(change, hf, 1) == "LossChange: the NLL of 'planted' is nan at step 1; a finite number is needed."
    assert told(late.signature, kind=lz.SignatureError) == (
        "LossChange.signature: at=None puts nothing down; measured(model) tells the sums so far."
    )
    assert (
        told(late.adopt, change.signature(), kind=lz.SignatureError) == "LossChange.adopt: at=None puts nothing down."
    )
    short = make_model("gpt2", n_positions=32).hf
    assert "exceed the context of in memory, which is 32" in told(lz.LossChange(planted), short, 0)


def test_what_cannot_be_asked_for_is_told_before_training_begins(planted):
    assert told(lz.LossChange, planted, batch_size=0) == "LossChange: batch_size=0 must be at least 1."
    assert told(lz.LossChange, planted, held_out="c", kind=lz.InputError) == (
        "LossChange: held_out='c' is no group; there are planted, never_trained."
    )
    assert (
        told(lz.LossChange, planted, ORDER)
        == "LossChange: row_paragraph without batch; exposures are counted with both."
    )
    assert (
        told(lz.LossChange, planted, np.array([7]), 1) == "LossChange: rows of the paragraphs 7..7; -1..6 are allowed."
    )
    assert told(lz.LossChange, planted, at=[]) == "LossChange: at=[] has no steps; at least one is needed."
