"""Whether score and cost go together is to be seen: every head a point, both nulls drawn, the verdict in words."""

from itertools import combinations

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.dealt_counts import dealt_scores
from localize.errors import LocalizeError, SignatureError
from localize.plots.figures.ablation import LABELLED
from localize.plots.names import free_places
from localize.plots.theme import WIDTH
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap


@pytest.fixture(scope="module")
def removed(model, paragraphs, signature):
    return signature | lz.ablate(model, paragraphs)


@pytest.fixture(scope="module")
def figure(removed):
    return plots.ablation(removed)


def traces(figure, what, panel=""):
    return [t for t in figure.data if t.meta["what"] == what and (t.meta["panel"] or "").startswith(panel)]


def words_on(figure):
    axes = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    return [note.text for note in figure.layout.annotations] + [t for t in axes if t] + [t.name for t in figure.data]


def by_hand(removed, group="memorized", query=0):
    rows = removed["group"].values == group
    score, null = (removed[n].values.astype(float)[rows] for n in ("rare_token_score", "rare_token_null"))
    above = score[:, query] - null[:, 0, query]
    rise = removed["ablated_nll"].values.astype(float) - removed["unperturbed_nll"].values.astype(float)[:, None, None]
    return above.reshape(len(above), -1), rise[rows].reshape(rows.sum(), -1), removed["cluster"].values[rows]


@pytest.mark.parametrize("query", ["last_prefix", "continuation"])
def test_every_head_is_a_point_at_its_score_above_null_and_its_cost(removed, query):
    figure = plots.ablation(removed, query)
    for group in removed.groups:
        (points,) = traces(figure, "mean", group.replace("_", " ") + ":")
        above, rise, _ = by_hand(removed, group, int(query == "continuation"))
        np.testing.assert_allclose(points.x, above.mean(0), atol=1e-6)
        np.testing.assert_allclose(points.y, rise.mean(0), atol=1e-6)
        assert list(points.text) == [f"L{layer}.H{head}" for layer in range(4) for head in range(4)]
        np.testing.assert_array_equal(points.marker.color, np.repeat(np.arange(4), 4))


def dealt_ends(removed, group="memorized"):
    """Of the band: the ends of every head's null with counts dealt out, mean over heads."""
    sets = [removed["group"].values == name for name in removed.groups]
    ends = dealt_scores(removed.dataset, "last_prefix", sets, 0).ends(removed.groups.index(group))
    return ends.mean((1, 2))


def test_the_nulls_are_counts_dealt_out_and_every_head_alike(removed, figure):
    _, rise, _ = by_hand(removed)
    band, line = traces(figure, "null", "memorized")
    low, high = dealt_ends(removed)
    assert low < 0 < high
    np.testing.assert_allclose(band.x[:2], [low, high], atol=1e-6)
    np.testing.assert_allclose(line.y, [rise.mean()] * 2, atol=1e-6)
    names = [t.name for t in figure.data if t.showlegend]
    assert {"null: counts dealt out over token types (central 95%)", "null: every head costs alike"} < set(names)
    assert "memorized (n = 8, 6 clusters, effectively 5)" in names


def test_heads_that_stand_out_are_named_with_their_intervals(removed, figure):
    above, rise, clusters = by_hand(removed)
    (names,) = traces(figure, "names", "memorized")
    score, cost = above.mean(0), rise.mean(0)
    low, high = dealt_ends(removed)
    outside = [h for h in np.argsort(-np.abs(score)) if score[h] > high or score[h] < low]
    expected = outside[:LABELLED] + [h for h in np.argsort(-cost)[:LABELLED] if cost[h] > cost.mean()]
    heads = sorted(set(expected))
    assert list(names.text) == [f"L{h // 4}.H{h % 4}" for h in heads]
    (bars,) = traces(figure, "interval", "memorized")
    interval = cluster_bootstrap(rise[:, heads[0]], clusters, seed=0)
    assert bars.error_y.array[0] == pytest.approx(float(interval.high - interval.estimate), abs=1e-6)
    assert bars.error_y.arrayminus[0] == pytest.approx(float(interval.estimate - interval.low), abs=1e-6)


