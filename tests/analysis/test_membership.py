"""AUCs of metrics over seeds: Mann and Whitney's U by scipy seed by seed, Student's t, and what the twin run gives."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.analysis.membership import longest, scores_of
from localize.analysis.training_tables import training_tables
from localize.analysis.trainings import Trainings
from localize.signature.signature import MemorizationSignature

COPIES = np.array([0] * 6 + [2] * 4 + [8] * 4)
WINDOWS = [(np.nan, np.nan)] * 6 + [(0, 0.25), (0, 0.25), (0.75, 1), (0.75, 1)] * 2
EARLY, LATE = "0-25 %", "75-100 %"
SEEDS, STEPS = 5, [0, 50, 100]
ROWS = {(2, EARLY): [6, 7], (2, LATE): [8, 9], (8, EARLY): [10, 11], (8, LATE): [12, 13]}

pytestmark = pytest.mark.filterwarnings("ignore:membership_table. ")


def numbers(seeds=SEEDS):
    """By variable, along run, seed, step, paragraph (and its own axis): what the first run has learned by the last step."""
    rng = np.random.default_rng(0)
    hard, shape = rng.normal(size=14), (2, seeds, 3, 14)
    learned = np.zeros(shape)
    learned[0, :, 2] = np.log2(1 + COPIES) / 2
    said = rng.integers(0, 4, (*shape, 2)) + (learned > 1)[..., None] * rng.integers(0, 3, (*shape, 2))
    log_p = hard + learned + 0.2 * rng.normal(size=shape)
    share = rng.uniform(0, 0.5, (*shape, 2)) + 0.2 * learned[..., None]
    return {
        "continued_exact_match": said, "extraction_probability": rng.uniform(0, 1, (*shape, 2)),
        "extraction_chance": rng.uniform(0, 1, (*shape, 2)), "text_log_p": log_p - 9, "min_k": rng.normal(size=shape) - 9,
        "sampled_ngrams_in_rows": np.minimum(share, 1), "true_ngrams_in_rows": rng.uniform(0, 1, (*shape, 2)),
    }  # fmt: skip


def training_with_memory(make_training, *, twin=True, seeds=SEEDS, **options):
    """A signature over training that holds them, as a recipe that watches memory leaves it."""
    arrays, own = (
        numbers(seeds),
        {"continued": "tokens_given", "extraction": "tokens_given", "sampled": "ngram", "true": "ngram"},
    )
    nll = -arrays["text_log_p"]
    pick = (slice(None) if twin else 0, slice(None) if seeds > 1 else 0)
    named = {"copies": COPIES, "windows": WINDOWS, "steps": STEPS, "training": {"steps": 100, "batch": 4, "stages": []}}
    named |= {"runs": ["planted", "twin"] if twin else [], "seeds": range(seeds) if seeds > 1 else []}
    dataset = make_training(nll[pick], **(named | options)).dataset
    for name, values in arrays.items():
        axis = own.get(name.split("_")[0])
        dims = (*dataset["nll"].dims, *([axis] if axis else []))
        dataset[name] = (
            dims,
            values[pick].astype(float),
            {"continuation": "true", "unit": "x", "description": "x", "source": "x"},
        )
    return MemorizationSignature(dataset.assign_coords(tokens_given=[4, 8], ngram=[2, 3]))


@pytest.fixture(scope="module")
def paired(make_training):
    return training_with_memory(make_training)


@pytest.fixture(scope="module")
def table(paired):
    return lz.membership_table(paired, resamples=200)


def aucs(values, rows):
    """Of each seed, against the first six."""
    return np.array([stats.mannwhitneyu(of[rows], of[:6]).statistic / (6 * len(rows)) for of in values])


@pytest.mark.parametrize("level", ROWS)
@pytest.mark.parametrize(
    ("metric", "variable", "own"),
    [
        ("log p of the text", "text_log_p", ()), ("Min-K%", "min_k", ()),
        ("exact match, 4 tokens given", "continued_exact_match", (0,)),
        ("exact match, 8 tokens given", "continued_exact_match", (1,)),
        ("sampled n-grams in the rows, n = 3", "sampled_ngrams_in_rows", (1,)),
    ],
)  # fmt: skip
def test_each_is_mann_and_whitneys_seed_by_seed_beside_that_of_the_twin_run(table, level, metric, variable, own):
    values = numbers()[variable][:, :, 2]  # run seed paragraph
    planted, twin = (aucs(run[(..., *own)], ROWS[level]) for run in values)
    row = table.loc[(metric, *level)]
    for found, of, ends in (
        (("estimate", "low", "high"), planted, (0, 1)),
        (("null", "null_mean_low", "null_mean_high"), twin, (0, 1)),
        (("difference", "difference_low", "difference_high"), planted - twin, (-1, 1)),
    ):
        with np.errstate(invalid="ignore"):
            reach = stats.t.ppf(0.975, SEEDS - 1) * stats.sem(of)
        expected = np.clip([of.mean(), of.mean() - reach, of.mean() + reach], *ends)
        np.testing.assert_allclose(row[list(found)].astype(float), expected)
    for name, null in (("p_value", twin), ("p_chance", 0.5)):
        if (planted - null).std() > 0:
            assert row[name] == pytest.approx(stats.ttest_1samp(planted - null, 0).pvalue)
        else:
            assert np.isnan(row[name])
    assert (row["n"], row["unit"], row["seeds"], row["matched_on"], row["variable"]) == (
        8,
        "seeds",
        SEEDS,
        "twin",
        variable,
    )


def test_q_corrects_for_all_metrics_and_levels(table):
    told = table["p_value"].notna()
    np.testing.assert_allclose(table["q_value"][told], stats.false_discovery_control(table["p_value"][told]))
    assert len(table) == 4 * 8, (
        "two lengths of three metrics, two without; chance in several tries orders as extraction does"
    )


def test_the_longest_alone_stand_there_where_not_every_one_is_asked_for(paired, table):
    few = lz.membership_table(paired, every=False, resamples=200)
    metrics = [
        "exact match, 8 tokens given", "extraction, 8 tokens given", "log p of the text", "Min-K%",
        "sampled n-grams in the rows, n = 3",
    ]  # fmt: skip
    assert list(dict.fromkeys(few.index.get_level_values("metric"))) == metrics
    assert few["estimate"].equals(table.loc[metrics, "estimate"])
    assert [score.words for score in longest(scores_of(Trainings.of(paired)))] == metrics


def test_another_step_is_told_when_asked_for(paired):
    early = lz.membership_table(paired, step=50, resamples=200)
    planted = aucs(numbers()["text_log_p"][0, :, 1], [10, 11])
    assert early.loc[("log p of the text", 8, EARLY), "estimate"] == pytest.approx(planted.mean())
    with pytest.raises(
        lz.SignatureError, match=r"^membership_table: step=60 was not measured; the nearest that was is 50\.$"
    ):
        lz.membership_table(paired, step=60)


def test_without_a_twin_run_the_null_is_chance(make_training):
    table = lz.membership_table(training_with_memory(make_training, twin=False), resamples=200)
    row = table.loc[("log p of the text", 8, LATE)]
    planted = aucs(numbers()["text_log_p"][0, :, 2], [12, 13])
    assert (row["estimate"], row["null"], row["matched_on"]) == (pytest.approx(planted.mean()), 0.5, "")
    assert row["difference"] == pytest.approx(planted.mean() - 0.5)
    assert np.isnan(row["null_mean_low"])
    assert row["p_value"] == row["p_chance"] or np.isnan(row["p_chance"])


@pytest.mark.parametrize("twin", [True, False])
def test_with_one_seed_intervals_are_over_clusters(make_training, twin):
    signature = training_with_memory(make_training, twin=twin, seeds=1)
    with pytest.warns(UserWarning, match="one seed"):
        table = lz.membership_table(signature, resamples=400)
    row, values = table.loc[("Min-K%", 2, EARLY)], numbers(1)["min_k"][:, 0, 2]
    own, other = (aucs(run[None], [6, 7])[0] for run in values)
    assert (row["estimate"], row["unit"]) == (pytest.approx(own), "clusters")
    assert row["null"] == pytest.approx(other if twin else 0.5)
    assert row["difference"] == pytest.approx(own - (other if twin else 0.5))
    assert row["low"] <= own <= row["high"] and np.isnan(row["p_value"]) == twin and row["p_chance"] <= 1


def test_paragraphs_without_a_metric_are_left_out_of_it(paired):
    dataset = paired.dataset.copy(deep=True)
    dataset["min_k"][:, 0, :, 6] = np.nan
    dataset["min_k"][..., 8:10] = np.nan
    table = lz.membership_table(MemorizationSignature(dataset), resamples=200)
    assert table.loc[("Min-K%", 2, EARLY), "n"] == 7 and table.loc[("Min-K%", 2, LATE), "n"] == 0
    assert np.isnan(table.loc[("Min-K%", 2, LATE), "estimate"])
    planted = aucs(numbers()["min_k"][0, :, 2], [7])
    assert table.loc[("Min-K%", 2, EARLY), "estimate"] == pytest.approx(planted.mean())


def test_it_stands_among_the_tables_of_a_training_that_watched_memory_alone(paired):
    assert [one.name for one in training_tables(paired)][-1] == "membership"
    plain = MemorizationSignature(paired.dataset.drop_vars(list(numbers())))
    assert "membership" not in [one.name for one in training_tables(plain)]
    with pytest.raises(lz.SignatureError) as error:
        lz.membership_table(plain)
    assert str(error.value) == (
        'membership_table: the signature has no \'min_k\'; watch measures = ["recall", "memory"] while training.'
    )
