"""The figure of units over training draws the numbers of its table, with the twin dashed and held-out texts in grey."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.stored_units import LOW_HALF
from localize.analysis.training_tables import training_tables
from localize.analysis.unit_dynamics import ALIKE, KEPT, LESS_TWIN
from localize.plots import catalogue

COPIES = [0] * 4 + [8] * 3 + [32] * 3
STEPS, SEEDS, LAYERS, WIDTH, UNITS = [0, 50, 100], 5, 4, 6, 16
WINDOWS = [(np.nan, np.nan)] * 4 + [(0, 0.5)] * 3 + [(0.5, 1)] * 3


@pytest.fixture(scope="module")
def signature(make_training):
    rng = np.random.default_rng(0)
    nll = rng.uniform(1, 2, (2, SEEDS, len(STEPS), len(COPIES)))
    axes = {"runs": ["planted", "twin"], "seeds": range(SEEDS), "steps": STEPS, "training": {"steps": 100}}
    bare = make_training(nll, nll * 0, copies=COPIES, windows=WINDOWS, **axes).dataset
    scores = rng.normal(size=(*nll.shape, LAYERS, WIDTH)).astype(np.float32)
    dims = ("training_run", "training_seed", "training_step", "paragraph", "layer", "unit")
    axes = {"layer": np.arange(LAYERS), "unit": np.arange(WIDTH), "window": ("layer", np.full(LAYERS, 99))}
    return lz.MemorizationSignature(bare.assign(unit_score=(dims, scores)).assign_coords(axes))


def traces(figure, what, panel):
    axis = "x" if panel == 0 else f"x{panel + 1}"
    return [trace for trace in figure.data if trace.meta["what"] == what and trace.xaxis == axis]


def test_every_line_and_null_is_the_tables(signature):
    figure, table = plots.unit_dynamics(signature), lz.unit_dynamics_table(signature)
    for panel, quantity in enumerate((ALIKE, KEPT, KEPT + LESS_TWIN, LOW_HALF + LESS_TWIN)):
        rows = table.xs(quantity.format(UNITS), level="quantity")
        lines, nulls = traces(figure, "mean", panel), traces(figure, "null", panel)
        assert len(lines) == len(nulls) == 2
        for line, null, (copies, window) in zip(lines, nulls, ((8, "0-50 %"), (32, "50-100 %")), strict=True):
            of = rows.xs((copies, window), level=("copies", "window"))
            np.testing.assert_allclose(line.x, of.index.get_level_values("step"))
            np.testing.assert_allclose(line.y, of["estimate"])
            np.testing.assert_allclose(null.y, of["null"])
            assert null.line.dash == "dash" and (null.line.color == line.line.color) == (quantity == KEPT)
        bands = [band for band in traces(figure, "interval", panel) if band.fill == "toself"]
        assert bands
    told = [trace.name for trace in figure.data if trace.showlegend]
    assert "8 copies, shown in 0–50% of the training (n = 3)" in told
    assert "null: held-out paragraphs, never trained on (n = 4)" in told


def test_it_is_drawn_where_a_twin_run_was_measured(signature):
    assert "unit_dynamics" in catalogue.training_figures_of(signature)
    alone = lz.MemorizationSignature(signature.at(training_run="planted").dataset)
    assert "unit_dynamics" not in catalogue.training_figures_of(alone)


def test_the_table_in_short_is_of_what_is_matched(signature):
    tables = {table.name: table for table in training_tables(signature)}
    short, whole = tables["units"].make(seed=0), lz.unit_dynamics_table(signature)
    assert set(short.index.get_level_values("step")) <= {50, 100} and (short.index.get_level_values("copies") > 0).all()
    assert short["p_value"].notna().all() and "difference" not in short
    for index, row in short.iterrows():
        quantity, *rest = index
        assert row["estimate"] == whole.loc[(quantity, -1, *rest)]["estimate"]
        assert quantity.endswith(LESS_TWIN) or quantity == ALIKE.format(UNITS)
