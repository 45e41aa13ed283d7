"""The figure of counterfactual memory draws the numbers of its tables, held-out texts in grey beside them."""

import warnings

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.counterfactual import MEMORY, NLL_IN
from localize.plots.theme import NULL

COPIES, KIND = [4] * 4 + [8] * 4 + [0] * 4, ["typical", "rare"] * 6


@pytest.fixture
def halves(make_training):
    """`halves(seeds=3)`: two models a seed, of which the first is trained on the even texts."""

    def made(seeds=3):
        shown = np.zeros((2, seeds, 2, 12), int)
        shown[0, :, 1, :8:2], shown[1, :, 1, 1:8:2] = 1, 1
        nll = 3 + np.random.default_rng(0).normal(0, 0.1, shown.shape) - 0.5 * shown
        of = slice(None) if seeds > 1 else 0
        return make_training(
            nll[:, of], copies=COPIES, runs=["half-00", "half-01"], seeds=range(seeds) if seeds > 1 else [], steps=[0, 100],
            exposures=shown[:, of], kind=KIND,
        )  # fmt: skip

    return made


def of_panel(figure, number, what):
    axis = "x" if number == 0 else f"x{number + 1}"
    return [trace for trace in figure.data if trace.xaxis == axis and (trace.meta or {}).get("what") == what]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.filterwarnings("ignore:counterfactual_table. ")
def test_means_and_nulls_are_the_tables_and_points_those_of_each_text(halves, seeds):
    signature = halves(seeds)
    table, each = lz.counterfactual_table(signature), lz.counterfactual(signature)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what intervals are over stands in the figure
        figure = plots.counterfactual(signature)
    for number, quantity in ((1, MEMORY), (2, NLL_IN)):
        means, nulls = (of_panel(figure, number, what) for what in ("mean", "null"))
        for kind, mean, null in zip(("typical", "rare"), means, nulls, strict=True):
            rows = table.xs((kind, quantity), level=("kind", "quantity"))
            np.testing.assert_allclose(mean.y, rows["estimate"])
            np.testing.assert_allclose(mean.y - mean.error_y.arrayminus, rows["low"])
            np.testing.assert_allclose(mean.y + mean.error_y.array, rows["high"])
            np.testing.assert_allclose(null.y, rows["null"])
            assert null.marker.color == NULL != mean.marker.color
            assert null.name == f"null: held-out paragraphs, never trained on, {kind}"
            assert np.round(mean.x).tolist() == [0, 1] and (null.x > mean.x).all()
    for kind, points in zip(("typical", "rare"), of_panel(figure, 0, "paragraphs"), strict=True):
        rows = each[(each["copies"] > 0) & (each["kind"] == kind)]
        np.testing.assert_allclose(points.y, rows["memory"])
        np.testing.assert_allclose(points.x, rows["nll_without"])
    (held_out,) = of_panel(figure, 0, "null")
    np.testing.assert_allclose(held_out.y, each[each["copies"] == 0]["memory"])
