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
    assert "What copies taught" in told and "What is left after the last time" in told
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


ARMS = """
[[stage]]
steps = 20
[[stage]]
name = "new"
steps = 20
corpus = { rules = 1 }
[arms."0%"]
[arms."25%"]
stage.1.replay = 0.25
"""


def test_arms_are_trained_beside_each_other_and_told_so(localize, recipe, tmp_path):
    recipe.write_text(RECIPE.replace("pair = true", "") + ARMS, encoding="utf-8")
    out = tmp_path / "out"
    code, stdout, stderr = localize("train", recipe, "--out", out, "--seeds", "2")
    assert code == 0 and "training 4 of 4" in stderr
    signature = load_signature(out / "training.zarr.zip")
    assert dict(signature["nll"].sizes) == {"training_arm": 2, "training_seed": 2, "training_step": 9, "paragraph": 20}
    told = signature.dataset.attrs["training"]["arms"]
    assert [told[arm]["stages"][1]["replay"] for arm in ("0%", "25%")] == [0.0, 0.25]
    assert told["25%"]["varied"] == {"stage.1.replay": 0.25}
    alone = load_signature(out / "25%" / "training.zarr.zip")
    assert (alone["nll"].values == signature.at(training_arm="25%")["nll"].values).all()
    assert alone.dataset.attrs["training"].items() <= told["25%"].items()
    code, stdout, _ = localize("show", out)
    told = " ".join(stdout.split())
    assert code == 0 and "Variants of the training beside the first" in told
    assert f"Each arm has a folder of its own: localize show {out}/0%" in told
    assert "What copies taught" in " ".join(localize("show", out / "25%")[1].split())
    code, _, _ = localize("report", out)
    assert code == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("Variants of the training beside the first", "What copies taught, by when they were shown: 25%"):
        assert words in page


def test_several_recipes_are_trained_each_into_a_folder_of_its_name_and_go_on(localize, recipe, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("rate = 1e-2", "rate = 2e-2"), encoding="utf-8")
    out = tmp_path / "out"
    code, _, _ = localize("train", recipe, other, "--out", out)
    assert code == 0
    assert {path.name for path in out.iterdir()} == {"recipe", "other"}
    before = (out / "other" / "seed-0-twin" / "model.safetensors").stat().st_mtime_ns
    assert localize("train", recipe, other, "--out", out)[0] == 0
    assert (out / "other" / "seed-0-twin" / "model.safetensors").stat().st_mtime_ns == before
    assert localize.refused("train", recipe, recipe, "--out", out) == (
        "recipes: two have the same name; each is trained into a folder of its name."
    )


@pytest.mark.parametrize(
    ("copies", "halves", "message"),
    [
        ("4 = 4", "3", "halves=3 must be even: every two leave out opposite halves."),
        ("4 = 4", "-2", "halves=-2 must be a whole number of at least 0."),
        ("", "2", "halves=2 without planted copies: there is nothing to leave out."),
    ],
)
def test_halves_that_mean_nothing_are_refused_before_anything_is_made(
    localize, recipe, tmp_path, copies, halves, message
):
    text = RECIPE.replace("4 = 4, 16 = 4", copies).replace("pair = true", f"halves = {halves}")
    recipe.write_text(text, encoding="utf-8")
    assert localize.refused("train", recipe, "--out", tmp_path / "out") == f"recipe: {message}"
    assert not (tmp_path / "out").exists()


def test_no_halves_are_one_model_and_halves_of_one_seed_are_told_with_a_warning(localize, recipe, tmp_path):
    """Two models tell each text's memory; its interval is then over texts, which says nothing of other trainings."""
    recipe.write_text(RECIPE.replace("pair = true", "halves = 0"), encoding="utf-8")
    assert localize("train", recipe, "--out", tmp_path / "none")[0] == 0
    assert (tmp_path / "none" / "model.safetensors").is_file()
    recipe.write_text(RECIPE.replace("pair = true", "halves = 2"), encoding="utf-8")
    assert localize("train", recipe, "--out", tmp_path / "halves")[0] == 0
    code, stdout, stderr = localize("show", tmp_path / "halves")
    told = " ".join(stdout.split())
    assert (code, stderr) == (0, "") and "memory: NLL without - with" in told and "clusters" in told
    assert (
        "Note: counterfactual_table: one seed, so that intervals are over clusters of paragraphs; 5 are needed" in told
    )


def test_what_the_loss_change_costs_is_told_before_the_first_step(localize, recipe, tmp_path, monkeypatch):
    """What is told is what the training then takes: held-out text of a second stage counts."""
    import json

    from localize.train.loop import Trainer

    text = RECIPE.replace("pair = true", "").replace("every = 5", "every = 5\nloss_change = true")
    recipe.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    wanted = "Loss change: every step also takes a forward and backward pass of 14 rows, 1.8 of a step's."
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", lambda self: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            localize("train", recipe, "--out", tmp_path / "cut")
    assert wanted in localize("train", recipe, "--out", out)[1].splitlines()[0]
    first = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (first["loss_change_rows_a_step"], first["loss_change_of_a_step"]) == (14, 1.75)
    arms = ARMS.replace("stage.1.replay = 0.25", "planted.held_out = 2").replace('[arms."25%"]', "[arms.few]")
    recipe.write_text(text + arms, encoding="utf-8")
    told = localize("train", recipe, "--out", tmp_path / "arms")[1].splitlines()[:2]
    assert told == [
        "Loss change of 0%: every step also takes a forward and backward pass of 20 rows, 2.5 of a step's.",
        "Loss change of few: every step also takes a forward and backward pass of 12 rows, 1.5 of a step's.",
    ]
    for arm, rows in (("0%", 20), ("few", 12)):
        first = json.loads((tmp_path / "arms" / arm / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
        assert first["loss_change_rows_a_step"] == rows
    recipe.write_text(RECIPE, encoding="utf-8")
    assert "Loss change" not in localize("train", recipe, "--out", tmp_path / "without")[1]
