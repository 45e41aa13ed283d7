"""What an edit changed, told for each group of paragraphs: by hand, by plain numpy and by scipy."""

import itertools
import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from localize.analysis.change import Change, edit_table, ordered_roles
from localize.analysis.rows import COLUMNS
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap, effective_clusters

FEW = "ignore:few effective clusters"
GROUP = ["forget"] * 4 + ["memorized"] * 4
CLUSTER = [0, 0, 1, 2, 3, 4, 5, 6]
BEFORE, AFTER = [4, 4, 4, 4, 4, 4, 4, 4], [0, 1, 0, 3, 4, 2, 4, 4]
NLL, RISEN = np.linspace(0.1, 0.8, 8), np.array([3.0, 2.0, 2.5, 1.0, 0.5, 0.9, 0.7, 0.8])


@pytest.fixture
def side(make_dataset):
    """`side(exact, nll, ...)`: a signature made by hand; `after=True` is of other weights."""

    def made(exact=None, nll=None, *, group=GROUP, after=False, prompts=("as_is", "half_given"), **options):
        arrays = options.pop("arrays", {})
        arrays |= {name: values for name, values in (("exact_match", exact), ("nll", nll)) if values is not None}
        model = options.pop("model", {}) | ({"weights_hash": "b" * 64} if after else {})
        tokens = options.pop("tokens", np.arange(10 * len(group)).reshape(-1, 10))
        dataset = make_dataset(group, arrays, model=model, tokens=tokens, **options)
        if "prompt" in dataset.dims:
            dataset = dataset.assign_coords(prompt=list(prompts))
        return MemorizationSignature(dataset)

    return made


@pytest.fixture
def change(side):
    """Eight paragraphs in seven clusters: half of them to forget, one other hit."""
    return Change(side(BEFORE, NLL, cluster=CLUSTER), side(AFTER, RISEN, cluster=CLUSTER, after=True))


def refused(error, call, *args):
    with pytest.raises(SignatureError) as caught:
        call(*args)
    assert str(caught.value) == error


def test_other_paragraphs_groups_or_clusters_are_refused(side):
    one = side()
    for other, error in (
        (
            side(about={"data_hash": "e" * 64}),
            "change: the paragraphs differ: 8 of made.csv (data_hash dddddddddddd) before and 8 of made.csv "
            "(data_hash eeeeeeeeeeee) after; the same ones, in the same order, are needed.",
        ),
        (
            side(ids=[*"abcdefgh"]),
            "change: the id of row 0 is 'p0' before and 'a' after; give both signatures the same.",
        ),
        (
            side(group=["forget"] * 5 + ["memorized"] * 3),
            "change: the group of row 4 is 'memorized' before and 'forget' after; give both signatures the same.",
        ),
        (
            side(cluster=[0, 1, 2, 3, 4, 5, 6, 6]),
            "change: the cluster of row 7 is 7 before and 6 after; give both signatures the same.",
        ),
    ):
        refused(error, Change, one, other)


@pytest.mark.parametrize(
    ("key", "value", "before"),
    [("name", "other", "made"), ("family", "gpt-neo", "gpt2"), ("layers", 3, 2), ("heads", 4, 2), ("d_model", 9, 8),
     ("weights", "folded", "raw")],
)  # fmt: skip
def test_an_edit_changes_nothing_of_a_model_but_its_weights(side, key, value, before):
    told = f"change: the models differ: {key} is {before!r} before and {value!r} after; an edit changes weights only."
    refused(told, Change, side(), side(model={key: value}))


def test_something_measured_per_paragraph_must_be_in_both(side):
    one = MemorizationSignature(side().dataset[["exact_match"]])
    other = MemorizationSignature(
        side(arrays={"set_gradient_max": np.ones((2, 2, 6))}).dataset[["nll", "set_gradient_max"]]
    )
    refused(
        "change: nothing measured per paragraph is in both: exact_match before, nll, set_gradient_max after; "
        "measure the same of both models.", Change, one, other,
    )  # fmt: skip
    sets = side(arrays={"set_gradient_max": np.ones((2, 2, 6))})
    with pytest.raises(SignatureError, match="nothing measured per paragraph"):
        Change(MemorizationSignature(sets.dataset[["exact_match", "set_gradient_max"]]), other)


