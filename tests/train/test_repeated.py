"""Finite sets of rows, shown again and again: what is drawn, how often it is shown, what is refused, and that all goes on."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

import localize as lz
from localize.train import running
from localize.train.loop import Trainer, build_model
from localize.train.planting import training_data
from localize.train.reading import read_recipe
from localize.train.recipe import (
    WATCHED_FILE,
    Planting,
    Recipe,
    Shape,
    Stage,
    Training,
    TrainingCorpus,
    Watching,
)
from localize.train.repeated import apportioned, distinct_rows, frequencies, repeated_rows
from localize.train.run import train_recipe
from localize.train.selection import least

ROWS = Recipe(
    model=Shape("gpt2", 1, 2, 16, context=8),
    corpus=TrainingCorpus("uniform", 16, rows=20),
    planted=Planting(held_out=9),
    training=Training(steps=30, batch=8, row_tokens=8, threads=1, warmup=2, learning_rate=1e-2),
    watch=Watching(10),
)
FACTS = replace(
    ROWS,
    corpus=TrainingCorpus("facts", 16, rows=40, exponent=1.0, value=2),
    training=replace(ROWS.training, row_tokens=4),
    stage=(Stage(20), Stage(10, corpus={"evenly": True}, select="loss", keep=12)),
)


def test_a_set_is_shown_round_by_round_and_nothing_else():
    data = training_data(ROWS)
    members = [row.tobytes() for row in data.paragraphs.tokens.numpy()]
    shown = [row.tobytes() for row in data.rows.numpy()]
    assert [members.index(row) for row in shown] == data.row_paragraph.tolist()
    for first in range(0, 240, 20):
        assert set(data.row_paragraph[first : first + 20]) == set(range(20))
    rounds = data.row_paragraph.reshape(12, 20)
    assert len({tuple(order) for order in rounds}) == 12, "each in an order of its own"
    assert list(data.paragraphs.duplicates) == [12] * 20 + [0] * 9
    assert (data.paragraphs.prefix_length, data.paragraphs.continuation_length) == (1, 7)
    assert data.background_passes == 12 and np.isnan(data.windows[20:]).all()


def test_tokens_are_uniform_and_rows_are_the_same_for_every_seed_and_number_of_rows():
    many = replace(ROWS, corpus=replace(ROWS.corpus, rows=2000), training=replace(ROWS.training, steps=300))
    tokens = repeated_rows(many, 0).tokens
    assert stats.chisquare(np.bincount(tokens.ravel(), minlength=16)).pvalue > 0.001
    assert stats.chisquare(np.bincount((tokens[:, :-1] * 16 + tokens[:, 1:]).ravel(), minlength=256)).pvalue > 0.001
    few, other = repeated_rows(ROWS, 0), repeated_rows(ROWS, 1)
    assert np.array_equal(few.tokens, tokens[:20]) and np.array_equal(few.held_out, repeated_rows(many, 0).held_out)
    assert np.array_equal(few.tokens, other.tokens) and not np.array_equal(few.order, other.order)
    assert not {row.tobytes() for row in few.held_out} & {row.tobytes() for row in tokens}
    of_another = repeated_rows(replace(ROWS, training=replace(ROWS.training, seed=5)), 0)
    assert not np.array_equal(of_another.tokens, few.tokens)


def test_a_sample_is_measured_or_rows_that_are_never_shown_beside_the_set():
    sample = training_data(replace(ROWS, corpus=replace(ROWS.corpus, measured=5)))
    assert list(sample.paragraphs.duplicates) == [12] * 5 + [0] * 9
    assert (sample.row_paragraph < 5).all() and (sample.row_paragraph >= 0).sum() == 60
    beyond = training_data(replace(ROWS, corpus=replace(ROWS.corpus, measured=30)))
    assert list(beyond.paragraphs.duplicates) == [12] * 20 + [0] * 19
    shown = {row.tobytes() for row in beyond.rows.numpy()}
    assert not any(row.tobytes() in shown for row in beyond.paragraphs.tokens.numpy()[20:])
    assert beyond.paragraphs.labels == ("watched",) * 30 + ("never_trained",) * 9
    for recipe in (ROWS, replace(ROWS, corpus=replace(ROWS.corpus, measured=30))):
        assert recipe.watched_paragraphs == len(training_data(recipe).paragraphs)


def test_facts_have_keys_of_their_own_and_are_shown_as_often_as_they_are_frequent():
    data = training_data(replace(FACTS, stage=()))
    tokens, copies = data.paragraphs.tokens.numpy(), np.array(data.paragraphs.duplicates)
    assert len({tuple(row[:2]) for row in tokens}) == 49
    assert Counter(data.row_paragraph.tolist()) == dict(enumerate(copies[:40])) and copies.sum() == 240
    wanted = 1 + 200 * frequencies(40, 1.0)
    assert np.abs(copies[:40] - wanted).max() < 1 and (np.diff(copies[:40]) <= 0).all()
    even = training_data(replace(FACTS, stage=(), corpus=replace(FACTS.corpus, evenly=True)))
    assert set(even.paragraphs.duplicates[:40]) == {6} and np.array_equal(
        even.paragraphs.tokens, data.paragraphs.tokens
    )
    assert (data.paragraphs.prefix_length, data.paragraphs.continuation_length) == (2, 2)


def test_what_is_dealt_out_by_weight_is_all_of_it():
    weights = np.random.default_rng(0).random(17)
    for size in (3, 16, 17, 18, 1000):
        given = apportioned(weights, size)
        least_of_each = int(size >= 17)
        wanted = least_of_each + (size - 17 * least_of_each) * weights / weights.sum()
        assert given.sum() == size and np.abs(given - wanted).max() < 1


@pytest.mark.parametrize(("length", "vocab"), [(2, 64), (5, 64), (3, 2)])
def test_rows_are_different_and_fewer_are_the_first_of_more(length, vocab):
    most = min(vocab**length, 3000)
    rows = distinct_rows(most, length, vocab, 3)
    assert rows.shape == (most, length) and rows.min() == 0 and rows.max() == vocab - 1
    assert len(np.unique(rows, axis=0)) == most
    assert np.array_equal(distinct_rows(most // 2, length, vocab, 3), rows[: most // 2])


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        (Stage(10, select="oracle", keep=12, corpus={"evenly": True}), "first"),
        (Stage(10, select="oracle", keep=12), "first"),
        (Stage(10, select="random", keep=12, corpus={"evenly": True}), "other"),
        (Stage(10), "all"),
    ],
)
def test_a_stage_shows_what_it_keeps(stage, kept):
    recipe = replace(FACTS, stage=(Stage(20), stage))
    own, other = (Counter(training_data(recipe, seed=seed).row_paragraph[160:].tolist()) for seed in (0, 1))
    assert training_data(recipe).row_paragraph[:160].tolist() == training_data(FACTS).row_paragraph[:160].tolist()
    if kept == "all":
        assert set(own) == set(range(40))
    elif kept == "first":
        assert set(own) == set(other) == set(range(12))
    else:
        assert len(own) == len(other) == 12 and set(own) != set(other)
    spread = max(own.values()) - min(own.values())
    assert (spread <= 1) == bool(stage.corpus)


def test_what_the_model_knows_best_is_kept(tmp_path):
    train_recipe(FACTS, tmp_path / "out")
    watched = lz.load_signature(tmp_path / "out" / WATCHED_FILE)
    nll, exposures = watched["nll"].values, watched["exposures"].values
    assert watched["training_step"].values.tolist() == [0, 10, 20, 30]
    wanted = set(np.argsort(nll[2, :40])[:12].tolist())
    shown = exposures[3] - exposures[2]
    assert set(np.flatnonzero(shown).tolist()) == wanted and set(shown[sorted(wanted)]) == {6, 7}
    assert np.array_equal(exposures[2, :40], watched.dataset["duplicates"].values[:40])
    told = watched.dataset.attrs["training"]["set"]
    assert told["kept"] == [{"select": "", "keep": 0}, {"select": "loss", "keep": 12}]
    assert (told["rows"], told["predicted_tokens"], told["exponent"], told["evenly"]) == (40, 2, 1.0, [False, True])


def test_of_equal_losses_the_first_are_kept():
    assert least(np.array([2.0, 1.0, 1.0, 1.0, 0.5]), 3).tolist() == [1, 2, 4]


@pytest.mark.parametrize("at", [7, 20, 21, 26])
def test_a_selection_that_was_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch, at):
    whole = train_recipe(FACTS, tmp_path / "whole").weights_hash()
    monkeypatch.setattr(running, "STATE_SECONDS", -1.0)
    step, out = Trainer.step, tmp_path / "out"

    def broken(self):
        if self.done == at:
            raise OSError("power cut")
        return step(self)

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(OSError, match="power cut"):
        train_recipe(FACTS, out)
    monkeypatch.setattr(Trainer, "step", step)
    assert train_recipe(FACTS, out).weights_hash() == whole
    one, two = (lz.load_signature(folder / WATCHED_FILE) for folder in (tmp_path / "whole", out))
    assert np.array_equal(one["exposures"], two["exposures"]) and np.array_equal(one["token_nll"], two["token_nll"])
    assert lz.load_model(train_again(FACTS, out)).weights_hash() == whole


def train_again(recipe, out):
    """The folder of a training that is finished, after it was asked for again."""
    train_recipe(recipe, out)
    return out


def test_the_loss_is_that_of_the_value_alone():
    rows = training_data(replace(FACTS, stage=())).rows
    model = build_model(FACTS.model, 16, 0)
    with torch.no_grad():
        logits = model.hf(rows[:8]).logits[:, 1:3]
        wanted = cross_entropy(logits.flatten(0, 1), rows[:8, 2:].flatten()).item()
    assert Trainer(model, rows, (FACTS.training,), given=2).step() == pytest.approx(wanted, rel=1e-6)


def test_bfloat16_is_that_of_the_weights(tmp_path):
    model = train_recipe(replace(ROWS, training=replace(ROWS.training, dtype="bfloat16")), tmp_path / "out")
    assert model.dtype == torch.bfloat16
    watched = lz.load_signature(tmp_path / "out" / WATCHED_FILE)
    assert watched.dataset.attrs["training"]["dtype"] == "bfloat16" and np.isfinite(watched["nll"].values).all()
    assert watched["nll"].values[-1, :20].mean() < watched["nll"].values[0, :20].mean() - 0.1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corpus": {"rows": 0}}, "corpus 'uniform': rows=0 must be a whole number of at least 1."),
        ({"corpus": {"vocab": 1}}, "corpus 'uniform': vocab=1 must be a whole number of at least 2."),
        ({"training": {"row_tokens": 2}}, "corpus 'uniform': row_tokens=2 must be a whole number of at least 3."),
        (
            {"corpus": {"rows": 241}},
            "corpus 'uniform': rows=241 exceed the 240 rows that are trained on at first; each is shown at least once.",
        ),
        (
            {"corpus": {"vocab": 2, "rows": 248}, "training": {"steps": 40}},
            "corpus 'uniform': rows=248 and held_out=9 exceed the 256 different rows of vocab=2; raise vocab or row_tokens.",
        ),
        ({"corpus": {"exponent": 1.0}}, "corpus 'uniform': exponent and evenly are for facts; its rows are all as frequent."),
        (
            {"planted": {"copies": {3: 4}}},
            "corpus 'uniform': its rows are what is planted; copies, pair, halves and replay are for other text.",
        ),
        ({"model": {"start": "x"}}, "corpus 'uniform': its tokens are its own; a model to start from has others."),
        (
            {"stage": (Stage(20), Stage(10, corpus={"rows": 3}))},
            "corpus 'uniform': all stages are of the same rows; evenly alone may differ.",
        ),
        (
            {"stage": (Stage(20), Stage(10, select="random", keep=3))},
            "stage 1: select='random', keep=3: at least 1 and at most the 20 rows of a corpus of facts can be kept.",
        ),
        ({"corpus": {"source": "facts", "value": 8}}, "corpus 'facts': value=8 must be a whole number in 1..7."),
        ({"corpus": {"source": "facts", "measured": 3}}, "corpus 'facts': measured=3 must be a whole number in 0..0."),
        ({"corpus": {"source": "facts", "exponent": -1.0}}, "corpus 'facts': exponent=-1.0 must lie in 0..10."),
        (
            {"corpus": {"source": "facts", "value": 7}},
            "corpus 'facts': rows=20 and held_out=9 exceed the 16 different keys of vocab=16; raise vocab or row_tokens.",
        ),
        (
            {"corpus": {"source": "facts"}, "stage": (Stage(20), Stage(10, select="oracle", keep=21))},
            "stage 1: select='oracle', keep=21: at least 1 and at most the 20 rows of a corpus of facts can be kept.",
        ),
        (
            {"corpus": {"source": "facts"}, "stage": (Stage(20), Stage(10, keep=3))},
            "stage 1: select='', keep=3: loss, oracle or random, and how many, or neither.",
        ),
        (
            {"corpus": {"source": "facts"}, "stage": (Stage(20, select="loss", keep=3),)},
            "stage 0: select='loss', keep=3: a stage before it, and no loss_change, is needed: what it shows is not known before.",
        ),
        (
            {"corpus": {"source": "chain", "vocab": 64}, "stage": (Stage(20), Stage(10, select="random", keep=3))},
            "stage select and keep: facts alone are selected, not 'chain'.",
        ),
    ],
)  # fmt: skip
def test_a_set_that_cannot_be_is_refused_in_one_line(changed, message):
    parts = {
        name: value if name == "stage" else replace(getattr(ROWS, name), **value) for name, value in changed.items()
    }
    with pytest.raises(lz.InputError) as caught:
        replace(ROWS, **parts)
    assert str(caught.value) == f"recipe: {message}"


def test_a_recipe_of_facts_is_read_back_as_it_is_written(tmp_path):
    (tmp_path / "r.toml").write_text(FACTS.to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml") == FACTS
