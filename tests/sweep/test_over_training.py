"""A sweep over checkpoints as one signature over training: the same that a watch measured while the model was trained."""

import shutil

import numpy as np
import pytest
import xarray as xr

import localize as lz
from localize.errors import InputError, LocalizeError, SignatureError
from localize.sweep.checkpoints import step_of
from localize.sweep.over_training import in_fixed_groups
from localize.train.recipe import Planting, Recipe, Shape, Training, TrainingCorpus, Watching
from localize.train.run import train_recipe

STEPS = [0, 8, 16, 20]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A minimal pair of two seeds with its checkpoints, watched as it was trained."""
    folder = tmp_path_factory.mktemp("trained") / "pair"
    recipe = Recipe(
        model=Shape(family="gpt2", layers=2, heads=2, d_model=16, context=16),
        corpus=TrainingCorpus(source="chain", vocab=32),
        planted=Planting(source="chain", copies={8: 5}, held_out=4, pair=True),
        training=Training(steps=20, batch=16, row_tokens=12, warmup=2, threads=1),
        watch=Watching(every=8, measures=("recall", "stored_units"), checkpoints=8),
        seeds=2,
    )
    train_recipe(recipe, folder)
    return folder


def grid_of(trained, **changed):
    """A grid of all checkpoints, in groups that stay the same."""
    return {
        "model": [{"source": str(trained), "checkpoints": "all"} | changed.get("model", {})],
        "paragraphs": [
            {"source": str(trained / "seed-0-planted/paragraphs.jsonl"), "prefix": 6, "continuation": 6, "groups": "copies"}
            | changed.get("paragraphs", {})
        ],
        "measure": changed.get("measure", [{"measurement": "stored_units"}]),
    }  # fmt: skip


@pytest.fixture(scope="module")
def swept(trained, tmp_path_factory):
    measure = [{"measurement": "stored_units"}, {"measurement": "ablate", "over": {"layers": [0, 1]}}]
    return lz.run_sweep(grid_of(trained, measure=measure), tmp_path_factory.mktemp("swept") / "s.zarr")


def test_it_is_what_was_watched_bit_for_bit(trained, swept):
    found, watched = lz.over_training(swept, measures="stored_units"), lz.load_signature(trained / "training.zarr.zip")
    assert found.over_training == watched.over_training == ("training_run", "training_seed", "training_step")
    assert found["training_step"].values.tolist() == STEPS
    assert set(found.variables) == set(watched.variables) - {"exposures", "steps_since_exposure"}
    for name in found.variables:
        assert found[name].dims == watched[name].dims
        assert np.array_equal(found[name].values, watched[name].values, equal_nan=True), name
    for name in ("weights_hash", "group", "cluster", "duplicates", "tokens"):
        assert np.array_equal(found.dataset[name].values, watched.dataset[name].values), name
    assert found.dataset.attrs["model"]["name"] == "pair"


def test_values_are_read_when_they_are_asked_for_and_saved_as_they_are(swept, tmp_path):
    found = lz.over_training(swept, measures="stored_units")
    assert found["unit_score"].chunks is not None
    part = found.at(training_run="twin", training_step=8)
    assert part["unit_score"].chunks is not None
    found.save(tmp_path / "all.zarr.zip")
    xr.testing.assert_identical(lz.load_signature(tmp_path / "all.zarr.zip").dataset, found.dataset.compute())


def test_parts_of_one_measurement_are_joined_and_a_checkpoint_is_a_signature_of_one_model(trained, swept):
    found = lz.over_training(swept).at(training_run="planted", training_seed=1, training_step=16)
    model = lz.load_model(trained / "seed-1-planted" / "step-16")
    paragraphs = lz.load_paragraphs(
        trained / "seed-0-planted/paragraphs.jsonl", model, prefix_length=6, continuation_length=6
    )
    assert found.over_training == ()
    expected = lz.ablate(model, paragraphs, layers=[0, 1])
    assert np.array_equal(found["ablated_nll"].values, expected["ablated_nll"].values)


def test_groups_that_follow_from_recall_are_those_of_the_copies(trained, swept):
    found = lz.over_training(swept, measures="recall").at(training_run="planted", training_seed=0)
    parts = {}
    for step, names in ((0, ("not_memorized", "not_memorized")), (20, ("not_memorized", "memorized"))):
        dataset = found.at(training_step=step).dataset
        group = np.where(dataset["duplicates"].values > 0, names[1], names[0])
        parts[step] = lz.MemorizationSignature(dataset.assign_coords(group=("paragraph", group)))
    named = [part.dataset["group"].values.tolist() for part in in_fixed_groups(parts).values()]
    assert named[0] == named[1] == np.where(found.dataset["duplicates"].values > 0, "planted", "never_trained").tolist()
    bare = {step: lz.MemorizationSignature(part.dataset.drop_vars("duplicates")) for step, part in parts.items()}
    assert set(in_fixed_groups(bare)[0].dataset["group"].values) == {"watched"}
    same = {step: parts[0] for step in (0, 20)}
    assert in_fixed_groups(same) is same


def test_what_is_measured_of_sets_needs_groups_that_stay(trained, tmp_path):
    model = {"source": str(trained / "seed-0-planted"), "checkpoints": ["step-0", "step-20"]}
    grid = grid_of(trained, model=model, measure=[{"measurement": "gradients"}])
    found = lz.over_training(lz.run_sweep(grid, tmp_path / "kept.zarr"))
    assert found["set_gradient_norm"].dims[:2] == ("training_step", "set")
    assert set(found["set"].values) == {"planted", "never_trained"}
    parts = {}
    for step in (0, 20):  # one paragraph is recalled at the end
        dataset = found.at(training_step=step).dataset
        group = np.where(np.arange(dataset.sizes["paragraph"]) * step == 20, "memorized", "not_memorized")
        parts[step] = lz.MemorizationSignature(dataset.assign_coords(group=("paragraph", group)))
    with pytest.raises(SignatureError, match='groups = "copies" in the grid keeps them'):
        in_fixed_groups(parts)


def test_a_step_that_one_training_lacks_is_left_out_and_told(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "part", ignore=shutil.ignore_patterns("*-twin"))
    shutil.rmtree(folder / "seed-1-planted" / "step-8")
    sweep = lz.run_sweep(grid_of(folder, measure=[{"measurement": "recall"}]), tmp_path / "s.zarr")
    with pytest.warns(
        UserWarning, match=r"1 of 4 steps left out \(8\): not finished, or not there, in all 2 trainings"
    ):
        found = lz.over_training(sweep)
    assert found["training_step"].values.tolist() == [0, 16, 20]


def test_checkpoints_of_other_places_are_told_apart_and_told_their_steps(trained, tmp_path):
    folder = shutil.copytree(trained / "seed-0-planted", tmp_path / "checkpoints")
    (folder / "step-20").rename(folder / "end")
    names = ["step-0", "end"]
    grid = grid_of(trained, model={"source": str(folder), "checkpoints": names}, measure=[{"measurement": "recall"}])
    grid["model"].append(grid["model"][0] | {"training_seed": 7, "dtype": "float64"})
    sweep = lz.run_sweep(grid, tmp_path / "s.zarr")
    with pytest.raises(LocalizeError, match=r"'end' tells no step; steps=\{'end': \.\.\.\} does"):
        lz.over_training(sweep)
    found = lz.over_training(
        sweep, steps={"end": 99}, models=[name for name in sweep.models if "training_seed" not in name]
    )
    assert found["training_step"].values.tolist() == [0, 99]


def test_two_models_at_one_step_of_one_training_are_refused(trained, tmp_path):
    one = {"source": str(trained / "seed-0-planted"), "checkpoints": ["step-0"]}
    grid = grid_of(trained, model=one, measure=[{"measurement": "recall"}])
    grid["model"].append({**one, "source": str(trained / "seed-1-planted")})
    sweep = lz.run_sweep(grid, tmp_path / "s.zarr")
    with pytest.raises(LocalizeError, match="are both of step 0 of one training; choose with models="):
        lz.over_training(sweep)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measures": "patch"}, "measures: no 'patch'; the sweep has recall, stored_units"),
        ({"paragraphs": "books"}, "paragraphs='books' is not one of paragraphs"),
        ({"models": ["gpt2"]}, "models: no 'gpt2'"),
    ],
)
def test_what_the_sweep_does_not_have_is_told(swept, arguments, message):
    with pytest.raises(LocalizeError, match=message):
        lz.over_training(swept, **arguments)


def test_a_sweep_without_checkpoints_is_told(trained, tmp_path):
    grid = grid_of(trained, measure=[{"measurement": "recall"}])
    grid["model"] = [{"source": str(trained / "seed-0-planted")}]
    sweep = lz.run_sweep(grid, tmp_path / "s.zarr")
    with pytest.raises(
        LocalizeError, match=r"no model of .* has checkpoints; `checkpoints` in the grid's \[\[model\]\]"
    ):
        lz.over_training(sweep)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"source": "EleutherAI/gpt-neo-125M"}, 'checkpoints = "all" is for a folder; of EleutherAI/gpt-neo-125M name them'),
        ({"source": "FOLDER"}, "no checkpoint in .*; sub-folders with a config.json and a number of steps"),
        ({"training_seed": "one"}, "training_seed = 'one' must be a whole number"),
    ],
)  # fmt: skip
def test_checkpoints_that_are_none_are_told(trained, tmp_path, model, message):
    model = {key: str(tmp_path) if value == "FOLDER" else value for key, value in model.items()}
    with pytest.raises(InputError, match=message):
        lz.run_sweep(grid_of(trained, model=model), tmp_path / "s.zarr")


def test_groups_of_a_grid_are_by_copies_or_by_recall(trained, tmp_path):
    with pytest.raises(InputError, match="groups = 'size' must be \"copies\", or be left out: by recall"):
        lz.run_sweep(grid_of(trained, paragraphs={"groups": "size"}), tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("name", "step"), [("step1000", 1000), ("checkpoint-500", 500), ("global_step_20", 20), ("main", None)]
)
def test_the_last_number_of_a_name_is_its_step(name, step):
    assert step_of(name) == step


def test_arms_are_found_by_their_folders(trained, tmp_path):
    for arm in ("few", "many"):
        shutil.copytree(trained, tmp_path / "arms" / arm, ignore=shutil.ignore_patterns("step-8", "step-16", "*-twin"))
    sweep = lz.run_sweep(grid_of(tmp_path / "arms", paragraphs={"source": str(trained / "seed-0-planted/paragraphs.jsonl")},
                                 measure=[{"measurement": "recall"}]), tmp_path / "s.zarr")  # fmt: skip
    found = lz.over_training(sweep)
    assert found.over_training[0] == "training_arm"
    assert np.array_equal(found.at(training_arm="few")["nll"].values, found.at(training_arm="many")["nll"].values)
