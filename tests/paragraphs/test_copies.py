"""Perturbed copies as paragraphs: what they are, and how they stand beside their originals."""

import numpy as np
import pytest

import localize as lz
from localize.errors import InputError


@pytest.fixture(scope="module")
def copied():
    """Twelve paragraphs in a small model, in groups and with near duplicates; their perturbation; and the model."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=97, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=None, eos_token_id=None
    )
    model = lz.HookedModel(GPT2LMHeadModel(config).double(), name="small")
    tokens = torch.randint(97, (12, 16))
    tokens[1] = tokens[0]
    paragraphs = lz.load_paragraphs(tokens, prefix_length=8, continuation_length=8)
    paragraphs = paragraphs.with_groups(["memorized", "not_memorized"] * 6)
    return model, paragraphs, lz.perturb_prefix(model, paragraphs, kinds=("uniform", "second_choice"))


def test_copies_are_paragraphs_with_the_ids_clusters_and_groups_of_their_originals(copied):
    _, paragraphs, signature = copied
    for kind, column in ((None, 0), ("second_choice", 1)):
        copies = lz.copies_of(signature, paragraphs, kind)
        np.testing.assert_array_equal(copies.tokens, signature["copy_tokens"].values[:, column])
        assert (copies.ids, copies.groups) == (paragraphs.ids, paragraphs.groups)
        assert copies.clusters.tolist() == paragraphs.clusters.tolist() and copies.clusters[0] == copies.clusters[1]
        assert copies.prefix_length == 8 and copies.continuation == "own"
    changed = (copies.prefixes != paragraphs.prefixes).sum(1)
    assert (changed == 1).all()


@pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")
def test_a_paragraph_and_its_copy_are_compared_row_by_row(copied):
    model, paragraphs, signature = copied
    copies = lz.copies_of(signature, paragraphs)
    of_copies, of_own = (lz.gradients(model, p) for p in (copies, paragraphs.with_own_continuation(model)))
    with pytest.warns(UserWarning, match=r"leaves out exact_match, nll, token_nll"):
        compared = lz.compare_paired(of_copies, of_own, resamples=100)
    found = compared["gradient_share"]
    expected = (of_copies["gradient_share"].values - of_own["gradient_share"].values).mean(0)
    np.testing.assert_allclose(found["difference"], expected, rtol=1e-10, atol=1e-15)
    assert found.attrs["continuation"] == "own"


def test_copies_that_are_not_there_are_told_in_one_line(copied):
    model, paragraphs, signature = copied
    for arguments, message in (
        (
            (lz.recall(model, paragraphs), paragraphs),
            "copies_of: the signature has no 'copy_tokens'; measure it with localize.perturb_prefix(model, paragraphs).",
        ),
        (
            (signature, paragraphs, "neutral"),
            "copies_of: kind='neutral' is not one of those copied, uniform, second_choice.",
        ),
    ):
        with pytest.raises(InputError) as caught:
            lz.copies_of(*arguments)
        assert str(caught.value) == message
    with pytest.raises(InputError, match=r"^copies_of: the signature is of 12 of Tensor .* are needed\.$"):
        lz.copies_of(signature, paragraphs[::-1])