def test_two_continuations_are_not_compared(side):
    nll = {"reference_nll": np.ones(8)}
    refused(
        "change: reference_nll is of the own continuation before and of the true one after; the same is needed.",
        Change, side(arrays=dict(nll), continuation="own"), side(arrays=dict(nll), continuation="true"),
    )  # fmt: skip


def test_a_paragraph_that_an_edit_left_without_a_number_is_not_hidden(side):
    broken = np.where(np.arange(8) == 2, np.nan, 1.0)
    told = "both must be finite, or nan where nothing was measured."
    refused(
        f"change: nll of paragraph 'p2' is 1 before and nan after; {told}",
        Change,
        side(nll=np.ones(8)),
        side(nll=broken),
    )
    refused(
        f"change: nll of paragraph 'p2' is nan before and 1 after; {told}",
        Change,
        side(nll=broken),
        side(nll=np.ones(8)),
    )
    endless = np.where(np.isnan(broken), np.inf, 1.0)
    refused(
        f"change: nll of paragraph 'p2' is 1 before and inf after; {told}",
        Change,
        side(nll=np.ones(8)),
        side(nll=endless),
    )
    asked = np.ones((8, 2))
    asked[5, 1] = np.nan
    whole = side(arrays={"prompted_recall": np.ones((8, 2))})
    refused(
        f"change: prompted_recall, half_given of paragraph 'p5' is 1 before and nan after; {told}",
        Change, whole, side(arrays={"prompted_recall": asked}),
    )  # fmt: skip


def test_it_shows_itself_in_one_line(change):
    assert repr(change) == (
        "Change(made, weights aaaaaaaa -> bbbbbbbb; 8 paragraphs: 4 forget, 4 memorized; exact_match, nll, token_nll)"
    )


def test_groups_stand_in_the_order_of_what_they_are_to_the_edit():
    names = {
        "general", "own b", "own a", "partial", "memorized", "not_memorized", "kept_not_memorized", "kept_memorized",
        "kept_partial", "forget", "near_duplicate",
    }  # fmt: skip
    assert ordered_roles(names) == (
        "forget", "near_duplicate", "kept_memorized", "kept_partial", "kept_not_memorized", "memorized", "partial",
        "not_memorized", "own a", "own b", "general",
    )  # fmt: skip
    assert ordered_roles(["memorized", "forget", "memorized"]) == ("forget", "memorized")


def test_a_difference_is_after_less_before_with_labels(change):
    exact = change.difference("exact_match")
    assert isinstance(exact, xr.DataArray)
    assert (exact.name, exact.dims, exact.attrs["unit"]) == ("exact_match", ("paragraph",), "tokens")
    assert exact.values.tolist() == [-4, -3, -4, -1, 0, -2, 0, 0]
    assert exact["group"].values.tolist() == GROUP
    assert exact["cluster"].values.tolist() == CLUSTER
    tokens = change.difference("token_nll")
    assert tokens.dims == ("paragraph", "continuation_position")
    refused("signature: no 'step'; it holds exact_match, nll, token_nll.", change.difference, "step")


def test_a_difference_of_counts_without_a_sign_can_be_negative(side):
    sides = (side(np.array(values, dtype=np.uint8)) for values in (BEFORE, AFTER))
    assert Change(*sides).difference("exact_match").values.tolist() == [-4, -3, -4, -1, 0, -2, 0, 0]


