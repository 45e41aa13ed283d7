"""The tables of a training in a report: the one of metrics stands there where memory was watched, and says what its null is."""

import pytest

import localize as lz
from localize.cli.trained import print_training
from localize.report.training import tables_of_training
from tests.analysis.test_membership import training_with_memory
from tests.analysis.test_sinks import with_sinks


@pytest.fixture(scope="module")
def watched(make_training):
    return training_with_memory(make_training)


def test_the_table_of_metrics_says_what_its_null_is(watched):
    made = {table.name: table for table, _ in tables_of_training(watched, "t", 0) if table is not None}
    table = made["t-membership"]
    assert table.caption == "Which metric tells planted texts from held-out ones" and "twin run" in table.note
    heads = [column.head for column in table.columns]
    assert heads[:3] == ["metric", "copies", "shown in"] and "less the null [95%]" in heads
    assert len(table.rows) == len(lz.membership_table(watched, every=False))


def test_the_terminal_prints_it_too(watched, tmp_path, capsys):
    print_training(watched, tmp_path)
    assert "Which metric tells planted texts from held-out ones" in capsys.readouterr().out


def test_the_table_of_sinks_says_which_are_on(make_training, join_arms, tmp_path, capsys):
    sunk = with_sinks(make_training, join_arms)
    made = {table.name: table for table, _ in tables_of_training(sunk, "t", 0) if table is not None}
    heads = [column.head for column in made["t-sinks"].columns]
    assert (
        heads[:3] == ["arm", "sinks that are on", "quantity"] and "drawn anew at each showing" in made["t-sinks"].note
    )
    assert len(made["t-sinks"].rows) == len(lz.sink_table(sunk))
    print_training(sunk, tmp_path)
    assert "What is left of planted texts without memorization sinks" in capsys.readouterr().out
