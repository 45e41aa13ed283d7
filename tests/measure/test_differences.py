"""What exact match hides, held against slow definitions of the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.measure.differences import edit_distance, longest_run, tokens_wrong


def slow_distance(said, wanted):
    """Wagner and Fischer's table, cell by cell."""
    table = [[i + j for j in range(len(wanted) + 1)] for i in range(len(said) + 1)]
    for i, one in enumerate(said, start=1):
        for j, other in enumerate(wanted, start=1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one != other))
    return table[-1][-1]


def slow_run(said, wanted):
    """Every run of the one, looked for at every place of the other."""
    found = [0]
    for start in range(len(said)):
        for end in range(start + 1, len(said) + 1):
            run = said[start:end]
            if any(wanted[at : at + len(run)] == run for at in range(len(wanted))):
                found.append(len(run))
    return max(found)


@st.composite
def pairs(draw):
    """Two lists of continuations as long as each other, of so few tokens that runs are shared."""
    count, length = draw(st.integers(0, 4)), draw(st.integers(1, 9))
    continuation = st.lists(st.integers(0, 3), min_size=length, max_size=length)
    said, wanted = (draw(st.lists(continuation, min_size=count, max_size=count)) for _ in range(2))
    return [np.array(rows, dtype=np.int64).reshape(count, length) for rows in (said, wanted)]


@given(pairs())
def test_each_is_what_a_slow_definition_says(pair):
    said, wanted = pair
    rows = list(zip(said.tolist(), wanted.tolist(), strict=True))
    assert tokens_wrong(said, wanted).tolist() == [sum(a != b for a, b in zip(*row, strict=True)) for row in rows]
    assert edit_distance(said, wanted).tolist() == [slow_distance(*row) for row in rows]
    assert longest_run(said, wanted).tolist() == [slow_run(*row) for row in rows]


@given(pairs())
def test_all_three_are_the_same_whichever_is_said_and_bounded_by_one_another(pair):
    wrong, distance, run = (measure(*pair) for measure in (tokens_wrong, edit_distance, longest_run))
    for measure, values in ((tokens_wrong, wrong), (edit_distance, distance), (longest_run, run)):
        assert (measure(*pair[::-1]) == values).all()
    assert (distance <= wrong).all()
    assert ((run == pair[0].shape[1]) == (wrong == 0)).all()


def test_the_same_text_is_right_and_one_long_run():
    tokens = np.array([[4, 7, 7, 1], [0, 0, 0, 0]])
    assert tokens_wrong(tokens, tokens).tolist() == [0, 0]
    assert edit_distance(tokens, tokens).tolist() == [0, 0]
    assert longest_run(tokens, tokens).tolist() == [4, 4]


def test_one_token_too_many_at_the_start_is_wrong_everywhere_but_near():
    wanted = np.arange(10)[None]
    said = np.concatenate([[[99]], wanted[:, :-1]], axis=1)
    assert (tokens_wrong(said, wanted), edit_distance(said, wanted), longest_run(said, wanted)) == (10, 2, 9)


def test_a_run_counts_where_it_is_not_broken_and_at_any_place():
    said, wanted = np.array([[1, 2, 3, 8, 4, 5]]), np.array([[4, 5, 9, 1, 2, 3]])
    assert longest_run(said, wanted).tolist() == [3]


def test_tokens_of_every_integer_type_do():
    said, wanted = np.array([[1, 2, 50256]], dtype=np.int32), np.array([[1, 3, 50256]], dtype=np.int32)
    for measure in (tokens_wrong, edit_distance, longest_run):
        assert measure(said, wanted).tolist() == [1]


@pytest.mark.parametrize("measure", [tokens_wrong, edit_distance, longest_run])
def test_no_paragraphs_give_no_numbers(measure):
    nothing = np.zeros((0, 5), dtype=np.int64)
    assert measure(nothing, nothing).shape == (0,)
