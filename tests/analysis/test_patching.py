"""The strongest patch sites, every site, and attribution patching beside them: numbers of loops and scipy."""

from itertools import product

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from localize.analysis import patch_agreement, patching
from localize.analysis.draws import Draws
from localize.analysis.patch_agreement import MEASURES, SLOPE, site_agreement
from localize.analysis.patch_agreement import patch_agreement as agreement_table
from localize.analysis.patch_grid import grid_cells
from localize.analysis.patch_grid import patching as patch_grid
from localize.analysis.patching import CHANGE, SHARE, patch_table, shares_of_gap
from localize.analysis.rows import COLUMNS
from localize.analysis.sentences import NOT_KNOWN
from localize.axes import DIRECTIONS, PATCH_METRICS, SITES, STREAMS
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import (
    Range,
    cluster_bootstrap,
    cluster_bootstrap_statistic,
    cluster_sign_flip,
    effective_clusters,
    false_discovery,
)
from localize.statistics.clusters import choosing_half

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

GROUPS = np.array(["memorized"] * 40 + ["not_memorized"] * 40)
CLUSTERS = np.concatenate([np.repeat(np.arange(20), 2), np.arange(100, 140)])
MEMORIZED = GROUPS == "memorized"
LAYERS, HEADS = 3, 2
SHAPES = {"head": (len(SITES), LAYERS, HEADS), "stream": (len(STREAMS), LAYERS)}
NUMBERS = ["estimate", "low", "high", "null", "null_mean_low", "null_mean_high", "p_value"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]
HEAD = "head activation"
SIGNS = {"denoising": -1, "noising": 1}


def words_of(verdict):
    """A verdict without the numbers behind it."""
    return verdict.split(" (")[0]


def arrays_of(seed=0, strength=0.0):
    """Effects that estimates tell roughly; v of head 1 in layer 2 carries so much of the gap in both directions."""
    rng = np.random.default_rng(seed)
    arrays = {"clean_nll": rng.gamma(1.0, 0.1, (80, 2))}
    gap = 2 + rng.gamma(2.0, size=(80, 2))
    arrays["corrupted_run_nll"] = arrays["clean_nll"] + gap
    for part, shape in SHAPES.items():
        effect = rng.normal(0, 0.1, (80, 2, 2, *shape)) + rng.normal(0, 0.1, (2, 2, *shape))
        if part == "head":
            for index, direction in enumerate(DIRECTIONS):
                effect[:, index, :, 2, 2, 1] += SIGNS[direction] * strength * gap
        arrays[f"{part}_patch_effect"] = effect
        arrays[f"{part}_patch_null"] = rng.normal(0, 0.1, effect.shape)
        arrays[f"{part}_patch_estimate"] = effect + rng.normal(0, 0.1, effect.shape)
    return arrays


@pytest.fixture
def look(make_dataset):
    """`look(arrays, ...)`: a signature with the axes of patching named."""

    def made(arrays, group=GROUPS, cluster=CLUSTERS):
        dataset = make_dataset(list(group), arrays, cluster=cluster, continuation="own")
        labels = {"site": SITES, "stream": STREAMS, "direction": DIRECTIONS, "metric": PATCH_METRICS}
        there = {dim: list(names)[: dataset.sizes[dim]] for dim, names in labels.items() if dim in dataset.dims}
        return MemorizationSignature(dataset.assign_coords(there))

    return made


def without_target(arrays, rows, metric=0):
    """The NLL of no token changes in some paragraphs: nothing can be measured by it."""
    for name, values in arrays.items():
        at = (rows, metric) if name.endswith("_nll") else (rows, slice(None), metric)
        values[at] = np.nan
    return arrays


def interval(values, chosen, seed=0, resamples=200):
    found = cluster_bootstrap(values[chosen], CLUSTERS[chosen], seed=seed, resamples=resamples)
    return [float(found.estimate), float(found.low), float(found.high)]


# The strongest sites


