"""An effect in units of its usual size on other texts, against a loop over paragraphs and units."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.unit_ratio import effect_ratio, effect_ratio_among


def drawn(count, seed=0):
    """Signed effects of count texts in 3 layers of 5 units."""
    return torch.randn(count, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(effects, others, floor):
    """The ratio of one text, a unit at a time."""
    usual = [
        [sum(abs(float(text[layer, unit])) for text in others) / len(others) for unit in range(5)] for layer in range(3)
    ]
    mean = sum(sum(row) for row in usual) / 15
    return [
        [float(effects[layer, unit]) / (usual[layer][unit] + floor * mean) for unit in range(5)] for layer in range(3)
    ]


@pytest.mark.parametrize("floor", [0.1, 1.0])
def test_it_is_the_effect_over_the_mean_size_on_other_texts_plus_a_floor(floor):
    effects, others = drawn(4), drawn(6, seed=1)
    found = effect_ratio(effects, others, floor)
    for row in range(4):
        assert np.allclose(found[row], by_hand(effects[row], others, floor), rtol=1e-12)


def test_among_themselves_a_texts_near_duplicates_are_no_other_texts():
    effects, clusters = drawn(6), np.array([4, 0, 4, 1, 0, 7])
    found = effect_ratio_among(effects, clusters, 0.3)
    for row in range(6):
        others = [effects[other] for other in range(6) if clusters[other] != clusters[row]]
        assert np.allclose(found[row], by_hand(effects[row], others, 0.3), rtol=1e-12)


def test_a_unit_that_is_at_work_on_one_text_alone_has_the_floor_beneath_it():
    effects = torch.ones(3, 1, 2, dtype=torch.float64)
    effects[:, 0, 1] = torch.tensor([0.0, 7.0, 0.0])
    found = effect_ratio_among(effects, np.arange(3))
    assert found[1, 0].tolist() == [1 / 1.5, 7 / 0.5]


def test_a_ratio_has_the_effects_sign_and_no_unit():
    effects, others = drawn(4), drawn(6, seed=1)
    found = effect_ratio(effects, others)
    assert torch.equal(found.sign(), effects.sign())
    assert torch.allclose(effect_ratio(1e-9 * effects, 1e-9 * others), found, rtol=1e-12)
    assert effect_ratio(effects.float(), others.float()).dtype == torch.float64


def test_what_cannot_be_compared_is_refused():
    def refusal(call, *arguments):
        with pytest.raises(lz.LocalizeError) as caught:
            call(*arguments)
        return str(caught.value)

    assert refusal(effect_ratio_among, drawn(3), np.array([2, 2, 2])) == (
        "localize: the 3 paragraphs are one cluster of near-duplicates; another one, or other texts, are needed to tell them apart from."
    )
    assert refusal(effect_ratio, drawn(3), drawn(0)) == "localize: there are no other texts; at least one is needed."
    assert refusal(effect_ratio, drawn(3), drawn(2), 0.0) == "localize: floor=0.0 must be above 0."
    assert refusal(effect_ratio, drawn(3), drawn(2), float("nan")) == "localize: floor=nan must be above 0."
    assert refusal(effect_ratio, drawn(3), torch.zeros(2, 3, 5)) == (
        "localize: no unit has an effect on the other texts; there is nothing to compare with."
    )
