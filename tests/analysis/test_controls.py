"""Noise and corruption beside their controls: by hand and by the statistics' own functions, and words from their rows."""

import numpy as np
import pytest

from localize.analysis.controls import OWN
from localize.analysis.rows import COLUMNS
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap, cluster_sign_flip, false_discovery

GROUP = ["memorized"] * 30 + ["not_memorized"] * 30
NLL, MATCH = "NLL rise", "lost exact match"


@pytest.fixture
def noised(make_dataset):
    """`noised(effect)`: noise of two strengths on 10 and 100 weights; on the chosen ones of the memorized it costs so much more."""

    def made(effect=0.0, labels=("memorized", "random"), strengths=(0.0, 0.5, 2.0), seed=0, **changes):
        rng = np.random.default_rng(seed)
        shape = (60, len(labels), 2, len(strengths), 2)
        own = effect * np.outer(np.array(GROUP) == "memorized", np.arange(len(labels)) == 0)[:, :, None, None, None]
        rise = np.array(strengths)[:, None] * (rng.gamma(4.0, 0.05, shape) + own)
        before = {"unperturbed_nll": rng.gamma(2.0, 0.2, 60), "unperturbed_exact_match": np.full(60, 20)}
        arrays = before | {
            "noised_nll": before["unperturbed_nll"].reshape(60, 1, 1, 1, 1) + rise,
            "noised_exact_match": (20 - np.floor(10 * rise)).clip(min=0),
        } | changes  # fmt: skip
        dataset = make_dataset(GROUP, arrays)
        axes = {"chosen_by": list(labels), "weights_noised": [10, 100], "strength": list(strengths)}
        return MemorizationSignature(dataset.assign_coords(axes))

    return made


@pytest.fixture
def corrupted(make_dataset):
    """`corrupted(effect)`: one, three and six tokens replaced, which costs so much more in the order "rarest"."""

    def made(effect=0.0, orders=("random", "rarest"), seed=0):
        rng = np.random.default_rng(seed)
        rise = rng.gamma(4.0, 0.05, (60, len(orders), 2, 3)) * np.array([1.0, 2.0, 3.0])
        rise[:, 1:] += effect
        arrays = {
            "unperturbed_nll": np.full(60, 0.5), "corrupted_nll": 0.5 + rise, "unperturbed_exact_match": np.full(60, 20),
            "corrupted_exact_match": (20 - np.floor(10 * rise)).clip(min=0),
        }  # fmt: skip
        dataset = make_dataset(GROUP, arrays)
        return MemorizationSignature(dataset.assign_coords(order=list(orders), tokens_replaced=[1, 3, 6]))

    return made


def test_a_row_is_the_mean_its_control_and_their_paired_difference(noised):
    signature = noised(0.1)
    table = signature.noise_table(seed=3, resamples=200)
    assert table.index.names == ["quantity", "group", "chosen_by", "weights_noised", "strength"]
    assert table.columns.tolist() == [*COLUMNS, *OWN]
    assert len(table) == 2 * 2 * 2 * 2, "quantities, groups, numbers of weights, strengths above 0"
    assert table.index.get_level_values(0).unique().tolist() == [NLL, MATCH]
    dataset = signature.dataset.sel(weights_noised=100, strength=2.0).mean("noise_draw").isel(paragraph=slice(0, 30))
    for quantity, name, sign in ((NLL, "nll", 1), (MATCH, "exact_match", -1)):
        row = table.loc[quantity, "memorized", "memorized", 100, 2.0]
        loss = sign * (dataset[f"noised_{name}"] - dataset[f"unperturbed_{name}"])
        own, control = (loss.sel(chosen_by=label).values.astype(float) for label in ("memorized", "random"))
        for values, columns in (
            (own, ("estimate", "low", "high")),
            (control, ("null", "null_mean_low", "null_mean_high")),
            (own - control, ("difference", "difference_low", "difference_high")),
        ):
            interval = cluster_bootstrap(values, np.arange(30), seed=3, resamples=200)
            expected = [interval.estimate, interval.low, interval.high]
            np.testing.assert_allclose([row[column] for column in columns], expected, rtol=1e-6)
        test = cluster_sign_flip(own - control, np.arange(30), seed=3, permutations=200)
        assert row["p_value"] == pytest.approx(float(test.p_value))
        assert (row["n"], row["clusters"]) == (30, 30)
    np.testing.assert_allclose(table["q_value"], false_discovery(table["p_value"].to_numpy()))