@pytest.mark.parametrize("metric", PATCH_METRICS)
def test_the_strongest_site_is_chosen_on_one_half_and_told_on_the_other(look, metric):
    arrays = arrays_of(strength=0.3)
    table, rest = patch_table(look(arrays), metric=metric, seed=2, resamples=200), ~choosing_half(CLUSTERS, 2)
    assert table.columns.tolist() == [*COLUMNS, *DIFFERENCE, "site", "verdict"]
    assert table.index.names == ["quantity", "direction", "group"]
    parts = (HEAD, *STREAMS)
    listed = product(DIRECTIONS, parts, ("memorized", "not_memorized"), (CHANGE, SHARE))
    assert table.index.tolist() == [(words.format(part), way, group) for way, part, group, words in listed]
    judged = PATCH_METRICS.index(metric)
    for group, (way, sign), part in product(("memorized", "not_memorized"), SIGNS.items(), parts):
        direction, inside = DIRECTIONS.index(way), group == GROUPS
        if part == HEAD:
            effect, null = (arrays[f"head_patch_{name}"][:, direction, judged] for name in ("effect", "null"))
            places = {f"L{j}.H{h}.{SITES[s]}": (s, j, h) for s, j, h in np.ndindex(*SHAPES["head"])}
        else:
            stream = STREAMS.index(part)
            effect, null = (arrays[f"stream_patch_{name}"][:, direction, judged, stream] for name in ("effect", "null"))
            places = {f"L{j}.{part}": (j,) for j in range(LAYERS)}
        best = max(places, key=lambda name: sign * effect[(inside & ~rest, *places[name])].mean())
        row = table.loc[(CHANGE.format(part), way, group)]
        assert row["site"] == table.loc[(SHARE.format(part), way, group), "site"] == best
        if part == HEAD:
            assert best == "L2.H1.v"
        own, other = effect[(slice(None), *places[best])], null[(slice(None), *places[best])]
        chosen = inside & rest
        test = cluster_sign_flip((own - other)[chosen], CLUSTERS[chosen], seed=2, permutations=200)
        expected = [*interval(own, chosen, 2), *interval(other, chosen, 2), float(test.p_value)]
        expected += interval(own - other, chosen, 2)
        np.testing.assert_allclose(row[NUMBERS + DIFFERENCE].astype(float), np.array(expected), rtol=1e-9)
        assert (row["n"], row["effective_clusters"]) == (chosen.sum(), effective_clusters(CLUSTERS[chosen]))
        share = table.loc[(SHARE.format(part), way, group)]
        gap = (arrays["corrupted_run_nll"] - arrays["clean_nll"])[chosen, judged].mean()
        assert share["estimate"] == pytest.approx(sign * own[chosen].mean() / gap)
        assert share["null"] == pytest.approx(sign * other[chosen].mean() / gap)
        assert share["difference"] == pytest.approx(sign * (own - other)[chosen].mean() / gap)
        assert (share["p_value"], share["q_value"]) == (row["p_value"], row["q_value"])
        assert share["n"] == chosen.sum()


def test_the_interval_of_a_share_is_that_of_a_ratio_of_means_over_drawn_clusters():
    rng = np.random.default_rng(0)
    own, other, gap = rng.normal(1, 0.3, 80), rng.normal(0, 0.3, 80), rng.gamma(2.0, size=80)
    row = shares_of_gap(own, other, gap, CLUSTERS, Draws(5, 300))
    prefixes = {"estimate": "", "null": "null_mean_", "difference": "difference_"}
    for (column, prefix), values in zip(prefixes.items(), (own, other, own - other), strict=True):
        both = np.stack([values, gap], axis=1)
        found = cluster_bootstrap_statistic(both, CLUSTERS, lambda m: m[:, 0] / m[:, 1], seed=5, resamples=300)
        got = [row[column], row[f"{prefix}low"], row[f"{prefix}high"]]
        np.testing.assert_allclose(got, [values.mean() / gap.mean(), found.low, found.high], rtol=1e-9)


def test_a_patch_that_does_what_the_other_run_does_has_all_of_the_gap_in_both_directions(look):
    arrays = arrays_of()
    gap = arrays["corrupted_run_nll"] - arrays["clean_nll"]
    for direction, sign in enumerate(SIGNS.values()):
        arrays["stream_patch_effect"][:, direction, :, 2, 0] = sign * gap
    table = patch_table(look(arrays), resamples=200)
    for way, group in product(DIRECTIONS, ("memorized", "not_memorized")):
        row = table.loc[(SHARE.format("resid"), way, group)]
        assert row["site"] == "L0.resid"
        assert [row["estimate"], row["low"], row["high"]] == pytest.approx([1, 1, 1])
    assert table.loc[(CHANGE.format("resid"), "denoising", "memorized"), "estimate"] < -2
    assert table.loc[(CHANGE.format("resid"), "noising", "memorized"), "estimate"] > 2


def test_where_the_runs_do_not_differ_there_is_no_share(look):
    arrays = arrays_of()
    arrays["corrupted_run_nll"][:] = arrays["clean_nll"]
    table = patch_table(look(arrays), resamples=100)
    shares = table[["share of" in quantity for quantity, _, _ in table.index]]
    assert shares[["estimate", "low", "high", "null", "difference"]].isna().all(axis=None)
    assert table.loc[(CHANGE.format(HEAD), "noising", "memorized"), NUMBERS].notna().all()


