"""The same texts in two runs: each seed's mean difference, by scipy; of one seed what pairs of paragraphs give."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.errors import SignatureError

COPIES, SEEDS = [0] * 4 + [8] * 6, 5


@pytest.fixture(scope="module")
def numbers():
    """NLL along run, seed, step, paragraph; one is missing on one side."""
    rng = np.random.default_rng(0)
    found = 3 + rng.normal(0, 0.5, 10) + rng.normal(0, 0.05, (2, SEEDS, 2, 10))
    found[0, :, 1, 4:] -= 0.3
    return found


@pytest.fixture(scope="module")
def signature(make_training, numbers):
    nan = numbers.copy()
    nan[0, 2, 1, 5] = np.nan
    axes = {"runs": ["planted", "twin"], "seeds": range(SEEDS), "steps": [0, 100]}
    return make_training(nan, numbers * 0, copies=COPIES, windows=[(0, 1)] * 10, **axes)


def test_it_is_the_mean_over_seeds_of_each_seeds_paragraphs(signature, numbers):
    numbers = numbers.copy()
    numbers[0, 2, 1, 5] = np.nan
    found = lz.compare_runs(signature.at(training_step=-1), "nll")
    moved = np.nanmean((numbers[0, :, 1] - numbers[1, :, 1])[:, 4:], axis=1)
    cell = found["nll"]
    low, high = stats.t.interval(0.95, SEEDS - 1, loc=moved.mean(), scale=stats.sem(moved))
    np.testing.assert_allclose([cell["difference"], cell["low"], cell["high"]], [moved.mean(), low, high])
    assert float(cell["p_value"]) == pytest.approx(stats.ttest_1samp(moved, 0).pvalue)
    np.testing.assert_allclose(
        [cell["null_range_low"], cell["null_range_high"]], [low - moved.mean(), high - moved.mean()]
    )
    assert (int(cell["n"]), int(cell["clusters"]), float(cell["auc"])) == (6, 6, 0.0)
    assert (found.a, found.b, found.paired) == ("planted", "twin", True)
    one, other = (np.where(np.isnan(numbers[0, :, 1]), np.nan, numbers[run, :, 1])[:, 4:] for run in (0, 1))
    np.testing.assert_allclose([cell["mean_a"], cell["mean_b"]], [np.nanmean(of, axis=1).mean() for of in (one, other)])
    table = found.to_dataframe()
    assert table["a"].tolist() == ["planted"] and table["effect_size"].item() == pytest.approx(
        moved.mean() / moved.std(ddof=1) * (1 - 3 / (4 * (SEEDS - 1) - 1)), rel=0.01
    )


def test_held_out_paragraphs_are_the_null_and_the_sides_change_places(signature, numbers):
    held_out = lz.compare_runs(signature.at(training_step=-1), "nll", group="never_trained")
    assert float(held_out["nll"]["difference"]) == pytest.approx((numbers[0, :, 1] - numbers[1, :, 1])[:, :4].mean())
    turned = lz.compare_runs(signature.at(training_step=0), "nll", a="twin", b="planted")
    assert float(turned["nll"]["difference"]) == pytest.approx((numbers[1, :, 0] - numbers[0, :, 0])[:, 4:].mean())


@pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")
def test_of_one_seed_it_is_what_pairs_of_paragraphs_give(signature):
    one = signature.at(training_step=-1, training_seed=1)
    found = lz.compare_runs(one, "nll")
    expected = lz.compare_paired(one.at(training_run="planted"), one.at(training_run="twin"), "nll", group="planted")
    for name in ("difference", "low", "high", "p_value"):
        assert float(found["nll"][name]) == float(expected["nll"][name])
    assert (found.a, found.b) == ("planted", "twin")


def test_few_seeds_are_told(signature):
    part = lz.MemorizationSignature(signature.at(training_step=-1).dataset.isel(training_seed=[0, 1]))
    with pytest.warns(UserWarning, match="compare_runs: 2 seeds; 5 are needed"):
        lz.compare_runs(part, "nll")


def test_cells_of_a_measurement_keep_their_axes(make_training, numbers, signature):
    dataset = signature.at(training_step=-1).dataset
    share = np.random.default_rng(1).uniform(0, 1, (2, SEEDS, 10, 3, 2))
    dims = ("training_run", "training_seed", "paragraph", "layer", "head")
    axes = {"layer": np.arange(3), "head": np.arange(2), "window": ("layer", np.full(3, 99))}
    found = lz.compare_runs(
        lz.MemorizationSignature(dataset.assign(head_score=(dims, share.astype(np.float32))).assign_coords(axes))
    )
    assert found.variables == ("exact_match", "nll", "token_nll", "head_score")
    cell = found["head_score"]
    assert cell["difference"].dims == ("layer", "head")
    moved = (share[0] - share[1])[:, 4:].astype(np.float32).mean(1)
    np.testing.assert_allclose(cell["difference"], moved.mean(0), atol=1e-6)
    np.testing.assert_allclose(cell["p_value"], stats.ttest_1samp(moved, 0).pvalue, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda s: s, {}, r"over several steps; choose one: \.at\(training_step=-1\)"),
        (
            lambda s: s.at(training_step=-1, training_run="twin"),
            {},
            "no axis 'training_run'; a training with a twin is needed",
        ),
        (lambda s: s.at(training_step=-1), {"b": "other"}, "no run 'other'; there are planted, twin"),
        (lambda s: s.at(training_step=-1), {"b": "planted"}, "a and b are both 'planted'; two runs"),
        (lambda s: s.at(training_step=-1), {"group": "hard"}, "no group 'hard'"),
        (lambda s: s.at(training_step=-1), {"variables": "unit_score"}, "no 'unit_score'"),
    ],
)
def test_what_cannot_be_compared_is_told(signature, change, arguments, message):
    with pytest.raises(SignatureError, match=message):
        lz.compare_runs(change(signature), **arguments)
