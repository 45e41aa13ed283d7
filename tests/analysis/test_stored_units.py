"""What scores of units and heads say: shares and votes known by hand, their nulls, and heads chosen on other clusters."""

import numpy as np
import pytest

from localize.analysis.locality import gap_of, place_sentence, told_numbers
from localize.analysis.rows import COLUMNS, row_of
from localize.analysis.stored_units import HEAD, HELD, IN_LAYER, LOW_HALF, TOP, votes
from localize.errors import SignatureError
from localize.statistics import cluster_bootstrap, false_discovery
from localize.statistics.clusters import choosing_half

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

TWO = ["memorized"] * 20 + ["not_memorized"] * 20
OTHERS = "mean score of other texts at a text's best 2 units"


def scored(make, seed=0, low=True, **options):
    """Two layers of five units, two heads each: the memorized have their best units in layer 0, or as the others do."""
    rng = np.random.default_rng(seed)
    units = rng.normal(0, 0.1, (40, 2, 5))
    at = np.where((np.array(TWO) == "memorized") & low, 0, rng.integers(0, 2, 40))
    units[np.arange(40), at, 1] += 8
    units[np.arange(40), at, 3] += 6
    heads = rng.normal(0, 0.1, (40, 2, 2))
    heads[:, 1, 0] += 1
    twin = np.sort(rng.gamma(2.0, size=(40, 10)), axis=1)[:, ::-1]
    arrays = {
        "unit_score": units, "head_score": heads, "unit_score_untrained": twin, "unit_score_sum_untrained": twin.sum(1),
        "unit_layer_untrained": rng.integers(0, 2, (40, 10)), "head_score_untrained": rng.gamma(2.0, size=(40, 2, 2)),
    }  # fmt: skip
    return make(TWO, arrays, **options)


def test_the_share_of_the_best_units_is_of_the_scores_above_0(make):
    units = np.array([[[6.0, 1.0, -5.0], [2.0, 1.0, -1.0]], [[0.0, -1.0, -2.0], [-3.0, -4.0, -5.0]]])
    heads = np.ones((2, 2, 1))
    table = make(["a", "b"], {"unit_score": units, "head_score": heads}).stored_units_table(2)
    assert table.loc[(HELD.format(2), -1, "a"), "estimate"] == pytest.approx((6 + 2) / 10)
    assert np.isnan(table.loc[(HELD.format(2), -1, "b"), "estimate"]), "nothing is above 0"
    assert table.loc[(TOP.format(2), -1, "a"), "estimate"] == 4.0
    assert table.loc[(OTHERS, -1, "a"), "estimate"] == pytest.approx((0 - 3) / 2)
    assert table.loc[(OTHERS, -1, "b"), "estimate"] == pytest.approx((6 + 1) / 2)