def test_the_scoring_half_has_no_say_in_which_site_it_is(look):
    arrays, rest = arrays_of(strength=0.3), ~choosing_half(CLUSTERS, 0)
    for direction, sign in enumerate(SIGNS.values()):
        arrays["head_patch_effect"][rest, direction, :, 0, 0, 0] = 99 * sign
    table = patch_table(look(arrays), resamples=100)
    assert {table.loc[(CHANGE.format(HEAD), way, "memorized"), "site"] for way in DIRECTIONS} == {"L2.H1.v"}


def test_every_group_and_direction_has_a_site_of_its_own(look):
    arrays = arrays_of()
    effect = arrays["head_patch_effect"]
    effect[MEMORIZED, 0, 0, 0, 1, 0] = -5
    effect[MEMORIZED, 0, 0, 1, 1, 0] = 9  # the wrong way
    effect[MEMORIZED, 1, 0, 3, 0, 1] = 5
    effect[~MEMORIZED, 0, 0, 1, 2, 0] = -5
    effect[~MEMORIZED, 1, 0, 2, 1, 1] = 5
    table = patch_table(look(arrays), resamples=100)["site"]
    found = [table.loc[(CHANGE.format(HEAD), *at)] for at in product(DIRECTIONS, ("memorized", "not_memorized"))]
    assert found == ["L1.H0.q", "L2.H0.k", "L0.H1.z", "L1.H1.v"]


def test_q_counts_every_site_listed_once(look):
    table = patch_table(look(arrays_of(strength=0.1)), resamples=300)
    changes = table[["NLL change" in quantity for quantity, _, _ in table.index]]
    assert len(changes) == len(table) / 2 == 2 * 2 * 4
    expected = false_discovery(changes["p_value"].to_numpy(float))
    np.testing.assert_allclose(changes["q_value"].to_numpy(float), expected)
    assert (changes["q_value"] >= changes["p_value"]).all() and (changes["q_value"] > changes["p_value"]).any()


@pytest.mark.parametrize(
    ("more", "words"), [(-0.3, patching.MORE), (0.0, patching.SAME), (0.3, patching.LESS)], ids=["more", "same", "less"]
)
def test_the_verdict_holds_the_site_against_as_large_a_random_change(look, more, words):
    arrays = arrays_of(seed=1, strength=0.3)
    gap, noise = arrays["corrupted_run_nll"] - arrays["clean_nll"], np.random.default_rng(3).normal(0, 0.1, (80, 2, 2))
    for d, sign in enumerate(SIGNS.values()):
        own = arrays["head_patch_effect"][:, d, :, 2, 2, 1]
        arrays["head_patch_null"][:, d, :, 2, 2, 1] = own + sign * more * gap + noise[:, d]
    table = patch_table(look(arrays), resamples=400)
    for quantity, way, group in product((CHANGE, SHARE), DIRECTIONS, ("memorized", "not_memorized")):
        assert table.loc[(quantity.format(HEAD), way, group), "verdict"].startswith(f"{words} (")


@pytest.mark.parametrize(
    ("low", "high", "q_value", "words"),
    [
        (0.1, 0.3, 0.05, patching.MORE),
        (0.1, 0.3, 0.06, patching.SAME),
        (-0.1, 0.3, 0.01, patching.SAME),
        (-0.3, -0.1, 0.01, patching.LESS),
        (np.nan, np.nan, 0.01, NOT_KNOWN),
        (0.1, 0.3, np.nan, NOT_KNOWN),
    ],
)
def test_a_verdict_asks_both_the_interval_and_the_corrected_test(low, high, q_value, words):
    row = {
        "difference": (low + high) / 2,
        "difference_low": low,
        "difference_high": high,
        "p_value": 0.01,
        "q_value": q_value,
    }
    row |= {"n": 40, "clusters": 30, "rough": False}
    turned = {"difference": -row["difference"], "difference_low": -high, "difference_high": -low, "sign": -1.0}
    for told in (patching.verdict(row | {"sign": 1.0}), patching.verdict(row | turned)):
        assert words_of(told) == words


def test_a_verdict_has_the_numbers_that_it_rests_on():
    row = {
        "difference": 0.2,
        "difference_low": 0.1,
        "difference_high": 0.3,
        "p_value": 0.01,
        "q_value": 0.03,
        "sign": 1.0,
    }
    told = patching.verdict(row | {"n": 40, "clusters": 30, "rough": True})
    assert told == f"{patching.MORE} (0.2 [0.1, 0.3], q = 0.030; 40 paragraphs in 30 clusters; rough)"


def test_a_share_is_of_paragraphs_that_have_all_three():
    rng = np.random.default_rng(0)
    own, other, gap = rng.gamma(2.0, size=(3, 12))
    own[0] = other[1] = gap[2] = np.nan
    row = shares_of_gap(own, other, gap, np.arange(12), Draws(0, 100))
    assert row["estimate"] == pytest.approx(own[3:].mean() / gap[3:].mean())
    assert row["null"] == pytest.approx(other[3:].mean() / gap[3:].mean())
    assert (row["n"], row["effective_clusters"]) == (9, 9.0)


