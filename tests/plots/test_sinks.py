"""What memorization sinks did, drawn: the numbers of the table, the control in grey."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.plots import catalogue
from tests.analysis.test_sinks import GATES, with_sinks


@pytest.fixture(scope="module")
def sunk(make_training, join_arms):
    """Five arms, five seeds."""
    return with_sinks(make_training, join_arms)


def drawn(figure, words):
    """The points of a series by its name."""
    return [trace for trace in figure.data if (trace.name or "").startswith(words) and trace.mode == "markers"]


def test_points_are_the_numbers_of_the_table_with_their_intervals(sunk):
    figure, table = plots.sinks(sunk), lz.sink_table(sunk)
    for words, quantity in (("planted texts", "NLL, planted"), ("held-out texts", "NLL, held-out")):
        (trace,) = drawn(figure, words)
        rows = table.xs(quantity, level="quantity")
        np.testing.assert_allclose(trace.y, rows["estimate"])
        np.testing.assert_allclose(trace.y + trace.error_y.array, rows["high"])
        labels = figure.layout.xaxis.ticktext
        assert [label.split("<br>")[0] for label in labels] == rows.index.get_level_values(0).tolist()
    closed = table.xs("gap closed", level="quantity").loc["tied"]
    (own,), (null,) = drawn(figure, "with the sinks"), drawn(figure, "null: masks drawn anew")
    np.testing.assert_allclose(own.y, closed["estimate"])
    np.testing.assert_allclose(null.y, closed["null"])
    assert list(figure.layout.xaxis2.ticktext) == [f"tied<br>{gate}" for gate in GATES]


def test_another_step_is_drawn_too(sunk):
    (trace,) = drawn(plots.sinks(sunk, step=0), "planted texts")
    np.testing.assert_allclose(trace.y, lz.sink_table(sunk, step=0).xs("NLL, planted", level="quantity")["estimate"])


def test_it_stands_in_the_catalogue_where_sinks_were_measured(sunk, make_training, join_arms):
    assert "sinks" in catalogue.training_figures_of(sunk)
    plain = with_sinks(make_training, join_arms, measured=False)
    assert "sinks" not in catalogue.training_figures_of(plain)
    with pytest.raises(lz.SignatureError, match=r"^plots\.sinks: no arm has memorization sinks that were measured"):
        plots.sinks(plain)
