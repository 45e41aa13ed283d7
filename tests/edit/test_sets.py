"""Who is forgotten, who is kept, who judges."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.paragraphs.joined import joined


@pytest.fixture
def crowd():
    """Sixty paragraphs, the first forty in ten clusters of four near-duplicates."""
    tokens = torch.randint(0, 97, (30, 40), generator=torch.Generator().manual_seed(2))
    tokens = torch.cat([tokens[:10].repeat_interleave(4, 0), tokens[10:]])
    tokens[torch.arange(40), torch.arange(40) % 4] = torch.arange(40)
    loaded = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=16)
    return loaded.with_groups(["a"] * 40 + ["b"] * 20)


def clusters_of(whole, part):
    place = {name: row for row, name in enumerate(whole.ids)}
    return {int(whole.clusters[place[name]]) for name in part.ids}


def test_no_cluster_is_in_two_sets_but_the_forgotten_ones_other_members(neo, crowd):
    sets = lz.edit_sets(neo, crowd, forget=4, group="a", seed=1)
    assert sets.others is not None
    assert sorted(sets.forget.ids + sets.keep.ids + sets.others.ids) == sorted(crowd.ids)
    forget, keep, others = (clusters_of(crowd, part) for part in sets)
    assert len(forget) == 4 == len(sets.forget)
    assert not forget & keep
    assert not keep & others
    assert forget <= others
    assert set(sets.forget.groups) == {"a"}


def test_every_group_gives_its_share_to_the_keep_set(neo, crowd):
    sets = lz.edit_sets(neo, crowd, forget=2, group="a", keep=0.25, seed=0)
    groups = np.array(sets.keep.groups)
    assert ((groups == "a").sum() // 4, (groups == "b").sum()) == (2, 5)


def test_the_seed_decides_and_the_order_of_the_paragraphs_does_not(neo, crowd):
    turned = crowd[np.arange(60)[::-1]]
    one, again, other = (
        lz.edit_sets(neo, p, forget=5, group="a", seed=s) for p, s in ((crowd, 0), (turned, 0), (crowd, 1))
    )
    assert set(one.forget.ids) == set(again.forget.ids)
    assert set(one.keep.ids) == set(again.keep.ids)
    assert set(one.forget.ids) != set(other.forget.ids)


def test_over_seeds_every_cluster_is_forgotten_about_as_often(neo, crowd):
    drawn = [clusters_of(crowd, lz.edit_sets(neo, crowd, forget=3, group="a", seed=seed).forget) for seed in range(60)]
    times = np.bincount([cluster for of_seed in drawn for cluster in of_seed], minlength=10)[:10]
    assert times.sum() == 180
    assert 8 <= times.min() <= times.max() <= 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "c"}, "edit_sets: group='c' has no paragraph; there are a, b."),
        ({"forget": 11}, "edit_sets: forget=11 must lie in 1..10, the clusters of a paragraphs."),
        ({"forget": 0}, "edit_sets: forget=0 must lie in 1..10, the clusters of a paragraphs."),
        ({"keep": 1.0}, "edit_sets: keep=1.0 must lie between 0 and 1, both left out."),
    ],
)
def test_options_out_of_range_are_refused(neo, crowd, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.edit_sets(neo, crowd, **{"group": "a", **options})
    assert str(caught.value) == message


def test_sets_are_joined_row_by_row_and_clustered_together(crowd):
    first, second = crowd[:6], crowd[4:9]
    both = joined(first, second, ids=[f"again {name}" for name in second.ids])
    assert torch.equal(both.tokens, torch.cat([first.tokens, second.tokens]))
    assert both.ids == (*first.ids, *(f"again {name}" for name in second.ids))
    assert both.clusters.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2]


def test_sets_of_other_lengths_or_with_the_same_names_do_not_join(crowd):
    other = lz.load_paragraphs(crowd.tokens, prefix_length=20, continuation_length=20)
    with pytest.raises(lz.InputError) as caught:
        joined(crowd, other)
    assert str(caught.value) == "Tensor has a prefix of 24 tokens, Tensor one of 20; one length is needed."
    with pytest.raises(lz.InputError, match="stands twice"):
        joined(crowd, crowd)


def test_unseen_text_is_none_of_what_was_trained_on():
    model, embedded = lz.load_model(), lz.load_paragraphs()
    unseen = lz.unseen_paragraphs(model, 12)
    again, other = lz.unseen_paragraphs(model, 12), lz.unseen_paragraphs(model, 12, seed=1)
    assert len(unseen) == 12
    assert torch.equal(unseen.tokens, again.tokens)
    assert not set(unseen.hashes) & (set(embedded.hashes) | set(other.hashes))
    both = joined(embedded, unseen, ids=[f"unseen {name}" for name in unseen.ids])
    assert not set(both.clusters[: len(embedded)]) & set(both.clusters[len(embedded) :])