def test_nothing_is_claimed_of_sites_that_do_nothing(look):
    """Of the strongest of many sites without effect, one in twenty or fewer is called stronger than chance."""
    verdicts = []
    for seed in range(10):
        arrays = arrays_of(seed)
        rng = np.random.default_rng([seed, 1])
        for part in SHAPES:
            arrays[f"{part}_patch_effect"] = rng.normal(0, 0.1, arrays[f"{part}_patch_effect"].shape)
        table = patch_table(look(arrays), seed=seed, resamples=200)
        verdicts.append((table["verdict"].map(words_of) != patching.SAME).any())
    assert np.mean(verdicts) <= 0.05 + 3 * (0.05 * 0.95 / 10) ** 0.5


def test_paragraphs_without_a_changed_token_are_left_out(look):
    rows = np.array([0, 1, 5, 44, 60])
    arrays = without_target(arrays_of(strength=0.3), rows)
    table, kept = patch_table(look(arrays), seed=3, resamples=100), np.ones(80, bool)
    kept[rows] = False
    chosen = MEMORIZED & ~choosing_half(CLUSTERS, 3) & kept
    for quantity in (CHANGE, SHARE):
        row = table.loc[(quantity.format(HEAD), "noising", "memorized")]
        assert (row["n"], row["site"]) == (chosen.sum(), "L2.H1.v")
    own = arrays["head_patch_effect"][chosen, 1, 0, 2, 2, 1]
    gap = (arrays["corrupted_run_nll"] - arrays["clean_nll"])[chosen, 0]
    assert row["estimate"] == pytest.approx(own.mean() / gap.mean())
    whole = patch_table(look(arrays), metric="continuation", seed=3, resamples=100)
    row = whole.loc[(CHANGE.format(HEAD), "noising", "memorized")]
    assert row["n"] == (MEMORIZED & ~choosing_half(CLUSTERS, 3)).sum()


def test_with_nothing_measured_there_are_rows_of_nan_or_none(look):
    alone = patch_table(look(without_target(arrays_of(), MEMORIZED)), resamples=100)
    row = alone.loc[(CHANGE.format(HEAD), "noising", "memorized")]
    assert row[NUMBERS].isna().all() and (row["site"], row["verdict"]) == ("", NOT_KNOWN)
    assert alone.loc[(CHANGE.format(HEAD), "noising", "not_memorized"), NUMBERS].notna().all()
    none = patch_table(look(without_target(arrays_of(), slice(None))), resamples=100)
    assert len(none) == 0 and none.columns.tolist() == alone.columns.tolist()
    one = patch_table(look(arrays_of(), cluster=np.zeros(80, int)), resamples=100)
    assert set(one["verdict"]) == {NOT_KNOWN}


def test_what_was_not_patched_is_not_listed(look):
    arrays = arrays_of()
    arrays["head_patch_effect"][:, 0] = arrays["head_patch_null"][:, 0] = np.nan
    arrays["stream_patch_effect"][:, :, :, 1] = np.nan
    arrays["head_patch_effect"][:, :, :, :, 2] = np.nan
    table = patch_table(look(arrays), resamples=100)
    listed = [(way, quantity.removeprefix("NLL change, strongest ")) for quantity, way, _ in table.index[::4]]
    expected = [("denoising", "attn_out"), ("denoising", "resid")]
    assert listed == [*expected, *((("noising", part)) for part in (HEAD, "attn_out", "resid"))]
    heads = {name: values for name, values in arrays.items() if not name.startswith("stream")}
    assert {q for q, _, _ in patch_table(look(heads), resamples=100).index} == {CHANGE.format(HEAD), SHARE.format(HEAD)}
    only = patch_table(look(arrays), direction="noising", resamples=100)
    assert set(only.index.get_level_values("direction")) == {"noising"}
    assert set(only["site"].str[:2]) <= {"L0", "L1", "L2"}


def test_the_same_seed_gives_the_same_table(look):
    signature, options = look(arrays_of()), {"direction": "noising", "metric": "first_changed", "resamples": 100}
    for table in (patch_table, agreement_table):
        once = table(signature, seed=3, **options)
        assert once.equals(table(signature, seed=3, **options))
        assert not once.equals(table(signature, seed=4, **options))


# Every site


@pytest.mark.parametrize(("name", "now"), [("null_low", "null_mean_low"), ("null_high", "null_mean_high")])
def test_the_null_of_a_site_is_a_mean_with_its_interval_and_the_old_name_says_so(look, name, now):
    grid = patch_grid(look(arrays_of()), resamples=100)
    with pytest.raises(KeyError) as caught:
        grid[name]
    assert caught.value.args == (f"{name!r} is called {now} now",)


