"""The figure of facts draws the numbers of its table."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.training_tables import training_tables
from localize.plots import catalogue
from localize.report.training import tables_of_training
from tests.analysis.test_facts import QUANTITIES, of_arms  # noqa: F401  # a fixture
from tests.plots.test_over_training import legend, titles, traces


def test_lines_are_the_tables_and_grey_are_facts_never_shown(of_arms):  # noqa: F811
    signature = of_arms()
    figure, table = plots.facts(signature), lz.facts_table(signature, None)
    for panel, quantity in enumerate(QUANTITIES[:2]):
        lines = traces(figure, "mean", panel)
        assert [line.name for line in lines] == ["all", "random", "loss"]
        for line in lines:
            rows = table.xs((line.name, quantity), level=("arm", "quantity"))
            np.testing.assert_allclose(line.y, rows["estimate"].to_numpy(float))
        (null,) = traces(figure, "null", panel)
        known = signature.at(training_arm="all")["exact_match"].values[..., 6:] == 2
        np.testing.assert_allclose(null.y, known.mean((0, 2)) * (6 if panel == 0 else 1))
    basis = "95% intervals over 5 seeds"
    assert titles(figure) == ["<b>(a)</b> How many facts are known", basis, "<b>(b)</b> How often it is right", basis]
    assert legend(figure) == ["all", "random", "loss", "null: facts never shown"]


def test_one_table_and_one_figure_tell_of_all_arms(of_arms):  # noqa: F811
    signature = of_arms()
    assert list(catalogue.training_figures_of(signature)) == ["facts"]
    assert [(table.name, table.arm) for table in training_tables(signature)] == [("facts", "")]
    ((table, notes),) = tables_of_training(signature, "t", 0)
    assert table is not None and not notes and len(table.rows) == 9


def test_what_is_no_training_on_facts_is_refused(of_arms):  # noqa: F811
    with pytest.raises(
        lz.SignatureError, match=r"^plots\.capacity: trained on corpus 'facts' \(arm 'all'\); a training with "
    ):
        plots.capacity(of_arms())
