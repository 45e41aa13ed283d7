"""`localize edit` of planted truths: its texts are forgotten, and its true units are known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import localize as lz
from localize.signature import load_signature
from localize.truths.injection import Injection
from localize.truths.training import Schedule
from localize.truths.truth import Gate

pytestmark = pytest.mark.filterwarnings("ignore:.*effective")

PREFIX, LENGTH = 16, 24
STEPS = ("--steps", "2", "--learning-rate", "0.01", "--no-controls")
SHORT = ("--forget", "2", *STEPS)
PASSED, FAILED = Gate("recited", "share of texts", 1.0, 0.75, 1.0), Gate("drift", "nats per token", 0.5, -1.0, 0.05)


@pytest.fixture(scope="module")
def base(make_model):
    return make_model("gpt2", dtype=torch.float32)


@pytest.fixture(scope="module")
def planted(base):
    """Four texts, each in 8 units of every layer, with all gates passed."""
    tokens = torch.randint(97, (40, LENGTH), generator=torch.Generator().manual_seed(5))
    pool = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    truth = lz.plant(base, pool, "route", units=8, texts=4, schedule=Schedule(steps=200, divergence=1.0))
    assert truth.passed and len(truth.paragraphs) == 4
    return truth


@pytest.fixture
def folder(planted, tmp_path):
    planted.save(tmp_path / "truth")
    return tmp_path / "truth"


@pytest.fixture
def injected(base, planted, tmp_path):
    """A folder with one model a text; no step was taken, and its units write what they wrote before but for their sign."""
    texts = len(planted.paragraphs)
    done = Injection(base, texts, 5, 0).done()
    done = replace(done, rows=-done.rows)
    nominal = np.zeros((texts, base.n_layers, base.d_mlp), bool)
    for text in range(texts):
        for layer in range(base.n_layers):
            nominal[text, layer, done.places[text, layer].numpy()] = True
    truth = replace(
        planted, base=base, model=None, injected=done, nominal=nominal, live=nominal, reserved=nominal.any(0),
        settings={**planted.settings, "kind": "inj", "units": 5},
    )  # fmt: skip
    truth.save(tmp_path / "injected")
    return tmp_path / "injected"


@pytest.fixture
def known(base, planted, tmp_path):
    """A file of six texts that the base recites, and one of them that stands among the truth's."""
    prefixes = torch.randint(97, (6, PREFIX), generator=torch.Generator().manual_seed(9))
    rows = torch.cat([prefixes, base.continue_greedily(prefixes, LENGTH - PREFIX)], 1)
    rows = torch.cat([rows, planted.others.tokens[:1]])
    lines = [json.dumps({"tokens": row, "id": f"known {i}"}) for i, row in enumerate(rows.tolist())]
    (tmp_path / "known.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "known.jsonl"


def test_what_was_planted_is_forgotten_by_its_true_units(localize, folder, planted, tmp_path):
    out, localizers = tmp_path / "out", ("--localizer", "oracle", "--localizer", "ratio")
    code, stdout, stderr = localize("edit", folder, *SHORT, *localizers, "--fraction", "0.1", "--out", out)
    assert (code, stderr) == (0, "")
    table = pd.read_csv(out / "changes.csv", index_col=["edit", "quantity", "group"])
    assert list(table.index.unique("edit")) == ["true units 10 %", "ratio 10 %"]
    before = load_signature(out / "true-units-10-seed0-before.zarr.zip")
    group = before["group"].values
    forgotten = before["paragraph"].values[group == "forget"].tolist()
    assert len(forgotten) == 2 and set(forgotten) < set(planted.paragraphs.ids)
    # half of the others are judged by, half are general text
    judged = {name.removeprefix("general ") for name in before["paragraph"].values[group == "general"]}
    assert judged <= {str(name) for name in planted.others.ids} and len(judged) == len(planted.others) // 2
    edited = lz.load_edit(out / "true-units-10-seed0.safetensors")
    rows = [planted.paragraphs.ids.index(name) for name in forgotten]
    true = planted.live[rows].any(0)
    for layer in range(planted.model.n_layers):
        mine = edited.mask.matrix(layer, "W_out").any(1).numpy()
        assert not (true[layer] & ~mine).any() or not (mine & ~true[layer]).any()
    assert "true units 10 %: the aim is " in stdout and "ratio 10 %: the aim is " in stdout


def test_without_a_fraction_all_true_units_of_the_texts_and_no_others_may_change(localize, folder, planted, tmp_path):
    code, _, stderr = localize("edit", folder, *SHORT, "--localizer", "oracle", "--out", tmp_path / "out")
    assert (code, stderr) == (0, "")
    edited = lz.load_edit(tmp_path / "out" / "true-units-seed0.safetensors")
    forgotten = load_signature(tmp_path / "out" / "true-units-seed0-before.zarr.zip").where(group="forget")
    true = planted.live[[planted.paragraphs.ids.index(name) for name in forgotten["paragraph"].values]].any(0)
    assert edited.call["masked"] == true.sum() * 2 * planted.model.d_model
    for layer in range(planted.model.n_layers):
        if (layer, "W_out") in edited.mask.indices:
            assert not edited.mask.matrix(layer, "W_out").any(1).numpy()[~true[layer]].any()


def test_other_paragraphs_may_be_named_beside_and_those_near_the_truths_own_are_left_out_and_told(
    localize, folder, known, tmp_path
):
    code, stdout, stderr = localize("edit", folder, known, *SHORT, "--fraction", "0.1", "--out", tmp_path / "out")
    assert (code, stderr) == (0, "")
    assert f"1 of 7 paragraphs of {known} are near the truth's own, and left out." in " ".join(stdout.split("\n"))
    before = load_signature(tmp_path / "out" / "ratio-10-seed0-before.zarr.zip")
    assert sum(name.startswith("given ") for name in before["paragraph"].values.tolist()) == 6
    assert "given known 6" not in before["paragraph"].values


def test_curvature_takes_half_of_the_truths_general_text(localize, folder, planted, tmp_path):
    options = ("--forget", "2", "--no-controls", "--action", "curvature", "--rho", "0.9", "--out", tmp_path / "out")
    code, _, stderr = localize("edit", folder, *options)
    assert (code, stderr) == (0, "")
    before = load_signature(tmp_path / "out" / "rho-0.9-seed0-before.zarr.zip")
    assert (before["group"].values == "general").sum() == len(planted.others) // 2 // 2


def test_of_an_injected_truth_each_repeat_edits_the_model_of_another_text(localize, injected, base, known, tmp_path):
    options = ("--localizer", "oracle", "--fraction", "0.1", "--repeats", "2", "--out", tmp_path / "out")
    code, _, stderr = localize("edit", injected, known, *STEPS, *options, "--export", tmp_path / "exported")
    assert (code, stderr) == (0, "")
    truth = lz.load_truth(injected)
    for seed in (0, 1):
        edited = lz.load_edit(tmp_path / "out" / f"true-units-10-seed{seed}.safetensors")
        assert edited.weights_hash == truth.injected.model(truth.base, seed).weights_hash()
        before = load_signature(tmp_path / "out" / f"true-units-10-seed{seed}-before.zarr.zip")
        assert before.where(group="forget")["paragraph"].values.tolist() == [truth.paragraphs.ids[seed]]
    after = load_signature(tmp_path / "out" / "true-units-10-seed0-after.zarr.zip")
    assert lz.load_model(tmp_path / "exported").weights_hash() == after.dataset.attrs["model"]["weights_hash"]


def test_an_injected_truth_needs_paragraphs_to_be_judged_by(localize, injected, tmp_path):
    assert localize.refused("edit", injected, *STEPS, "--out", tmp_path / "out") == (
        f"{injected}: each of its models holds one text; name paragraphs that the model recites, to judge edits by."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--forget", "2"), ("--group", "planted"), ("--paragraph", "a")])
def test_what_of_an_injected_truth_is_forgotten_is_not_chosen(localize, injected, known, tmp_path, option):
    assert localize.refused("edit", injected, known, *STEPS, *option, "--out", tmp_path / "out") == (
        f"--forget, --group, --paragraph: each model of {injected} holds one text, which is forgotten; leave them out."
    )


def test_a_truth_that_fails_a_gate_is_not_edited(localize, planted, tmp_path):
    replace(planted, gates=(PASSED, FAILED, replace(FAILED, name="norm"))).save(tmp_path / "truth")
    assert localize.refused("edit", tmp_path / "truth", *SHORT, "--out", tmp_path / "out") == (
        f"{tmp_path / 'truth'}: the truth fails a gate (drift, norm); what edits do to it says nothing."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--localizer", "nosuch"), f"--localizer nosuch: not one of {', '.join(lz.localizers.names())}, all, oracle."),
        (("--forget", "9"), "edit_sets: forget=9 must lie in 1..4, the clusters of planted paragraphs."),
        (("--paragraph", "nobody"), "no such id among the"),
        (("--limit", "3"), "--limit: means nothing of a planted truth; leave it out."),
        (("--dtype", "bfloat16"), "--dtype: means nothing of a planted truth; leave it out."),
        (("--prefix", "10"), "--prefix: means nothing of a planted truth; leave it out."),
        (("--continuation", "10"), "--continuation: means nothing of a planted truth; leave it out."),
    ],
)
def test_what_a_truth_does_not_know_is_refused_in_one_line(localize, folder, tmp_path, options, message):
    assert message in localize.refused("edit", folder, *SHORT, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()
