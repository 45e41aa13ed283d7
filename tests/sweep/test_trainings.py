"""Trainings as cells of a sweep: the same that `localize train` leaves, each seed and run a unit of work."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import localize as lz
from localize.errors import InputError, LocalizeError
from localize.sweep import training_cells as training_cells_module
from localize.sweep.dry_run import dry_run
from localize.sweep.grid import read_grid
from localize.sweep.training_cells import training_cells
from localize.train.recipe import Planting, Recipe, Shape, Training, TrainingCorpus, Watching

SET = Recipe(
    model=Shape(family="gpt2", layers=1, heads=2, d_model=8, context=8),
    corpus=TrainingCorpus("uniform", 16, rows=8, measured=12),
    planted=Planting(held_out=3),
    training=Training(steps=12, batch=8, row_tokens=6, warmup=2, threads=1),
    watch=Watching(4),
    seeds=2,
)
OVER = {"model": {"d_model": [8, 16]}, "corpus": {"rows": [8, 12]}}
PAIR = replace(
    SET, corpus=TrainingCorpus("chain", 16), planted=Planting("chain", {4: 3}, held_out=2, pair=True), seeds=1
)


@pytest.fixture
def written(tmp_path):
    """`written(recipe)`: its file, in a folder of the test's own."""

    def write(recipe, name="tiny.toml"):
        (tmp_path / name).write_text(recipe.to_toml(), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two sizes and two numbers of rows, of two seeds each: the folder, with the recipe, and the sweep."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "tiny.toml").write_text(SET.to_toml(), encoding="utf-8")
    grid = {"train": [{"recipe": str(folder / "tiny.toml"), "over": OVER}]}
    return folder, grid, lz.run_sweep(grid, folder / "s.zarr")


def test_it_is_what_a_training_with_these_arms_leaves_bit_for_bit(swept, tmp_path):
    _, _, sweep = swept
    found = sweep.training()
    arms = {
        f"d_model={width},rows={rows}": replace(SET, model=replace(SET.model, d_model=width), corpus=replace(SET.corpus, rows=rows))
        for width in (8, 16)
        for rows in (8, 12)
    }  # fmt: skip
    lz.train_recipe(replace(SET, arms=arms), tmp_path / "arms")
    watched = lz.load_signature(tmp_path / "arms" / "training.zarr.zip")
    assert found.over_training == watched.over_training == ("training_arm", "training_seed", "training_step")
    assert set(found.variables) == set(watched.variables)
    assert set(found.dataset.coords) == set(watched.dataset.coords)
    for name in found.dataset.variables:
        one, other = found.dataset[name], watched.dataset[name]
        assert one.dims == other.dims
        assert one.dtype == other.dtype
        assert np.array_equal(one.values, other.values, equal_nan=one.dtype.kind == "f"), name
    assert found.dataset.attrs["training"] == json.loads(json.dumps(watched.dataset.attrs["training"]))
    for table in (found, watched):
        with pytest.warns(UserWarning, match="fewer than 5 seeds|2 seeds"):
            lz.capacity_table(table, step=-1, resamples=100)


def test_a_variable_has_an_axis_for_each_value_that_the_grid_varies(swept):
    _, _, sweep = swept
    nll = sweep["nll"]
    assert nll.dims[:3] == ("model.d_model", "corpus.rows", "training_seed")
    assert nll["model.d_model"].values.tolist() == [8, 16]
    of_one = sweep.training().at(training_arm="d_model=16,rows=8", training_seed=1)["nll"]
    chosen = nll.sel({"model.d_model": 16, "corpus.rows": 8, "training_seed": 1})
    assert np.array_equal(chosen.transpose(*of_one.dims).values, of_one.values)


def test_its_cells_are_told_and_are_no_models(swept):
    _, _, sweep = swept
    cells = sweep.cells()
    assert cells["measure"].tolist()[:3] == [
        "d_model=8,rows=8, seed 0", "d_model=8,rows=8, seed 1", "d_model=8,rows=12, seed 0",
    ]  # fmt: skip
    assert set(cells["status"]) == {"finished"}
    assert cells["training_seed"].tolist() == [0, 1] * 4
    assert (sweep.models, sweep.measures, sweep.trainings) == ((), (), ("tiny",))
    assert repr(sweep) == f"Sweep({sweep.path}: 8 trainings; cells: 8 finished)"
    with pytest.raises(LocalizeError) as caught:
        sweep.signature()
    assert str(caught.value) == f"sweep {sweep.path}: model=None is not there: the sweep has none."


def test_nothing_is_trained_twice_and_what_is_new_is_added(swept):
    _, grid, sweep = swept
    said = []
    lz.run_sweep(grid, sweep.path, on_line=said.append)
    assert said == ["8 of 8 units are there; 0 to do."]
    wider = {"train": [{**grid["train"][0], "over": {**OVER, "corpus": {"rows": [8, 12, 10]}}}]}
    missing = [row for row in dry_run(wider, sweep.path) if row.missing]
    assert [row.measure for row in missing] == [
        f"d_model={width},rows=10, seed {seed}" for width in (8, 16) for seed in (0, 1)
    ]
    assert all(row.passes == 3 * 12 * 8 and row.seconds > 0 for row in missing)


def test_a_place_is_told_when_all_its_seeds_are_there(swept, tmp_path, monkeypatch):
    from localize.sweep.training_cells import TrainingUnit

    _, grid, _ = swept
    measured = TrainingUnit.measured

    def fails(self, *, show=False):
        if (self.arm, self.seed) in {("d_model=8,rows=12", 1), ("d_model=16,rows=8", 0)}:
            raise RuntimeError("no power")
        return measured(self, show=show)

    monkeypatch.setattr(TrainingUnit, "measured", fails)
    sweep = lz.run_sweep(grid, tmp_path / "s.zarr")
    assert sweep.cells()["status"].value_counts().to_dict() == {"finished": 6, "failed": 2}
    with pytest.warns(UserWarning, match="left out") as warned:
        arms = list(sweep.training().arms)
    assert arms == ["d_model=8,rows=8", "d_model=16,rows=12"]
    assert str(warned[0].message) == (
        f"sweep {sweep.path}: tiny: 2 of 4 places left out, of which not all seeds and runs are finished: d_model=8,rows=12; "
        "d_model=16,rows=8."
    )
    monkeypatch.undo()
    assert set(lz.run_sweep(grid, tmp_path / "s.zarr", retry=True).cells()["status"]) == {"finished"}


def test_a_pair_of_one_place_is_a_training_without_arms(written, tmp_path):
    grid = {"train": [{"recipe": str(written(PAIR)), "name": "pair"}]}
    sweep = lz.run_sweep(grid, tmp_path / "s.zarr")
    assert sweep.cells()["measure"].tolist() == ["seed 0, planted", "seed 0, twin"]
    found = sweep.training("pair")
    lz.train_recipe(PAIR, tmp_path / "alone")
    watched = lz.load_signature(tmp_path / "alone" / "training.zarr.zip")
    assert found.over_training == watched.over_training == ("training_run", "training_step")
    assert np.array_equal(found["token_nll"].values, watched["token_nll"].values)


def test_arms_of_the_recipe_are_crossed_with_the_grid_or_chosen(written):
    armed = replace(SET, arms={"slow": replace(SET, training=replace(SET.training, learning_rate=1e-4)), "fast": SET})
    path = str(written(armed))

    def places(**entry):
        return list(read_grid({"train": [{"recipe": path, **entry}]}).trainings[0].recipe.arms)

    assert places() == ["slow", "fast"]
    assert places(arms=["fast"]) == ["fast"]
    assert places(arms=[]) == []
    rows = {"corpus": {"rows": [8, 12]}}
    assert places(over=rows, arms=["slow"]) == ["slow,rows=8", "slow,rows=12"]
    slow = read_grid({"train": [{"recipe": path, "over": rows}]}).trainings[0].of("slow,rows=12")
    assert (slow.training.learning_rate, slow.corpus.rows) == (1e-4, 12)


def test_a_training_is_known_by_what_is_in_its_files_not_where_they_lie(make_model, written, tmp_path):
    def hashes(folder):
        recipe = replace(
            PAIR, corpus=TrainingCorpus((str(folder),), 300), planted=Planting("synthetic", {1: 2}, held_out=1)
        )
        return [
            cell.hash for cell in training_cells(read_grid({"train": [{"recipe": str(written(recipe))}]}).trainings[0])
        ]

    for name in ("one", "other/one"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "book.txt").write_text("It was a bright cold day. " * 40, encoding="utf-8")
    before = hashes(tmp_path / "one")
    assert before == hashes(tmp_path / "other" / "one")
    (tmp_path / "one" / "book.txt").write_text("It was a dark cold day. " * 40, encoding="utf-8")
    assert not set(before) & set(hashes(tmp_path / "one"))


def test_a_training_is_made_again_when_the_code_of_what_it_watches_has_changed(written, monkeypatch):
    def code(recipe, name):
        return training_cells(read_grid({"train": [{"recipe": str(written(recipe, name))}]}).trainings[0])[0].code

    watching = replace(SET, watch=Watching(4, measures=("recall", "stored_units")))
    before = code(SET, "a.toml"), code(watching, "b.toml")
    real = training_cells_module.code_of
    monkeypatch.setattr(
        training_cells_module, "code_of", lambda call: real(call) + "x" * (call.__name__ == "stored_units")
    )
    assert code(SET, "c.toml") == before[0]
    assert code(watching, "d.toml") != before[1]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, "grid: [[train]] 1: recipe = None must be a recipe's file, or a table as one."),
        ({"recipe": {}}, "grid: [[train]] 1: the recipe watches nothing, and a sweep keeps what was watched; [watch] every is needed."),
        ({"recipe": "no.toml"}, "recipe no.toml: no such file."),
        ({"over": {"model": {"d_model": 8}}}, "grid: [[train]] 1: over.model.d_model = 8 must be a list of at least one value."),
        ({"over": {"model": {"depth": [8]}}}, "recipe PATH: [model] has no 'depth'; it has attention, context, d_model, family, heads, "
            "layers, start, window. (grid: [[train]] 1: depth=8)"),
        ({"over": [8]}, "grid: [[train]] 1: over = [8] must be tables of lists, over.model.d_model = [16, 32]."),
        ({"arms": ["a"]}, "grid: [[train]] 1: arms = ['a'] must be a list of the recipe's: no arms."),
        ({"over": {"corpus": {"rows": [0]}}}, "recipe: corpus 'uniform': rows=0 must be a whole number of at least 1. "
            "(grid: [[train]] 1: rows=0)"),
        ({"seeds": 3}, "grid: [[train]] 1 has no 'seeds'; did you mean 'recipe'? Allowed: recipe, name, arms, device, over."),
    ],
)  # fmt: skip
def test_a_training_that_cannot_be_is_told_in_one_line(entry, told, written):
    path = written(SET)
    asked = entry if not entry or "recipe" in entry else {"recipe": str(path), **entry}
    with pytest.raises(InputError) as caught:
        read_grid({"train": [asked]})
    assert str(caught.value) == told.replace("PATH", str(path))