def test_what_the_causal_check_says_stands_at_the_panel(removed, figure):
    with pytest.warns(UserWarning, match="few effective clusters"):
        table = removed.causal_check()
    on = words_on(figure)
    head = next(head for head in table["head"] if head)
    for group in removed.groups:
        row = table.loc[("rank correlation of rare-token score and NLL rise over heads", group)]
        told = f"ρ {row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]; null {row['null']:.2f}".replace(
            "-", "−"
        )
        assert any(words.startswith(told) for words in on)
        verdict = table.loc[(f"rank in its layer by NLL rise without head {head}", group), "verdict"]
        assert verdict.startswith("no evidence from removal: ") and verdict in " ".join(on)
    assert f"<b>{head}</b>, chosen on other clusters:" in on


def test_it_tells_who_looks_what_was_removed_and_of_which_continuation(removed, figure):
    on = words_on(figure)
    assert "attention from the last prefix token" in on
    assert "removed: head output replaced by its mean over the paragraphs measured; own continuation" in on
    assert "rare-token score above its null (Spearman's rho)" in on
    assert "NLL rise without the head (nats per token)" in on
    assert "attention from the continuation's tokens" in words_on(plots.ablation(removed, "continuation"))


def test_heads_without_a_score_or_not_removed_are_no_points(removed):
    dataset = removed.dataset.copy(deep=True)
    dataset["rare_token_score"].values[:, 0, 2, 1] = np.nan
    dataset["ablated_nll"].values[:, 0, 0] = np.nan
    figure = plots.ablation(MemorizationSignature(dataset))
    for points in traces(figure, "mean"):
        assert len(points.x) == 14
        assert not {"L2.H1", "L0.H0"} & set(points.text)
    dataset["ablated_nll"].values[:] = np.nan
    empty = plots.ablation(MemorizationSignature(dataset))
    assert all(len(points.x) == 0 for points in traces(empty, "mean"))
    assert any("not known" in words for words in words_on(empty))


def test_all_panels_share_their_axes_and_lie_apart(figure, removed):
    for drawn in (figure, plots.ablation(removed.where(group="partial"))):
        assert drawn.layout.width == WIDTH
        assert len({axis.range for axis in drawn.select_xaxes()}) == 1
        assert len({axis.range for axis in drawn.select_yaxes()}) == 1
        boxes = [(*x.domain, *y.domain) for x, y in zip(drawn.select_xaxes(), drawn.select_yaxes(), strict=True)]
        assert all(0 <= end <= 1 for box in boxes for end in box)
        for a, b in combinations(boxes, 2):
            assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]


def test_a_name_goes_where_nothing_is_in_its_way():
    size, head = (200, 100), np.array([0])
    alone = np.array([[100.0, 50.0]])
    assert free_places(alone, [], head, ["L1.H2"], size) == ["middle right"]
    assert free_places(np.array([[190.0, 50.0]]), [], head, ["L1.H2"], size) == ["middle left"], "the edge"
    beside = np.array([[100.0, 50.0], [120.0, 50.0]])
    assert free_places(beside, [], head, ["L1.H2"], size) == ["middle left"], "another point"
    across = [(80.0, 48.0, 120.0, 52.0)]
    assert free_places(alone, across, head, ["L1.H2"], size) == ["top center"], "its interval"
    below = free_places(np.array([[100.0, 50.0], [100.0, 34.0]]), across, head, ["L1.H2"], size)
    assert below == ["bottom center"], "its interval, and a point above"
    close = np.array([[100.0, 50.0], [100.0, 51.0]])
    assert free_places(close, [], np.array([0, 1]), ["L1.H2", "L1.H3"], size) == ["middle right", "middle left"]


def test_the_same_seed_draws_the_same_figure(removed, figure):
    assert plots.ablation(removed).to_json() == figure.to_json()
    assert plots.ablation(removed, seed=1).to_json() != figure.to_json()


def test_hostile_names_stay_text(removed):
    name = "<b>x</b>&$y$"
    group = np.where(removed["group"].values == "partial", name, removed["group"].values)
    hostile = MemorizationSignature(removed.dataset.drop_dims("set").assign_coords(group=("paragraph", group)))
    figure = plots.ablation(hostile)
    assert "&lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36;" in " ".join(words_on(figure))
    assert "<b>x" not in str(figure.to_dict())


def test_what_was_not_measured_is_named(removed, signature):
    with pytest.raises(LocalizeError) as caught:
        plots.ablation(signature)
    assert str(caught.value) == (
        "plots.ablation: the signature has no 'ablated_nll'; measure it with localize.ablate(model, paragraphs)."
    )
    with pytest.raises(SignatureError) as caught:
        plots.ablation(removed, "first")
    assert str(caught.value) == "signature: no query 'first' in rare_token_null; it has last_prefix, continuation."
