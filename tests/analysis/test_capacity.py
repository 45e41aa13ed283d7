"""Bits of a set that a model holds: none of a uniform law, all of a set known by heart, and by hand what lies between."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import localize as lz
from localize.analysis.sets import widened
from localize.statistics import Interval
from localize.train.loop import build_model
from localize.train.planting import training_data
from localize.train.recipe import Planting, Recipe, Shape, Training, TrainingCorpus, Watching
from localize.train.run import train_recipe

SET = {"source": "uniform", "rows": 6, "vocab": 4, "row_tokens": 9, "predicted_tokens": 8, "ambiguous_bits": 6.0}
TOLD = {"steps": 20, "batch": 4, "set": SET, "parameters": 50, "dtype": "float32"}
COPIES = [5] * 6 + [0] * 4
UNIFORM = math.log(4)

pytestmark = pytest.mark.filterwarnings("ignore:capacity_table. (one|2) seed")


def made(make_training, nll, told=TOLD, copies=COPIES):
    """A signature over training from NLLs along (seed, step, paragraph)."""
    nll = np.asarray(nll, float)
    seeds = range(len(nll)) if len(nll) > 1 else []
    nll = nll if seeds else nll[0]
    return make_training(nll, copies=copies, steps=[0, 20], seeds=seeds, training=told)


def test_bits_are_those_of_the_law_less_the_models(make_training):
    rng = np.random.default_rng(0)
    nll = UNIFORM * (1 - rng.uniform(-0.1, 0.9, (5, 2, 10)))
    table = lz.capacity_table(made(make_training, nll)).loc[("", 6, "float32", 50)]
    for at, step in enumerate((0, 20)):
        bits = np.array(
            [[sum(2.0 - nll[seed, at, row] / math.log(2) for _ in range(8)) for row in range(10)] for seed in range(5)]
        )
        known, never = bits[:, :6].sum(1), 6 * bits[:, 6:].mean(1)
        for quantity, scale in (
            ("bits", 1),
            ("bits per parameter", 1 / 50),
            ("share of the data's bits", 1 / 90),
        ):
            row = table.loc[(step, quantity)]
            low, high = stats.t.interval(0.95, 4, loc=known.mean(), scale=stats.sem(known))
            np.testing.assert_allclose(
                row[["estimate", "low", "high"]].astype(float), scale * np.array([known.mean(), low, high])
            )
            assert row["null"] == pytest.approx(scale * never.mean())
            assert row["p_value"] == pytest.approx(stats.ttest_rel(known, never).pvalue)
            assert (row["data_bits"], row["data_bits_per_parameter"], row["seeds"], row["n"]) == (90, 1.8, 5, 6)
    q_values = table.xs("bits", level="quantity")
    np.testing.assert_allclose(q_values["q_value"], stats.false_discovery_control(q_values["p_value"]))


def test_a_model_of_the_law_holds_nothing_and_one_that_is_certain_holds_all(make_training):
    nll = np.full((1, 2, 10), UNIFORM)
    nll[:, 1, :6] = 0
    table = lz.capacity_table(made(make_training, nll)).loc[("", 6, "float32", 50)]
    assert table.loc[(0, "bits"), "estimate"] == pytest.approx(0, abs=1e-12)
    assert table.loc[(20, "bits"), "estimate"] == pytest.approx(96)
    assert table.loc[(20, "share of the data's bits"), "estimate"] == pytest.approx(96 / 90)
    assert table.loc[(20, "bits"), "null"] == pytest.approx(0, abs=1e-12)


RECIPE = Recipe(
    model=Shape("gpt2", 1, 2, 16, context=8),
    corpus=TrainingCorpus("uniform", 8, rows=6),
    planted=Planting(held_out=30),
    training=Training(steps=600, batch=16, row_tokens=8, threads=1, warmup=10, learning_rate=2e-2, weight_decay=0.0),
    watch=Watching(300),
)


def test_of_a_trained_model_a_small_set_is_known_wholly_and_of_others_less_than_nothing(tmp_path):
    model = train_recipe(RECIPE, tmp_path / "out")
    table = lz.capacity_table(lz.load_signature(tmp_path / "out" / "training.zarr.zip"), step=-1).droplevel(
        [0, 1, 2, 3, 4]
    )
    rows = training_data(RECIPE).paragraphs.tokens
    with torch.no_grad():
        log_p = model.hf(rows[:, :-1]).logits.double().log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0]
    bits = (log_p / math.log(2) + 3).sum(1)
    assert table.loc["bits", "estimate"] == pytest.approx(float(bits[:6].sum()), rel=1e-5)
    assert table.loc["bits", "null"] == pytest.approx(6 * float(bits[6:].mean()), rel=1e-5)
    alike = np.unique(rows[:6, 0].numpy(), return_counts=True)[1]
    assert table.loc["bits", "data_bits"] == pytest.approx(6 * 7 * 3 - sum(c * math.log2(c) for c in alike))
    assert alike.max() > 1, "some rows begin alike"
    assert table.loc["share of the data's bits", "estimate"] == pytest.approx(1, abs=1e-3)
    assert table.loc["bits", "null"] < 0
    parameters = sum(p.numel() for p in model.hf.parameters())
    assert table.loc["bits per parameter", "estimate"] == pytest.approx(float(bits[:6].sum()) / parameters, rel=1e-5)


def test_a_model_of_uniform_logits_holds_no_bit():
    model = build_model(RECIPE.model, 8, 0)
    with torch.no_grad():
        model.hf.transformer.ln_f.weight.zero_()
        model.hf.transformer.ln_f.bias.zero_()
    data = training_data(RECIPE)
    nll = lz.recall(model, data.paragraphs)["nll"].values
    np.testing.assert_allclose(nll, math.log(8), rtol=1e-6)


def test_a_sample_stands_for_all_and_widens_the_interval(make_training):
    rng = np.random.default_rng(1)
    of_row = rng.uniform(0.2, 0.9, 10)
    nll = UNIFORM * np.clip(of_row + rng.normal(0, 0.02, (5, 2, 10)), 0, None)
    few, all_of_them = (
        lz.capacity_table(made(make_training, nll, told=TOLD | {"set": SET | {"rows": rows}}), 20)
        .xs("bits", level="quantity")
        .iloc[0]
        for rows in (60, 6)
    )
    assert few["estimate"] == pytest.approx(10 * all_of_them["estimate"])
    bits = 8 * (2 - nll[:, 1, :6] / math.log(2))
    per_seed, sampled = stats.sem(60 * bits.mean(1)), np.std(60 * bits.mean(0), ddof=1) * math.sqrt((1 - 6 / 60) / 6)
    reach = stats.t.ppf(0.975, 4) * math.hypot(per_seed, sampled)
    np.testing.assert_allclose([few["low"], few["high"]], few["estimate"] + np.array([-reach, reach]))
    assert (few["high"] - few["low"]) > 10 * (all_of_them["high"] - all_of_them["low"])


def test_intervals_of_samples_cover_the_whole_set_as_often_as_they_say():
    rng, hit, rounds = np.random.default_rng(2), 0, 300
    for _ in range(rounds):
        rows = rng.normal(0, 1, 200)
        chosen = rows[:40] + rng.normal(0, 0.2, (5, 40)) + rng.normal(0, 0.1, (5, 1))
        seeds = chosen.mean(1)
        ends = stats.t.interval(0.95, 4, loc=seeds.mean(), scale=stats.sem(seeds))
        wide = widened(Interval(*(np.array(end) for end in (seeds.mean(), *ends))), chosen.mean(0), 200, 5)
        hit += wide.low <= rows.mean() <= wide.high
    assert hit / rounds > 0.93


def test_arms_are_told_beside_each_other(make_training, join_arms):
    rng, parts = np.random.default_rng(3), {}
    for name, rows, dtype in (("few", 6, "float32"), ("many", 8, "float32"), ("half", 6, "bfloat16")):
        nll = UNIFORM * (1 - rng.uniform(0, 0.9, (5, 2, 10)))
        told = TOLD | {"set": SET | {"rows": rows}, "dtype": dtype}
        parts[name] = made(make_training, nll, told=told)
    table = lz.capacity_table(join_arms(parts), -1)
    index = [key[:5] for key in dict.fromkeys(table.index) if key[5] == "bits"]
    assert index == [("few", 6, "float32", 50, 20), ("many", 8, "float32", 50, 20), ("half", 6, "bfloat16", 50, 20)]
    alone = lz.capacity_table(parts["many"], -1).droplevel("arm")
    together = table.xs("many", level="arm")
    np.testing.assert_allclose(together["estimate"].to_numpy(float), alone["estimate"].to_numpy(float))


def test_with_one_seed_intervals_are_over_rows(make_training):
    nll = UNIFORM * (1 - np.random.default_rng(4).uniform(0, 0.9, (1, 2, 10)))
    message = "capacity_table: one seed, so that intervals are over rows of the set; 5 are needed"
    with pytest.warns(UserWarning, match=message):
        table = lz.capacity_table(made(make_training, nll), -1)
    assert set(table["unit"]) == {"clusters"} and (table["low"] <= table["estimate"]).all()


def test_what_is_no_set_is_refused(make_training):
    nll = np.full((5, 2, 10), UNIFORM)
    with pytest.raises(lz.SignatureError) as caught:
        lz.capacity_table(made(make_training, nll, told={"steps": 20}))
    assert str(caught.value) == (
        "capacity_table: trained on other text; a training with corpus source = 'uniform' is needed."
    )
    with pytest.raises(
        lz.SignatureError,
        match=r"^capacity_table: trained on corpus 'facts'; a training with corpus source = 'uniform' ",
    ):
        lz.capacity_table(made(make_training, nll, told=TOLD | {"set": SET | {"source": "facts"}}))
    with pytest.raises(
        lz.SignatureError, match=r"^capacity_table: step=7 was not measured; the nearest that was is 0\.$"
    ):
        lz.capacity_table(made(make_training, nll), 7)
    with pytest.raises(
        lz.SignatureError, match=r"^capacity_table: no row that was never shown was measured; held_out of at least 1 "
    ):
        lz.capacity_table(made(make_training, nll, copies=[5] * 10))
