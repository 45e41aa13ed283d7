"""What a paragraph lacks is missing for that paragraph, in the signature and in all that reads it."""

import json

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import ordered_groups
from localize.plots.figures.recall import by_duplicates, known_counts

GROUPS = ("b", None, "a", None, "a", "b")
COPIES = (3, None, 0, 3, None, 7)


def made(**columns):
    tokens = torch.randint(0, 97, (6, 40), generator=torch.Generator().manual_seed(0))
    return lz.Paragraphs(tokens, 20, **columns)


@pytest.fixture
def signature(neo):
    texts = (None, "one", None, "three", None, None)
    return lz.recall(neo, made(groups=GROUPS, duplicates=COPIES, texts=texts))


def test_what_is_not_known_of_a_paragraph_is_told_as_such(signature):
    dataset = signature.dataset
    assert dataset["group"].values.tolist() == ["b", "unlabelled", "a", "unlabelled", "a", "b"]
    assert np.array_equal(dataset["duplicates"].values, [3, np.nan, 0, 3, np.nan, 7], equal_nan=True)
    assert dataset["text"].values.tolist() == ["", "one", "", "three", "", ""]
    assert signature.groups == ("a", "b", "unlabelled")


def test_numbers_of_copies_that_are_all_known_stay_whole(neo):
    assert lz.recall(neo, made(duplicates=(1, 2, 3, 4, 5, 6)))["duplicates"].dtype == np.int64


def test_signatures_with_what_is_not_known_join_save_and_load(signature, neo, tmp_path):
    again = lz.recall(neo, made(groups=GROUPS, duplicates=COPIES, texts=(None, "one", None, "three", None, None)))
    assert (signature | again).dataset.equals(signature.dataset)
    other = lz.recall(
        neo, made(groups=GROUPS, duplicates=(3, None, 0, 3, 1, 7), texts=(None, "one", None, "three", None, None))
    )
    with pytest.raises(lz.SignatureError, match=r"^join: 'duplicates' differs between the two signatures"):
        signature | other
    signature.save(tmp_path / "s.zarr.zip")
    assert lz.load_signature(tmp_path / "s.zarr.zip").dataset.equals(signature.dataset)


def test_the_unlabelled_are_a_group_like_others_and_the_last(neo):
    assert ordered_groups(["z", "unlabelled", "memorized", "a"]) == ("memorized", "a", "z", "unlabelled")
    paragraphs = made(groups=GROUPS)
    with pytest.warns(UserWarning, match="effective clusters"):
        comparison = lz.recall(neo, paragraphs).compare("a", "unlabelled", "nll")
    values = lz.recall(neo, paragraphs)["nll"].values
    assert float(comparison["nll"]["difference"]) == pytest.approx(values[[2, 4]].mean() - values[[1, 3]].mean())
    sets = lz.edit_sets(neo, paragraphs, forget=1, group="unlabelled")
    assert sets.forget.labels == ("unlabelled",)
    assert lz.gradients(neo, paragraphs)["set"].values.tolist() == ["b", "unlabelled", "a"]


def test_a_batch_of_the_unlabelled_alone_is_no_other_group(neo):
    whole = lz.gradients(neo, made(groups=GROUPS))["set_gradient_max"]
    one_by_one = lz.gradients(neo, made(groups=GROUPS), batch_size=1)["set_gradient_max"]
    assert np.allclose(whole, one_by_one, rtol=1e-9)


def test_paragraphs_of_unknown_copies_are_in_no_mean_by_copies():
    values, copies = np.arange(5.0), np.array([2, np.nan, 1, 2, np.nan])
    assert known_counts(copies).tolist() == [1, 2]
    counts, interval = by_duplicates(values, copies, np.arange(5), 0)
    assert (counts.tolist(), interval.estimate.tolist()) == ([1, 2], [2.0, 1.5])


def test_a_report_tells_what_is_not_known_as_null(signature):
    from localize.report.paragraphs import _listed

    listed = _listed(signature.dataset, signature.groups)
    assert listed["duplicates"] == [3, None, 0, 3, None, 7]
    assert json.loads(json.dumps(listed, allow_nan=False))["texts"] == ["", "one", "", "three", "", ""]


def test_notes_of_reading_stand_in_the_provenance(neo):
    assert lz.recall(neo, made(notes=("what was read otherwise",))).dataset.attrs["paragraphs"]["notes"] == [
        "what was read otherwise"
    ]