def test_sites_where_hardly_a_paragraph_differs_are_rough(look):
    arrays = arrays_of()
    arrays["head_patch_effect"][...] = 0  # but for one paragraph of each group
    arrays["head_patch_effect"][[np.flatnonzero(MEMORIZED)[0], np.flatnonzero(~MEMORIZED)[0]]] = 1
    arrays["head_patch_null"][...] = 0
    rough = patch_grid(look(arrays), resamples=100)["rough"]
    assert rough.all() and not patch_grid(look(arrays_of()), resamples=100)["rough"].all()


@pytest.mark.parametrize("part", ["head", "stream"])
def test_every_site_has_its_interval_null_test_and_share(look, part):
    rows = np.array([0, 1, 5, 44])
    arrays, kept = without_target(arrays_of(strength=0.05), rows), np.ones(80, bool)
    kept[rows] = False
    grid = patch_grid(look(arrays), part, seed=4, resamples=200)
    axes = {"head": ("site", "layer", "head"), "stream": ("stream", "layer")}[part]
    assert grid["effect"].dims == ("group", "direction", *axes)
    assert grid["group"].values.tolist() == ["memorized", "not_memorized"]
    assert grid["direction"].values.tolist() == list(DIRECTIONS)
    gap = (arrays["corrupted_run_nll"] - arrays["clean_nll"])[:, 0]
    p_values = []
    for g, d, *at in np.ndindex(2, 2, *SHAPES[part]):
        chosen, cell = (
            kept & (MEMORIZED, ~MEMORIZED)[g],
            grid.isel(group=g, direction=d, **dict(zip(axes, at, strict=True))),
        )
        own, other = (arrays[f"{part}_patch_{name}"][(slice(None), d, 0, *at)] for name in ("effect", "null"))
        expected = [*interval(own, chosen, 4), *interval(other, chosen, 4), *interval(own - other, chosen, 4)]
        names = ("effect", "low", "high", "null", "null_mean_low", "null_mean_high", *DIFFERENCE)
        np.testing.assert_allclose([float(cell[name]) for name in names], expected, rtol=1e-9)
        test = cluster_sign_flip((own - other)[chosen], CLUSTERS[chosen], seed=4, permutations=200)
        assert float(cell["p_value"]) == test.p_value
        p_values.append(test.p_value)
        sign = (-1, 1)[d]
        share = cluster_bootstrap_statistic(
            np.stack([sign * own, gap], axis=1)[chosen], CLUSTERS[chosen], lambda m: m[:, 0] / m[:, 1],
            seed=4, resamples=200,
        )  # fmt: skip
        got = [float(cell[name]) for name in ("share", "share_low", "share_high")]
        np.testing.assert_allclose(got, [share.estimate, share.low, share.high], rtol=1e-9)
        assert got[0] == pytest.approx(sign * own[chosen].mean() / gap[chosen].mean())
    assert grid["rough"].dtype == bool
    np.testing.assert_allclose(grid["q_value"].values.ravel(), false_discovery(np.array(p_values, float)))
    assert grid.attrs["paragraphs"] == [37, 39]
    assert grid.attrs["effective_clusters"] == [effective_clusters(CLUSTERS[kept & MEMORIZED]), 39.0]
    assert (grid.attrs["variable"], grid.attrs["metric"]) == (f"{part}_patch_effect", "first_changed")
    assert (grid.attrs["continuation"], grid["effect"].attrs["unit"]) == ("own", "nats per token")
    assert grid["share"].attrs["unit"] == ""


def test_the_grid_is_of_the_metric_asked_for(look):
    arrays = arrays_of()
    grid = patch_grid(look(arrays), metric="continuation", resamples=100)
    expected = arrays["head_patch_effect"][MEMORIZED, :, 1].mean(0)
    np.testing.assert_allclose(grid["effect"].sel(group="memorized"), expected)


def test_sites_a_few_at_a_time_are_all_sites(look, monkeypatch):
    from localize.analysis import patch_grid as module

    signature = look(arrays_of())
    whole = patch_grid(signature, resamples=100)
    monkeypatch.setattr(module, "DRAWS_TIMES_CELLS", 500)
    xr.testing.assert_allclose(patch_grid(signature, resamples=100), whole, rtol=1e-12)


def test_a_share_in_the_grid_is_of_the_paragraphs_that_have_the_site():
    rng = np.random.default_rng(0)
    effect, null, gap = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), rng.gamma(2.0, size=12)
    effect[:4, 1] = np.nan
    share = grid_cells(effect, null, gap, np.arange(12), 1.0, Draws(0, 100))["share"]
    assert share[1] == pytest.approx(effect[4:, 1].mean() / gap[4:].mean())
    assert share[[0, 2]] == pytest.approx(effect[:, [0, 2]].mean(0) / gap.mean())