@pytest.mark.filterwarnings(FEW)
def test_prompts_asked_on_both_sides_are_told_each(side):
    rng = np.random.default_rng(0)
    one, other = rng.uniform(size=(2, 8, 2))
    prompts = Change(
        side(arrays={"prompted_recall": one}),
        side(arrays={"prompted_recall": other[:, ::-1]}, prompts=("half_given", "as_is")),
    )
    table = prompts.table(resamples=100)
    assert [name for name in table.index.unique("quantity") if "recall" in name] == [
        "prompted_recall, as_is", "prompted_recall, half_given",
    ]  # fmt: skip
    for place, prompt in enumerate(("as_is", "half_given")):
        row = table.loc[(f"prompted_recall, {prompt}", "memorized")]
        assert row["estimate"] == pytest.approx((other - one)[4:, place].mean())
    fewer = Change(
        side(arrays={"prompted_recall": one}), side(arrays={"prompted_recall": other[:, :1]}, prompts=("as_is",))
    )
    assert not any("half_given" in name for name in fewer.table(resamples=100).index.unique("quantity"))
    assert fewer.difference("prompted_recall")["prompt"].values.tolist() == ["as_is"]


@pytest.mark.filterwarnings(FEW)
def test_means_and_their_change_are_those_of_the_plain_numbers(change):
    table = change.table(seed=3, resamples=300)
    assert table.index.names == ["quantity", "group"]
    assert list(table.index) == [
        (quantity, group) for quantity in ("exact_match", "nll", "perplexity") for group in ("forget", "memorized")
    ]
    assert list(table.columns) == [
        *COLUMNS, "before", "after",
    ]  # fmt: skip
    row = table.loc[("exact_match", "forget")]
    assert (row["before"], row["after"], row["estimate"]) == (4, 1, -3)
    assert (row["n"], row["clusters"], row["effective_clusters"]) == (4, 3, pytest.approx(16 / 6))
    interval = cluster_bootstrap(np.array([-4.0, -3, -4, -1]), np.array([0, 0, 1, 2]), seed=3, resamples=300)
    assert interval.low < -4, "of four tokens no more than four can be lost: the end is moved there"
    assert (row["low"], row["high"]) == (-4, pytest.approx(float(interval.high)))
    assert table.loc[("nll", "memorized"), "estimate"] == pytest.approx((RISEN - NLL)[4:].mean())


@pytest.mark.filterwarnings(FEW)
def test_the_test_flips_the_signs_of_whole_clusters(change):
    table = change.table()
    difference, clusters = np.array([-4.0, -3, -4, -1]), np.array([0, 0, 1, 2])
    null = [
        np.mean(difference * np.array(signs)[clusters]) for signs in itertools.product((1, -1), repeat=3)
    ]  # every way to flip three clusters
    row = table.loc[("exact_match", "forget")]
    assert row["p_value"] == pytest.approx(np.mean(np.abs(null) >= 3 - 1e-9)) == 2 / 8
    assert [row["null_range_low"], row["null_range_high"]] == pytest.approx(np.quantile(null, [0.025, 0.975]))


def test_with_a_cluster_for_each_paragraph_it_is_scipys_paired_test(side):
    rng = np.random.default_rng(4)
    before, after = rng.uniform(1, 3, 40), rng.uniform(1.2, 3.4, 40)
    moved = Change(side(nll=before, group=["a"] * 40), side(nll=after, group=["a"] * 40, after=True))
    table, other = moved.table(resamples=5000), moved.table(seed=1, resamples=5000)
    assert table.equals(moved.table(resamples=5000))
    assert table.loc[("nll", "a"), "null_range_low"] != other.loc[("nll", "a"), "null_range_low"]
    row = table.loc[("nll", "a")]
    test = scipy.stats.permutation_test(
        (after - before,), np.mean, permutation_type="samples", vectorized=True, n_resamples=5000, rng=0
    )
    assert row["p_value"] == pytest.approx(test.pvalue, abs=0.03)
    normal = scipy.stats.ttest_rel(after, before).confidence_interval()
    assert [row["low"], row["high"]] == pytest.approx([normal.low, normal.high], abs=0.05)


