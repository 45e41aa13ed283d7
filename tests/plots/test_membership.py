"""The figure of AUCs draws the numbers of its table, the difference to the twin run first."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.plots import catalogue
from localize.signature.signature import MemorizationSignature
from tests.analysis.test_membership import COPIES, EARLY, LATE, STEPS, training_with_memory
from tests.plots.test_over_training import legend, titles, traces

METRICS = [
    "exact match, 8 tokens given", "extraction, 8 tokens given", "log p of the text", "Min-K%",
    "sampled n-grams in the rows, n = 3",
]  # fmt: skip
GAIN, AUC = "AUC less the twin run's", "AUC of planted from held-out texts"
NULL = "null: the same texts in the twin run"

pytestmark = pytest.mark.filterwarnings("ignore:membership_table. ")


@pytest.fixture(scope="module")
def paired(make_training):
    return training_with_memory(make_training)


@pytest.mark.parametrize("place", [0, 1])
def test_every_line_band_and_null_is_the_tables(paired, place):
    figure, table = plots.membership(paired), lz.membership_table(paired).xs((EARLY, LATE)[place], level="window")
    for kind, names in enumerate((("difference", "difference_low", "difference_high"), ("estimate", "low", "high"))):
        panel = 2 * place + kind
        drawn = traces(figure, "mean", panel)
        assert [trace.name for trace in drawn] == METRICS
        for trace in drawn:
            rows, band = table.loc[trace.name], [b for b in traces(figure, "interval", panel) if trace.name in b.name]
            np.testing.assert_allclose(trace.y, rows[names[0]])
            np.testing.assert_allclose(trace.x, np.log2([2, 8]))
            ends = np.concatenate([np.asarray(b.y, float) for b in band])
            assert np.isin(np.round(rows[list(names[1:])].to_numpy(float), 9), np.round(ends, 9)).all()
    chosen = table.loc[METRICS]
    assert {value for line in traces(figure, "null", 2 * place) for value in line.y} == {0.0}
    (line,) = traces(figure, "null", 2 * place + 1)
    np.testing.assert_allclose(line.y[1:-1], chosen["null"].groupby("copies").mean())
    (band,) = traces(figure, "null interval", 2 * place + 1)
    assert np.nanmin(band.y) == pytest.approx(chosen["null_mean_low"].min())
    assert np.nanmax(band.y) == pytest.approx(chosen["null_mean_high"].max())


def test_it_says_what_it_is_of(paired):
    figure = plots.membership(paired, step=50)
    note = "after 50 steps; 95% intervals over 5 seeds"
    told = [f"{kind}, shown in {window}%" for window in ("0–25", "75–100") for kind in (GAIN, AUC)]
    assert titles(figure) == [text for at, one in enumerate(told) for text in (f"<b>({'abcd'[at]})</b> {one}", note)]
    assert legend(figure) == [*METRICS, NULL]
    assert figure.layout.xaxis.ticktext == ("2", "8") and figure.layout.yaxis2.title.text == "AUC (share of pairs)"
    early = lz.membership_table(paired, step=50).xs(EARLY, level="window").loc["Min-K%", "estimate"]
    (drawn,) = [trace for trace in traces(figure, "mean", 1) if trace.name == "Min-K%"]
    np.testing.assert_allclose(drawn.y, early)
    assert plots.column(figure).layout.width == 350


def test_of_one_number_of_copies_the_axis_is_the_training(paired):
    figure = plots.membership(paired, copies=8, metrics=["Min-K%", "exact match, 4 tokens given"])
    one, other = traces(figure, "mean", 1)
    assert (one.name, other.name, list(one.x)) == ("Min-K%", "exact match, 4 tokens given", STEPS)
    for at, step in enumerate(STEPS):
        table = lz.membership_table(paired, step=step).xs((8, EARLY), level=("copies", "window"))
        assert (one.y[at], other.y[at]) == pytest.approx(
            (table.loc[one.name, "estimate"], table.loc[other.name, "estimate"])
        )
    assert titles(figure)[1] == "8 copies; 95% intervals over 5 seeds"


def test_without_a_twin_run_the_null_is_chance_and_with_one_window_it_is_not_told(make_training):
    windows = [(np.nan, np.nan)] * 6 + [(0, 1)] * 8
    figure = plots.membership(training_with_memory(make_training, twin=False, windows=windows))
    assert titles(figure)[0] == AUC
    (line,) = traces(figure, "null")
    assert set(line.y) == {0.5} and legend(figure)[-1] == "null: AUC of chance"


def test_a_catalogue_draws_it_where_memory_was_watched(paired, make_training):
    drawn = catalogue.training_figures_of(paired)
    assert list(drawn).index("membership") == list(drawn).index("dose") + 1
    assert drawn["membership"].figure.to_json() == plots.membership(paired).to_json()
    untrained = training_with_memory(make_training, copies=0 * COPIES, windows=None)
    assert "membership" not in catalogue.training_figures_of(untrained)
    plain = MemorizationSignature(paired.dataset.drop_vars("min_k"))
    assert "membership" not in catalogue.training_figures_of(plain)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"copies": 3}, "no text of 3 copies; there are texts of 2, 8."),
        ({"copies": 0}, "no text of 0 copies; there are texts of 2, 8."),
        ({"step": 7}, "step=7 was not measured; the nearest that was is 0."),
        ({"metrics": []}, "metrics=[]; 1 to 7 of the table's are needed: exact match, 4 tokens given, "),
        ({"metrics": ["loss"]}, "metrics=['loss']; 1 to 7 of the table's are needed: exact match, 4 tokens given, "),
        ({"metrics": "Min-K%"}, "metrics='Min-K%'; 1 to 7 of the table's are needed: exact match, 4 tokens given, "),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(paired, options, told):
    with pytest.raises(lz.SignatureError) as error:
        plots.membership(paired, **options)
    assert str(error.value).startswith(f"plots.membership: {told}") and "\n" not in str(error.value)
