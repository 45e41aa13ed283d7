"""How often paragraphs had been trained on by some step."""

import numpy as np
import pytest

from localize import exposures
from localize.errors import LocalizeError


def test_by_hand():
    rows = np.array([0, -1, 1, 0, -1, -1, 0, -1])  # two a step: paragraph 0 in steps 0, 1 and 3, paragraph 1 in step 1
    found = exposures(rows, 2, [0, 1, 2, 3, 4], 3)
    assert found.exposures.T.tolist() == [[0, 1, 2, 2, 3], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    none = np.nan
    np.testing.assert_array_equal(found.steps_since_exposure.T, [[none, 0, 0, 1, 0], [none, none, 0, 1, 2], [none] * 5])


def test_as_counted_one_row_after_the_other():
    rng = np.random.default_rng(0)
    rows, batch, at = rng.integers(-1, 5, 60), 4, [0, 3, 7, 15]
    found = exposures(rows, batch, at, 5)
    for index, done in enumerate(at):
        for paragraph in range(5):
            steps = [row // batch for row in range(done * batch) if rows[row] == paragraph]
            assert found.exposures[index, paragraph] == len(steps)
            since = found.steps_since_exposure[index, paragraph]
            assert np.isnan(since) if not steps else since == done - 1 - steps[-1]


def test_what_is_not_there_is_refused():
    with pytest.raises(LocalizeError, match=r"exposures: rows of the paragraphs -1\.\.4; -1\.\.2 are allowed\."):
        exposures(np.array([4, -1]), 1, [0], 3)
    with pytest.raises(LocalizeError, match=r"exposures: at=0\.\.3 must lie in 0\.\.2, the steps of these rows\."):
        exposures(np.array([0, -1]), 1, [0, 3], 3)
