"""Every paragraph stands in the figure of recall once, each group beside all of them together."""

import numpy as np
import pytest

from localize import plots
from localize.plots.figures.recall import bin_edges, by_duplicates, shares
from localize.plots.theme import group_style
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap


@pytest.fixture(scope="module")
def figure(signature):
    return plots.recall(signature)


def traces(figure, what, panel, group=None):
    found = [t for t in figure.data if t.meta["what"] == what and str(t.meta["panel"]).startswith(panel)]
    return [t for t in found if group is None or t.meta["group"] == group]


@pytest.mark.parametrize("draw", [plots.recall, plots.signature])
@pytest.mark.parametrize(("name", "panel"), [("exact_match", "Exact match, true"), ("nll", "NLL, true")])
def test_bars_are_the_share_of_the_groups_paragraphs_in_each_bin(signature, draw, name, panel):
    inside = signature.dataset["group"].values == "partial"
    values = signature[name].values[inside]
    (bars,) = traces(draw(signature), "values", panel, "partial")
    for middle, width, share in zip(bars.x, bars.width, bars.y, strict=True):
        last = middle == bars.x[-1]
        by_hand = [middle - width / 2 <= v < middle + width / 2 + 1e-6 * last for v in values.astype(float)]
        assert share == pytest.approx(100 * np.mean(by_hand))
    assert bars.y.sum() == pytest.approx(100)
    assert bars.marker.color == group_style("partial", signature.groups)[0]


def test_bins_of_exact_match_hold_equally_many_whole_numbers():
    np.testing.assert_array_equal(bin_edges(np.array([0, 3]), whole=True), [-0.5, 0.5, 1.5, 2.5, 3.5])
    np.testing.assert_array_equal(np.diff(bin_edges(np.array([0, 50]), whole=True)), 3)
    assert bin_edges(np.array([0, 50]), whole=True)[-1] > 50
    np.testing.assert_array_equal(shares(np.array([0, 0, 1, 3]), np.array([-0.5, 0.5, 1.5, 2.5, 3.5])), [50, 25, 0, 25])


def test_the_largest_value_is_counted_and_equal_values_need_no_width():
    values = np.array([1.0, 2.0, 3.0])
    assert shares(values, bin_edges(values, whole=False)).sum() == pytest.approx(100)
    alike = np.array([2.0, 2.0])
    assert shares(alike, bin_edges(alike, whole=False)).max() == 100


def test_what_all_paragraphs_together_show_is_the_null_of_each_group(signature, figure):
    (null,) = traces(figure, "null", "NLL, true")
    (bars,) = traces(figure, "values", "NLL, true", "memorized")
    edges = bin_edges(signature["nll"].values, whole=False)
    np.testing.assert_allclose(null.y[::2], shares(signature["nll"].values, edges))
    np.testing.assert_allclose((np.array(null.x[::2]) + null.x[1::2]) / 2, bars.x)
    assert "null: all paragraphs together" in [trace.name for trace in figure.data if trace.showlegend]


def test_a_groups_mean_has_its_interval_over_clusters_and_lies_above_the_bars(signature, figure):
    inside = signature.dataset["group"].values == "memorized"
    values, clusters = signature["nll"].values[inside].astype(float), signature["cluster"].values[inside]
    (point,) = traces(figure, "mean", "NLL, true", "memorized")
    interval = cluster_bootstrap(values, clusters, seed=0)
    assert point.x[0] == pytest.approx(values.mean())
    assert point.x[0] + point.error_x.array[0] == pytest.approx(float(interval.high))
    assert point.x[0] - point.error_x.arrayminus[0] == pytest.approx(float(interval.low))
    highest = max(bars.y.max() for bars in traces(figure, "values", "NLL, true"))
    assert highest < point.y[0] < figure.layout.yaxis2.range[1]


@pytest.mark.parametrize(("name", "panel"), [("exact_match", "Exact match by copies"), ("nll", "NLL by copies")])
def test_below_stands_the_mean_of_paragraphs_with_equally_many_copies(signature, figure, name, panel):
    values, copies = signature[name].values.astype(float), signature["duplicates"].values
    (points,) = traces(figure, "mean", panel)
    (null,) = traces(figure, "null", panel)
    np.testing.assert_allclose(points.y, [values[copies == c].mean() for c in (0, 1, 2)])
    np.testing.assert_allclose(null.y, values.mean())
    counts, interval = by_duplicates(values, copies, signature["cluster"].values, 0)
    assert counts.tolist() == [0, 1, 2]
    assert ((interval.low <= interval.estimate) & (interval.estimate <= interval.high)).all()


def test_without_duplicates_there_is_no_panel_of_them(signature):
    figure = plots.recall(MemorizationSignature(signature.dataset.drop_vars("duplicates")))
    assert len(list(figure.select_xaxes())) == 2


def test_paragraphs_whose_copies_are_not_known_are_left_out_and_counted(signature):
    dataset = signature.dataset
    copies = dataset["duplicates"].values.astype(float)
    copies[[0, 3]] = np.nan
    figure = plots.recall(MemorizationSignature(dataset.assign_coords(duplicates=("paragraph", copies))))
    values = dataset["nll"].values.astype(float)
    (points,) = traces(figure, "mean", "NLL by copies")
    np.testing.assert_allclose(points.y, [values[copies == c].mean() for c in (0, 1, 2)])
    axis = next(axis for axis in figure.select_xaxes() if axis.title.text == "copies in training")
    assert axis.ticktext == ("0", "1", "2")
    assert sum("; 2 not known" in note.text for note in figure.layout.annotations) == 2
