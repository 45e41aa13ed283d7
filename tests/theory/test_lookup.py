"""The ratio test of lookups, and how often fresh draws pass it."""

import numpy as np
import pytest

import localize as lz
from localize.theory.lookup import lookup_ratio


def test_the_ratio_is_that_of_the_nearest_to_the_mean_of_the_next():
    distances = np.array([[4.0, 1.0, 2.0, 9.0], [0.0, 5.0, 5.0, 5.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 3.0]])
    assert lookup_ratio(distances) == pytest.approx([1 / 5, 0, 1, 0])
    assert lookup_ratio(distances, 3) == pytest.approx([1 / 3, 0, 1, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("d", "low", "high"), [(1, 1.0, 1.0), (2, 0.99, 1.0), (5, 0.4, 0.8), (10, 0.02, 0.2), (20, 0, 0.001)]
)
def test_fresh_draws_pass_in_few_dimensions_as_is_known(d, low, high):
    assert low <= lz.theory.lookup_null(d) <= high


def test_the_null_is_a_count():
    rng = np.random.default_rng([2, 97])
    examples, fresh = rng.standard_normal((30, 3)), rng.standard_normal((50, 3))
    passed = 0
    for one in fresh:
        near = sorted(np.linalg.norm(one - other) for other in examples)[:10]
        passed += near[0] <= 0.6 * np.mean(near[1:])
    assert lz.theory.lookup_null(3, training=30, draws=50, threshold=0.6, nearest=10, seed=2) == passed / 50


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"d": 0}, "theory.lookup_null: d = 0 and draws = 1000 must each be at least 1."),
        ({"d": 2, "training": 2}, "theory.lookup_null: 2 training examples to compare; at least 3 are needed."),
    ],
)
def test_bad_input_is_told_in_one_line(given, message):
    with pytest.raises(lz.LocalizeError) as error:
        lz.theory.lookup_null(**given)
    assert str(error.value) == message
