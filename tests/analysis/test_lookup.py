"""Whether what is said is a lookup, beside what cannot be one."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.statistics import cluster_bootstrap_difference


def embeddings(count, d=20, seed=0):
    return np.random.default_rng(seed).standard_normal((count, d))


@pytest.fixture(scope="module")
def planted():
    return embeddings(60)


def test_copies_pass_and_fresh_draws_do_not(planted):
    copies = planted[:20] + 0.1 * embeddings(20, seed=1)
    found = lz.lookup_test(copies, planted, embeddings(30, seed=2))
    assert float(found.passed.estimate) == 1 and float(found.null.estimate) == 0
    assert found.nearest.tolist() == list(range(20)) and found.p_value < 0.001
    assert (found.ratio < 0.2).all() and (found.null_ratio > 0.5).all() and found.compared == 50
    assert float(found.difference.low) > 0.5


def test_fresh_draws_do_not_differ_from_held_out_ones(planted):
    found = lz.lookup_test(embeddings(40, seed=3), planted, embeddings(40, seed=4))
    assert found.p_value > 0.05 and float(found.difference.low) <= 0 <= float(found.difference.high)


def test_a_test_that_passes_everything_says_that_it_says_little():
    found = lz.lookup_test(embeddings(40, 1, 1), embeddings(200, 1))
    assert float(found.passed.estimate) == 1 and float(found.null.estimate) > 0.99 and found.p_value > 0.05
    assert "of 1000 fresh draws of a Gaussian like the training texts" in str(found)
    assert str(found).endswith("So many of the null pass that passing says little.")


def test_fresh_draws_have_the_mean_and_the_covariance_of_the_training_texts(planted):
    from localize.analysis.lookup import _fresh

    bent = planted @ np.random.default_rng(5).standard_normal((20, 20)) + 3
    drawn = np.concatenate([_fresh(bent, seed) for seed in range(30)])
    assert drawn.mean(0) == pytest.approx(bent.mean(0), abs=0.15)
    assert np.cov(drawn.T) == pytest.approx(np.cov(bent.T), abs=1.0)


def test_token_sets_are_compared_by_what_they_share():
    training = [[1, 2, 3, 4], [11, 12, 13], [21, 22, 23], [31, 32, 33]]
    found = lz.lookup_test([[4, 3, 2, 1, 1], [1, 2, 3, 9]], training, [[5, 6], [11, 40]])
    distances = [1 - 3 / 5, 1, 1, 1]
    assert found.ratio == pytest.approx([0, distances[0]]) and found.nearest.tolist() == [0, 0]
    assert found.null_ratio == pytest.approx([1, 1 - 1 / 4])
    assert float(found.passed.estimate) == 1 and float(found.null.estimate) == 0
    assert str(found).startswith(
        "1.00 [0.16, 1.00] of 2 samples are much nearer to one training text than to the next 3; "
    )
    assert "of 2 held-out outputs 0.00 [0.00, 0.84]; difference 1.00 [-0.68, 1.00]" in str(found)


def test_rows_of_ids_and_lists_of_them_are_the_same_and_tensors_too(planted):
    rng = np.random.default_rng(0)
    ids, training, other = (rng.integers(0, 30, (n, 8)) for n in (12, 10, 9))
    one = lz.lookup_test(ids, training, other)
    two = lz.lookup_test(ids.tolist(), training.tolist(), other.tolist())
    three = lz.lookup_test(*map(torch.tensor, (ids, training, other)))
    assert one.ratio == pytest.approx(two.ratio) and one.ratio == pytest.approx(three.ratio)

    def apart(a, b):
        return 1 - len(set(a) & set(b)) / len(set(a) | set(b))

    near = sorted(apart(ids[3].tolist(), text.tolist()) for text in training)
    assert one.ratio[3] == pytest.approx(near[0] / np.mean(near[1:]))
    as_float32 = lz.lookup_test(torch.tensor(planted[:5], dtype=torch.float32), planted)
    assert as_float32.ratio == pytest.approx(0, abs=1e-6)


def test_blocks_do_not_change_anything(planted, monkeypatch):
    whole = lz.lookup_test(embeddings(30, seed=6), planted)
    monkeypatch.setattr("localize.analysis.lookup.BLOCK", 7)
    parts = lz.lookup_test(embeddings(30, seed=6), planted)
    assert np.array_equal(whole.ratio, parts.ratio) and np.array_equal(whole.nearest, parts.nearest)


def test_the_difference_is_that_of_clusters_which_samples_and_held_out_output_never_share(planted):
    samples = np.concatenate([planted[:9] + 0.1 * embeddings(9, seed=10), embeddings(8, seed=11)])
    held_out = np.concatenate([planted[:2], embeddings(20, seed=12)])
    found = lz.lookup_test(samples, planted, held_out)
    passed = np.concatenate([found.ratio <= 0.5, found.null_ratio <= 0.5]).astype(float)
    in_a = np.arange(39) < 17
    alone = cluster_bootstrap_difference(passed, in_a, ~in_a, np.arange(39), seed=0)
    assert float(found.difference.low) == float(alone.low) and float(found.difference.high) == float(alone.high)


def test_near_duplicates_widen_the_interval(planted):
    samples = np.concatenate([np.repeat(planted[:6], 5, 0) + 0.01 * embeddings(30, seed=7), embeddings(30, seed=8)])
    clusters = np.concatenate([np.repeat(np.arange(6), 5), 10 + np.repeat(np.arange(6), 5)])
    alone = lz.lookup_test(samples, planted, embeddings(40, seed=9))
    together = lz.lookup_test(samples, planted, embeddings(40, seed=9), clusters=clusters)
    assert float(together.passed.estimate) == float(alone.passed.estimate) == 0.5
    assert together.passed.high - together.passed.low > 1.5 * (alone.passed.high - alone.passed.low)
    assert together.p_value > alone.p_value


IDS = [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lz.lookup_test(IDS, IDS),
            "lookup_test: token ids need held_out, what the model says after held-out prompts; only embeddings have fresh draws.",
        ),
        (lambda: lz.lookup_test(IDS[:1], IDS, IDS), "lookup_test: 1 points to judge; at least 2 are needed."),
        (
            lambda: lz.lookup_test(IDS, IDS[:2], IDS),
            "lookup_test: 2 training examples to compare; at least 3 are needed.",
        ),
        (
            lambda: lz.lookup_test(IDS, embeddings(5), IDS),
            "lookup_test: token ids and embeddings cannot be compared; give all in one form.",
        ),
        (
            lambda: lz.lookup_test(embeddings(4, 3), embeddings(5, 2)),
            "lookup_test: embeddings of 3 and 2 numbers cannot be compared.",
        ),
        (
            lambda: lz.lookup_test(np.array([[1.0, np.nan], [0.0, 1.0]]), embeddings(5, 2)),
            "lookup_test: row 0 of samples has a value that is not finite.",
        ),
        (
            lambda: lz.lookup_test([[1], []], IDS, IDS),
            "lookup_test: row 1 of samples must be token ids, at least one, or samples a two-dimensional array of floats.",
        ),
        (
            lambda: lz.lookup_test(IDS, IDS, IDS, threshold=1.0),
            "lookup_test: threshold = 1 must lie between 0 and 1, and nearest = 50 be at least 3.",
        ),
        (
            lambda: lz.lookup_test(IDS, IDS, IDS, clusters=np.arange(2)),
            "lookup_test: clusters has 2 labels for 3 points.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(lz.LocalizeError) as error:
        call()
    assert str(error.value) == message
