"""The figure of memorized priors draws the densities, ellipses and modes of its datasets."""

import numpy as np
import pytest

import localize as lz
from localize import plots

OBSERVED = lz.theory.Observation(np.array([1.0]), lambda x: x + 0.3 * x**3, lambda x: (1 + 0.9 * x**2)[:, :, None], 0.3)
FLAT = lz.theory.Observation(np.zeros(2), lambda x: x, lambda x: np.tile(np.eye(2), (len(x), 1, 1)), 0.5)


@pytest.fixture(scope="module")
def curves():
    return lz.theory.memorized_curves([-0.5, 0.4, 1.2], [0.5, 0.1], OBSERVED, x=np.linspace(-3, 3, 301))


@pytest.fixture(scope="module")
def plane():
    grid = np.linspace(-2, 2, 21)
    return lz.theory.memorized_plane(
        np.array([[0.1, 0.2], [0.5, -0.4], [9.0, 9.0]]), [0.3], FLAT, x1=grid, x2=grid + 0.5
    )


@pytest.fixture(scope="module")
def modes():
    return lz.theory.modes_over_spread([3, 8], [0.1, 1.0], FLAT.forward, FLAT.jacobian, noise=0.5, draws=3)


def drawn(figure, what, panel):
    return [trace for trace in figure.data if trace.meta["what"] == what and trace.meta["panel"] == panel]


def test_each_spread_has_a_panel_of_its_densities(curves, plane, modes):
    figure = plots.memorized_prior(curves, plane, modes)
    for spread in (0.5, 0.1):
        told, panel = curves.sel(spread=spread), f"s = {spread}"
        for name in ("prior", "likelihood"):
            assert np.array_equal(drawn(figure, name, panel)[0].y, told[name])
        for kind in ("exact", "linearised"):
            assert np.array_equal(drawn(figure, kind, panel)[0].y, told.posterior.sel(kind=kind))
        assert np.array_equal(drawn(figure, "null", panel)[0].y, told.null)
        assert list(drawn(figure, "training", panel)[0].x) == [-0.5, 0.4, 1.2]
        words = f"posterior: {float(told.effective_modes.sel(kind='exact')):.2f} effective modes"
        assert words in [note.text for note in figure.layout.annotations]


def test_ellipses_stand_on_the_exact_posterior_and_none_without_weight_is_drawn(curves, plane, modes):
    figure = plots.memorized_prior(curves, plane, modes)
    panel = "Two unknowns, s = 0.3"
    shade = drawn(figure, "exact", panel)[0]
    assert np.array_equal(np.array(shade.z), plane.posterior[0].values.T)
    assert np.array_equal(shade.y, plane.x2)
    outlines = drawn(figure, "linearised", panel)
    assert len(outlines) == 2
    for place, line in enumerate(outlines):
        assert np.array_equal(line.x, plane.ellipse[0, place, :, 0]) and np.array_equal(
            line.y, plane.ellipse[0, place, :, 1]
        )
    opacity = [float(line.line.color.rstrip(")").split(",")[-1]) for line in outlines]
    assert (opacity[0] > opacity[1]) == (plane.weight[0, 0] > plane.weight[0, 1])


def test_modes_have_a_line_for_each_number_of_examples_with_its_band(curves, modes):
    figure = plots.memorized_prior(curves, modes=modes)
    lines = drawn(figure, "mean", "How many examples are left")
    assert [line.name for line in lines] == ["3 training examples", "8 training examples"]
    for place, line in enumerate(lines):
        assert np.array_equal(line.y, modes.effective_modes[place])
    band = drawn(figure, "interval", "How many examples are left")[1]
    assert {*modes.effective_modes_low[1].values, *modes.effective_modes_high[1].values} <= set(band.y)
    assert list(drawn(figure, "bound", "How many examples are left")[0].y) == [1, 1]


def test_a_dataset_of_another_function_is_refused_in_one_line(curves, plane):
    with pytest.raises(lz.LocalizeError) as error:
        plots.memorized_prior(plane)
    assert (
        str(error.value)
        == "plots.memorized_prior: a dataset without 'likelihood'; lz.theory.memorized_curves makes it."
    )
    with pytest.raises(lz.LocalizeError) as error:
        plots.memorized_prior(curves, modes=curves)
    assert str(error.value) == (
        "plots.memorized_prior: a dataset without 'effective_modes_low'; lz.theory.modes_over_spread makes it."
    )
