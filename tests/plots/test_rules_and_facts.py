"""The figure of Rules and Facts draws the numbers of its datasets, and only points of the same model."""

import numpy as np
import pytest

import localize as lz
from localize import plots


@pytest.fixture(scope="module")
def theory():
    return [
        lz.theory.rules_and_facts([0.5, 1, 2], 0.1, 0.9, nu=[0, 0.5]),
        lz.theory.rules_and_facts(2, [0, 0.5, 1], 0.9, nu=[0, 0.5]),
        lz.theory.rules_and_facts(2, 0.1, [0.01, 1, 10], nu=[0, 0.5]),
    ]


@pytest.fixture(scope="module")
def simulated():
    return [lz.theory.simulate(2, 0.1, [1, 10], nu=[0.5, 0], d=20, seeds=3)]


def drawn(figure, what, panel):
    return [trace for trace in figure.data if trace.meta["what"] == what and trace.meta["panel"] == panel]


def test_lines_are_the_theory_and_points_the_simulation(theory, simulated):
    figure = plots.rules_and_facts(theory, simulated)
    panels = {"alpha": "By examples", "eps": "By the share of facts", "penalty": "By the penalty"}
    for dataset, (axis, panel) in zip(theory, panels.items(), strict=True):
        for what in ("rule_error", "fact_error"):
            lines = drawn(figure, what, panel)
            assert [line.name for line in lines] == [f"{what.split('_')[0]} error, ν = {nu}" for nu in ("0", "0.5")]
            for line, nu in zip(lines, (0, 0.5), strict=True):
                assert np.array_equal(line.x, dataset[axis]) and np.array_equal(line.y, dataset[what].sel(nu=nu))
        bound = drawn(figure, "bound", panel)[0]
        assert np.array_equal(bound.y, np.broadcast_to(dataset.bayes_error, 3))
        assert list(drawn(figure, "null", panel)[0].y) == [0.5, 0.5]
    points = drawn(figure, "mean", "By the penalty")
    assert len(points) == 4 and not drawn(figure, "mean", "By examples")
    for point, (nu, what) in zip(
        points, [(0, "rule_error"), (0, "fact_error"), (0.5, "rule_error"), (0.5, "fact_error")], strict=True
    ):
        cell = simulated[0].sel(nu=nu)
        assert list(point.x) == [1, 10] and np.array_equal(point.y, cell[what])
        assert point.error_y.array == pytest.approx((cell[what + "_high"] - cell[what]).values)
        assert point.error_y.arrayminus == pytest.approx((cell[what] - cell[what + "_low"]).values)
    keys = [trace.name for trace in figure.data if trace.meta["what"] == "key"]
    assert keys == ["null: guessing", "simulated, d = 20, 3 seeds: 95% intervals"]


def test_the_plane_has_the_rule_error_across_and_the_fact_error_up(theory, simulated):
    figure = plots.rules_and_facts(theory, simulated)
    panel = "Both errors, as the penalty varies"
    for line, nu in zip(drawn(figure, "both", panel), (0, 0.5), strict=True):
        part = theory[2].sel(nu=nu)
        assert np.array_equal(line.x, part.rule_error) and np.array_equal(line.y, part.fact_error)
    for point, nu in zip(drawn(figure, "mean", panel), (0, 0.5), strict=True):
        part = simulated[0].sel(nu=nu)
        assert np.array_equal(point.x, part.rule_error) and np.array_equal(point.y, part.fact_error)
        assert point.error_x.array == pytest.approx((part.rule_error_high - part.rule_error).values)
    assert list(drawn(figure, "bound", panel)[0].x) == [float(theory[2].bayes_error)] * 2
    low, high = figure.layout.xaxis4.range
    assert low < float(theory[2].bayes_error) and high > float(simulated[0].rule_error_high.max())


def test_one_dataset_of_one_kernel_makes_one_panel():
    figure = plots.rules_and_facts([lz.theory.rules_and_facts([0.5, 1, 4], 0.1, 0.9, loss="hinge")])
    assert len(figure.layout.meta["sheet"]["panels"]) == 1
    assert "ε = 0.1, λ = 0.9; hinge loss" in [note.text for note in figure.layout.annotations]
    assert list(figure.layout.xaxis.ticktext) == ["0.5", "1", "2"]
    assert plots.column(figure).layout.width == 350


def along(**given):
    return lz.theory.rules_and_facts(**{"alpha": 2, "eps": 0.1, "penalty": 1.0} | given)


def points(**given):
    return lz.theory.simulate(**{"alpha": 2, "eps": 0.1, "penalty": 1.0, "d": 10, "seeds": 2} | given)


EACH = "each must go along one of alpha, eps, penalty, as lz.theory.rules_and_facts makes it of several values."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ([], []), "at least one dataset is needed, and each along another axis."),
        (lambda: ([along(alpha=[1, 2])] * 2, []), "at least one dataset is needed, and each along another axis."),
        (lambda: ([along()], []), f"a dataset along no axis; {EACH}"),
        (lambda: ([along(alpha=[1, 2], eps=[0.1, 0.2])], []), f"a dataset along alpha and eps; {EACH}"),
        (lambda: ([along(alpha=[1, 2])], [points(eps=[0.1, 0.2])]), "a simulation along eps, and no theory along it."),
        (
            lambda: ([along(alpha=[1, 2])], [points(alpha=[1, 2], penalty=2)]),
            "along alpha the simulation has penalty = [2.], the theory [1.].",
        ),
        (
            lambda: ([along(alpha=[1, 2], loss="hinge")], [points(alpha=[1, 2])]),
            "along alpha the simulation has loss = square, the theory hinge.",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(make, message):
    with pytest.raises(lz.LocalizeError) as error:
        plots.rules_and_facts(*make())
    assert str(error.value) == f"plots.rules_and_facts: {message}"
