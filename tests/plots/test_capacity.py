"""The figures of sets draw the numbers of their tables, with rows that were never shown in grey."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.training_tables import training_tables
from localize.plots import catalogue
from localize.report.training import tables_of_training
from tests.analysis.test_capacity import COPIES, SET, TOLD, UNIFORM
from tests.plots.test_over_training import legend, titles, traces

STEPS = [0, 10, 20]


@pytest.fixture(scope="module")
def of_arms(make_training, join_arms):
    rng, parts = np.random.default_rng(0), {}
    for name, rows, dtype in (("few", 6, "float32"), ("many", 60, "float32"), ("half", 6, "bfloat16")):
        known = np.array([0.0, 0.4, 0.8])[:, None] * (np.array(COPIES) > 0)
        nll = UNIFORM * (1 - known + rng.uniform(-0.05, 0.05, (5, 3, 10)))
        told = TOLD | {"set": SET | {"rows": rows, "ambiguous_bits": 0.0}, "dtype": dtype}
        parts[name] = make_training(nll, copies=COPIES, steps=STEPS, seeds=range(5), training=told)
    return join_arms(parts)


def test_lines_and_points_are_the_tables(of_arms):
    figure, table = plots.capacity(of_arms), lz.capacity_table(of_arms).xs("bits per parameter", level="quantity")
    lines, points = traces(figure, "mean", 0), traces(figure, "mean", 1)
    assert [line.name for line in lines] == ["6 rows", "60 rows", "6 rows, bfloat16"]
    for arm, line, point in zip(("few", "many", "half"), lines, points, strict=True):
        rows = table.xs(arm, level="arm")
        np.testing.assert_allclose(line.y, rows["estimate"].to_numpy(float))
        assert list(line.x) == STEPS
        last = rows.iloc[-1]
        np.testing.assert_allclose([*point.x, *point.y], [last["data_bits_per_parameter"], last["estimate"]])
        np.testing.assert_allclose(point.error_y.array, [last["high"] - last["estimate"]])
    (null,) = traces(figure, "null", 0)
    np.testing.assert_allclose(null.y, table["null"].groupby("step").mean())
    (band,) = traces(figure, "null interval", 0)
    assert np.nanmin(band.y) == pytest.approx(table["null_mean_low"].min())
    assert np.nanmax(band.y) == pytest.approx(table["null_mean_high"].max())
    (known,) = traces(figure, "rule", 1)
    assert known.name == "known wholly" and np.array_equal(known.x, known.y)


def test_it_says_what_it_is_of(of_arms):
    figure = plots.capacity(of_arms, step=10)
    assert titles(figure) == [
        "<b>(a)</b> What is held of the rows", "95% intervals over 5 seeds",
        "<b>(b)</b> Against what there is to hold", "after 10 steps; 95% intervals over 5 seeds",
    ]  # fmt: skip
    assert legend(figure) == ["6 rows", "60 rows", "6 rows, bfloat16", "known wholly", "null: as many rows never shown"]


def test_one_table_and_one_figure_tell_of_all_arms(of_arms):
    assert list(catalogue.training_figures_of(of_arms)) == ["capacity"]
    assert [(table.name, table.arm) for table in training_tables(of_arms)] == [("capacity", "")]
    (table, notes), = tables_of_training(of_arms, "t", 0)  # fmt: skip
    assert table is not None and not notes and len(table.rows) == 9
    one = of_arms.at(training_arm="many")
    assert list(catalogue.training_figures_of(one)) == ["capacity"]


@pytest.fixture(scope="module")
def of_sizes(make_training, join_arms):
    rng, parts = np.random.default_rng(1), {}
    for parameters, most in ((100, 0.3), (400, 0.7)):
        for rows in (6, 60):
            known = (most if rows == 60 else 0.95) * np.array([0.0, 0.5, 1.0])[:, None] * (np.array(COPIES) > 0)
            nll = UNIFORM * (1 - known + rng.uniform(-0.02, 0.02, (5, 3, 10)))
            told = TOLD | {"set": SET | {"rows": rows, "ambiguous_bits": 0.0}, "parameters": parameters}
            parts[f"{parameters},{rows}"] = make_training(
                nll, copies=COPIES, steps=STEPS, seeds=range(5), training=told
            )
    return join_arms(parts)


def test_a_line_for_each_size_and_its_most_are_the_tables(of_sizes):
    figure, table = plots.capacity_by_size(of_sizes), lz.capacity_table(of_sizes, step=-1)
    lines, points = traces(figure, "mean", 0), traces(figure, "mean", 1)
    assert [line.name for line in lines] == ["100 parameters", "400 parameters"]
    for parameters, line, point in zip((100, 400), lines, points, strict=True):
        rows = table.xs(parameters, level="parameters")
        bits, each = (rows.xs(quantity, level="quantity") for quantity in ("bits", "bits per parameter"))
        np.testing.assert_allclose(line.x, bits["data_bits"].to_numpy(float))
        np.testing.assert_allclose(line.y, bits["estimate"].to_numpy(float))
        best = each.loc[each["estimate"].astype(float).idxmax()]
        np.testing.assert_allclose([*point.x, *point.y], [parameters, best["estimate"]])
        np.testing.assert_allclose(point.error_y.array, [best["high"] - best["estimate"]])
    (known,) = traces(figure, "rule", 0)
    assert known.name == "known wholly" and np.array_equal(known.x, known.y)
    never = table.xs("bits per parameter", level="quantity")["null_mean_high"].max()
    assert f"at most {never:.2g} bits per parameter" in "".join(note.text for note in figure.layout.annotations)


def test_a_grid_has_one_figure_and_what_is_none_is_told(of_sizes, of_arms):
    assert list(catalogue.training_figures_of(of_sizes)) == ["capacity_by_size"]
    with pytest.raises(lz.SignatureError) as caught:
        plots.capacity_by_size(of_arms)
    assert str(caught.value) == (
        "plots.capacity_by_size: at least two sizes of the model with two sets each are needed."
    )
