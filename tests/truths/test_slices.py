"""Truths of memorization sinks: a text's slice is its place, and its model is the one with that slice on."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import localize as lz
from localize.bench.planted import name_of
from localize.localizers import Localizer, Scores, get
from localize.models.gates import GATES_FILE, give_sinks
from localize.train.recipe import Planting, Recipe, Shape, SinkUnits, Training, TrainingCorpus
from localize.train.run import train_recipe
from localize.truths import slices
from localize.truths.slices import slice_gates

GENERAL, UNITS, PREFIX = 38, 3, 8
SINKS = SinkUnits("slices", general=0.6, slice_units=UNITS, bounded=True)
STANDARD = Recipe(
    model=Shape("gpt2", layers=2, heads=2, d_model=16, context=24),
    corpus=TrainingCorpus("chain", vocab=32),
    planted=Planting("chain", copies={10: 3, 5: 2}, held_out=6),
    training=Training(steps=40, batch=4, row_tokens=16, warmup=5, learning_rate=5e-3, threads=1),
)
TEXTS = 5
ARMS = {
    "standard": STANDARD,
    "slices": replace(STANDARD, sinks=SINKS),
    "foreign": replace(STANDARD, sinks=replace(SINKS, foreign=True)),
    "hashed": replace(STANDARD, sinks=SinkUnits("hashed")),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with four arms, trained so shortly that nothing is remembered."""
    place = tmp_path_factory.mktemp("sinks") / "out"
    train_recipe(replace(STANDARD, arms=ARMS), place)
    return place


@pytest.fixture(scope="module")
def truths(trained):
    """Both truths of it, as if all texts were remembered and a unit were live without which the NLL rises at all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localize.truths.gates.LIVE", 0.0)
        patch.setattr(slices, "HALF", 10.0)
        return lz.sink_truths(trained, device="cpu")


def with_sinks(trained, arm="slices"):
    """The trained model with all its sinks, and its planted paragraphs, read apart from any truth."""
    model = lz.load_model(trained / arm, device="cpu")
    texts = lz.load_paragraphs(trained / arm / "paragraphs.jsonl", model, prefix_length=PREFIX, continuation_length=8)
    give_sinks(model)
    return model, texts[np.flatnonzero(texts.duplicates)]


def gated(post, own):
    """A layer's activations with nothing but general units and the `own`-th slice."""
    factor = torch.zeros(post.shape[-1])
    factor[:GENERAL] = 1
    factor[GENERAL + UNITS * own : GENERAL + UNITS * (own + 1)] = 1
    return post * factor


def effects_by_hand(model, tokens, own):
    """-activation x gradient of a text's mean NLL, summed over positions, with its own slice on: `(layer, unit)`."""
    active = []

    def gate(post, name):
        active.append(gated(post, own))
        return active[-1]

    hooks = {f"blocks.{layer}.mlp.hook_post": gate for layer in range(model.n_layers)}
    logits = model.forward(tokens[None, :-1], hooks=hooks)[0, PREFIX - 1 :]
    slopes = torch.autograd.grad(cross_entropy(logits, tokens[PREFIX:]), active)
    return torch.stack([-(a * g)[0].sum(0) for a, g in zip(active, slopes, strict=True)]).detach().numpy()


def test_a_texts_units_are_its_slice_in_all_layers(truths):
    truth = truths[0]
    assert truth.nominal.shape == (TEXTS, 2, 64)
    for text in range(TEXTS):
        for layer in range(2):
            expected = [GENERAL + UNITS * text + unit for unit in range(UNITS)]
            assert np.flatnonzero(truth.nominal[text, layer]).tolist() == expected
            present = np.flatnonzero(truth.present[text, layer]).tolist()
            assert present == [*range(GENERAL), *expected]
    assert (truth.reserved == truth.nominal.any(0)).all()
    assert not (truth.live & ~truth.nominal).any()
    assert 0 < truth.live.sum() < truth.nominal.sum(), "else the tests below say little"