@pytest.mark.parametrize("section", ["model", "paragraphs"])
def test_what_nothing_is_asked_of_is_told(section, written):
    with pytest.raises(InputError) as caught:
        read_grid({section: [{}], "train": [{"recipe": str(written(SET))}]})
    assert str(caught.value) == f"grid: [[{section}]] without [[measure]]: nothing is asked of it."


def test_trainings_and_measurements_stand_in_one_sweep(files, grid, written, tmp_path):
    both = {**grid, "measure": [{"measurement": "recall"}], "train": [{"recipe": str(written(SET)), "arms": []}]}
    sweep = lz.run_sweep(both, tmp_path / "both.zarr")
    assert set(sweep.cells()["status"]) == {"finished"}
    assert (sweep.models, sweep.trainings) == (("deep", "flat"), ("tiny",))
    assert sweep.signature("deep")["nll"].dims == ("paragraph",)
    assert sweep.training().over_training == ("training_seed", "training_step")
    assert repr(sweep).startswith(
        f"Sweep({sweep.path}: 2 models x 1 paragraph sets x 1 measurements and 2 trainings; cells: "
    )


@pytest.mark.parametrize("grid", sorted(Path("data/sweeps").rglob("*.toml")), ids=str)
def test_a_shipped_grid_can_be_planned(grid):
    (asked,) = read_grid(grid).trainings
    assert len(asked.places) == 12 and asked.recipe.seeds == 5
    assert len({cell.hash for cell in training_cells(asked)}) == 60
