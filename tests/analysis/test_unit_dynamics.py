"""Where units appear, move and vanish: shares counted by sets in a loop, intervals and p-values by scipy."""

import numpy as np
import pytest
from scipy import stats

import localize as lz
from localize.errors import SignatureError

COPIES = [0] * 4 + [8] * 3 + [8] * 3
EARLY, LATE = (0, 0.5), (0.5, 1)
WINDOWS = [(np.nan, np.nan)] * 4 + [EARLY] * 3 + [LATE] * 3
STEPS = [0, 50, 100]
SEEDS, COUNT, LAYERS, WIDTH, UNITS = 5, 10, 3, 6, 4
KEPT = "share of the best 4 units that are so when last shown"
STAYED = "share of the best 4 units that were so at the measurement before"
ALIKE = "share of the best 4 units that are so in the twin run"
HELD = "share of the scores above 0 in the best 4 units"
LOW = "share of the best 4 units in the lower half of the layers"

pytestmark = pytest.mark.filterwarnings("ignore:unit_dynamics_table. ")


def scores():
    """Along run, seed, step, paragraph, layer, unit: some are equal, and the first step has none in one paragraph."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(2, SEEDS, 3, COUNT, LAYERS, WIDTH)).round(1).astype(np.float32)
    found[:, :, 0, 9] = np.nan
    return found


def make(make_training, values, **options):
    axes = {"runs": ["planted", "twin"], "seeds": range(SEEDS), "steps": STEPS, "training": {"steps": 100}}
    axes |= {"copies": COPIES, "windows": WINDOWS} | options
    nll = np.full([*(len(axes[name]) for name in ("runs", "seeds") if axes[name]), *values.shape[2:4]], 2.0)
    bare = make_training(nll, nll * 0, **axes)
    dataset = bare.dataset
    dims = (*bare.over_training, "paragraph", "layer", "unit")
    values = values.reshape([dataset.sizes[axis] for axis in bare.over_training] + list(values.shape[3:]))
    axes = {"layer": np.arange(LAYERS), "unit": np.arange(WIDTH), "window": ("layer", np.full(LAYERS, 99))}
    return lz.MemorizationSignature(dataset.assign(unit_score=(dims, values)).assign_coords(axes))


@pytest.fixture(scope="module")
def signature(make_training):
    return make(make_training, scores())


@pytest.fixture(scope="module")
def table(signature):
    return lz.unit_dynamics_table(signature, UNITS)


def best(run, seed, step, paragraph):
    """The best units, of equals the first, as a set of layer and unit; None without scores."""
    values = scores()[run, seed, step, paragraph]
    if np.isnan(values).any():
        return None
    places = sorted(np.ndindex(values.shape), key=lambda place: (-values[place], place))
    return set(places[:UNITS])


def by_hand(quantity, run, seed, step, paragraph):
    now = best(run, seed, step, paragraph)
    if now is None:
        return np.nan
    other = {
        KEPT: best(run, seed, 1 if 4 <= paragraph < 7 else 2, paragraph),
        STAYED: best(run, seed, step - 1, paragraph) if step else None,
        ALIKE: best(1 - run, seed, step, paragraph),
        LOW: {(0, unit) for unit in range(WIDTH)},
    }
    if quantity == HELD:
        values = scores()[run, seed, step, paragraph].astype(float)
        return sum(max(values[place], 0) for place in now) / values.clip(0).sum()
    return np.nan if other[quantity] is None else len(now & other[quantity]) / UNITS


@pytest.mark.parametrize("quantity", [KEPT, STAYED, HELD, LOW])
@pytest.mark.parametrize(
    ("copies", "window", "rows"), [(0, "not told", range(4)), (8, "0-50 %", range(4, 7)), (8, "50-100 %", range(7, 10))]
)
def test_shares_are_those_counted_and_their_null_is_the_same_text_in_the_twin(table, quantity, copies, window, rows):
    for step in range(3):
        own, twin = (
            np.array([[by_hand(quantity, run, seed, step, row) for row in rows] for seed in range(SEEDS)])
            for run in (0, 1)
        )
        if np.isnan(own).all():
            assert (quantity, -1, STEPS[step], copies, window) not in table.index
            continue
        row = table.loc[(quantity, -1, STEPS[step], copies, window)]
        own, twin = np.nanmean(own, axis=1), np.nanmean(twin, axis=1)
        np.testing.assert_allclose(
            row[["estimate", "null", "difference"]].astype(float), [own.mean(), twin.mean(), (own - twin).mean()]
        )
        if np.ptp(own - twin) > 0:
            low, high = stats.t.interval(0.95, SEEDS - 1, loc=(own - twin).mean(), scale=stats.sem(own - twin))
            np.testing.assert_allclose(row[["difference_low", "difference_high"]].astype(float), [low, high])
            assert row["p_value"] == pytest.approx(stats.ttest_rel(own, twin).pvalue)
        assert (row["unit"], row["seeds"]) == ("seeds", SEEDS)


def test_what_is_alike_in_both_runs_is_held_against_texts_that_neither_was_shown(table):
    for step in range(3):
        counted = np.array([[by_hand(ALIKE, 0, seed, step, row) for row in range(COUNT)] for seed in range(SEEDS)])
        row = table.loc[(ALIKE, -1, STEPS[step], 8, "0-50 %")]
        own, held_out = counted[:, 4:7].mean(1), counted[:, :4].mean(1)
        np.testing.assert_allclose(row[["estimate", "null"]].astype(float), [own.mean(), held_out.mean()])
        assert row["p_value"] == pytest.approx(stats.ttest_rel(own, held_out).pvalue) and np.isnan(row["difference"])


def test_layers_add_up_and_q_values_are_of_a_quantity(table):
    names = table.index.get_level_values("quantity")
    layers = table[(table.index.get_level_values("layer") >= 0) & ~names.str.endswith("less the twin run's")]
    total = layers.groupby(["step", "copies", "window"])["estimate"].sum()
    np.testing.assert_allclose(total, 1)
    for _, rows in table.groupby(level="quantity"):
        p = rows["p_value"].to_numpy(float)
        known = ~np.isnan(p)
        np.testing.assert_allclose(rows["q_value"].to_numpy(float)[known], stats.false_discovery_control(p[known]))


def test_what_is_kept_can_be_told_of_any_step_and_one_step_alone(signature, table):
    first = lz.unit_dynamics_table(signature, UNITS, 50, at=50)
    assert set(first.index.get_level_values("step")) == {50}
    assert (first.xs(KEPT, level="quantity")["estimate"] == 1).all()
    early = (HELD, -1, 50, 8, "0-50 %")
    assert first.loc[early]["estimate"] == table.loc[early]["estimate"]


def test_of_one_seed_intervals_are_over_clusters_and_without_a_twin_held_out_texts_are_the_null(make_training):
    with pytest.warns(UserWarning, match="one seed"):
        one = lz.unit_dynamics_table(make(make_training, scores()[:, :1], seeds=[]), UNITS)
    rows = np.array([by_hand(KEPT, 0, 0, 0, row) for row in range(4, 7)])
    row = one.loc[(KEPT, -1, 0, 8, "0-50 %")]
    assert row["estimate"] == pytest.approx(rows.mean()) and row["unit"] == "clusters"
    alone = lz.unit_dynamics_table(make(make_training, scores()[:1], runs=[]), UNITS)
    assert ALIKE not in alone.index.get_level_values("quantity")
    held_out = np.array([[by_hand(HELD, 0, seed, 2, row) for row in range(4)] for seed in range(SEEDS)])
    assert alone.loc[(HELD, -1, 100, 8, "0-50 %")]["null"] == pytest.approx(held_out.mean())


def test_scores_that_are_read_when_asked_for_give_the_same(signature, table):
    lazy = lz.MemorizationSignature(signature.dataset.chunk({"training_step": 1}))
    assert lazy["unit_score"].chunks is not None
    assert lz.unit_dynamics_table(lazy, UNITS).equals(table)


def test_without_a_window_it_is_the_last_step(make_training):
    signature = make(make_training, scores(), windows=[(np.nan, np.nan)] * COUNT)
    kept = lz.unit_dynamics_table(signature, UNITS).xs(KEPT, level="quantity")
    assert (kept.xs(100, level="step")["estimate"] == 1).all() and (kept.xs(50, level="step")["estimate"] < 1).all()


@pytest.mark.parametrize(
    ("quantity", "rows", "window", "reference"),
    [
        (KEPT, range(4, 7), "0-50 %", 1),
        (KEPT, range(7, 10), "50-100 %", 2),
        (HELD, range(7, 10), "50-100 %", None),
        (LOW, range(4, 7), "0-50 %", None),
    ],
)
def test_less_the_twins_is_held_against_held_out_texts_by_the_same_step(table, quantity, rows, window, reference):
    def share(run, seed, row):
        if reference is None:
            return by_hand(quantity, run, seed, 1, row)
        now, then = best(run, seed, 1, row), best(run, seed, reference, row)
        return len(now & then) / UNITS

    def moved(of):
        return np.array([np.mean([share(0, seed, row) - share(1, seed, row) for row in of]) for seed in range(SEEDS)])

    row, own, held_out = (
        table.loc[(quantity + ", less the twin run's", -1, 50, 8, window)],
        moved(rows),
        moved(range(4)),
    )
    np.testing.assert_allclose(row[["estimate", "null"]].astype(float), [own.mean(), held_out.mean()], atol=1e-12)
    if np.ptp(own - held_out) > 0:
        assert row["p_value"] == pytest.approx(stats.ttest_rel(own, held_out).pvalue)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 19}, r"unit_dynamics_table: units=19 must lie in 1\.\.18\."),
        ({"units": 0}, r"units=0 must lie in 1\.\.18"),
        ({"step": 7}, "step=7 was not measured; the nearest that was is 0"),
        ({"at": 70}, "step=70 was not measured"),
    ],
)
def test_what_is_not_there_is_told(signature, arguments, message):
    with pytest.raises(SignatureError, match=message):
        lz.unit_dynamics_table(signature, **arguments)


def test_stored_units_are_needed_over_training(make_training, signature):
    bare = lz.MemorizationSignature(signature.dataset.drop_vars("unit_score"))
    with pytest.raises(SignatureError, match="the signature has no 'unit_score'; measure "):
        lz.unit_dynamics_table(bare)
    one = signature.at(training_run="planted", training_seed=0, training_step=0)
    with pytest.raises(SignatureError, match="no axis 'training_step'"):
        lz.unit_dynamics_table(one)
