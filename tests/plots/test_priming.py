"""The figure of priming shows what the table holds, each mean at the probability that its words had, and its null beside it."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.priming import LEAST_EXPECTED, NLL
from localize.axes import RESETS
from localize.plots.catalogue import figures_of

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")

PANELS = {LEAST_EXPECTED: "Least expected word", NLL: "The text itself"}


@pytest.fixture(scope="module")
def primed(model, paragraphs):
    return lz.priming(model, paragraphs, steps=2, learning_rate=3e-3, prefixes=6)


def drawn(figure, panel, what, group):
    (found,) = [t for t in figure.data if (t.meta["panel"], t.meta["what"], t.meta["group"]) == (panel, what, group)]
    return found


def test_each_range_of_probability_stands_at_its_words_mean_beside_matched_words(primed):
    figure, table = plots.priming(primed), lz.priming_table(primed)
    log_p = -primed["token_nll"].values / np.log(10)
    for group in primed.groups:
        rows, words = primed.dataset["group"].values == group, group.replace("_", " ")
        points, null = (drawn(figure, "The text's words, elsewhere", what, words) for what in ("mean", "null"))
        ranges = [(-np.inf, -3), (-3, -2), (-2, -1), (-1, 0.1)]
        inside = [(log_p >= low) & (log_p < high) & rows[:, None] for low, high in ranges]
        there = [at for at in range(4) if inside[at].any()]
        assert len(points.x) == len(there) >= 2
        np.testing.assert_allclose(points.x, [log_p[inside[at]].mean() for at in there])
        names = [f"priming, log10 p {('below -3', '-3 to -2', '-2 to -1', '-1 to 0')[at]}" for at in there]
        told = table.loc[[(name, "none", group) for name in names]]
        np.testing.assert_allclose(points.y, told["estimate"])
        np.testing.assert_allclose(points.y + points.error_y.array, told["high"])
        np.testing.assert_allclose(null.y, told["null"])
        np.testing.assert_allclose(null.y - null.error_y.arrayminus, told["null_mean_low"])
        assert (np.array(null.x) > np.array(points.x)).all()
        cloud = drawn(figure, "The text's words, elsewhere", "values", words)
        np.testing.assert_allclose(np.sort(cloud.y), np.sort(primed["priming"].values[rows, 0].ravel()))


def test_what_is_put_back_stands_in_the_order_of_the_axis(primed):
    figure, table = plots.priming(primed), lz.priming_table(primed)
    for quantity, panel in PANELS.items():
        for group in primed.groups:
            told = table.loc[[(quantity, reset, group) for reset in RESETS]]
            points, null = (drawn(figure, panel, what, group.replace("_", " ")) for what in ("mean", "null"))
            np.testing.assert_allclose(points.y, told["estimate"])
            np.testing.assert_allclose(null.y, told["null"])
            assert np.round(points.x).tolist() == np.round(null.x).tolist() == [0, 1, 2]
    assert figure.layout.xaxis2.ticktext == figure.layout.xaxis3.ticktext == ("nothing", "largest", "random")
    titles = [figure.layout[f"yaxis{number}"].title.text for number in ("", "2", "3")]
    assert titles == ["priming (decades)", "priming (decades)", "NLL (nats per token)"]


def test_the_catalogue_draws_it_in_place_of_default_figures_and_the_summary_has_its_row(primed):
    found = figures_of(primed)
    assert "priming" in found and "primed_nll" not in found
    assert found["priming"].figure.to_json() == plots.priming(primed).to_json()
    summary, table = primed.summary(), lz.priming_table(primed)
    for group in primed.groups:
        row, told = summary.loc[(LEAST_EXPECTED, group)], table.loc[(LEAST_EXPECTED, "none", group)]
        np.testing.assert_allclose(*(of[["estimate", "null", "p_value"]].astype(float) for of in (row, told)))
    assert (LEAST_EXPECTED, "memorized - not_memorized") in summary.index


def test_it_says_what_to_measure(model, paragraphs):
    with pytest.raises(lz.SignatureError) as error:
        plots.priming(lz.recall(model, paragraphs))
    assert str(error.value) == (
        "plots.priming: the signature has no 'priming'; measure it with localize.priming(model, paragraphs)."
    )
