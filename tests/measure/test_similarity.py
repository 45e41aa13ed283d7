"""Cosines of gradients against those of whole flattened gradients from plain backward passes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

import localize as lz
from localize.axes import COMPONENTS
from localize.measure.heads import mismatched
from localize.models.parameters import weight_view

PREFIX, LENGTH = 24, 60


@pytest.fixture
def paragraphs(tokens):
    rows = torch.cat([tokens, tokens[:2]])
    rows[6:, -1] = (rows[6:, -1] + 1) % 97  # near-duplicates of the first two
    return lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX).with_groups("aaabbbaa")


def flattened(model, rows):
    """The gradient of the rows' mean NLL, `(layer, component)` to a vector."""
    model.hf.zero_grad()
    logits = model(rows)[:, PREFIX - 1 : -1]
    cross_entropy(logits.flatten(0, 1), rows[:, PREFIX:].flatten()).backward()
    found = {
        (layer, c): weight_view(model, layer, name, grad=True).flatten().clone()
        for layer in range(model.n_layers)
        for c, name in enumerate(COMPONENTS)
    }
    model.hf.zero_grad()
    return found


def cosines(one, other):
    return {cell: float(cosine_similarity(one[cell], other[cell], dim=0)) for cell in one}


def test_groups_are_as_alike_as_their_flattened_gradients(hooked, paragraphs):
    signature = lz.set_similarity(hooked, paragraphs, batch_size=3)
    a, b = (flattened(hooked, paragraphs.tokens[np.array(paragraphs.groups) == g]) for g in "ab")
    found = signature["set_similarity"]
    for (layer, c), cosine in cosines(a, b).items():
        assert float(found.sel(set="a", other_set="b")[layer, c]) == pytest.approx(cosine, rel=1e-9, abs=1e-12)
    assert np.allclose(found.sel(set="a", other_set="a"), 1)
    assert np.allclose(found, found.transpose("other_set", "set", "layer", "component"))


def test_halves_are_clusters_whole_and_off_the_diagonal_halves_of_either_are_compared(neo, paragraphs):
    signature = lz.set_similarity(neo, paragraphs, seed=1)
    # Group a has clusters {0, 6}, {1, 7}, {2}; b {3}, {4}, {5}: one cluster in each second half.
    tokens, found = paragraphs.tokens, signature["set_split_similarity"]

    def halves(clusters):
        for second in clusters:
            first = [row for cluster in clusters if cluster is not second for row in cluster]
            yield flattened(neo, tokens[first]), flattened(neo, tokens[second])

    of_a, of_b = list(halves([[0, 6], [1, 7], [2]])), list(halves([[3], [4], [5]]))

    def table(pairs):
        return np.array([np.mean([list(cosines(x, y).values()) for x, y in pairs], axis=0)]).ravel()

    on_diagonal = [table([pair]) for pair in of_a]
    assert any(
        np.allclose(found.sel(set="a", other_set="a").values.ravel(), wanted, rtol=1e-8) for wanted in on_diagonal
    )
    crossed = [table([(x, y) for x in one for y in other]) for one in of_a for other in of_b]
    assert any(np.allclose(found.sel(set="a", other_set="b").values.ravel(), wanted, rtol=1e-8) for wanted in crossed)


def test_a_group_of_one_cluster_has_no_halves(neo, paragraphs):
    signature = lz.set_similarity(neo, paragraphs[[0, 6, 3, 4]].with_groups("aabb"))
    split = signature["set_split_similarity"]
    assert np.isnan(split.sel(set="a")).all()
    assert not np.isnan(split.sel(set="b", other_set="b")).any()
    assert not np.isnan(signature["set_similarity"]).any()


def test_a_paragraph_is_as_alike_to_its_copy_as_their_flattened_gradients(hooked, paragraphs):
    changed = paragraphs.tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 97
    changed[:, 40:] = changed[:, 40:].flip(1)
    copies = lz.load_paragraphs(changed, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    signature = lz.copy_similarity(hooked, paragraphs, copies, seed=4, batch_size=6)
    partners = mismatched(paragraphs, 1, 4)[:, 0]
    own = [flattened(hooked, row[None]) for row in paragraphs.tokens]
    copy = [flattened(hooked, row[None]) for row in changed]
    for row, partner in enumerate(partners):
        for name, other in (("copy_similarity", copy[row]), ("copy_similarity_null", copy[partner])):
            for (layer, c), cosine in cosines(own[row], other).items():
                assert float(signature[name][row, layer, c]) == pytest.approx(cosine, rel=1e-8, abs=1e-11)


def test_an_unchanged_copy_is_wholly_alike(neo, paragraphs):
    signature = lz.copy_similarity(neo, paragraphs, paragraphs)
    assert np.allclose(signature["copy_similarity"], 1, rtol=1e-12)
    assert float(signature["copy_similarity_null"].mean()) < 0.9


def test_copies_of_another_shape_are_refused(neo, paragraphs):
    with pytest.raises(lz.InputError) as caught:
        lz.copy_similarity(neo, paragraphs, paragraphs[:2])
    assert str(caught.value) == (
        f"copy_similarity: the copies are {paragraphs[:2]!r} and the paragraphs {paragraphs!r}; one copy of the same prefix and "
        "continuation length is needed for each paragraph."
    )


def test_a_single_cluster_has_no_null(neo, paragraphs):
    with pytest.raises(lz.InputError) as caught:
        lz.copy_similarity(neo, paragraphs[[0, 6]], paragraphs[[0, 6]])
    assert str(caught.value) == (
        "Tensor: 2 paragraph(s) in one cluster of near-duplicates; the null of copy_similarity needs at least two clusters."
    )