def test_a_texts_model_says_what_the_gates_of_training_do(truths, trained):
    truth, (model, texts) = truths[0], with_sinks(trained)
    assert truth.paragraphs.ids == texts.ids
    told = lz.sinks(lz.load_model(trained / "slices", device="cpu"), texts)["sink_nll"].sel(gate="own").values
    for text, (own, _) in enumerate(truth.models()):
        hooks = {f"blocks.{layer}.mlp.hook_post": lambda post, _, text=text: gated(post, text) for layer in range(2)}
        tokens = texts.tokens[[text]]
        with torch.no_grad():
            torch.testing.assert_close(own.forward(tokens), model.forward(tokens, hooks=hooks), atol=1e-5, rtol=1e-5)
        assert lz.recall(own, texts[[text]])["nll"].item() == pytest.approx(told[text], rel=1e-5)


def test_attribution_is_that_of_a_loop_over_texts_gated_by_hand(truths, trained):
    truth, (model, texts) = truths[0], with_sinks(trained)
    localizer = get("gradient_activation")
    scored = lz.bench.score_localizer(localizer, truth)
    place = np.zeros(truth.nominal.shape)
    for text, (own, held) in enumerate(truth.models()):
        by_hand = effects_by_hand(model, texts.tokens[text], text)
        found = localizer(own, truth.paragraphs[held], truth.others).mlp[0]
        np.testing.assert_allclose(found, by_hand, atol=2e-6)
        candidates = [(layer, unit) for layer in range(2) for unit in range(64)
                      if truth.present[text, layer, unit] and (truth.live | ~truth.nominal)[text, layer, unit]]  # fmt: skip
        count = int(truth.live[text].sum())
        best = sorted(candidates, key=lambda at: -by_hand[at])[:count]
        hits = sum(truth.live[text][at] for at in best)
        assert scored[text].recall == pytest.approx(hits / count if count else np.nan, nan_ok=True)
        assert scored[text].chance == pytest.approx(count / len(candidates) if count else np.nan, nan_ok=True)
        for row in range(
            TEXTS
        ):  # how many of the units that are on with this slice each of its units is above, for every text
            values = effects_by_hand(model, texts.tokens[row], text)
            for at in zip(*np.nonzero(truth.nominal[text]), strict=True):
                place[(row, *at)] = (values[truth.present[text]] < values[at]).sum()
    for row in range(TEXTS):
        count = int(truth.live[row].sum())
        ranked = sorted(
            zip(*np.nonzero(truth.reserved & (truth.live | ~truth.nominal)[row]), strict=True),
            key=lambda at: -place[(row, *at)],
        )
        cut = place[(row, *ranked[count - 1])] if count else 0
        above = [at for at in ranked if place[(row, *at)] > cut]
        level = [at for at in ranked if place[(row, *at)] == cut]
        hits = sum(truth.live[row][at] for at in above)
        hits += (count - len(above)) * np.mean([truth.live[row][at] for at in level]) if count else 0
        assert scored[row].within == pytest.approx(hits / count if count else np.nan, nan_ok=True)


def test_who_names_whichever_slice_is_on_finds_it_and_is_at_chance_within(truths):
    control = truths[1]  # all units of a slice are looked for, live or dead

    def loud(model, paragraphs, others):
        on = np.stack([model.weight(layer, "W_out").detach().abs().sum(1) > 0 for layer in range(2)])
        on[:, :GENERAL] = False
        return Scores.of(model, paragraphs, mlp=np.repeat(on[None], len(paragraphs), 0).astype(float), cost=0.0)

    scores = lz.bench.score_localizer(Localizer("loud", loud, "sinks that are on", "this test"), control)
    assert [(score.recall, score.within) for score in scores] == [(1, pytest.approx(1 / TEXTS))] * TEXTS
    known = lz.bench.score_localizer(lz.bench.oracle(control), control)
    assert [(score.recall, score.nominal, score.within) for score in known] == [(1, 1, 1)] * TEXTS
    assert [score.chance_within for score in known] == [pytest.approx(1 / TEXTS)] * TEXTS