def test_a_choice_that_costs_more_than_chance_is_said_to_and_another_is_not(noised):
    verdicts = noised(0.1).noise_table(resamples=200)["verdict"]
    for (quantity, group, *_), words in verdicts.items():
        if quantity == NLL:
            more = words.startswith("more is lost than with as many random weights noised (0.")
            assert more == (group == "memorized")
            assert more or words.startswith("no significant difference from as many random weights noised (")
    less = noised(-0.1).noise_table(resamples=200)["verdict"]
    assert all(words.startswith("less is lost than with") for words in less.loc[NLL, "memorized"])


def test_where_the_choice_is_worth_nothing_it_is_seldom_said_to_be(noised):
    said = []
    for seed in range(20):
        said.append(noised(seed=seed).noise_table(resamples=200)["verdict"].str.startswith("no significant").all())
    assert np.mean(said) >= 0.8  # q allows for the rows: one signature in twenty says something


def test_an_order_stands_beside_the_random_one(corrupted):
    table = corrupted(0.2).corruption_table(resamples=200)
    assert table.index.names == ["quantity", "group", "order", "tokens_replaced"]
    assert table.index.get_level_values("order").unique().tolist() == ["rarest"]
    assert (table.loc[NLL, "difference"] - 0.2).abs().max() < 0.15
    assert all(words.startswith("more is lost than in random order (") for words in table.loc[NLL, "verdict"])
    nothing = corrupted(seed=4).corruption_table(resamples=200)
    assert all(words.startswith("no significant difference from random order (") for words in nothing["verdict"])


def test_what_is_no_finite_number_is_left_out_on_both_sides(noised):
    plain = noised(0.1)
    broken = plain["noised_nll"].values.copy()
    broken[3, 1, 0, 1, 0] = np.nan  # the control of paragraph 3, 10 weights, strength .5, first draw
    signature = noised(0.1, noised_nll=broken)
    whole, less = (one.noise_table(resamples=200) for one in (plain, signature))
    assert less.loc[NLL, "memorized", "memorized", 10, 0.5]["n"] == 29
    dataset = plain.dataset.mean("noise_draw").sel(chosen_by="memorized", weights_noised=10, strength=0.5)
    rise = (dataset["noised_nll"] - dataset["unperturbed_nll"]).values[:30]
    assert less.loc[NLL, "memorized", "memorized", 10, 0.5]["estimate"] == pytest.approx(
        np.delete(rise, 3).mean(), rel=1e-6
    )
    same = less.index.drop([(NLL, "memorized", "memorized", 10, 0.5)])
    np.testing.assert_allclose(less.loc[same, "estimate"], whole.loc[same, "estimate"])


def test_without_a_control_there_is_no_table(noised, corrupted, make):
    for call, message in (
        (
            noised(labels=("memorized", "not_memorized")).noise_table,
            "noise_table: noise was put on the weights chosen by memorized, not_memorized; a group's and 'random' are needed.",
        ),
        (
            corrupted(orders=("first", "rarest")).corruption_table,
            "corruption_table: tokens were replaced in the order first, rarest; 'random' and another one are needed.",
        ),
        (
            make(GROUP).noise_table,
            "noise_table: the signature has no 'noised_nll'; measure it with localize.noise(model, paragraphs).",
        ),
        (
            make(GROUP).corruption_table,
            "corruption_table: the signature has no 'corrupted_nll'; measure it with localize.corrupt_prefix(model, paragraphs).",
        ),
    ):
        with pytest.raises(SignatureError) as caught:
            call()
        assert str(caught.value) == message
