"""A grid is what its tables multiply to; what is wrong in it is told with the nearest right thing."""

import pytest

from localize.errors import InputError
from localize.measurements import MEASUREMENTS
from localize.sweep.grid import key_of, read_grid


def test_a_grid_without_models_and_paragraphs_is_of_the_embedded_ones():
    grid = read_grid({"measure": {"measurement": "recall"}})
    assert [(m.name, m.source) for m in grid.models] == [("embedded", None)]
    assert [(s.name, s.source) for s in grid.sets] == [("embedded", None)]
    assert [m.name for m in grid.measures] == ["recall"]


def test_over_gives_every_combination_a_name_and_options(tmp_path):
    (tmp_path / "steps" / "a").mkdir(parents=True)
    (tmp_path / "grid.toml").write_text(
        """
        [[model]]
        source = "steps"
        checkpoints = ["a", "b"]
        over = { dtype = ["float32", "float64"] }
        [[measure]]
        measurement = "perturb_prefix"
        options = { draws = 3 }
        over = { seed = [0, 1], kinds = ["uniform", ["uniform", "neutral"]] }
        """
    )
    grid = read_grid(tmp_path / "grid.toml")
    assert [(m.name, m.source, m.dtype) for m in grid.models] == [
        (f"steps, checkpoint={c}, dtype={d}", str(tmp_path / "steps" / c), d)
        for d in ("float32", "float64")
        for c in ("a", "b")
    ]
    assert [(m.name, m.options["seed"], m.options["kinds"]) for m in grid.measures] == [
        ("perturb_prefix, seed=0, kinds=uniform", 0, "uniform"),
        ("perturb_prefix, seed=0, kinds=uniform+neutral", 0, ["uniform", "neutral"]),
        ("perturb_prefix, seed=1, kinds=uniform", 1, "uniform"),
        ("perturb_prefix, seed=1, kinds=uniform+neutral", 1, ["uniform", "neutral"]),
    ]
    assert all(m.options["draws"] == 3 and m.options["batch_size"] == 64 for m in grid.measures)


def test_checkpoints_of_a_hub_name_are_revisions():
    grid = read_grid(
        {"model": {"source": "org/name", "checkpoints": ["step1", 2]}, "measure": {"measurement": "recall"}}
    )
    assert [(m.source, m.revision) for m in grid.models] == [("org/name", "step1"), ("org/name", "2")]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "grid: empty; at least one [[measure]] is needed, of recall, memory, stored_units,"),
        (
            {"measures": []},
            "grid has no 'measures'; did you mean 'measure'? Allowed: model, paragraphs, measure, train.",
        ),
        (
            {"measure": {"measurement": "gradient"}},
            "grid: [[measure]] 1: measurement has no 'gradient'; did you mean 'gradients'? Allowed: recall,",
        ),
        ({"measure": {"block": 3}}, "grid: [[measure]] 1 names no measurement; one of recall, memory, stored_units,"),
        (
            {"measure": {"measurement": "perturb_prefix", "options": {"draw": 3}}},
            "grid: [[measure]] 1: perturb_prefix has no 'draw'; did you mean 'draws'? Allowed: kinds, draws,",
        ),
        (
            {"measure": {"measurement": "perturb_prefix", "over": {"sed": [1]}}},
            "grid: [[measure]] 1: over has no 'sed'; did you mean 'seed'? Allowed: kinds,",
        ),
        (
            {"measure": {"measurement": "perturb_prefix", "over": {"seed": 1}}},
            "grid: [[measure]] 1: over.seed = 1 must be a list.",
        ),
        (
            {"measure": {"measurement": "perturb_prefix", "over": {"seed": []}}},
            "grid: [[measure]] 1: over.seed is empty; at least one value is needed.",
        ),
        (
            {"measure": [{"measurement": "recall"}] * 2},
            "grid: two entries are called 'recall'; give one of them another `name`.",
        ),
        (
            {"measure": {"measurement": "recall", "block": 0}},
            "grid: [[measure]] 1: block = 0 must be a whole number of at least 1.",
        ),
        (
            {"paragraphs": {"prefix": "50"}, "measure": {"measurement": "recall"}},
            "grid: [[paragraphs]] 1: prefix = '50' must be a whole number of at least 1.",
        ),
        (
            {"paragraphs": {"em_bins": [1, 2]}, "measure": {"measurement": "recall"}},
            "grid: [[paragraphs]] 1: em_bins = [1, 2] must be pairs of whole numbers, [[0, 10], [11, 50]].",
        ),
        (
            {"model": {"source": 3}, "measure": {"measurement": "recall"}},
            "grid: [[model]] 1: source = 3 must be a name or a path.",
        ),
        ({"model": [], "measure": {"measurement": "recall"}}, "grid: model must be one or several tables, [[model]]."),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(document, message):
    with pytest.raises(InputError) as error:
        read_grid(document)
    assert str(error.value).startswith(message)


def test_a_file_that_is_no_grid(tmp_path):
    with pytest.raises(InputError, match=r"grid .*none.toml: no such file\.$"):
        read_grid(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[[measure")
    with pytest.raises(InputError, match=r"grid .*bad.toml: not TOML \("):
        read_grid(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("name", "key"),
    [("a/../b c, seed=1", "a_.._b_c_seed=1~0123456789ab"), ("...", "x~0123456789ab"), ("é" * 3, "x~0123456789ab")],
)
def test_a_group_has_a_name_that_every_file_system_takes(name, key):
    assert key_of(name, "0123456789abcdef") == key


def test_embedded_is_a_name_and_a_folder_of_that_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded").mkdir()
    models = [
        {"name": "a"},
        {"name": "b", "source": "embedded"},
        {"name": "c", "source": "./embedded"},
        {"name": "d", "tokenizer": "embedded"},
    ]
    grid = read_grid({"model": models, "measure": [{"measurement": "recall"}]})
    assert [model.source for model in grid.models] == [None, None, "./embedded", None]
    assert grid.models[3].tokenizer == "embedded"


@pytest.mark.parametrize("measurement", [m for m in MEASUREMENTS.values() if m.formerly], ids=lambda m: m.name)
def test_a_name_that_a_measurement_had_still_asks_for_it_and_its_cell_goes_by_the_new_one(measurement):
    for name in measurement.formerly:
        (asked,) = read_grid({"measure": {"measurement": name}}).measures
        assert (asked.measurement, asked.name) == (measurement, measurement.name)