def test_slices_are_compared_by_the_places_of_their_units_not_by_scores_of_different_models(truths):
    control = truths[1]

    def louder_elsewhere(model, paragraphs, others):
        on = np.stack([model.weight(layer, "W_out").detach().abs().sum(1) > 0 for layer in range(2)])
        on[:, :GENERAL] = False
        own = control.nominal[[control.paragraphs.ids.index(name) for name in paragraphs.ids]]
        is_own = (own & on).any((1, 2))[:, None, None]
        return Scores.of(model, paragraphs, mlp=np.where(is_own, 1.0 + on, 200.0 - 100.0 * on), cost=0.0)

    scores = lz.bench.score_localizer(
        Localizer("louder", louder_elsewhere, "first where it is its own", "this test"), control
    )
    assert [(score.recall, score.within) for score in scores] == [(1, 1)] * TEXTS


def test_a_training_with_foreign_slices_is_a_control(truths):
    assert [(truth.kind, truth.routing, name_of(truth)) for truth in truths] == [
        ("sinks", "own", "sinks"),
        ("sinks", "random", "control-foreign"),
    ]
    assert {truth.settings["texts"] for truth in truths} == {TEXTS} and {truth.seed for truth in truths} == {0}


def test_the_standard_run_is_the_arm_that_has_no_sinks_and_is_alike_otherwise(truths, trained):
    hash_of = lz.load_model(trained / "standard", device="cpu").weights_hash()
    assert {truth.settings["standard"] for truth in truths} == {hash_of}
    gate = next(gate for gate in truths[0].gates if gate.name == "held_out")
    without, standard = (
        lz.recall(lz.load_model(trained / arm, device="cpu"), truths[0].others)["nll"].values.mean() for arm in ("slices", "standard")
    )  # fmt: skip
    assert gate.value == pytest.approx(without - standard, abs=1e-6)
    alone = lz.sink_truth  # without a standard run the gate is not passed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "HALF", 10.0)
        told = alone(trained / "slices", device="cpu")
    assert told.settings["standard"] is None and not next(g for g in told.gates if g.name == "held_out").passed


@pytest.mark.parametrize(("with_other", "apart"), [(1.44, 5 / 6), (1.46, 1.0)])
def test_gates_are_what_they_say(with_other, apart):
    with_slice = np.array([[0.1, 2.0, 2.0], [with_other, 1.0, 2.0], [2.0, 2.0, 0.2]])  # (text, slice)
    recited, off, other = slice_gates(with_slice, np.array([1.1, 1.5, 1.2]), 1.2)
    assert (recited.name, recited.value, recited.passed) == ("recited", pytest.approx(2 / 3), False)
    assert (off.name, off.value) == ("own_off", pytest.approx(((1.0 + 0.5 + 1.0) / 3) / (1.2 - 1.3 / 3)))
    # the second text's own slice takes .5 off, the first's .06 (over a tenth) or .04
    assert (other.name, other.value, other.passed) == ("other_on", pytest.approx(apart), apart == 1)


def test_where_a_text_is_not_remembered_nothing_is_ranked(trained):
    with pytest.raises(lz.LocalizeError) as error:
        lz.sink_truth(trained / "slices", device="cpu")
    assert str(error.value) == (
        "sink_truth: none of 5 texts is recited after planting (kind='sinks'); more units, or more steps, are needed."
    )


def test_a_saved_truth_is_read_again(truths, tmp_path):
    truth = truths[0]
    truth.save(tmp_path / "truth")
    again = lz.load_truth(tmp_path / "truth", device="cpu")
    assert (again.settings, again.excluded) == (truth.settings, truth.excluded)
    for name in ("nominal", "live", "reserved", "present"):
        assert (getattr(again, name) == getattr(truth, name)).all()
    assert str(again.gates) == str(truth.gates), "some may be nan"
    for (a, _), (b, _) in zip(truth.models(), again.models(), strict=True):
        assert a.weights_hash() == b.weights_hash()


