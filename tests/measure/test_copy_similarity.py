"""Cosines of a paragraph's and its copy's gradients against those of whole flattened gradients from plain backward passes."""

import numpy as np
import pytest

import localize as lz
from localize.measure.partners import mismatched
from tests.measure.conftest import LENGTH, PREFIX, cosines, flattened


def test_a_paragraph_is_as_alike_to_its_copy_as_their_flattened_gradients(hooked, clustered):
    changed = clustered.tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 97
    changed[:, 40:] = changed[:, 40:].flip(1)
    copies = lz.load_paragraphs(changed, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    signature = lz.copy_similarity(hooked, clustered, copies, seed=4, batch_size=6)
    partners = mismatched(clustered, 1, 4)[:, 0]
    own = [flattened(hooked, row[None]) for row in clustered.tokens]
    copy = [flattened(hooked, row[None]) for row in changed]
    for row, partner in enumerate(partners):
        for name, other in (("copy_similarity", copy[row]), ("copy_similarity_null", copy[partner])):
            for (layer, c), cosine in cosines(own[row], other).items():
                assert float(signature[name][row, layer, c]) == pytest.approx(cosine, rel=1e-8, abs=1e-11)


def test_an_unchanged_copy_is_wholly_alike(neo, clustered):
    signature = lz.copy_similarity(neo, clustered, clustered)
    assert np.allclose(signature["copy_similarity"], 1, rtol=1e-12)
    assert float(signature["copy_similarity_null"].mean()) < 0.9


def test_copies_of_another_shape_are_refused(neo, clustered):
    with pytest.raises(lz.InputError) as caught:
        lz.copy_similarity(neo, clustered, clustered[:2])
    assert str(caught.value) == (
        f"copy_similarity: the copies are {clustered[:2]!r} and the paragraphs {clustered!r}; one copy of the same prefix and "
        "continuation length is needed for each paragraph."
    )


def test_a_single_cluster_has_no_null(neo, clustered):
    with pytest.raises(lz.InputError) as caught:
        lz.copy_similarity(neo, clustered[[0, 6]], clustered[[0, 6]])
    assert str(caught.value) == (
        "Tensor: 2 paragraph(s) in one cluster of near-duplicates; the null of copy_similarity needs at least two clusters."
    )
