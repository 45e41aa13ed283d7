"""`localize train` of several seeds and runs, and what `show`, `figures` and `report` tell of them."""

import pytest

from localize import load_signature

RECIPE = """
seeds = 1
[model]
family = "gpt2"
layers = 1
heads = 2
d_model = 16
context = 16
[corpus]
source = "chain"
vocab = 64
[planted]
copies = { 4 = 4, 16 = 4 }
windows = [[0, 0.5], [0, 1]]
held_out = 6
pair = true
[training]
steps = 30
batch = 8
row_tokens = 12
warmup = 2
threads = 1
learning_rate = 1e-2
[watch]
every = 5
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.toml"


def test_seeds_and_twins_are_trained_joined_and_told(localize, recipe, tmp_path):
    out = tmp_path / "out"
    code, stdout, stderr = localize("train", recipe, "--out", out, "--seeds", "2")
    assert code == 0
    assert "training 4 of 4" in stderr and "planted " in stderr and "EM " in stderr
    told = " ".join(stdout.split())
    assert (
        f"Wrote {out}: 4 trainings and training.zarr.zip, what was watched in all; next: localize report {out}" in told
    )
    signature = load_signature(out / "training.zarr.zip")
    assert dict(signature["nll"].sizes) == {"training_run": 2, "training_seed": 2, "training_step": 7, "paragraph": 14}
    code, stdout, stderr = localize("show", out)
    assert (code, stderr) == (0, "")
    told = " ".join(stdout.split())
    assert "14 paragraphs over training (2 of training_run, 2 of training_seed, 7 of training_step)" in told
    assert "What copies taught" in told and "What is left of what was shown early" in told
    assert "2 seeds; 5 are needed to tell what holds for other trainings." in told
    code, _, _ = localize("figures", out, "--out", tmp_path / "figs", "--format", "none", "--width", "page")
    assert code == 0
    assert {path.name for path in (tmp_path / "figs").glob("*.json")} == {
        "command.json", "dose.json", "forgetting.json", "training.json",
    }  # fmt: skip
    code, _, _ = localize("report", out)
    assert code == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("What copies taught, by when they were shown", "When texts were first recited", "What is left after"):
        assert words in page


def test_replay_needs_a_stage_before(localize, recipe, tmp_path):
    assert localize.refused("train", recipe, "--out", tmp_path / "out", "--replay", "0.1") == (
        "--replay 0.1: the recipe has no stage before its last, whose rows could be shown again."
    )
    assert not (tmp_path / "out").exists()


def test_replay_takes_the_place_of_the_recipes(localize, recipe, tmp_path):
    stages = '[[stage]]\nsteps = 20\n[[stage]]\nname = "new"\nsteps = 20\ncorpus = { rules = 1 }\n'
    recipe.write_text(RECIPE.replace("pair = true", "") + stages, encoding="utf-8")
    out = tmp_path / "out"
    assert localize("train", recipe, "--out", out, "--replay", "0.25")[0] == 0
    signature = load_signature(out / "training.zarr.zip")
    assert [stage["replay"] for stage in signature.dataset.attrs["training"]["stages"]] == [0.0, 0.25]
    assert [stage["name"] for stage in signature.dataset.attrs["training"]["stages"]] == ["stage 0", "new"]
    assert localize.refused("train", recipe, "--out", out, "--replay", "1") == (
        "recipe: stage 1: replay=1.0 must be a share of 0 up to below 1."
    )
