"""The figure of a benchmark: a panel a kind of truth, points with intervals, chance, no oracle."""

from types import SimpleNamespace

import pandas as pd
import pytest

from localize import plots
from localize.errors import LocalizeError


def row(truth, localizer, value):
    made = {
        "truth": truth,
        "units": 8,
        "localizer": localizer,
        "seeds": "0, 1",
        "texts": 32,
        "chance": 0.01,
        "chance_within": 0.0625,
    }
    for what in ("recall", "within"):
        made |= {what: value, f"{what}_low": value - 0.1, f"{what}_high": value + 0.1}
    return made


TABLE = pd.DataFrame([
    row("route", "oracle", 1.0), row("route", "ratio", 0.8), row("route", "norm", 0.1), row("inj", "ratio", 0.7),
    row("control-none", "ratio", 0.05),
])  # fmt: skip


def results_of(table):
    return SimpleNamespace(table=lambda seed=0: table)


def test_each_kind_has_its_own_panel_with_points_intervals_and_chance():
    figure = plots.bench(results_of(TABLE))
    points = [trace for trace in figure.data if trace.meta["what"] == "mean"]
    assert [list(trace.x) for trace in points] == [[0.8, 0.1], [0.7], [0.05]]
    assert [list(trace.customdata) for trace in points] == [["ratio", "norm"], ["ratio"], ["ratio"]]
    assert list(points[0].error_x.array) == pytest.approx([0.1, 0.1])
    chance = [trace.x[0] for trace in figure.data if trace.meta["what"] == "null"]
    assert chance == [0.01, 0.01, 0.0625]
    words = [note.text for note in figure.layout.annotations]
    assert any("ROUTE, k = 8" in text for text in words)
    assert any("Control: no routing" in text for text in words)
    assert "32 texts, seeds 0, 1" in words


def test_there_is_no_figure_of_nothing_that_is_ranked():
    with pytest.raises(LocalizeError, match="no truth passed its gates"):
        plots.bench(results_of(pd.DataFrame()))
