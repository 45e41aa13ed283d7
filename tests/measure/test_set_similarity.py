"""Cosines of sets' gradients against those of whole flattened gradients from plain backward passes."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.equal_sets import sets_of
from tests.measure.conftest import cosines, flattened


def test_groups_are_as_alike_as_their_flattened_gradients(hooked, clustered):
    signature = lz.set_similarity(hooked, clustered, set_sizes="all", batch_size=3)
    a, b = (flattened(hooked, clustered.tokens[np.array(clustered.groups) == g]) for g in "ab")
    found = signature["set_similarity"]
    for (layer, c), cosine in cosines(a, b).items():
        assert float(found.sel(set="a", other_set="b")[layer, c]) == pytest.approx(cosine, rel=1e-9, abs=1e-12)
    assert np.allclose(found.sel(set="a", other_set="a"), 1)
    assert np.allclose(found, found.transpose("other_set", "set", "layer", "component"))


def test_halves_are_clusters_whole_and_off_the_diagonal_halves_of_either_are_compared(neo, clustered):
    signature = lz.set_similarity(neo, clustered, set_sizes="all", seed=1)
    # Group a has clusters {0, 6}, {1, 7}, {2}; b {3}, {4}, {5}: one cluster in each second half.
    tokens, found = clustered.tokens, signature["set_split_similarity"]

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


def test_a_group_of_one_cluster_has_no_halves(neo, clustered):
    signature = lz.set_similarity(neo, clustered[[0, 6, 3, 4]].with_groups("aabb"))
    split = signature["set_split_similarity"]
    assert np.isnan(split.sel(set="a")).all()
    assert not np.isnan(split.sel(set="b", other_set="b")).any()
    assert not np.isnan(signature["set_similarity"]).any()


def test_sets_of_equal_size_are_compared_pair_by_pair(neo, clustered):
    """Five paragraphs of a, three of b: with one left of a there is one set of each; of a single paragraph in b, five and one."""
    for groups, count in (("aaabbbaa", 1), ("aaab    ".replace(" ", "a"), 4)):
        named = clustered.with_groups(groups)
        signature = lz.set_similarity(neo, named, seed=2)
        drawn = sets_of(np.array(list(groups)), named.hashes, sizes="equal", draws=4, seed=2)
        assert signature["set_count"].values.tolist() == [count, 1]
        a, b = ([flattened(neo, named.tokens[drawn.rows(one)]) for one in drawn.drawn(name)] for name in "ab")
        expected = np.mean([list(cosines(x, y).values()) for x in a for y in b], axis=0)
        found = signature["set_similarity"]
        assert np.allclose(found.sel(set="a", other_set="b").values.ravel(), expected, rtol=1e-8)
        assert np.allclose(found.sel(set="a", other_set="a"), 1)


def test_halves_of_equal_sets_are_of_each_set_apart(neo, tokens):
    """Three sets of two different paragraphs each: on the diagonal one with the other, on average over the sets."""
    rows = torch.cat([tokens, tokens.flip(1)[:2]])
    named = lz.load_paragraphs(rows, prefix_length=24, continuation_length=36).with_groups("aaaaaabb")
    found = lz.set_similarity(neo, named, seed=0)["set_split_similarity"].sel(set="a", other_set="a").values.ravel()
    drawn = sets_of(np.array(named.groups), named.hashes, sizes="equal", draws=4, seed=0)
    pairs = [[flattened(neo, named.tokens[[row]]) for row in drawn.rows(one)] for one in drawn.drawn("a")]
    assert len(pairs) == 3
    assert np.allclose(found, np.mean([list(cosines(*pair).values()) for pair in pairs], axis=0), rtol=1e-8)