def changed(trained, tmp_path, arm="slices", **gates):
    """A copy of a training with other gates."""
    place = tmp_path / "changed"
    shutil.copytree(trained / arm, place)
    told = json.loads((place / GATES_FILE).read_text())
    (place / GATES_FILE).write_text(json.dumps(told | gates))
    return place


def test_what_is_no_such_training_is_told_in_a_line(trained, tmp_path, make_model):
    needed = 'a folder that `localize train` left with [sinks] kind = "slices" is needed.'
    place = changed(trained, tmp_path, texts=["0" * 16] * TEXTS)
    for folder, told in (
        (trained / "standard", f"{trained / 'standard'}: no gates.json; {needed}"),
        (trained / "hashed", f"{trained / 'hashed'}: its sinks are hashed, so that texts have them in common; {needed}"),
        (place, f"{place / 'paragraphs.jsonl'}: 5 planted and 6 held-out texts; the 5 that gates.json was made of, in their order, and at "
                "least 1 held out are needed."),
    ):  # fmt: skip
        with pytest.raises(lz.InputError) as error:
            lz.sink_truth(folder, device="cpu")
        assert str(error.value) == f"sink_truth: {told}"
    with pytest.raises(lz.ModelError) as error:
        lz.sink_truth(changed(trained, tmp_path / "b", units=65), device="cpu")
    assert "gates of 65 hidden units" in str(error.value)
    with pytest.raises(lz.InputError) as error:
        lz.sink_truth(trained / "slices", standard=make_model("gpt2", n_positions=8), device="cpu")
    assert "8 + 8 tokens exceed the context of" in str(error.value)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "recipe.toml").write_text(replace(STANDARD, arms={}).to_toml())
    with pytest.raises(lz.InputError) as error:
        lz.sink_truths(plain, device="cpu")
    assert str(error.value) == f"sink_truths: {plain}: none of its trainings has sinks of kind slices; {needed}"


@pytest.fixture(scope="module")
def remembered(tmp_path_factory):
    """A truth and its control, trained until four texts are remembered; seconds."""
    recipe = replace(
        STANDARD, model=replace(STANDARD.model, d_model=32), planted=Planting("chain", copies={190: 4}, held_out=24),
        training=Training(steps=400, batch=16, row_tokens=16, warmup=20, learning_rate=5e-3, threads=1),
    )  # fmt: skip
    sinks = SinkUnits("slices", slice_units=8, bounded=True)
    arms = {"slices": replace(recipe, sinks=sinks), "foreign": replace(recipe, sinks=replace(sinks, foreign=True))}
    place = tmp_path_factory.mktemp("remembered") / "out"
    train_recipe(replace(recipe, arms=arms), place)
    return lz.sink_truths(place, device="cpu")


def test_a_slice_is_found_as_its_texts_own_and_in_the_control_as_anybodys(remembered):
    truth, control = remembered
    assert [gate.passed for gate in truth.gates if gate.name in ("recited", "own_off")] == [True, True]
    assert not any(gate.passed for gate in control.gates if gate.name in ("own_off", "other_on"))
    for name in ("ratio", "gradient_activation"):
        of_truth, of_control = (
            np.mean([score.within for score in lz.bench.score_localizer(get(name), one)]) for one in remembered
        )
        assert of_truth > 0.6 and of_control < 0.45  # chance is a quarter
    results = lz.bench(truth.base, truth.paragraphs, [], truths=remembered, localizers=["ratio", "random"])
    gates = [[gate for gate in one.gates if gate.name == "control_foreign"] for one in results.truths]
    assert len(gates[1]) == 1 and gates[0] == gates[1]
