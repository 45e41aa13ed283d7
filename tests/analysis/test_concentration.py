"""Where the effect of replacing prefix tokens lies: by hand, against loops, and against nulls that nothing exceeds."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from localize.analysis.concentration import (
    ABOVE_NOISE,
    GINI,
    HALF,
    RARITY,
    SHARE,
    TOP_POSITIONS,
    first_half_share,
    null_of,
    permuted,
    rarity_link,
    shares_and_gini,
    top_share,
)
from localize.analysis.draws import Draws
from localize.analysis.effects import effect_of, one_kind, put_only
from localize.analysis.rows import COLUMNS, NO_NULL
from localize.analysis.saturation import SATURATION
from localize.errors import LocalizeError, SignatureError

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

TWO = ["memorized"] * 30 + ["not_memorized"] * 30
MATCH = "lost exact match"
TOP_ONE, TOP_THREE, TOP_FIVE = (SHARE.format(MATCH, n, "s" if n > 1 else "") for n in (1, 3, 5))


def of_drop(make, group, drop, **options):
    """A signature of a perturbation that loses so many tokens; (paragraph, draw, position), 6 positions."""
    before = np.full(len(drop), 50)
    after = before[:, None, None] - drop
    arrays = {"unperturbed_exact_match": before, "perturbed_exact_match": after}
    arrays |= {"unperturbed_nll": np.ones(len(drop)), "perturbed_nll": 1 + 0.1 * drop}
    return make(group, arrays, **options)


def noise(seed=0, count=60, draws=2, positions=6):
    """Losses that lie at other positions in every draw."""
    return np.random.default_rng(seed).poisson(3, (count, draws, positions)).astype(float)


def clustered_noise(seed):
    """Ten clusters of four paragraphs that lose at the same random places, the same in both draws."""
    rng = np.random.default_rng(seed)
    places = np.repeat(rng.gamma(1, 3, (10, 1, 50)), 4, axis=0)
    return rng.poisson(np.broadcast_to(places, (40, 2, 50))).astype(float), np.repeat(np.arange(10), 4)


# The effect.


def test_the_drop_is_in_tokens_and_never_negative(make):
    perturbed = {"unperturbed_exact_match": np.array([50, 7]), "perturbed_exact_match": np.full((2, 1, 6), 9)}
    dataset = one_kind(make(["a", "b"], perturbed).dataset, None)
    assert effect_of(dataset, "exact_match").tolist() == [[[41.0] * 6], [[0.0] * 6]]


def test_a_rise_may_be_a_fall_and_what_was_not_put_stays_unknown(make):
    after = np.full((2, 1, 6), 0.5)
    after[:, :, 0] = np.nan
    dataset = make(["a", "b"], {"unperturbed_nll": np.array([0.25, 1.0]), "perturbed_nll": after}).dataset
    rise = effect_of(one_kind(dataset, None), "nll")
    np.testing.assert_array_equal(rise, [[[np.nan] + [0.25] * 5], [[np.nan] + [-0.5] * 5]])
    assert put_only(rise).shape == (2, 1, 5)


# Shares.


def test_the_top_positions_are_chosen_on_some_draws_and_scored_on_the_others():
    drop = np.array([[[5, 3, 0, 0, 0, 2], [1, 0, 4, 0, 0, 5]]], float)
    # The first draw chooses 0 and 1, where the second has 1 of 10; the second chooses 5 and 2, where the first has 2 of 10.
    assert top_share(drop, top=2) == pytest.approx((0.1 + 0.2) / 2)


def slow_top_share(choosing, scoring, top=TOP_POSITIONS):
    """Choose by `choosing`; positions that tie with the last one chosen share the places that are left."""
    mean = [sum(draw[p] for draw in choosing) / len(choosing) for p in range(12)]
    score = [sum(draw[p] for draw in scoring) for p in range(12)]
    last = sorted(mean, reverse=True)[top - 1]
    above = [p for p in range(12) if mean[p] > last]
    tied = [p for p in range(12) if mean[p] == last]
    places = top - len(above)
    return (sum(score[p] for p in above) + places * sum(score[p] for p in tied) / len(tied)) / sum(score)


@pytest.mark.parametrize("draws", [2, 3, 5])
def test_of_several_draws_every_second_one_chooses_and_ties_share_what_they_score(draws):
    drop = np.random.default_rng(0).integers(0, 5, (7, draws, 12)).astype(float)
    by_top = {}
    for top in (1, 3, 5):
        halves = [(paragraph[::2], paragraph[1::2]) for paragraph in drop]
        by_top[top] = [(slow_top_share(a, b, top) + slow_top_share(b, a, top)) / 2 for a, b in halves]
        np.testing.assert_allclose(top_share(drop, top), by_top[top], rtol=1e-12)
    got = shares_and_gini(drop, tops=[1, 3, 5])
    np.testing.assert_allclose(got[:3], list(by_top.values()), rtol=1e-12)
    loss = drop.mean(1)
    by_pairs = np.abs(loss[:, :, None] - loss[:, None]).mean((1, 2)) / (2 * loss.mean(1))
    np.testing.assert_allclose(got[3], by_pairs, rtol=1e-12)


def test_one_draw_nothing_lost_or_no_more_positions_than_the_top_has_no_top_share():
    assert np.isnan(top_share(np.ones((3, 1, 12)))).all()
    assert np.isnan(top_share(np.zeros((3, 2, 12)))).all()
    assert np.isnan(top_share(np.ones((3, 2, 5)))).all()
    assert np.isnan(first_half_share(np.zeros((3, 2, 12)))).all()


def test_first_half_share_is_over_all_draws():
    drop = np.array([[[3, 1, 0, 4], [1, 0, 1, 0]], [[0, 0, 0, 1], [0, 0, 0, 0]]], float)
    assert first_half_share(drop).tolist() == [0.5, 0.0]
    assert first_half_share(np.ones((1, 2, 5))).tolist() == [0.4]  # of five positions, two


def test_where_nothing_was_put_counts_nowhere_and_halves_are_still_those_of_the_prefix():
    drop = noise(positions=12)
    drop[:, :, 0] = np.nan
    drop = np.concatenate([drop, np.full((60, 1, 12), np.nan)], axis=1)  # a draw in which nothing was put
    np.testing.assert_array_equal(top_share(drop), top_share(drop[:, :2, 1:]))
    expected = np.nansum(drop[:, :, 1:6], axis=(1, 2)) / np.nansum(drop, axis=(1, 2))
    np.testing.assert_allclose(first_half_share(drop), expected, rtol=1e-12)
    drop[4, 1, 7] = np.nan  # lacking where the others have something: the paragraph is left out
    assert np.flatnonzero(np.isnan(first_half_share(drop))).tolist() == [4]
    assert np.flatnonzero(np.isnan(shares_and_gini(drop, tops=[1])).any(0)).tolist() == [4]


# Positions permuted.


def moved(drop, clusters, **options):
    """What is measured is the permuted losses themselves, a column per cell."""
    masks = np.eye(len(drop), dtype=bool)
    nulls = permuted(drop, clusters, masks, lambda some: some.reshape(len(some), -1).T, Draws(0, 100), **options)
    return np.moveaxis(nulls.means, 2, 1).reshape(100, *drop.shape)


@pytest.mark.parametrize("draw_by_draw", [True, False])
def test_positions_change_places_alike_in_a_cluster_and_what_was_not_put_stays(draw_by_draw):
    clusters = np.repeat(np.arange(5), 4)
    drop = np.tile(np.arange(24.0).reshape(1, 2, 12), (20, 1, 1))
    drop[:, :, 0] = np.nan
    for null in moved(drop, clusters, draw_by_draw=draw_by_draw):
        assert np.isnan(null[:, :, 0]).all()
        assert (np.sort(null, axis=-1)[..., :11] == drop[..., 1:]).all()
        assert (null.reshape(5, 4, 2, 12)[..., 1:] == null.reshape(5, 4, 2, 12)[:, :1, :, 1:]).all()
        assert len(np.unique(null[:, 0, 1:], axis=0)) == 5
        assert (null[:, 1, 1:] == null[:, 0, 1:] + 12).all() == (not draw_by_draw)


def test_means_are_over_a_group_and_the_centre_over_permutations():
    drop, clusters = noise(), np.arange(60)
    masks = np.stack([np.arange(60) < 20, np.arange(60) >= 20])
    draws = Draws(3, 100)
    nulls = permuted(drop, clusters, masks, lambda some: top_share(some, 2)[None], draws, draw_by_draw=True)
    each = np.eye(60, dtype=bool)
    every = permuted(drop, clusters, each, lambda some: top_share(some, 2)[None], draws, draw_by_draw=True)
    np.testing.assert_allclose(nulls.means[:, 0, 0], every.means[:, 0, :20].mean(1), rtol=1e-12)
    np.testing.assert_allclose(nulls.means[:, 0, 1], every.means[:, 0, 20:].mean(1), rtol=1e-12)
    np.testing.assert_allclose(nulls.centre, every.means.mean(0), rtol=1e-12)


def test_a_p_value_is_the_share_of_nulls_as_far_from_their_mean():
    masks = np.array([[True, True, False], [False, False, True]])
    values, means = np.array([0.5, 0.9, 0.2]), np.array([[0.4, 0.5], [0.6, 0.5], [0.2, 0.5], [0.8, 0.5]])
    null = null_of(values, means, masks, masks[0])
    assert [null.mean, null.range_low, null.range_high, null.p_value] == pytest.approx([0.5, 0.215, 0.785, 3 / 5])
    assert np.isnan([null.mean_low, null.mean_high]).all()
    assert null_of(values, means, masks, masks[1]) == NO_NULL  # nothing changes by permuting


MEASURES = {
    "first half": (lambda drop: first_half_share(drop)[None], False),
    "top": (lambda drop: top_share(drop)[None], True),
    "Gini": (lambda drop: shares_and_gini(drop, tops=[])[-1:], True),
}


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("first half", lambda seed: (noise(seed), np.arange(60))),
        ("first half", clustered_noise),
        pytest.param("top", lambda seed: (noise(seed), np.arange(60)), marks=pytest.mark.slow),
        pytest.param("Gini", lambda seed: (noise(seed), np.arange(60)), marks=pytest.mark.slow),
        ("Gini", lambda seed: (noise(seed).repeat(2, axis=0), np.repeat(np.arange(60), 2))),
    ],
    ids=["first half", "first half, clusters", "top", "Gini", "Gini, copies"],
)
def test_losses_at_no_place_in_particular_have_even_p_values(name, made):
    measure, draw_by_draw = MEASURES[name]
    p_values = []
    for seed in range(60):
        drop, clusters = made(seed)
        mask = np.ones((1, len(drop)), bool)
        nulls = permuted(drop, clusters, mask, measure, Draws(1000 + seed, 100), draw_by_draw=draw_by_draw)
        p_values.append(null_of(measure(drop)[0], nulls.means[:, 0], mask, mask[0]).p_value)
    p_values = np.array(p_values)
    assert np.mean(p_values <= 0.05) < 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    assert 0.5 - 3 * (1 / 12 / 60) ** 0.5 < p_values.mean() < 0.5 + 3 * (1 / 12 / 60) ** 0.5


# Rarity.


def test_the_link_with_rarity_is_spearmans_rho_and_its_null_that_of_all_other_clusters():
    rng = np.random.default_rng(0)
    change, rarity = rng.normal(size=(9, 2, 12)), -rng.integers(0, 6, (9, 12))
    clusters = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5])
    rarity[7], change[8] = -3, 1.0  # all alike: no correlation
    change[:, :, 0] = np.nan
    own, null = rarity_link(change, rarity, clusters)
    effect, profile = change.mean(1)[:, 1:], rarity[:, 1:]
    for row in range(7):
        assert own[row] == pytest.approx(spearmanr(effect[row], profile[row]).statistic)
        others = [
            spearmanr(effect[row], profile[o]).statistic for o in range(9) if clusters[o] != clusters[row] and o != 7
        ]
        assert null[row] == pytest.approx(np.mean(others))
    assert np.isnan([own[7:], null[7:]]).all()


def test_one_cluster_has_no_other_to_hold_its_rarity_against():
    rng = np.random.default_rng(0)
    own, null = rarity_link(rng.normal(size=(4, 1, 8)), rng.integers(0, 99, (4, 8)), np.zeros(4, int))
    assert np.isfinite(own).all() and np.isnan(null).all()


def test_an_effect_of_rare_tokens_is_told_from_one_of_positions(make):
    rng = np.random.default_rng(1)
    counts = rng.permutation(1000)
    tokens = rng.integers(0, 1000, (60, 10))
    rare = np.argsort(np.argsort(-counts[tokens[:, :6]], axis=1), axis=1)
    by_rarity = rare[:, None] + rng.integers(0, 3, (60, 2, 6))
    # Here both rarity and loss follow position: the last tokens are the rarest and do most.
    placed = np.sort(tokens[:, :6][np.arange(60)[:, None], np.argsort(-counts[tokens[:, :6]], axis=1)])
    placed = np.take_along_axis(tokens[:, :6], np.argsort(-counts[tokens[:, :6]], axis=1), 1)
    by_position = np.arange(6) + rng.integers(0, 3, (60, 2, 6))
    for prefix, drop, found in ((tokens[:, :6], by_rarity, True), (placed, by_position, False)):
        signature = of_drop(make, TWO, drop, tokens=np.concatenate([prefix, tokens[:, 6:]], axis=1))
        row = signature.concentration(counts=counts, resamples=200).loc[(RARITY.format(MATCH), "memorized")]
        assert row["estimate"] > 0.6
        assert (row["p_value"] < 0.01) == found
        assert (row["null"] > 0.5) != found


# The table.


def test_every_row_is_there_for_each_group_and_their_difference(make):
    drop = noise(seed=1)
    clusters = np.concatenate([np.repeat(np.arange(15), 2), np.arange(50, 80)])
    tokens, counts = np.random.default_rng(0).integers(0, 50, (60, 10)), np.arange(50)
    signature = of_drop(make, TWO, drop, cluster=clusters, tokens=tokens)
    table = signature.concentration(counts=counts, seed=2, resamples=100)
    names = [
        TOP_ONE,
        TOP_THREE,
        TOP_FIVE,
        GINI.format(MATCH),
        ABOVE_NOISE.format(MATCH),
        HALF.format(MATCH),
        RARITY.format(MATCH),
    ]
    assert TOP_ONE == "share of the lost exact match in the top 1 position"
    groups = ["memorized", "not_memorized", "memorized - not_memorized"]
    index = [(name, group) for name in names for group in groups]
    index[18:18] = [(SATURATION.format(name), groups[2]) for name in (*names[:3], names[5])]
    assert table.index.tolist() == index
    table = table.loc[names]
    assert table.columns.tolist() == list(COLUMNS)
    expected = dict(zip(names[:4], shares_and_gini(drop, tops=[1, 3, 5]), strict=True))
    expected |= {names[5]: first_half_share(drop), names[6]: rarity_link(drop, -counts[tokens[:, :6]], clusters)[0]}
    for name, values in expected.items():
        means = values[:30].mean(), values[30:].mean()
        got = table.loc[name, "estimate"].tolist()
        assert got == pytest.approx([*means, means[0] - means[1]]), name
    assert (table["n"].unstack()["memorized"] == 30).all()
    assert table[["estimate", "low", "high", "null", "p_value", "rough", "n"]].notna().all(axis=None)
    kinds = table[["null_mean_low", "null_range_low"]].notna()
    assert (kinds.sum(axis=1) == 1).all(), "the interval of the null's mean, or its own range"
    beside = [name == RARITY.format(MATCH) and group != groups[2] for name, group in table.index]
    assert kinds["null_mean_low"].tolist() == beside
    noise_of_it = table.loc[GINI.format(MATCH)]
    above = table.loc[ABOVE_NOISE.format(MATCH)]
    for group in groups[:2]:
        assert above.loc[group, "estimate"] == pytest.approx(
            noise_of_it.loc[group, "estimate"] - noise_of_it.loc[group, "null"]
        )
        assert above.loc[group, "p_value"] == pytest.approx(noise_of_it.loc[group, "p_value"])
        assert above.loc[group, "null"] == pytest.approx(0, abs=1e-12)
    assert signature.concentration(counts=counts, seed=2, resamples=100).loc[names].equals(table)
    assert RARITY.format(MATCH) not in signature.concentration(resamples=100).index


def test_losses_at_one_place_in_every_draw_are_found(make):
    rng, drop = np.random.default_rng(0), np.zeros((60, 2, 6))
    for paragraph in range(60):
        drop[paragraph, :, rng.integers(6)] = 10
    table = of_drop(make, TWO, drop).concentration(resamples=200)
    for name, value in ((TOP_ONE, 1.0), (TOP_FIVE, 1.0), (GINI.format(MATCH), 5 / 6)):
        row = table.loc[(name, "memorized")]
        assert row["estimate"] == pytest.approx(value)
        assert row["null_range_high"] < value
        assert row["p_value"] < 0.01
    assert table.loc[(HALF.format(MATCH), "memorized"), "p_value"] > 0.05


def test_groups_of_different_noise_differ_in_gini_and_not_above_their_null(make):
    rng = np.random.default_rng(0)
    drop = np.concatenate([rng.poisson(2, (30, 2, 6)), rng.poisson(30, (30, 2, 6))])
    table = of_drop(make, TWO, drop).concentration(resamples=200)
    difference = "memorized - not_memorized"
    assert table.loc[(GINI.format(MATCH), difference), "p_value"] < 0.01
    assert table.loc[(GINI.format(MATCH), difference), "estimate"] > 0.1
    assert table.loc[(ABOVE_NOISE.format(MATCH), difference), "p_value"] > 0.05
    assert abs(table.loc[(ABOVE_NOISE.format(MATCH), difference), "estimate"]) < 0.05


def test_the_nll_tells_it_too_and_what_is_gained_counts_as_nothing_lost(make):
    drop = noise(seed=1) - 2
    table = of_drop(make, TWO, drop).concentration(effect="nll", resamples=100)
    lost = 0.1 * drop.clip(min=0)
    half = first_half_share(lost)[:30]
    assert table.loc[(HALF.format("NLL rise"), "memorized"), "estimate"] == pytest.approx(np.nanmean(half))
    assert table.loc[(HALF.format("NLL rise"), "memorized"), "n"] == (~np.isnan(half)).sum()


def test_with_one_draw_there_is_no_top_share_and_no_noise_to_tell_the_gini_from(make):
    table = of_drop(make, TWO, noise(draws=1)).concentration(resamples=100)
    assert table.loc[[TOP_ONE, TOP_THREE, TOP_FIVE], "estimate"].isna().all()
    row = table.loc[(GINI.format(MATCH), "memorized")]
    assert np.isfinite(row["estimate"]) and row[["null", "p_value"]].isna().all()
    assert table.loc[ABOVE_NOISE.format(MATCH), "estimate"].isna().all()
    assert table.loc[(HALF.format(MATCH), "memorized"), "p_value"] > 0


def test_the_kind_asked_for_is_told(make):
    drop = np.stack([noise(seed=3), noise(seed=4)], axis=1)
    before = np.full(60, 50)
    arrays = {"unperturbed_exact_match": before, "perturbed_exact_match": before[:, None, None, None] - drop}
    signature = make(TWO, arrays)
    for kind, index in ((None, 0), ("uniform", 0), ("frequency", 1)):
        alone = of_drop(make, TWO, drop[:, index]).concentration(resamples=100)
        assert signature.concentration(kind, resamples=100).equals(alone)


def test_few_clusters_are_told(make):
    with pytest.warns(UserWarning, match=r"^few effective clusters \(a 5\.0 of 5 paragraphs\)"):
        of_drop(make, ["a"] * 5, noise(count=5)).concentration(resamples=100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effect": "loss"}, "concentration: effect='loss' is not one of exact_match, nll."),
        ({"kind": "neutral"}, "concentration: kind='neutral' was not measured; the signature has uniform."),
        (
            {"counts": np.arange(40)},
            "concentration: counts has 40 entries, but a prefix holds token 49; it must have one for each token of the vocabulary.",
        ),
        (
            {"counts": np.ones(50)},
            "concentration: counts is float64 of shape (50,); it must be whole numbers, one for each token of the vocabulary.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said_in_one_line(make, options, message):
    signature = of_drop(make, TWO, noise(), tokens=np.full((60, 10), 49))
    with pytest.raises(SignatureError) as told:
        signature.concentration(**options)
    assert str(told.value) == message


def test_what_was_not_measured_is_named(make):
    with pytest.raises(SignatureError) as told:
        make(TWO).concentration()
    assert str(told.value) == (
        "concentration: the signature has no 'perturbed_exact_match'; measure it with localize.perturb_prefix(model, paragraphs)."
    )
    with pytest.raises(SignatureError) as told:
        of_drop(make, TWO, noise()).concentration(counts=np.arange(50))
    assert str(told.value) == "concentration: counts is given, but the signature has no coordinate 'tokens' to look up."


def test_no_draws_are_too_few(make):
    signature = make(["a"] * 4, {"unperturbed_exact_match": [4] * 4, "perturbed_exact_match": np.ones((4, 2, 6))})
    with pytest.raises(LocalizeError) as caught:
        signature.concentration(resamples=99)
    told = "concentration: resamples=99 must be at least 100, because the tails are read off the draws."
    assert str(caught.value) == told
