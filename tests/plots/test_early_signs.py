"""The figure of early signs draws the numbers of its table, over what is dealt out anew."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.early_signs import CAUGHT, CORRELATION
from localize.plots import catalogue

COPIES = np.array([0] * 8 + [2] * 10 + [8] * 10)
AMONG = ("all planted", "planted alike")


def numbers(seeds):
    """NLL along run, seed, step, paragraph."""
    rng = np.random.default_rng(0)
    nll = 3 + 0.1 * rng.normal(size=len(COPIES)) + 0.02 * rng.normal(size=(2, seeds, 3, len(COPIES)))
    nll[0, :, 2] -= 0.05 * COPIES
    return nll


@pytest.fixture
def watched(make_training):
    """`watched(seeds=5, steps=(0, 10, 100))`."""

    def made(seeds=5, steps=(0, 10, 100), copies=COPIES):
        nll = numbers(seeds) if seeds > 1 else numbers(1)[:, 0]
        return make_training(
            nll, copies=copies, steps=steps, runs=["planted", "twin"], seeds=range(seeds) if seeds > 1 else [],
            training={"steps": 100, "batch": 4, "stages": []},
        )  # fmt: skip

    return made


def of_panel(figure, number, what):
    axis = "x" if number == 0 else f"x{number + 1}"
    return [trace for trace in figure.data if trace.xaxis == axis and (trace.meta or {}).get("what") == what]


def test_every_point_is_the_tables_over_what_is_dealt_out_anew(watched):
    figure, table = plots.early_signs(watched(), resamples=50), lz.early_signs(watched(), resamples=50)
    assert len(figure.layout.meta["sheet"]["panels"]) == 4
    names = list(figure.layout.yaxis.ticktext)
    assert names == list(dict.fromkeys(table.index.get_level_values("sign")))
    for number, (quantity, among) in enumerate((q, a) for q in (CORRELATION, CAUGHT) for a in AMONG):
        rows = table.loc[quantity].xs(among, level="among")
        (points,), (band,), (line,) = (of_panel(figure, number, what) for what in ("mean", "null interval", "null"))
        assert [names[int(y)] for y in points.y] == list(rows.index) == list(points.text)
        np.testing.assert_allclose(points.x, rows["estimate"])
        np.testing.assert_allclose(np.array(points.x) - points.error_x.arrayminus, rows["low"])
        np.testing.assert_allclose(points.x + points.error_x.array, rows["high"])
        np.testing.assert_allclose(np.array(band.base, float), rows["null_range_low"])
        np.testing.assert_allclose(np.array(band.base, float) + band.x, rows["null_range_high"])
        np.testing.assert_allclose(line.x, rows["chance"].iloc[0])
        low, high = figure.layout[f"xaxis{number + 1 if number else ''}"].range
        assert (rows[["low", "null_range_low"]] > low).all(axis=None) and (rows[["high"]] < high).all(axis=None)
        note = [text.text for text in figure.layout.annotations][2 * number + 1]
        assert note == "read after 10 steps; 95% intervals over 5 seeds"


def test_one_level_has_one_column_and_one_seed_no_intervals(watched):
    one = plots.early_signs(watched(seeds=1, copies=np.where(COPIES > 0, 2, 0)), resamples=20)
    assert len(one.layout.meta["sheet"]["panels"]) == 2
    (points,) = of_panel(one, 0, "mean")
    assert points.error_x.array is None
    assert "copies" not in points.text
    assert one.layout.annotations[1].text == "read after 10 steps; one seed"


def test_a_catalogue_has_it_where_something_was_measured_early(watched):
    drawn = catalogue.training_figures_of(watched())
    assert drawn["early_signs"].title == "What told early which texts would be learned"
    assert "early_signs" not in catalogue.training_figures_of(watched(steps=(0, 50, 100)))


def test_what_cannot_be_read_is_told(watched):
    with pytest.raises(lz.LocalizeError) as error:
        plots.early_signs(watched(), 2.0)
    assert str(error.value) == "plots.early_signs: share=2.0 must lie between 0 and 1, a part of the training."