@pytest.mark.filterwarnings(FEW)
def test_perplexity_is_that_over_all_tokens_and_its_change_is_relative(change):
    table = change.table(resamples=200)
    for group, rows in (("forget", slice(4)), ("memorized", slice(4, 8))):
        told, nll = table.loc[("perplexity", group)], table.loc[("nll", group)]
        before, after = np.exp(NLL[rows].mean()), np.exp(RISEN[rows].mean())
        assert [told["before"], told["after"]] == pytest.approx([before, after])
        assert told["estimate"] == pytest.approx(after / before - 1)
        for end in ("low", "high", "null", "null_range_low", "null_range_high"):
            assert told[end] == pytest.approx(np.exp(nll[end]) - 1)
        for same in ("p_value", "q_value", "rough", "n", "clusters", "effective_clusters"):
            assert told[same] == nll[same]


@pytest.mark.filterwarnings(FEW)
def test_a_model_that_is_broken_is_infinitely_perplexed_without_a_warning(side):
    table = Change(side(nll=NLL), side(nll=NLL + 1000)).table(resamples=100)
    assert table.loc[("perplexity", "forget"), "after"] == np.inf
    assert table.loc[("nll", "forget"), "estimate"] == pytest.approx(1000)


@pytest.mark.filterwarnings(FEW)
def test_all_rows_are_corrected_together_and_perplexity_counts_once(change):
    both = edit_table({"a": change, "b": change}, resamples=200)
    for table in (change.table(resamples=200), both):
        tested = table[table.index.get_level_values("quantity") != "perplexity"]
        assert tested["q_value"].to_numpy() == pytest.approx(scipy.stats.false_discovery_control(tested["p_value"]))


@pytest.mark.filterwarnings(FEW)
def test_what_a_group_does_not_have_is_left_out(side):
    asked = np.array([1.0, 2, np.nan, 3, *[np.nan] * 4])
    sides = (
        side(arrays={"rewritten_nll": asked + more, "rewritten_exact_match": asked * 0}, cluster=CLUSTER)
        for more in (0, 2)
    )
    table = Change(*sides).table(resamples=100)
    assert [group for quantity, group in table.index if quantity == "rewritten_nll"] == ["forget"]
    row = table.loc[("rewritten_nll", "forget")]
    assert (row["before"], row["after"], row["estimate"], row["n"]) == (2, 4, 2, 3)
    assert row["effective_clusters"] == pytest.approx(effective_clusters(np.array([0, 0, 2])))


