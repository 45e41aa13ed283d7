"""Every table of every analysis has the same columns, and says of a name that it had what it is called now."""

import numpy as np
import pandas as pd
import pytest

from localize.analysis.change import Change
from localize.analysis.rows import COLUMNS, row_of
from localize.analysis.tables import RENAMED, ResultTable, table_of

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough", "ignore:.*hardly overlap")


@pytest.fixture
def table():
    rows = [{"quantity": name, "group": "a", "site": "L1"} | row_of() for name in ("one", "two")]
    return table_of(rows, ("quantity", "group"), ("site",))


def test_a_table_has_its_index_the_shared_columns_and_its_own(table):
    assert table.index.names == ["quantity", "group"]
    assert table.columns.tolist() == [*COLUMNS, "site"]
    assert table.index.tolist() == [("one", "a"), ("two", "a")]


def test_rough_is_true_false_or_unknown():
    rows = [{"quantity": "q"} | row_of() | {"rough": rough} for rough in (True, False, None)]
    for table in (table_of(rows, ("quantity",)), table_of([], ("quantity",))):
        assert table["rough"].dtype == "boolean"
    assert table_of(rows, ("quantity",))["rough"].tolist() == [True, False, pd.NA]


@pytest.mark.parametrize("name", RENAMED)
def test_a_column_that_has_another_name_now_says_so(table, name):
    for ask in (name, [name], ["estimate", name]):
        with pytest.raises(KeyError) as error:
            table[ask]
        assert error.value.args == (f"{name!r} is called {RENAMED[name]} now",)


def test_the_two_things_that_null_low_was_are_both_named(table):
    with pytest.raises(KeyError) as error:
        table["null_low"]
    assert error.value.args == (
        "'null_low' is called null_mean_low (interval of the null's mean) or null_range_low (central 95 % of the null) now",
    )


def test_parts_of_a_table_say_so_too_and_a_name_that_never_was_is_unknown(table):
    for part in (table.loc["one"], table[["estimate", "low"]], table.iloc[:1], table.round(3), table.reset_index()):
        assert isinstance(part, ResultTable)
        with pytest.raises(KeyError, match="is called n now"):
            part["paragraphs"]
    with pytest.raises(KeyError) as error:
        table["nosuch"]
    assert error.value.args == ("nosuch",)


def test_a_column_that_is_there_is_given_whatever_it_was_once_called(table):
    again = table.assign(difference=1.0)
    assert (again["difference"] == 1).all()
    with pytest.raises(KeyError, match="nosuch"):
        again[["difference", "nosuch"]]


def test_every_analysis_gives_this_table(measured):
    two = "memorized", "not_memorized"
    comparison = measured.compare(*two, ["nll", "gradient_share"], resamples=100)
    tables = {
        "summary": measured.summary(),
        "head_agreement": measured.head_agreement(resamples=100),
        "concentration": measured.concentration(resamples=100),
        "matched_drop": measured.matched_drop(resamples=100),
        "distinguish": measured.distinguish(permutations=2, repeats=1, folds=3, resamples=100),
        "change": Change(measured, measured).table(resamples=100),
        "to_dataframe": comparison.to_dataframe(),
        "strongest": comparison.strongest(3),
    }
    for name, table in tables.items():
        assert isinstance(table, ResultTable), name
        columns = table.columns.tolist()
        start = columns.index("estimate")
        assert tuple(columns[start : start + len(COLUMNS)]) == COLUMNS, name
        assert start == 0 or name in ("to_dataframe", "strongest"), name
        kinds = table[["null_mean_low", "null_range_low"]].notna()
        assert not kinds.all(axis=1).any(), "a null is one of the two"
        assert (table["n"] >= table["clusters"]).all() and (
            table["clusters"] >= table["effective_clusters"] - 1e-9
        ).all()
        known = table["rough"].notna()
        assert np.isfinite(table.loc[known, ["low", "high"]].to_numpy(dtype=float)).all(), name