def test_what_was_not_patched_is_nan_in_the_grid(look):
    arrays = without_target(arrays_of(), ~MEMORIZED)
    arrays["head_patch_effect"][:, :, :, 1] = arrays["head_patch_null"][:, :, :, 1] = np.nan
    grid = patch_grid(look(arrays), resamples=100)
    assert all(grid[name].sel(site="k").isnull().all() for name in grid.data_vars if name != "rough")
    assert all(grid[name].sel(group="not_memorized").isnull().all() for name in grid.data_vars if name != "rough")
    there = grid.sel(group="memorized", site=["q", "v", "z"])
    assert all(there[name].notnull().all() for name in grid.data_vars)
    assert grid.attrs["paragraphs"] == [40, 0] and grid.attrs["effective_clusters"] == [20.0, 0.0]


# The estimate


def agreement_by_loops(estimate, exact):
    """The six measures of one row of estimates with one row of effects, the strongest the largest."""
    pearson, spearman = scipy.stats.pearsonr(estimate, exact), scipy.stats.spearmanr(estimate, exact)
    slope = scipy.stats.linregress(estimate, exact).slope
    signs = np.mean([np.sign(a) == np.sign(b) for a, b in zip(estimate, exact, strict=True)])
    order, strongest = np.argsort(-estimate).tolist(), int(np.argmax(exact))
    return [spearman.statistic, pearson.statistic, slope, signs, strongest == order[0], strongest in order[:5]]


@pytest.mark.parametrize("part", ["head", "stream"])
def test_agreement_is_scipys_inside_each_paragraph_and_its_null_that_with_other_clusters(look, part):
    some = np.r_[0:14, 40:52]
    group_of, clusters = GROUPS[some], CLUSTERS[some]
    kept = ~np.isin(some, (3, 50))
    arrays = {name: values[some] for name, values in without_target(arrays_of(strength=0.1), [3, 50]).items()}
    table = agreement_table(look(arrays, group_of, clusters), seed=6, resamples=200)
    assert table.index.names == ["quantity", "part", "direction", "metric", "group"]
    assert table.columns.tolist() == [*COLUMNS, *DIFFERENCE, "sites", "verdict"]
    assert len(table) == 6 * 2 * 2 * 2 * 2

    def ends(values, inside, most):
        found = cluster_bootstrap(values[inside], clusters[inside], seed=6, resamples=200).within(Range(*most))
        return [float(found.estimate), float(found.low), float(found.high)]

    for (d, way), (m, metric), group in product(
        enumerate(DIRECTIONS), enumerate(PATCH_METRICS), ("memorized", "not_memorized")
    ):
        chosen = np.flatnonzero((group_of == group) & (kept | (m == 1)))
        exact, estimate = (
            SIGNS[way] * arrays[f"{part}_patch_{name}"][:, d, m].reshape(len(some), -1)
            for name in ("effect", "estimate")
        )
        own = np.array([agreement_by_loops(estimate[row], exact[row]) for row in chosen])
        nulls = []
        for row in chosen:
            others = [other for other in chosen if clusters[other] != clusters[row]]
            nulls.append(np.mean([agreement_by_loops(estimate[row], exact[other]) for other in others], axis=0))
        for index, quantity in enumerate(MEASURES):
            got = table.loc[(quantity, part, way, metric, group)]
            values, null = np.full((2, len(some)), np.nan)
            values[chosen], null[chosen] = own[:, index], np.array(nulls)[:, index]
            inside = np.isin(np.arange(len(some)), chosen)
            test = cluster_sign_flip((values - null)[inside], clusters[inside], seed=6, permutations=200)
            most = (-1, 1) if index < 2 else (-np.inf, np.inf) if quantity == SLOPE else (0, 1)
            expected = [*ends(values, inside, most), *ends(null, inside, most), float(test.p_value)]
            expected += ends(values - null, inside, (most[0] - most[1], most[1] - most[0]))
            np.testing.assert_allclose(got[NUMBERS + DIFFERENCE].astype(float), expected, rtol=1e-7, atol=1e-12)
            assert (got["n"], got["sites"]) == (len(chosen), np.prod(SHAPES[part]))


def test_strongest_is_most_negative_in_denoising_and_most_positive_in_noising(look):
    arrays = arrays_of()
    effect = arrays["head_patch_effect"]
    effect[:, :, :, 0, 0, 0], effect[:, :, :, 1, 0, 0] = -5, 5
    arrays["head_patch_estimate"] = effect.copy()
    arrays["head_patch_estimate"][:, :, :, 1, 0, 0] = -9  # the wrong sign: right in nothing but denoising's strongest
    table = agreement_table(look(arrays), resamples=100)["estimate"]
    for group, metric in product(("memorized", "not_memorized"), PATCH_METRICS):
        assert table.loc[(patch_agreement.TOP_1, "head", "denoising", metric, group)] == 0
        assert table.loc[(patch_agreement.TOP_5, "head", "denoising", metric, group)] == 1
        assert table.loc[(patch_agreement.TOP_1, "head", "noising", metric, group)] == 0
        assert table.loc[(patch_agreement.TOP_5, "head", "noising", metric, group)] == 0


