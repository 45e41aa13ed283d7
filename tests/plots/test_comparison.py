"""A comparison and a classifier's table as figures: the numbers are those given, the null is beside them, chance is told."""

import numpy as np
import pandas as pd
import pytest

from localize import plots
from localize.analysis.distinguish import AUC, GAIN
from localize.errors import LocalizeError
from localize.plots.figures.comparison import MANY
from localize.plots.figures.distinguish import NEEDED

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")


@pytest.fixture(scope="module")
def compared(made):
    return made.compare("memorized", "not_memorized", resamples=100)


def traces(figure, what, panel=0):
    titles = list(dict.fromkeys(trace.meta["panel"] for trace in figure.data if trace.meta["panel"]))
    return [trace for trace in figure.data if trace.meta["what"] == what and trace.meta["panel"] == titles[panel]]


def shown(figure, panel=0):
    """The points of a list, by row."""
    points = [(at, x) for trace in traces(figure, "mean", panel) for at, x in zip(trace.y, trace.x, strict=True)]
    return np.array([x for _, x in sorted(points)])


def test_of_all_variables_each_is_listed_once_where_it_differs_most_but_not_what_makes_the_groups(compared):
    figure = plots.comparison(compared, top=100)
    expected = compared.strongest(len(compared)).drop_duplicates("variable")
    expected = expected[expected["variable"] != "exact_match"].head(100)
    assert len(expected) == len(compared.variables) - 1
    np.testing.assert_allclose(shown(figure), expected["effect_size"].to_numpy(dtype=float), atol=1e-12)
    assert len(shown(plots.comparison(compared, top=3))) == 3


def test_groups_that_do_not_follow_from_exact_match_keep_it(make_signature):
    signature = make_signature(groups=("one",) * 6 + ("two",) * 6)
    compared = signature.compare("one", "two", ["nll", "exact_match"], resamples=100)
    assert len(shown(plots.comparison(compared))) == 2


def test_intervals_and_nulls_are_in_the_same_standard_deviations_as_the_difference(compared):
    figure = plots.comparison(compared, "nll")
    cell = compared["nll"]
    scale = float(cell["effect_size"] / cell["difference"])
    (points,), (null,) = traces(figure, "mean"), [t for t in traces(figure, "null") if t.fill == "toself"]
    assert points.x[0] == pytest.approx(float(cell["effect_size"]))
    ends = sorted((points.x[0] + points.error_x.array[0], points.x[0] - points.error_x.arrayminus[0]))
    np.testing.assert_allclose(ends, sorted((float(cell["low"]) * scale, float(cell["high"]) * scale)))
    np.testing.assert_allclose(
        sorted(null.x[:2]), sorted(float(cell[name]) * scale for name in ("null_range_low", "null_range_high"))
    )


def test_a_variable_of_layers_and_heads_is_a_map_with_crosses_where_chance_will_do(compared):
    figure = plots.comparison(compared, "head_patch_effect", top=5)
    cells = compared["head_patch_effect"].transpose("layer", ...)
    effect, q = (cells[name].values.reshape(cells.sizes["layer"], -1) for name in ("effect_size", "q_value"))
    (heat,) = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_allclose(np.array(heat.z), effect)
    np.testing.assert_allclose(np.array(heat.customdata)[..., 4], q)
    crosses = [trace for trace in figure.data if str(trace.name).startswith("crossed") and trace.x[0] is not None]
    crossed = {(x, y) for trace in crosses for x, y in zip(trace.x, trace.y, strict=True)}
    few = effect.shape[1] <= MANY
    assert crossed == ({(column, row) for row, column in np.argwhere(q > 0.05).tolist()} if few else set())
    assert len(shown(figure, 1)) == 5


def test_the_names_of_groups_are_shown_as_they_are(make_signature):
    signature = make_signature(groups=("<b>x</b>",) * 6 + ("two",) * 6)
    figure = plots.comparison(signature.compare("<b>x</b>", "two", "nll", resamples=100))
    assert "&lt;b&gt;x&lt;/b&gt; − two" in figure.layout.annotations[0].text


@pytest.fixture
def told():
    rng = np.random.default_rng(0)
    index = [*((AUC, name) for name in ("loss", "a <b>", "loss + a")), (GAIN, "loss + a")]
    index = pd.MultiIndex.from_tuples(index, names=["quantity", "features"])
    table = pd.DataFrame(rng.uniform(0.4, 0.9, (4, len(NEEDED))), columns=list(NEEDED), index=index)
    middle = ["low", "estimate", "high"]
    table[middle] = np.sort(table[middle].to_numpy(), axis=1)
    table["rough"] = pd.array([False, True, None, False], dtype="boolean")
    table.attrs = {"a": "one", "b": "two"}
    return table


def test_how_well_groups_are_told_apart_stands_beside_chance_and_the_null(told):
    figure = plots.distinguish(told)
    for panel, (quantity, level) in enumerate(((AUC, 0.5), (GAIN, 0.0))):
        rows = told.loc[quantity]
        (points,) = traces(figure, "mean", panel)
        np.testing.assert_allclose(points.x, rows["estimate"])
        np.testing.assert_allclose(points.error_x.array, rows["high"] - rows["estimate"])
        np.testing.assert_allclose(points.error_x.arrayminus, rows["estimate"] - rows["low"])
        boxes = next(trace for trace in traces(figure, "null", panel) if trace.fill == "toself")
        np.testing.assert_allclose(boxes.x[0], rows["null_range_low"].iloc[0])
        np.testing.assert_allclose(boxes.x[1], rows["null_range_high"].iloc[0])
        assert any(trace.x[0] == trace.x[1] == level for trace in traces(figure, "null", panel) if trace.fill is None)
    (signs,) = traces(figure, "rough", 0)
    assert signs.y.tolist() == [1] and signs.x.tolist() == [told["estimate"].iloc[1]]
    assert not traces(figure, "rough", 1)
    assert figure.layout.yaxis.ticktext == ("loss", "a &lt;b&gt;", "loss + a")


def test_what_cannot_be_drawn_is_refused_in_one_line(compared, told):
    for draw, message in (
        (lambda: plots.comparison(compared, top=0), "plots.comparison: top=0 must be at least 1."),
        (lambda: plots.distinguish(told.drop(columns="null_range_low")),
         "plots.distinguish: the table has no column 'null_range_low'; give that of signature.distinguish(...)."),
        (lambda: plots.distinguish(told.iloc[:0]), "plots.distinguish: the table has no row."),
    ):  # fmt: skip
        with pytest.raises(LocalizeError) as error:
            draw()
        assert str(error.value) == message


def test_a_rise_is_called_one_in_titles_and_rows(make):
    rng = np.random.default_rng(0)
    before = rng.uniform(1, 2, 80)
    arrays = {"ablated_nll": before[:, None, None] + rng.gamma(2.0, size=(80, 3, 2)), "unperturbed_nll": before}
    rises, levels = (
        make(["a"] * 40 + ["b"] * 40, arrays).compare("a", "b", ["ablated_nll", "nll"], rises=asked, resamples=100)
        for asked in (True, False)
    )
    assert "Rise of NLL, ablated, a − b" in str(plots.comparison(rises, "ablated_nll").layout.annotations[0].text)
    assert "rise of NLL, ablated" in str(plots.comparison(rises).to_dict())
    assert "rise of" not in str(plots.comparison(levels).to_dict()).lower()
