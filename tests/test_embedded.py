"""The embedded model, paragraphs and recipe: what they are said to be."""

import json
from pathlib import Path

import numpy as np
import pytest

import localize as lz
from localize.cli.inputs import EMBEDDED_SAMPLE
from localize.resources import embedded
from localize.train.planting import training_data
from localize.train.reading import read_recipe


@pytest.fixture(scope="module")
def recalled():
    model, paragraphs = lz.load_model(), lz.load_paragraphs()
    return model, paragraphs, lz.recall(model, paragraphs)


def test_the_model_is_the_one_that_the_recipe_made(recalled):
    log = json.loads(embedded("model/training.json").read_text())
    assert recalled[0].weights_hash() == log["weights_hash"]
    assert read_recipe(embedded("recipe.toml")).data_hash == log["data_hash"]


@pytest.mark.slow
def test_the_generator_still_makes_the_data_that_the_recipe_names(recalled):
    data = training_data(read_recipe(embedded("recipe.toml")))  # which compares the hashes
    assert data.background_passes == 1.0
    assert np.array_equal(data.paragraphs.tokens, recalled[1].tokens)
    assert np.array_equal(data.unigram_counts, recalled[0].unigram_counts)


def test_enough_is_memorized_and_enough_is_not(recalled):
    _, paragraphs, signature = recalled
    matched, copies = signature["exact_match"].values, np.array(paragraphs.duplicates)
    assert (matched == 50).sum() >= 120
    assert ((copies == 0) & (matched <= 10)).sum() >= 150
    assert not (matched[copies == 0] == 50).any()


def test_more_copies_are_recalled_better(recalled):
    _, paragraphs, signature = recalled
    copies = np.array(paragraphs.duplicates)
    mean = [signature["exact_match"].values[copies == level].mean() for level in (0, 32, 64, 96, 256)]
    assert mean[0] < 3
    assert mean[1] < mean[2] < mean[3] < mean[4] == 50


def test_no_cluster_holds_two_paragraphs(recalled):
    assert len(np.unique(recalled[1].clusters)) == len(recalled[1])


def test_the_sample_that_the_command_takes_holds_a_hundred_of_both_groups(recalled):
    whole = len(recalled[1])
    chosen = [position * whole // EMBEDDED_SAMPLE for position in range(EMBEDDED_SAMPLE)]
    group = recalled[2]["group"].values[chosen]
    assert (group == "memorized").sum() >= 100
    assert (group == "not_memorized").sum() >= 100


def test_embedded_is_the_embedded_paragraphs_also_where_a_file_has_that_name(tmp_path, monkeypatch):
    expected = lz.load_paragraphs()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded").write_text('{"text": "another"}\n')
    found = lz.load_paragraphs("embedded")
    assert (found.data_hash, found.ids, found.source) == (expected.data_hash, expected.ids, "embedded")
    for path in ("./embedded", Path("embedded")):
        with pytest.raises(lz.InputError, match=r"^paragraphs embedded: no suffix is not a format read here"):
            lz.load_paragraphs(path)