def test_what_only_one_side_holds_is_not_told(side):
    extra = {"reference_nll": np.ones(8), "reference_exact_match": np.ones(8, dtype=int), "token_accuracy": np.ones(8)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = Change(side(), side(arrays=dict(extra))).table(resamples=100)
        all_of_it = Change(side(arrays=dict(extra)), side(arrays=dict(extra))).table(resamples=100)
    assert list(one.index.unique("quantity")) == ["exact_match", "nll", "perplexity"]
    assert list(all_of_it.index.unique("quantity")) == [
        "exact_match", "nll", "perplexity", "token_accuracy", "reference_exact_match", "reference_nll",
    ]  # fmt: skip


@pytest.mark.filterwarnings(FEW)
def test_an_edit_undone_changes_nothing(side):
    table = Change(side(BEFORE, NLL), side(BEFORE, NLL)).table(resamples=100)
    assert (table[["estimate", "low", "high", "null", "null_range_low", "null_range_high"]] == 0).all(axis=None)
    assert (table["p_value"] == 1).all()


def test_a_single_cluster_has_no_interval_and_no_test(side):
    sides = side(BEFORE, cluster=[0] * 8), side(AFTER, cluster=[0] * 8)
    with pytest.warns(UserWarning, match="^few effective clusters") as caught:
        table = Change(*sides).table(resamples=100)
    assert [str(warning.message) for warning in caught] == [
        "few effective clusters (forget 1.0 of 4 paragraphs, memorized 1.0 of 4 paragraphs); "
        "below 30, only large differences are found."
    ]
    assert (
        table[["low", "high", "null_range_low", "null_range_high", "p_value", "q_value", "rough"]].isna().all(axis=None)
    )
    assert table.loc[("exact_match", "forget"), "estimate"] == -3


def test_thirty_clusters_do_not_warn(side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Change(side(group=["a"] * 30), side(group=["a"] * 30)).table(resamples=100)


@pytest.mark.filterwarnings(FEW)
def test_one_edit_once_is_its_own_table(change):
    pooled, alone = edit_table({"it": change}, seed=2, resamples=100), change.table(seed=2, resamples=100)
    assert pooled.index.names == ["edit", "quantity", "group"]
    assert (pooled["repetitions"] == 1).all()
    assert pooled.loc["it"].drop(columns="repetitions").equals(alone)


@pytest.mark.filterwarnings(FEW)
def test_the_same_measured_twice_tells_no_more_than_once(change):
    once, twice = (edit_table({"it": [change] * times}, resamples=400) for times in (1, 2))
    ends = ["low", "high", "null", "null_range_low", "null_range_high"]
    numbers = ["before", "after", "estimate", *ends, "p_value", "q_value", "n", "clusters"]
    np.testing.assert_allclose(once[numbers], twice[numbers], rtol=1e-12)
    np.testing.assert_allclose(once["effective_clusters"], twice["effective_clusters"])
    assert (twice["repetitions"] == 2).all()


@pytest.fixture
def seeds(side):
    """One set of eight paragraphs, twice with other forget sets; the second time of a part, in another order."""
    first = Change(side(BEFORE, NLL, cluster=CLUSTER), side(AFTER, RISEN, cluster=CLUSTER, after=True))
    part, group = [7, 5, 0, 1, 2], ["forget", "forget", "memorized", "memorized", "other"]
    tokens = np.arange(80).reshape(8, 10)[part]
    options = {
        "group": group, "cluster": np.array(CLUSTER)[part], "ids": [f"p{row}" for row in part], "tokens": tokens,
        "about": {"data_hash": "e" * 64},
    }  # fmt: skip
    arrays = [{"token_accuracy": np.full(5, level)} for level in (1.0, 0.5)]
    second = Change(
        side([4] * 5, np.full(5, 0.2), arrays=arrays[0], **options),
        side([0, 2, 4, 1, 4], np.full(5, 0.9), arrays=arrays[1], after=True, **options),
    )
    return [first, second]


@pytest.mark.filterwarnings(FEW)
def test_repetitions_are_pooled_row_by_row_in_the_clusters_of_the_whole_set(seeds):
    table = edit_table({"x": seeds}, seed=1, resamples=300)
    forget = np.array([-4.0, -3, -4, -1, -4, -2]), np.array([0, 0, 1, 2, 6, 4])
    memorized = np.array([0.0, -2, 0, 0, 0, -3]), np.array([3, 4, 5, 6, 0, 0])
    for group, (values, clusters), paragraphs in (("forget", forget, 6), ("memorized", memorized, 6)):
        row = table.loc[("x", "exact_match", group)]
        interval = cluster_bootstrap(values, clusters, seed=1, resamples=300)
        told = [row["estimate"], row["low"], row["high"]]
        assert told == pytest.approx([values.mean(), max(-4, float(interval.low)), float(interval.high)])
        assert (row["n"], row["repetitions"]) == (paragraphs, 2)
        assert row["effective_clusters"] == pytest.approx(effective_clusters(clusters))
    assert table.loc[("x", "exact_match", "other"), "repetitions"] == 1
    once = table.loc[("x", "token_accuracy", "forget")]
    assert (once["estimate"], once["n"], once["repetitions"]) == (-0.5, 2, 1)


@pytest.mark.filterwarnings(FEW)
def test_edits_and_quantities_keep_their_order(seeds):
    table = edit_table({"z": seeds, "a": seeds[0]}, resamples=100)
    assert list(table.index.unique("edit")) == ["z", "a"]
    assert list(table.loc["z"].index)[:4] == [
        ("exact_match", "forget"), ("exact_match", "memorized"), ("exact_match", "other"), ("nll", "forget"),
    ]  # fmt: skip
    assert list(table.loc["z"].index.unique("quantity")) == ["exact_match", "nll", "perplexity", "token_accuracy"]


def test_few_clusters_are_told_of_each_edit_or_once_where_they_are_the_same(seeds):
    with pytest.warns(UserWarning, match="^few effective clusters") as caught:
        edit_table({"x": seeds[0], "y": seeds[1]}, resamples=100)
    assert str(caught[0].message).startswith(
        "few effective clusters (x: forget 2.7 of 4 paragraphs, y: forget 2.0 of 2 paragraphs, x: memorized 4.0"
    )
    with pytest.warns(UserWarning, match="^few effective clusters") as caught:
        edit_table({"x": seeds[0], "y": seeds[0]}, resamples=100)
    assert str(caught[0].message).startswith(
        "few effective clusters (forget 2.7 of 4 paragraphs, memorized 4.0 of 4 paragraphs"
    )


def test_what_is_not_of_one_set_is_not_pooled(side, change, seeds):
    told = "pooled changes are of one set of paragraphs."
    tokens = np.arange(80).reshape(8, 10)
    tokens[3, 9] = 1
    for options, error in (
        (
            {"tokens": tokens, "cluster": CLUSTER},
            f"edit_table: paragraph 'p3' has other tokens in change 3 of 'x' than before it; {told}",
        ),
        (
            {"cluster": [0, 1, 2, 3, 4, 5, 6, 7]},
            f"edit_table: paragraph 'p1' has another cluster in change 3 of 'x' than before it; {told}",
        ),
        (
            {"ids": [*"abcdefgh"]},
            "edit_table: change 3 of 'x' has no paragraph of those before it; "
            "pooled changes are of one set, so that their clusters are the same.",
        ),
    ):
        other = Change(side(**options), side(**options))
        refused(error, edit_table, {"x": [*seeds, other]})
    bare = MemorizationSignature(side(cluster=CLUSTER).dataset.drop_vars("tokens"))
    error = "edit_table: change 2 of 'x' does not hold the tokens that pooling checks."
    refused(error, edit_table, {"x": [change, Change(bare, bare)]})


@pytest.mark.filterwarnings(FEW)
def test_edits_under_different_names_need_not_be_of_one_set(side, change):
    other = Change(side(ids=[*"abcdefgh"]), side(ids=[*"abcdefgh"]))
    assert len(edit_table({"x": change, "y": other}, resamples=100)) == 12


def test_something_must_be_given(change):
    refused("edit_table: changes is empty; at least one edit is needed.", edit_table, {})
    refused("edit_table: 'x' has no change; one or several are needed.", edit_table, {"y": change, "x": []})


@pytest.mark.filterwarnings(FEW)
def test_the_interval_holds_the_true_change_as_often_as_it_says(side):
    """Forty paragraphs in 20 clusters, in three repetitions that lose alike: as if apart, the interval would be too short."""
    rng, clusters, covered, apart = np.random.default_rng(0), np.repeat(np.arange(20), 2), 0, 0
    options = {"group": ["a"] * 40, "cluster": clusters}
    before = MemorizationSignature(
        side(nll=np.full(40, 5.0), **options).dataset.drop_vars(["exact_match", "token_nll"])
    )
    for _ in range(60):
        shared = rng.normal(1, 0.5, 20)[clusters] + rng.normal(0, 0.3, 40)
        losses = [shared + rng.normal(0, 0.2, 40) for _ in range(3)]
        after = (before.dataset.assign(nll=before["nll"] + loss) for loss in losses)
        table = edit_table({"x": [Change(before, MemorizationSignature(each)) for each in after]}, resamples=200)
        row = table.loc[("x", "nll", "a")]
        covered += row["low"] <= 1 <= row["high"]
        alone = cluster_bootstrap(np.concatenate(losses), np.arange(120), seed=0, resamples=200)
        apart += alone.low <= 1 <= alone.high
    assert 54 <= covered <= 60
    assert apart <= 45
