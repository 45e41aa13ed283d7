import numpy as np

from localize.statistics import false_discovery
from localize.statistics.sequential import HITS, MOST_PERMUTATIONS, continued


def never(cells, rng, count):
    raise AssertionError("no permutation is asked for")


def further(p_values, *, family=None, exact=None, permutations=99, more=never):
    p_values = np.asarray(p_values, dtype=float)
    exact = np.zeros(p_values.shape, dtype=bool) if exact is None else np.asarray(exact)
    return continued(p_values, exact, permutations, family, more, 0)


def test_nothing_is_tested_further_that_is_known_alone_exact_or_not_tested():
    for p_value, options in (
        (0.5, {"family": 1000}),
        (0.01, {}),
        (0.01, {"family": 1000, "exact": [True]}),
        (np.nan, {"family": 9}),
    ):
        np.testing.assert_array_equal(further([p_value], **options), [p_value])


def test_a_cell_is_tested_until_its_family_could_find_it_and_each_draw_counts_once():
    asked = []

    def more(cells, rng, count):
        asked.append((cells.tolist(), count))
        return np.zeros(len(cells), dtype=int)

    p_values = further([0.01, 0.5], family=100, more=more)
    assert all(cells == [0] for cells, _ in asked) and sum(count for _, count in asked) == 50 * 100 - 99
    np.testing.assert_allclose(p_values, [1 / (1 + 50 * 100), 0.5])
    assert further([0.01], family=10**6, more=more)[0] == 1 / (1 + MOST_PERMUTATIONS)


def test_cells_that_share_the_floor_need_fewer_each():
    p_values = further([0.01] * 5, family=100, more=lambda cells, rng, count: np.zeros(len(cells), dtype=int))
    np.testing.assert_allclose(p_values, 1 / (1 + 50 * 100 / 5))


def test_a_cell_that_has_come_to_enough_hits_is_left():
    p_values = further([0.01], family=1000, more=lambda cells, rng, count: np.full(len(cells), HITS))
    assert p_values[0] == (1 + HITS) / (1 + 4 * 99)


def test_p_values_of_nothing_stay_uniform():
    """Cells whose true p is even, 20 at a time: rounds that go on and stop leave no more small p-values than there should be."""
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        true = rng.random(20)
        first = (1 + rng.binomial(99, true)) / 100
        exact = np.zeros(20, dtype=bool)
        p_values.append(continued(first, exact, 99, None, lambda cells, r, n, t=true: r.binomial(n, t[cells]), seed))
    for level in (0.01, 0.02, 0.05, 0.1):
        assert np.mean(np.array(p_values) <= level) <= level + 2.5 * np.sqrt(level / 8000)


def test_cells_that_came_near_the_floor_do_not_keep_the_true_one_from_being_found():
    """Two of 432 cells with 1 and 2 hits are tested further too, but do not stand for cells as good as the one without."""
    first = np.array([1, 2, 3, *[1000] * 429]) / 2001
    p_values = further(first, permutations=2000, more=lambda cells, rng, count: np.zeros(len(cells), dtype=int))
    assert false_discovery(p_values)[0] <= 0.021
    np.testing.assert_allclose(p_values[:3], np.array([1, 2, 3]) / (1 + 50 * 432))
    assert (p_values[3:] == 1000 / 2001).all()