def test_an_estimate_that_is_the_effect_agrees_in_everything(look):
    arrays = arrays_of()
    for part in SHAPES:
        arrays[f"{part}_patch_estimate"] = arrays[f"{part}_patch_effect"].copy()
    table = agreement_table(look(arrays), resamples=200)
    np.testing.assert_allclose(table["estimate"], 1)
    assert (table["null"] < 1).all()
    told = table[[quantity != patch_agreement.SLOPE for quantity, *_ in table.index]]
    assert set(told["verdict"].map(words_of)) == {patch_agreement.BETTER}


def test_what_all_paragraphs_share_is_not_what_an_estimate_tells_of_one(look):
    """Every paragraph has the same strong sites but for noise that the estimate does not see: rho is high, and so is the null."""
    rng = np.random.default_rng(0)
    arrays = arrays_of()
    for part, shape in SHAPES.items():
        common = rng.normal(0, 1, shape)
        for name in ("effect", "estimate"):
            arrays[f"{part}_patch_{name}"] = common + rng.normal(0, 0.1, (80, 2, 2, *shape))
    table = agreement_table(look(arrays), resamples=300)
    row = table.loc[(patch_agreement.SPEARMAN, "head", "denoising", "first_changed", "memorized")]
    assert row["estimate"] > 0.9 and row["null"] > 0.9
    told = table[[quantity != patch_agreement.SLOPE for quantity, *_ in table.index]]
    assert (told["verdict"].map(words_of) == patch_agreement.NO_BETTER).mean() > 0.85
    assert set(table.drop(told.index)["verdict"]) == {""}


def test_sites_that_tie_in_the_estimate_share_the_last_places():
    exact = np.tile(np.arange(8.0), (2, 1))
    estimate = np.array([[0, 0, 0, 0, 0, 0, 9, 9.0], [1, 1, 1, 1, 1, 1, 1, 1.0]])
    found, sites = site_agreement(estimate, exact, np.array([0, 1]))
    assert sites == 8
    np.testing.assert_allclose(found[patch_agreement.TOP_1][0], [1 / 2, 1 / 8])
    np.testing.assert_allclose(found[patch_agreement.TOP_5][0], [1, 5 / 8])
    exact[:, 7] = -1  # now the strongest is 6
    estimate[0] = [5, 4, 3, 2, 1, 1, 1, 1]
    found, _ = site_agreement(estimate, exact, np.array([0, 1]))
    np.testing.assert_allclose(found[patch_agreement.TOP_5][0], [1 / 4, 5 / 8])


def test_a_constant_row_has_no_spread_although_its_mean_is_rounded():
    assert np.mean([0.1, 0.1, 0.1]) != 0.1
    assert (patch_agreement.centred(np.full((1, 3), 0.1)) == 0).all()


@pytest.mark.parametrize(
    ("low", "high", "p_value", "words"),
    [
        (0.1, 0.3, 0.05, patch_agreement.BETTER),
        (0.1, 0.3, 0.06, patch_agreement.NO_BETTER),
        (-0.1, 0.3, 0.01, patch_agreement.NO_BETTER),
        (-0.3, -0.1, 0.01, patch_agreement.WORSE),
        (np.nan, np.nan, 0.01, NOT_KNOWN),
        (0.1, 0.3, np.nan, NOT_KNOWN),
    ],
)
def test_the_verdict_on_an_estimate_asks_both_interval_and_test(low, high, p_value, words):
    row = {"difference": (low + high) / 2, "difference_low": low, "difference_high": high, "p_value": p_value}
    row |= {"n": 40, "clusters": 30, "rough": False}
    assert words_of(patch_agreement.verdict(patch_agreement.SPEARMAN, row)) == words
    assert patch_agreement.verdict(patch_agreement.SLOPE, row) == ""


def test_zero_has_the_sign_of_zero():
    estimate, exact = np.array([[1.0, 0, -1, 0, 2]]), np.array([[3.0, 0, 1, -1, 0]])
    found, _ = site_agreement(estimate, exact, np.array([0]))
    assert found[patch_agreement.SIGN][0] == pytest.approx([2 / 5])


