"""Which row of a training is what: counted, in every stage and window."""

import numpy as np
import pytest

from localize.errors import InputError
from localize.train.rows import laid_out


def rng():
    return np.random.default_rng(3)


def test_without_windows_and_stages_rows_are_one_permutation():
    planted = np.array([0, 0, 1])
    layout = laid_out([20], [0.0], planted, [(0.0, 1.0)] * 3, 0, rng())
    order = rng().permutation(20)
    assert layout.paragraph.tolist() == [planted[at] if at < 3 else -1 for at in order]
    assert layout.presentation.tolist() == [at if at < 3 else -1 for at in order]
    assert layout.fresh.tolist() == [at - 3 if at >= 3 else -1 for at in order]
    assert (layout.again == -1).all()


def test_presentations_stay_inside_their_windows_and_every_one_is_made():
    windows = [(0.0, 0.25)] * 10 + [(0.75, 1.0)] * 25 + [(0.0, 1.0)] * 30
    planted = np.repeat([0, 1, 2], [10, 25, 30])
    layout = laid_out([100], [0.0], planted, windows, 0, rng())
    at = {paragraph: np.flatnonzero(layout.paragraph == paragraph) for paragraph in range(3)}
    assert [len(rows) for rows in at.values()] == [10, 25, 30]
    assert at[0].max() < 25
    assert at[1].tolist() == list(range(75, 100))  # 25 rows hold 25
    assert at[2].max() < 75
    assert sorted(layout.presentation[layout.presentation >= 0]) == list(range(65))
    assert sorted(layout.fresh[layout.fresh >= 0]) == list(range(35))


def test_the_second_stage_shows_old_rows_again_each_once_before_one_comes_twice():
    layout = laid_out([40, 100], [0.0, 0.5], np.repeat([0, 1], 5), [(0.0, 1.0)] * 10, 0, rng())
    again = layout.again[40:]
    assert (again >= 0).sum() == 50 and again.max() < 40
    counts = np.bincount(again[again >= 0], minlength=40)
    assert set(counts) == {1, 2} and (counts == 2).sum() == 10
    shown = np.flatnonzero(layout.again >= 0)
    assert (layout.paragraph[shown] == layout.paragraph[layout.again[shown]]).all()
    assert (layout.presentation[shown] == -1).all()  # no presentation of its own
    assert (layout.paragraph[40:] >= 0).sum() == counts[layout.paragraph[:40] >= 0].sum()


def test_rows_shown_again_of_a_third_stage_may_be_those_of_the_second():
    layout = laid_out([30, 30, 60], [0.0, 0.9, 0.9], np.array([0] * 10), [(0.0, 1.0)] * 10, 0, rng())
    last = np.flatnonzero((layout.again >= 30) & (layout.stage == 2))
    assert len(last)
    assert (layout.paragraph[last] == layout.paragraph[layout.again[last]]).all()
    assert (layout.paragraph[last] == 0).any()


def test_what_is_planted_in_a_later_stage_stands_there():
    layout = laid_out([50, 50], [0.0, 0.2], np.array([0] * 10), [(0.5, 1.0)] * 10, 1, rng())
    rows = np.flatnonzero(layout.presentation >= 0)
    assert len(rows) == 10 and rows.min() >= 75
    assert (layout.again >= 0).sum() == 10


def test_what_runs_leave_out_are_all_rows_of_its_paragraphs():
    layout = laid_out([40, 40], [0.0, 0.5], np.repeat([0, 1], 8), [(0.0, 1.0)] * 16, 0, rng())
    gone = layout.spared(np.array([False, True]))
    assert (layout.paragraph[gone] == 1).all() and (gone.sum() == (layout.paragraph == 1).sum())
    assert gone[40:].any()


@pytest.mark.parametrize(
    ("windows", "replays", "message"),
    [
        (
            [(0.0, 0.25)] * 6,
            [0.0],
            r"^recipe: stage 0: 6 planted rows in the window 0\.\.0\.25 exceed its 5 free rows\.$",
        ),
        ([(0.0, 1.0)] * 21, [0.0], r"^recipe: stage 0: 21 planted rows and 0 shown again exceed its 20 rows\.$"),
    ],
)
def test_more_than_fits_is_refused(windows, replays, message):
    with pytest.raises(InputError, match=message):
        laid_out([20], replays, np.zeros(len(windows), np.int64), windows, 0, rng())


def test_more_shown_again_than_is_left_is_refused():
    with pytest.raises(
        InputError, match=r"^recipe: stage 1: 18 rows shown again exceed the 10 that are not planted\.$"
    ):
        laid_out([20, 20], [0.0, 0.9], np.zeros(10, np.int64), [(0.0, 0.5)] * 10, 1, rng())
