"""What every localizer of the package keeps to: shapes, costs, scores that are a paragraph's own, and a model whose answer is known."""

from importlib import import_module

import numpy as np
import pytest

import localize as lz

WITH_OTHERS = {
    "activation_mad",
    "activation_z",
    "centered_ratio",
    "edge_attribution",
    "mean_ablation",
    "mean_ablation_mad",
    "two_stage",
}
SAME = {"bias", "norm"}
"""Their scores know nothing of the paragraph."""
BLIND = {"random"} | SAME
ALONE = {
    "absolute_gradient_activation",
    "activation",
    "continuation_activation",
    "gradient_activation",
    "hard_concrete",
    "integrated_gradients",
    "row_gradient",
    "slimming",
    "zero_out",
} | BLIND
EITHER = {"integrated_gradients_ratio", "ratio"}
OF_UNITS = sorted(WITH_OTHERS | ALONE | EITHER)

COSTS = {
    "random": 0, "norm": 0, "bias": 0, "activation": 1, "continuation_activation": 1, "gradient_activation": 3,
    "absolute_gradient_activation": 3, "row_gradient": 3, "activation_z": 1 + 4 / 3,
    "activation_mad": 1 + 4 / 3, "ratio": 3 + 4, "centered_ratio": 3 + 4 + 4 / 3,
    "integrated_gradients": 12, "integrated_gradients_ratio": 12 + 16, "slimming": 15, "hard_concrete": 18,
}  # fmt: skip
"""Of three paragraphs beside four others, at the steps below."""


@pytest.fixture
def few_steps(monkeypatch):
    """Localizers that take many steps take some."""
    for name, steps in (
        ("integrated_gradients", 4),
        ("integrated_gradients_ratio", 4),
        ("slimming", 5),
        ("hard_concrete", 6),
    ):
        monkeypatch.setattr(import_module(f"localize.localizers.{name}"), "STEPS", steps)


def test_each_is_found_by_name():
    assert lz.localizers.names() == tuple(sorted([*OF_UNITS, "weight_gradient"]))


@pytest.mark.parametrize("name", OF_UNITS)
def test_a_paragraphs_scores_are_its_own_whatever_its_company(neo, rows, few_steps, name):
    given, others = rows[:3], rows[3:]
    found = lz.localizers.get(name)(neo, given, others)
    shapes = {"mlp": (3, 4, 128), "heads": (3, 4, 4)}
    assert found.name == name and {kind: scores.shape for kind, scores in found.kinds.items()} == {
        kind: shapes[kind] for kind in (["mlp"] if name == "bias" else shapes)
    }
    alone = lz.localizers.get(name)(neo, given[[2]], others)
    for whole, part in zip(found.kinds.values(), alone.kinds.values(), strict=True):
        assert np.allclose(whole[2], part[0], rtol=1e-7, atol=1e-12)
        assert (name in SAME) == np.allclose(whole[2], whole[1], rtol=1e-3)
    assert all(p.grad is None and p.requires_grad for p in neo.hf.parameters())


@pytest.mark.parametrize("name", OF_UNITS)
def test_others_are_needed_where_they_are_all_there_is_to_compare_with(neo, rows, few_steps, refusal, name):
    localizer = lz.localizers.get(name)
    assert localizer.needs_others == (name in WITH_OTHERS)
    if name in WITH_OTHERS:
        assert refusal(localizer, neo, rows) == f"{name}: others=None: paragraphs to tell these apart from are needed."
    else:
        by_itself, beside = localizer(neo, rows[:3]), localizer(neo, rows[:3], rows[3:])
        same = all(map(np.array_equal, by_itself.kinds.values(), beside.kinds.values()))
        assert same == (name in ALONE), "others play a part, or none"


@pytest.mark.parametrize("name", sorted(COSTS))
def test_its_cost_counts_a_backward_pass_as_two_and_shares_the_others(neo, rows, few_steps, name):
    assert lz.localizers.get(name)(neo, rows[:3], rows[3:]).cost == pytest.approx(COSTS[name])


def test_the_bias_is_that_of_the_unit_and_the_lowest_comes_first(neo, rows):
    found = lz.localizers.get("bias")(neo, rows[:2])
    assert found.mlp[1, 3, 5] == -neo.hf.transformer.h[3].mlp.c_fc.bias[5].item() != 0


@pytest.mark.parametrize("name", sorted(set(OF_UNITS) - BLIND - {"row_gradient"}))
def test_a_unit_that_alone_says_the_continuation_comes_first(one_unit, name):
    model, paragraphs, others, (layer, unit) = one_unit
    found = lz.localizers.get(name)(model, paragraphs, others)
    for row in range(len(paragraphs)):
        assert divmod(int(found.mlp[row].argmax()), 128) == (layer, unit)