def test_without_spread_or_another_cluster_there_is_no_number():
    rng = np.random.default_rng(0)
    estimate, exact = rng.normal(size=(2, 6, 5))
    estimate[0], exact[1] = 0.1, 0.7
    estimate[2, 3] = np.nan
    exact[:, 4] = np.nan  # not asked for
    found, sites = site_agreement(estimate, exact, np.array([0, 1, 2, 3, 3, 3]))
    assert sites == 4
    for name in MEASURES:
        own, other = found[name]
        assert np.isfinite(own[3:]).all() and np.isfinite(other[3:]).all()
        assert np.isnan(own[2]) and np.isnan(other[2])
        assert np.isnan(own[1]) == (name not in (patch_agreement.SLOPE, patch_agreement.SIGN))
    assert np.isnan(found[patch_agreement.SPEARMAN][0][0]) and np.isnan(found[patch_agreement.SLOPE][0][0])
    assert found[patch_agreement.SLOPE][0][1] == pytest.approx(0)
    alone, _ = site_agreement(estimate[3:], exact[3:], np.array([3, 3, 3]))
    assert all(np.isfinite(own).all() and np.isnan(other).all() for own, other in alone.values())


def test_pairs_a_few_at_a_time_are_all_pairs(look, monkeypatch):
    estimate, exact = np.random.default_rng(0).normal(size=(2, 30, 9))
    whole, _ = site_agreement(estimate, exact, np.arange(30) // 2)
    monkeypatch.setattr(patch_agreement, "PAIRS_AT_ONCE", 100)
    pieces, _ = site_agreement(estimate, exact, np.arange(30) // 2)
    for name in MEASURES:
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-12)


def test_one_metric_and_direction_are_those_asked_for(look):
    signature = look(arrays_of())
    table = agreement_table(signature, metric="continuation", direction="noising", resamples=100)
    whole = agreement_table(signature, resamples=100)
    assert table.equals(whole.loc[(slice(None), slice(None), "noising", "continuation"), :].loc[table.index])
    assert len(table) == 6 * 2 * 2


def test_a_signature_asks_for_them_by_name(look):
    signature, options = look(arrays_of()), {"seed": 2, "resamples": 100}
    table = signature.patch_table(metric="continuation", direction="noising", **options)
    assert table.equals(patch_table(signature, metric="continuation", direction="noising", **options))
    grid = signature.patching("stream", metric="continuation", **options)
    assert grid.identical(patch_grid(signature, "stream", metric="continuation", **options))
    held = signature.patch_agreement(metric="continuation", direction="noising", **options)
    assert held.equals(agreement_table(signature, metric="continuation", direction="noising", **options))


# Errors


def test_few_clusters_are_told(look):
    for table in (patch_table, agreement_table, patch_grid):
        with pytest.warns(UserWarning, match=r"^few effective clusters \(memorized 20\.0 of 40 paragraphs\); below 30"):
            table(look(arrays_of()), resamples=100)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (patch_table, {"metric": "mean"}, "patch_table: metric='mean' is not one of first_changed, continuation."),
        (patch_table, {"direction": "back"}, "patch_table: direction='back' is not one of denoising, noising."),
        (
            agreement_table,
            {"metric": "mean"},
            "patch_agreement: metric='mean' is not one of first_changed, continuation.",
        ),
        (agreement_table, {"direction": "back"}, "patch_agreement: direction='back' is not one of denoising, noising."),
        (patch_grid, {"metric": "mean"}, "patching: metric='mean' is not one of first_changed, continuation."),
        (patch_grid, {"part": "mlp"}, "patching: part='mlp' is not one of head, stream."),
    ],
)
def test_what_is_not_there_is_told_in_one_line(look, call, options, message):
    with pytest.raises(SignatureError) as caught:
        call(look(arrays_of()), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("call", "caller", "missing", "named"),
    [
        (patch_table, "patch_table", ("head_patch_effect", "stream_patch_effect"), "head_patch_effect"),
        (patch_table, "patch_table", ("head_patch_null", "stream_patch_null"), "head_patch_null"),
        (agreement_table, "patch_agreement", ("head_patch_estimate", "stream_patch_estimate"), "head_patch_estimate"),
        (patch_grid, "patching", ("head_patch_effect",), "head_patch_effect"),
        (patch_grid, "patching", ("head_patch_null",), "head_patch_null"),
    ],
)
def test_what_was_not_measured_is_named(look, call, caller, missing, named):
    signature = MemorizationSignature(look(arrays_of()).dataset.drop_vars(missing))
    with pytest.raises(SignatureError) as caught:
        call(signature)
    assert (
        str(caught.value)
        == f"{caller}: the signature has no {named!r}; measure it with localize.patch(model, paragraphs)."
    )


def test_a_part_without_its_null_is_left_out_and_the_other_is_told(look):
    signature = MemorizationSignature(look(arrays_of()).dataset.drop_vars("head_patch_null"))
    quantities = patch_table(signature, resamples=100).index.get_level_values("quantity")
    assert not any("head" in quantity for quantity in quantities)
    assert any("mlp_out" in quantity for quantity in quantities)
