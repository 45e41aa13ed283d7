"""What is watched while a model is trained: as measured afterwards, and the training is the same bit for bit as without it."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.axes import NEVER_TRAINED, TRAINED, UNLABELLED, WATCHED
from localize.measurements import asked_names
from localize.models.hooks import HookedModel

BATCH, STEPS = 4, 6


def told(function, *args, kind=lz.LocalizeError, **options):
    with pytest.raises(kind) as caught:
        function(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def training(hf, paragraphs, watch=None, *, hooked=False):
    """An ordinary loop over these paragraphs with dropout and random numbers of all kinds; what came of it."""
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    optimizer, losses = torch.optim.AdamW(hf.parameters(), lr=1e-3), []
    model = HookedModel(hf) if hooked else hf
    hf.train()
    for step in range(STEPS):
        if watch:
            watch(model, step)
        rows = torch.from_numpy(np.random.permutation(len(paragraphs))[:BATCH])[random.sample(range(BATCH), BATCH)]
        tokens = paragraphs.tokens[rows]
        optimizer.zero_grad()
        loss = cross_entropy(hf(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if watch:
        watch(model, STEPS)
    return (
        losses,
        {name: value.clone() for name, value in hf.state_dict().items()},
        torch.rand(3),
        np.random.rand(3),
        random.random(),
    )


def same(one, other):
    """Whether two trainings came out alike, to the bit."""
    (losses, weights, *drawn), (others, theirs, *redrawn) = one, other
    return (
        losses == others
        and all(torch.equal(value, theirs[name]) for name, value in weights.items())
        and all(np.array_equal(a, b) for a, b in zip(drawn, redrawn, strict=True))
    )


# The training is the same.


@pytest.mark.parametrize("hooked", [False, True])
def test_training_with_dropout_is_the_same_to_the_bit_with_and_without_it(fresh, family, rows, hooked):
    plain = training(fresh(family), rows)
    measures = ("gradients", "perturb_prefix", "rare_token_heads")
    watched = training(fresh(family), rows, lz.Watch(rows, at=2, measures=measures), hooked=hooked)
    assert same(plain, watched)
    assert not same(plain, training(fresh(family), rows, lambda model, step: torch.rand(1))), (
        "the comparison sees no draw"
    )


def test_all_that_a_training_goes_on_from_is_left_as_it_is(fresh, rows):
    def clumsy(model, paragraphs):
        torch.rand(1), np.random.rand(1), random.random()
        for p in model.hf.parameters():
            p.requires_grad_(True)
        model.hf.train()
        model.hf(paragraphs.tokens, labels=paragraphs.tokens).loss.backward()
        return lz.recall(model, paragraphs)

    # Made first: checks of types draw with Python's random numbers.
    hf, watch = fresh(), lz.Watch(rows, at=1, measures=clumsy)
    hf.transformer.h[1].eval()  # somebody's frozen block
    hf.transformer.wpe.weight.requires_grad_(False)
    hf(rows.tokens, labels=rows.tokens).loss.backward()
    held = {
        name: (p.grad, None if p.grad is None else p.grad.clone(), p.requires_grad) for name, p in hf.named_parameters()
    }
    modes = [module.training for module in hf.modules()]
    attention, drawn = (
        hf.config._attn_implementation,
        (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()),
    )

    watch(hf, 0)
    assert [module.training for module in hf.modules()] == modes
    assert len(set(modes)) == 2
    for name, p in hf.named_parameters():
        gradient, values, asks = held[name]
        assert p.grad is gradient
        assert p.requires_grad == asks
        assert values is None or torch.equal(p.grad, values)
    assert hf.config._attn_implementation == attention == "sdpa"
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert np.array_equal(np.random.get_state()[1], drawn[1])
    assert random.getstate() == drawn[2]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())


def test_it_is_left_as_it_is_by_a_measure_that_fails_too(fresh, rows):
    hf = fresh()

    def failing(model, paragraphs):
        torch.rand(1)
        raise ArithmeticError("on purpose")

    drawn, watch = torch.get_rng_state(), lz.Watch(rows, at=1, measures=failing)
    with pytest.raises(ArithmeticError, match="on purpose"):
        watch(hf, 0)
    assert all(module.training for module in hf.modules())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert watch.steps == ()


# What is measured.


def test_each_step_is_as_measured_apart(fresh, rows):
    hf, apart = fresh(), {}
    measures = ("gradients", lambda model, paragraphs: lz.perturb_prefix(model, paragraphs, draws=3))
    watch = lz.Watch(rows, at=[0, 3, 6, 3], measures=measures)

    def measured(model, step):
        watch(model, step)
        if step % 3 == 0:
            with torch.random.fork_rng([]):
                copied = lz.HookedModel(model, name="apart").copied()
                model.train()
                apart[step] = lz.recall(copied, watch.paragraphs), lz.gradients(copied, watch.paragraphs)

    training(hf, rows, measured)
    signature = watch.signature()
    assert signature.over_training == ("training_step",)
    assert signature["training_step"].values.tolist() == [0, 3, 6]
    assert watch.steps == (0, 3, 6)
    assert signature["perturbed_nll"].sizes["draw"] == 3
    for step, (recall, gradients) in apart.items():
        one = signature.at(training_step=step)
        assert one.dataset.attrs["model"]["weights_hash"] == recall.dataset.attrs["model"]["weights_hash"]
        for name in ("exact_match", "nll", "token_nll"):
            np.testing.assert_array_equal(one[name], recall[name])
        np.testing.assert_array_equal(one["gradient_max"], gradients["gradient_max"])
    assert len(np.unique(signature["weights_hash"])) == 3


@pytest.mark.parametrize("name", asked_names())
def test_every_measurement_can_be_watched(name, fresh, rows, make_reciter):
    groups = ["memorized", "not_memorized"] * 3 + ["memorized"]
    hf, watch = fresh(), lz.Watch(rows.with_groups(groups), at=1, measures=name)
    for step in range(2):
        before = {key: value.clone() for key, value in hf.state_dict().items()}
        watch(hf, step)
        assert all(torch.equal(value, before[key]) for key, value in hf.state_dict().items())
        with torch.no_grad():
            for p in hf.parameters():
                p.mul_(1.01)
    assert name in {call["measurement"] for call in watch.signature().dataset.attrs["calls"]}
    assert watch.signature()["training_step"].values.tolist() == [0, 1]


def test_it_measures_every_so_many_steps_or_those_asked_for_and_no_others(fresh, rows):
    hf, calls = fresh(), []

    def noted(model, paragraphs):
        calls.append(1)
        return lz.recall(model, paragraphs)

    every, some = lz.Watch(rows, at=np.int64(3), measures=[noted]), lz.Watch(rows, at=range(1, 3))
    for step in (0, 1, 2, 3, 3, 4, 5, 6, 6):
        every(hf, step)
        some(hf, np.int32(step))
    assert every.steps == (0, 3, 6)
    assert some.steps == (1, 2)
    assert len(calls) == 3
    assert repr(every) == "Watch(7 paragraphs; every 3 steps; measured at 0, 3, 6)"
    assert repr(some) == "Watch(7 paragraphs; 2 steps asked for; measured at 1, 2)"
    assert repr(lz.Watch(rows, at=[4])) == "Watch(7 paragraphs; 1 steps asked for; measured at none yet)"


def test_groups_are_the_users_or_follow_from_duplicates_and_never_from_recall(fresh, rows):
    from dataclasses import replace

    counted = replace(rows, duplicates=(4, 0, None, 1, 0, 2, 3))
    named = rows.with_groups(["b", "a", "b", "a", "b", "a", "b"])
    for paragraphs, groups in (
        (rows, [WATCHED] * 7),
        (counted, [TRAINED, NEVER_TRAINED, UNLABELLED, TRAINED, NEVER_TRAINED, TRAINED, TRAINED]),
        (named, list(named.labels)),
        (replace(named, duplicates=(0,) * 7), list(named.labels)),
    ):
        watch = lz.Watch(paragraphs, at=1)
        watch(fresh(), 0)
        assert watch.signature()["group"].values.tolist() == groups
        assert watch.paragraphs.data_hash == rows.data_hash


def test_exposures_stand_beside_it(fresh, rows):
    rows_of = np.array([0, 1, 0, -1, 2, 0, -1, -1], dtype=np.int16)
    watch = lz.Watch(rows, at=1, row_paragraph=rows_of, batch=2)
    hf = fresh()
    for step in range(5):
        watch(hf, step)
        with torch.no_grad():
            hf.lm_head.weight.mul_(1.1)
    signature = watch.signature()
    assert signature["exposures"].dims == ("training_step", "paragraph")
    assert signature["exposures"].values[:, :3].T.tolist() == [[0, 1, 2, 3, 3], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    since = [[np.nan, 0, 0, 0, 1], [np.nan, 0, 1, 2, 3], [np.nan, np.nan, np.nan, 0, 1]]
    np.testing.assert_array_equal(signature["steps_since_exposure"].values[:, :3].T, since)
    assert told(watch, hf, 5) == "Watch: at=5..5 must lie in 0..4, the steps of these rows."
    assert watch.steps == (0, 1, 2, 3, 4)


def test_it_holds_labels_once_and_no_model(fresh, rows):
    import gc
    import weakref

    hf, watch = fresh(), lz.Watch(rows, at=1)
    for step in range(3):
        watch(hf, step)
        with torch.no_grad():
            hf.lm_head.weight.mul_(1.1)
    parts = list(watch._parts.values())
    assert all(np.shares_memory(a["tokens"].values, b["tokens"].values) for a, b in pairwise(parts))
    gone = weakref.ref(hf)
    del hf
    gc.collect()
    assert gone() is None
    assert len(watch.signature()["training_step"]) == 3


def test_a_watch_may_go_on_after_its_signature_was_taken(fresh, rows):
    hf, watch = fresh(), lz.Watch(rows, at=1)
    watch(hf, 1)
    first = watch.signature()
    with torch.no_grad():
        hf.lm_head.weight.mul_(1.1)
    watch(hf, 0)  # steps come out in order
    assert watch.signature()["training_step"].values.tolist() == [0, 1]
    np.testing.assert_array_equal(watch.signature()["nll"][1], first["nll"][0])


# What was measured before.


def test_a_resumed_watch_gives_what_one_that_was_never_interrupted_gives(fresh, rows, tmp_path):
    whole, begun = (lz.Watch(rows, at=2, measures=["gradients"]) for _ in range(2))

    def both(model, step):
        whole(model, step)
        if step <= 2:
            begun(model, step)

    training(fresh(), rows, both)
    begun.signature().save(tmp_path / "begun.zarr.zip")
    resumed = lz.Watch(rows, at=2, measures=["gradients"])
    resumed.adopt(lz.load_signature(tmp_path / "begun.zarr.zip"))
    assert resumed.steps == (0, 2)

    def rest(model, step):
        if step >= 2:
            resumed(model, step)

    training(fresh(), rows, rest)
    assert resumed.signature().dataset.identical(whole.signature().dataset)


def test_at_a_step_adopted_it_does_nothing_whatever_the_weights(fresh, rows, make_model):
    hf, first, second = fresh(), lz.Watch(rows, at=1), lz.Watch(rows, at=1)
    first(hf, 0)
    second.adopt(first.signature())
    with torch.no_grad():
        hf.lm_head.weight.mul_(1.1)
    second(hf, 0)
    assert second.signature().dataset.identical(first.signature().dataset)


def test_what_does_not_go_on_is_not_adopted(fresh, rows, make_rows):
    hf = fresh()

    def seen(paragraphs, **options):
        watch = lz.Watch(paragraphs, at=1, **options)
        watch(hf, 0)
        return watch.signature()

    watch, other = lz.Watch(rows, at=1), make_rows(6, seed=6)
    assert told(watch.adopt, seen(other), kind=lz.SignatureError) == (
        f"Watch.adopt: the signature is of 6 of {other.source} (data_hash {other.data_hash[:12]}), the paragraphs are 7 of "
        f"{rows.source} (data_hash {rows.data_hash[:12]}); the same ones, in the same order, are needed."
    )
    assert told(watch.adopt, seen(rows.with_groups(["a"] * 7)), kind=lz.SignatureError) == (
        "Watch.adopt: the signature has other groups than the paragraphs watched; the same are needed."
    )
    assert told(watch.adopt, seen(rows).at(training_step=0), kind=lz.SignatureError) == (
        "Watch.adopt: the signature is over no steps; one over training_step alone is needed."
    )
    more = lz.Watch(rows, at=1, measures=["gradients"])
    assert told(more.adopt, seen(rows), kind=lz.SignatureError) == (
        "Watch.adopt: the signature has no gradients, which is watched; it has recall."
    )
    counted = lz.Watch(rows, at=1, row_paragraph=np.array([0, 1]), batch=1)
    assert told(counted.adopt, seen(rows), kind=lz.SignatureError) == (
        "Watch.adopt: the signature has no exposures, which is watched; it has recall."
    )
    watch.adopt(seen(rows))
    assert told(watch.adopt, seen(rows), kind=lz.SignatureError) == (
        "Watch.adopt: step 0 was measured already; adopt what is earlier before that."
    )
    surplus = lz.Watch(rows, at=1)
    surplus.adopt(seen(rows, measures="gradients"))
    assert told(surplus, hf, 1, kind=lz.SignatureError) == (
        "Watch: step 1 differs from step 0 in what was measured: exact_match, nll, token_nll."
    )


# What cannot be watched.


def test_what_cannot_be_asked_for_is_told_before_training_begins(rows):
    def refused(paragraphs=rows, at=1, **options):
        return told(lz.Watch, paragraphs, at, **options)

    needed = "every how many steps, at least 1, or a list of steps is needed."
    assert refused(at=0) == f"Watch: at=0; {needed}"
    assert refused(at="all") == f"Watch: at='all'; {needed}"
    assert refused(at=1.5) == f"Watch: at=1.5; {needed}"
    assert refused(at=[]) == "Watch: at=[] has no steps; at least one is needed."
    for at, step in ((-5, -5), (True, True), ([0, -1], -1), ([0, 1.0], 1.0), ([True], True)):
        assert refused(at=at) == f"Watch: at={step!r}; a step is a whole number of at least 0."
    assert refused(measures=["recal"]) == (
        f"Watch: measures has no 'recal'; did you mean 'recall'? Allowed: {', '.join(asked_names())}."
    )
    assert "has no 'exposures'" in refused(measures="exposures")
    assert refused(row_paragraph=np.array([0])) == (
        "Watch: row_paragraph without batch; exposures are counted with both."
    )
    assert refused(batch=3) == "Watch: batch without row_paragraph; exposures are counted with both."
    for batch in (0, -1, True):
        assert refused(row_paragraph=np.array([0]), batch=batch) == (
            f"Watch: batch={batch!r} must be a whole number of at least 1."
        )
    assert refused(row_paragraph=np.array([0.0]), batch=1) == (
        "Watch: row_paragraph is float64 of shape (1,); one whole number a row is needed."
    )
    assert refused(row_paragraph=np.array([7]), batch=1) == ("Watch: rows of the paragraphs 7..7; -1..6 are allowed.")
    assert refused(at=[0, 3], row_paragraph=np.array([6, 0]), batch=1) == (
        "Watch: at=0..3 must lie in 0..2, the steps of these rows."
    )
    binned = rows.with_em_bins([(0, 8), (9, 16)])
    assert refused(binned) == (
        f"Watch: the groups of {rows.source} are ranges of exact match, which changes while a model is trained; give them groups of "
        "their own: paragraphs.with_groups(...)."
    )


def test_a_step_or_model_that_is_none_is_told(fresh, rows):
    watch, hf = lz.Watch(rows, at=5), fresh()
    for step in (-1, 1.0, True, "3"):
        assert told(watch, hf, step) == f"Watch: step={step!r}; a step is a whole number of at least 0."
    assert told(watch, "gpt2", 1, kind=lz.ModelError) == (
        "Watch: model is a str; a HookedModel or a transformers model is needed."
    )
    assert "GPTNeoForCausalLM and GPT2LMHeadModel" in told(watch, torch.nn.Linear(2, 2), 1, kind=lz.ModelError)
    assert told(watch.signature, kind=lz.SignatureError) == (
        "Watch.signature: nothing was measured yet; call watch(model, step) at a step asked for."
    )
    wrong = lz.Watch(rows, at=1, measures=[lambda model, paragraphs: 3])
    assert told(wrong, hf, 0, kind=lz.SignatureError) == (
        "Watch: a measure gave a int; a MemorizationSignature is needed."
    )


def test_paragraphs_that_do_not_fit_are_told_at_the_first_call_of_whatever_step(make_model, rows):
    short = make_model("gpt2", n_positions=32).hf.train()
    message = f"{rows.source}: 24 + 16 tokens exceed the context of in memory, which is 32; choose a shorter prefix or continuation."
    watch = lz.Watch(rows, at=5)
    assert told(watch, short, 1) == told(watch.check, short) == message
    assert all(module.training for module in short.modules())
    few = make_model("gpt2", vocab_size=50).hf
    assert "the vocabulary of in memory allows 0..49." in told(watch.check, few)
    assert watch.check(make_model("gpt2").hf) is None


def test_a_step_measured_with_other_weights_is_of_another_training(fresh, rows):
    watch, hf = lz.Watch(rows, at=1), fresh()
    watch(hf, 0)
    watch(hf, 0)
    with torch.no_grad():
        hf.lm_head.weight.mul_(1.1)
    assert told(watch, hf, 0) == (
        "Watch: step 0 was measured already, with other weights; another training needs a Watch of its own."
    )


def test_a_model_that_diverged_is_told(fresh, rows):
    watch, hf = lz.Watch(rows, at=1), fresh()
    with torch.no_grad():
        hf.lm_head.weight.fill_(torch.nan)
    assert "a finite number is needed" in told(watch, hf, 0)
    assert hf.training


# In a Trainer of transformers.


class Texts(torch.utils.data.Dataset):
    def __init__(self, tokens):
        self.tokens = tokens

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def by_trainer(hf, paragraphs, out, watch=None, **options):
    """A few steps of transformers' Trainer on the CPU; the weights."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(out), max_steps=5, per_device_train_batch_size=3, learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, seed=3, dataloader_pin_memory=False, **options,
    )  # fmt: skip
    callbacks = [watch.trainer_callback()] if watch else []
    Trainer(model=hf, args=arguments, train_dataset=Texts(paragraphs.tokens), callbacks=callbacks).train()
    return {name: value.clone() for name, value in hf.state_dict().items()}


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=["plain", "accumulated"])
def test_a_trainer_is_watched_and_trains_the_same(fresh, rows, tmp_path, options):
    plain = by_trainer(fresh(), rows, tmp_path / "plain", **options)
    hf, watch = fresh(), lz.Watch(rows, at=[0, 2, 5])
    watched = by_trainer(hf, rows, tmp_path / "watched", watch, **options)
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())
    assert not torch.equal(plain["lm_head.weight"], fresh().lm_head.weight)
    signature = watch.signature()
    assert signature["training_step"].values.tolist() == [0, 2, 5]
    for step, model in ((0, fresh()), (-1, hf)):
        recall = lz.recall(model, watch.paragraphs)
        for name in ("exact_match", "token_nll"):
            np.testing.assert_array_equal(signature.at(training_step=step)[name], recall[name])
    assert (signature["nll"][-1] < signature["nll"][0]).all()
