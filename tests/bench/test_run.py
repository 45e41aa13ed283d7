"""A benchmark: gates, controls, ranking, tables, file and cache."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import localize as lz
from localize.bench import kept_scores
from localize.bench import planted as planting
from localize.bench.deletion import RANDOM, delete
from localize.bench.planted import Asked, planted
from localize.bench.run import NOT_CHEAP, TIMES_CHANCE, chosen_localizers, with_controls
from localize.bench.scoring import score_localizer
from localize.bench.tables import _layer_row, joined_table, layer_table, map_table, power_table
from localize.localizers import get
from localize.truths.gates import recited_gate
from localize.truths.plant import UNITS
from localize.truths.training import Schedule
from localize.truths.truth import Gate


def test_the_ratio_is_ranked_before_what_knows_nothing_and_after_the_oracle(results):
    table = results.table()
    route = table[table["truth"] == "route"]
    assert list(route["localizer"][:2]) == ["oracle", "ratio"]
    means = [score.recall for score in results.truths[0].scores if score.localizer == "ratio"]
    row = route.set_index("localizer").loc["ratio"]
    assert row["recall"] == pytest.approx(np.mean(means))
    assert row["recall_low"] <= row["recall"] <= row["recall_high"] <= 1


def test_kinds_are_never_pooled_and_what_fails_a_gate_is_not_ranked(results):
    failing = replace(results.truths[0], gates=(*results.truths[0].gates, Gate("made", "up", 2.0, 0.0, 1.0)))
    table = replace(results, truths=(failing, *results.truths[1:])).table()
    assert "route" not in set(table["truth"])
    assert failing.failed == ("made",)
    assert set(table["truth"]) == {"control-none"}


def test_a_control_is_told_of_even_if_it_fails_a_gate_because_nothing_is_ranked_on_it(results):
    failing = replace(results.truths[1], gates=(Gate("made", "up", 2.0, 0.0, 1.0),))
    assert "control-none" in set(replace(results, truths=(results.truths[0], failing)).table()["truth"])


def test_texts_of_several_seeds_count_one_by_one_and_each_seed_is_told(results):
    truth = results.truths[0]
    lower = tuple(replace(score, recall=score.recall / 2) for score in truth.scores)
    other = replace(truth, settings={**truth.settings, "seed": 1}, scores=lower)
    two = replace(results, truths=(truth, other))
    row = two.table().set_index("localizer").loc["oracle"]
    assert (row["seeds"], row["texts"], row["recall"]) == ("0, 1", 2 * len(truth.texts), 0.75)
    assert (row["lowest_seed"], row["highest_seed"]) == (0.5, 1)
    from localize.bench.tables import localizer_table

    by_seed = localizer_table(two, by_seed=True)
    assert list(by_seed[by_seed["localizer"] == "oracle"]["recall"]) == [1, 0.5]


def test_a_control_in_which_a_localizer_beats_chance_fails_and_so_does_the_truth_of_its_seed(results):
    route, control = results.truths[0], results.truths[1]
    assert [gate.name for gate in control.gates][-1] == "control_none"
    bare = [replace(truth, gates=()) for truth in (route, control)]
    found = with_controls(bare)
    gate = found[0].gates[0]
    assert gate == found[1].gates[0]
    within = {
        name: np.mean([score.within for score in control.scores if score.localizer == name])
        for name in ("ratio", "norm", "random", "row_gradient")
    }
    assert gate.value == pytest.approx(max(within.values()))
    assert gate.high == pytest.approx(TIMES_CHANCE / 4)
    leaking = tuple(
        replace(score, within=1.0) if score.localizer == "ratio" else score for score in control.scores
    )  # fmt: skip
    found = with_controls([bare[0], replace(bare[1], scores=leaking)])
    assert [truth.failed for truth in found] == [("control_none",)] * 2
    assert found[0].gates[0].words.endswith("here of ratio")
    of_other_seed = replace(bare[0], settings={**route.settings, "seed": 7})
    assert with_controls([of_other_seed, replace(bare[1], scores=leaking)])[0].failed == ()


def test_the_oracle_is_no_reason_for_a_control_to_fail(results):
    control = results.truths[1]
    oracle_alone = tuple(score for score in control.scores if score.localizer == "oracle")
    assert with_controls([replace(control, gates=(), scores=oracle_alone)])[0].gates == ()


def test_power_counts_texts_whose_place_was_found_with_exact_intervals(results):
    power = power_table(results).set_index("localizer")
    assert set(power["truth"]) == {"route"}
    row = power.loc["oracle"]
    assert (row["found"], row["texts"]) == (1, 4)
    assert row["low"] == pytest.approx(0.025 ** (1 / 4))
    assert power.loc["norm", "found"] == 0


def test_results_are_read_as_they_were_written_and_join(results, tmp_path):
    results.save(tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["schema"] == 1
    read = lz.bench.read_results(tmp_path)
    assert repr(read.truths) == repr(results.truths)
    pd.testing.assert_frame_equal(read.table(), results.table())
    joined = joined_table([results, read])
    assert len(joined) == 2 * len(results.table())
    assert set(joined["weights_hash"]) == {results.about["model"]["weights_hash"]}


@pytest.mark.parametrize(
    ("change", "told"),
    [({"schema": 7}, "schema 7; this localize reads schema 1."), ({"truths": [{"name": "x"}]}, "not what `localize bench` writes")],
)  # fmt: skip
def test_a_file_that_is_not_one_is_refused(results, tmp_path, change, told):
    results.save(tmp_path / "r.json")
    (tmp_path / "r.json").write_text(json.dumps(json.loads((tmp_path / "r.json").read_text()) | change))
    with pytest.raises(lz.InputError) as error:
        lz.bench.read_results(tmp_path / "r.json")
    assert told in str(error.value)


def test_what_was_planted_is_read_again_until_something_that_it_depends_on_changes(
    base, pool, truth, tmp_path, monkeypatch
):
    calls = []

    def plant(model, paragraphs, **options):
        calls.append(options)
        return truth

    monkeypatch.setattr(planting, "plant", plant)
    monkeypatch.setattr(planting, "code_of", lambda function: "code")
    asked = Asked.of("route", 0, 8, 4)
    planted(base, pool, asked, tmp_path)
    again, place = planted(base, pool, asked, tmp_path)
    assert place.parent == tmp_path
    assert len(calls) == 1
    assert np.array_equal(again.live, truth.live)
    assert again.model.weights_hash() == truth.model.weights_hash()
    planted(base, pool, Asked.of("route", 1, 8, 4), tmp_path)
    planted(base, pool[list(range(30))], asked, tmp_path)
    monkeypatch.setattr(planting, "code_of", lambda function: "other code")
    planted(base, pool, asked, tmp_path)
    assert len(calls) == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_usual_numbers_are_those_of_the_kind():
    assert Asked.of("inj", 0) == ("inj", UNITS["inj"], 8, 0)
    assert Asked.of("route", 3, 4) == ("route", 4, 16, 3)
    assert Asked.of("layer", 0, 4, 12) == ("layer", UNITS["layer"], 12, 0)
    assert Asked.of("inj", 0, texts=20) == ("inj", UNITS["inj"], 20, 0)


def test_a_truth_of_another_model_is_refused(make_model, pool, truth):
    other = make_model("gpt2", seed=1, dtype=truth.model.dtype)
    with pytest.raises(lz.InputError) as error:
        lz.bench(other, pool, [], truths=[truth], localizers="random")
    assert str(error.value).startswith("bench: truth 0 (route, seed 0) was planted in a model with weights ")
    assert len(str(error.value).splitlines()) == 1


def test_unknown_kinds_and_localizers_are_refused(base, pool):
    for options, told in (
        ({"kinds": ["rout"]}, "bench: kind 'rout' is not one of route, control-none,"),
        ({"kinds": []}, "bench: kinds and truths are empty; at least one truth is needed."),
        ({"localizers": "ratoi"}, "localizer 'ratoi': not one of "),
        ({"localizers": "oracle"}, "bench: no localizer is asked for; cheap, all, or some of "),
    ):
        with pytest.raises(lz.LocalizeError) as error:
            lz.bench(base, pool, **options)
        assert str(error.value).startswith(told)


def test_what_is_not_cheap_is_named_by_what_it_costs(truth):
    others = truth.others[list(range(min(len(truth.others), 4)))]
    assert set(NOT_CHEAP) < set(lz.localizers.names())
    for localizer in chosen_localizers("cheap"):
        found = localizer(truth.model, truth.paragraphs, others)
        assert found.cost <= 130, localizer.name


def test_without_layers_known_there_are_no_tables_of_layers(results):
    assert layer_table(results).empty
    assert map_table(results).empty


def test_deleting_found_units_harms_the_text_itself_and_random_ones_nothing(truth):
    held_out = truth.others
    rows = delete(truth.model, [get("ratio")], truth.paragraphs, held_out)
    by = {(row.localizer, row.text): row for row in rows if row.share == max(r.share for r in rows)}
    for text in truth.paragraphs.ids:
        found, random = by["ratio", text], by[RANDOM, text]
        assert found.units == random.units == round(found.share * truth.live[0].size)
        assert found.own > random.own
    assert np.mean([by["ratio", t].own for t in truth.paragraphs.ids]) > 5 * np.mean(
        [by["ratio", t].others for t in truth.paragraphs.ids]
    )


def test_layers_that_maps_name_and_shares_over_held_out_text_follow_from_the_maps(results):
    from localize.bench.layer_maps import LayerMap

    def map_of(text, layer, shares):
        right = float("nan") if layer is None else float(layer == 0)
        statistics = ("gradient_share", "gradient_norm", "gradient_max", "share_over_held_out")
        return LayerMap(text, layer, shares, dict.fromkeys(statistics, 0), dict.fromkeys(statistics, right))

    maps = [map_of(f"a{i}", 1, (0.6, 0.1)) for i in range(3)] + [map_of(f"b{i}", 0, (0.3, 0.3)) for i in range(3)]
    maps += [map_of(f"h{i}", None, (0.3, 0.2)) for i in range(4)]
    scores = tuple(replace(score, voted=1.0, summed=0.0) for score in results.truths[0].scores)
    layered = replace(results.truths[0], name="layer", maps=tuple(maps), scores=scores)
    made = replace(results, truths=(layered,))
    table = layer_table(made).set_index("by")
    assert table.loc["gradient map: largest single gradient", ["right", "chance", "layers_named"]].tolist() == [
        0.5,
        0.5,
        "0 (6)",
    ]
    assert [by for by in table.index if by.startswith("gradient map")][-1].endswith("share over that of held-out text")
    half = binomtest(3, 6).proportion_ci(method="exact")
    assert table.loc["gradient map: largest single gradient", ["low", "high"]].tolist() == pytest.approx(
        [half.low, half.high]
    )
    assert table.loc["ratio: vote of the best units", ["right", "low", "high"]].tolist() == pytest.approx(
        [1, 0.025 ** (1 / 4), 1]
    )
    assert table.loc["ratio: sum of scores", "right"] == 0
    shares = map_table(made).set_index(["stored_in", "layer"])["ratio"]
    assert shares.to_dict() == pytest.approx({(0, 0): 1.0, (0, 1): 1.5, (1, 0): 2.0, (1, 1): 0.5})


def test_a_planting_that_recites_nothing_is_listed_with_its_gate_and_the_others_are_scored(
    base, pool, truth, monkeypatch
):
    untrained = planting.plant
    monkeypatch.setattr(
        planting, "plant", lambda *given, **options: untrained(*given, **options, schedule=Schedule(steps=1))
    )
    found = lz.bench(base, pool, ["route"], texts=4, truths=[truth], localizers="random")
    scored, empty = found.truths
    assert [len(scored.texts), len(scored.scores)] == [4, 2 * 4]
    assert (empty.name, empty.texts, len(empty.excluded), empty.scores) == ("route", (), 4, ())
    assert [(gate.name, gate.value, gate.passed) for gate in empty.gates] == [("recited", 0.0, False)]
    assert list(found.table()["texts"]) == [4, 4]
    assert len(found.gates()) == len(scored.gates) + 1
    nothing = lz.bench(base, pool, ["route"], texts=4, localizers="random")
    assert nothing.table().empty


def test_scores_are_kept_beside_the_truth_and_read_again_until_their_code_changes(
    base, pool, truth, tmp_path, monkeypatch
):
    monkeypatch.setattr(planting, "plant", lambda *given, **options: truth)
    runs = []
    monkeypatch.setattr(
        kept_scores, "score_localizer", lambda one, of: runs.append(one.name) or score_localizer(one, of)
    )

    def benched(*localizers):
        return lz.bench(base, pool, ["route"], texts=4, localizers=localizers, cache=tmp_path)

    own = lz.localizers.Localizer("own", get("norm").function, "", "")
    made = replace(own, function=lambda *given: own.function(*given))
    first = benched("norm", made)
    again = benched("norm", made, "random")
    assert runs == ["oracle", "norm", "own", "oracle", "own", "random"]
    of = lambda found, name: [repr(score) for score in found.truths[0].scores if score.localizer == name]  # noqa: E731
    assert of(again, "norm") == of(first, "norm") != []
    monkeypatch.setattr(kept_scores, "code_of", lambda function: "other code")
    benched("norm")
    assert runs[-1] == "norm"


def test_a_control_that_recites_nothing_shows_nothing_and_its_gate_fails(results):
    route, control = results.truths[0], results.truths[1]
    empty = replace(control, gates=(recited_gate(0.25),))
    gate = with_controls([replace(route, gates=()), empty])[0].gates[0]
    assert gate.name == "control_none" and np.isnan(gate.value) and not gate.passed


def test_a_truth_given_twice_is_refused_and_one_planted_otherwise_is_not_pooled(base, pool, truth, results):
    with pytest.raises(lz.LocalizeError) as error:
        lz.bench(base, pool, [], truths=[truth, truth], localizers="random")
    assert str(error.value) == "bench: truths 0 and 1 are of the same settings; each text counts once."
    first = results.truths[0]
    louder = replace(first, settings={**first.settings, "seed": 1, "schedule": {"silence": 0}})
    assert list(replace(results, truths=(first, louder)).table()["texts"]) == [4] * 10


def test_a_text_without_live_units_names_no_layer_and_is_not_counted():
    row = _layer_row("x", [1.0, 1.0, float("nan"), 0.0], 4)
    assert (row["texts"], row["right"]) == (3, 2 / 3)
    assert (row["low"], row["high"]) == pytest.approx(binomtest(2, 3).proportion_ci(method="exact"))
    assert _layer_row("x", [float("nan")], 4)["texts"] == 0