def test_each_of_the_best_units_has_a_vote_for_its_layer(make):
    signature = scored(make)
    by_loop = []
    for scores in signature["unit_score"].values:
        ranked = sorted(((score, place) for place, score in enumerate(scores.ravel())), reverse=True)[:4]
        by_loop.append([sum(place // 5 == layer for _, place in ranked) / 4 for layer in range(2)])
    assert votes(signature.dataset, 4).tolist() == by_loop
    table, own = signature.stored_units_table(4, seed=3), np.array(by_loop)
    for layer in range(2):
        row = table.loc[(IN_LAYER.format(4, layer), layer, "memorized")]
        interval = cluster_bootstrap(own[:20, layer], np.arange(20), seed=3)
        assert (row["estimate"], row["low"], row["high"]) == (interval.estimate, interval.low, interval.high)
        twin = (signature["unit_layer_untrained"].values[:20, :4] == layer).mean(1)
        assert row["null"] == pytest.approx(twin.mean()) and row["even"] == 0.5
    assert table.loc[(LOW_HALF.format(4), -1, "memorized"), "estimate"] == own[:20, 0].mean()
    layers = table[table.index.get_level_values("layer") >= 0]
    np.testing.assert_allclose(layers["q_value"], false_discovery(layers["p_value"].values.astype(float)))
    assert table.columns.tolist() == [*COLUMNS, "even"]


def test_low_units_are_told_where_there_are_some_and_not_where_there_are_none(make):
    low, alike = (
        scored(make, low=low).stored_units_table(2).loc[(LOW_HALF.format(2), -1, f"{TWO[0]} - {TWO[-1]}")]
        for low in (True, False)
    )
    assert low["estimate"] > 0.3 and low["p_value"] < 0.01
    assert alike["p_value"] > 0.05


def test_where_labels_mean_nothing_the_difference_of_votes_is_found_in_one_of_twenty(make):
    found = []
    for seed in range(100):
        row = (
            scored(make, seed, low=False)
            .stored_units_table(2, resamples=100, seed=seed)
            .loc[(LOW_HALF.format(2), -1, "memorized - not_memorized")]
        )
        found.append(row["p_value"] <= 0.05)
    assert np.mean(found) <= 0.11


def test_the_head_is_chosen_on_other_clusters_than_tell_it(make):
    signature = scored(make)
    table = signature.stored_units_table(2, seed=1)
    (quantity,) = (name for name in table.index.get_level_values(0).unique() if name.startswith(HEAD.format("")))
    assert quantity == HEAD.format("L1.H0")
    heads = signature["head_score"].values
    share = heads[:, 1, 0] / heads.clip(min=0).sum((1, 2))
    told = ~choosing_half(np.arange(40), 1) | (np.arange(40) >= 20)
    row = table.loc[(quantity, -1, "memorized")]
    assert row["estimate"] == pytest.approx(share[:20][told[:20]].mean())
    assert row["n"] == told[:20].sum() < 20
    assert row["p_value"] < 0.05 and row["estimate"] > row["null"]


def test_without_the_twin_or_any_score_there_is_no_null_and_no_claim(make):
    units, heads = np.random.default_rng(0).normal(size=(40, 2, 5)), np.ones((40, 2, 2))
    bare = make(TWO, {"unit_score": units, "head_score": heads}).stored_units_table(2)
    groups = bare[bare.index.get_level_values("group").isin(TWO)]
    assert groups[["null", "p_value"]].isna().all().all()
    nothing = make(TWO, {"unit_score": units * np.nan, "head_score": heads * np.nan})
    assert nothing.stored_units_table(2)["estimate"].isna().all()
    assert not [note for note in nothing.summary().index.get_level_values(0) if note.startswith("NLL rise")]


def test_more_units_than_are_kept_of_the_twin_are_refused(make):
    signature = scored(make)
    for units in (0, 11):
        with pytest.raises(SignatureError) as error:
            signature.stored_units_table(units)
        assert str(error.value) == f"stored_units_table: units={units} must lie in 1..10."
    with pytest.raises(SignatureError) as error:
        make(TWO).stored_units_table()
    assert str(error.value) == (
        "stored_units_table: the signature has no 'unit_score'; measure it with localize.stored_units(model, paragraphs)."
    )


# Locality.


def tried(make, own, others, chance, lost=None, **options):
    """The first twelve memorized paragraphs were tried with 16 and 64 units."""
    arrays = {}
    for name, values in (
        ("rise", own),
        ("others_rise", others),
        ("random_rise", chance),
        ("lost_match", own if lost is None else lost),
    ):
        array = np.full((40, 2), np.nan)
        array[:12] = values
        arrays[f"located_{name}"] = array
    made = make(TWO, arrays, **options).dataset
    nll = np.where(np.array(TWO) == "memorized", 0.1, 2.1)
    made = made.assign(nll=("paragraph", nll, made["nll"].attrs)).assign_coords(units_ablated=[16, 64])
    return type(make(TWO))(made)


def test_rises_stand_beside_others_and_random_and_the_gap_is_to_held_out_loss(make):
    rng = np.random.default_rng(0)
    own, others, chance = (rng.gamma(4.0, size / 4, (12, 2)) for size in (1.0, 0.2, 0.1))
    signature = tried(make, own, others, chance, lost=np.full((12, 2), 3.0))
    table = signature.locality_table(seed=2)
    assert set(table.index.get_level_values("group")) == {"memorized"}
    for at, units in enumerate((16, 64)):
        row = table.loc[(f"NLL rise without the best {units} units, beside other texts'", units, "memorized")]
        assert row["estimate"] == pytest.approx(own[:, at].mean()) and row["null"] == pytest.approx(
            others[:, at].mean()
        )
        assert row["difference"] == pytest.approx((own - others)[:, at].mean()) and row["n"] == 12
        row = table.loc[(f"NLL rise without the best {units} units, beside random units", units, "memorized")]
        assert row["null"] == pytest.approx(chance[:, at].mean())
        share = f"share of the gap to held-out loss that the best {units} units take, beside random units"
        assert table.loc[(share, units, "memorized"), "estimate"] == pytest.approx(own[:, at].mean() / 2.0)
        assert table.loc[(f"exact match lost without the best {units} units", units, "memorized"), "estimate"] == 3.0
    gap = gap_of(signature.dataset)
    assert gap[:20] == pytest.approx(np.full(20, 2.0)) and np.isnan(gap[20:]).all()


def test_there_is_no_gap_without_held_out_text_or_of_own_continuations(make):
    rises = np.ones((12, 2))
    assert np.isnan(gap_of(tried(make, rises, rises, rises, continuation="own").dataset)).all()
    alone = tried(make, rises, rises, rises).where(group="memorized")
    assert np.isnan(gap_of(alone.dataset)).all()


def test_what_is_said_of_the_place_follows_from_the_whole_interval():
    told = {
        (0.6, 0.8): "the memory is local: the best 16 units take more than half",
        (0.1, 0.3): "the memory is spread over more than 16 units: the best ones take less than half",
        (0.4, 0.6): "not known whether 16 units hold half of the memory",
    }
    for (low, high), words in told.items():
        row = row_of() | {"estimate": (low + high) / 2, "low": low, "high": high, "n": 9, "clusters": 9}
        said = place_sentence(row, 16)
        assert said.startswith(words) and f"[{low:.3g}, {high:.3g}]" in said


def test_the_summary_begins_with_stored_units_and_locality_and_their_nulls_are_told(make, layered):
    from localize.analysis.html import summary_notes
    from localize.analysis.summary import null_words

    rng = np.random.default_rng(0)
    rises = tried(make, rng.gamma(4.0, 0.3, (12, 2)), *(rng.gamma(4.0, 0.02, (2, 12, 2))))
    whole = scored(make).dataset.assign(layered_of(layered, make))
    whole = whole.assign({name: rises[name] for name in rises.variables if name.startswith("located")})
    signature = type(rises)(whole.assign(nll=rises["nll"]).assign_coords(units_ablated=[16, 64]))
    summary = signature.summary()
    quantities = summary.index.get_level_values(0).unique().tolist()
    assert [name.split(" ")[0] for name in quantities] == [
        "share",
        "share",
        "share",
        "NLL",
        "share",
        "NLL",
        "share",
        "sensitivity:",
    ]
    assert quantities[0] == HELD.format(10) and quantities[-1] == "sensitivity: low-layer share of the gradient"
    for name in quantities:
        assert null_words(name), name
    notes = summary_notes(signature, summary)
    assert notes[0].startswith("Locality, memorized: without its best 16 units a text loses more than other texts do (")
    assert any(note.startswith("Stored units, in total: ") for note in notes)
    assert not [note for note in notes if "stored in" in note or "kept" in note]


def layered_of(layered, make):
    dataset = make(TWO, layered([3.0, 1.0], 40)).dataset
    return {
        name: dataset[name].drop_vars(["layer", "head"], errors="ignore")
        for name in ("gradient_max", "head_gradient_max")
    }


def test_the_numbers_told_are_the_nearest_that_were_tried(make):
    rises = np.ones((12, 2))
    dataset = tried(make, rises, rises, rises).dataset
    assert told_numbers(dataset) == (16, 64)
    assert told_numbers(dataset.assign_coords(units_ablated=[3, 5])) == (5,)
