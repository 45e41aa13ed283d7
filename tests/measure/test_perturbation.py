"""Prefix perturbation against decoded runs and against a plain rerun without a cache."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.perturbation import uniform_replacements
from localize.measure.recall import measure_recall

PREFIX, CONTINUATION = 24, 16


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens[:4], prefix_length=PREFIX, continuation_length=CONTINUATION)


def decoded_match(model, prefix, wanted):
    """Decode greedily, every token by a whole forward pass, and count what is right before the first error."""
    row = prefix[None]
    for _ in range(len(wanted)):
        row = torch.cat([row, model(row)[:, -1].argmax(-1, keepdim=True)], dim=1)
    right = (row[0, len(prefix) :] == wanted).tolist()
    return right.index(False) if False in right else len(right)


@torch.no_grad()
@pytest.mark.parametrize("continuation", ["own", "true"])
def test_perturbed_exact_match_is_that_of_a_decoded_run_at_every_position(hooked, paragraphs, continuation):
    signature = lz.perturb_prefix(hooked, paragraphs, draws=2, continuation=continuation, seed=3)
    tokens = paragraphs.with_own_continuation(hooked).tokens if continuation == "own" else paragraphs.tokens
    replacement = signature["replacement"].values
    for row in range(len(paragraphs)):
        for draw in range(2):
            for position in range(PREFIX):
                prefix = tokens[row, :PREFIX].clone()
                prefix[position] = int(replacement[row, draw, position])
                expected = decoded_match(hooked, prefix, tokens[row, PREFIX:])
                assert signature["perturbed_exact_match"].values[row, draw, position] == expected


@torch.no_grad()
def test_perturbed_nll_is_that_of_a_rerun_without_cache(hooked, paragraphs):
    signature = lz.perturb_prefix(hooked, paragraphs, draws=3, seed=1, batch_size=5)
    own = paragraphs.with_own_continuation(hooked).tokens
    for draw in range(3):
        for position in range(PREFIX):
            changed = own.clone()
            changed[:, position] = torch.tensor(signature["replacement"].values[:, draw, position])
            plain = measure_recall(hooked, changed, PREFIX)
            assert np.allclose(
                signature["perturbed_nll"].values[:, draw, position], plain.token_nll.mean(1), rtol=1e-10
            )
            assert np.array_equal(signature["perturbed_exact_match"].values[:, draw, position], plain.exact_match)


def test_own_continuations_are_matched_whole_before_the_change(hooked, paragraphs):
    signature = lz.perturb_prefix(hooked, paragraphs)
    assert (signature["unperturbed_exact_match"] == CONTINUATION).all()
    assert (signature["perturbed_exact_match"] <= CONTINUATION).all()
    assert {signature[name].attrs["continuation"] for name in ("perturbed_nll", "unperturbed_nll")} == {"own"}
    assert signature["nll"].attrs["continuation"] == "true"


def test_every_replacement_is_another_token_of_the_vocabulary_the_first_position_too(paragraphs):
    drawn = uniform_replacements(paragraphs, 97, 40, 0)
    assert (drawn != paragraphs.prefixes.numpy()[:, None]).all()
    assert (np.sort(np.unique(drawn)) == np.arange(97)).all()


def test_replacements_are_uniform_over_the_other_tokens(paragraphs):
    from scipy.stats import chisquare

    drawn = uniform_replacements(paragraphs, 97, 200, 0)
    shifted = (drawn - paragraphs.prefixes.numpy()[:, None]) % 97
    assert chisquare(np.bincount(shifted.ravel(), minlength=97)[1:]).pvalue > 1e-3


def test_draws_do_not_depend_on_batches_order_or_company(neo, paragraphs):
    whole = lz.perturb_prefix(neo, paragraphs, draws=2, batch_size=64)
    pieces = [lz.perturb_prefix(neo, paragraphs[[row]], draws=2, batch_size=1) for row in (2, 0)]
    for row, piece in zip((2, 0), pieces, strict=True):
        assert np.array_equal(whole["replacement"].values[row], piece["replacement"].values[0])
        assert np.allclose(whole["perturbed_nll"].values[row], piece["perturbed_nll"].values[0], rtol=1e-10)
    more = lz.perturb_prefix(neo, paragraphs, draws=3)
    assert np.array_equal(more["replacement"].values[:, :2], whole["replacement"].values)
    assert not np.array_equal(lz.perturb_prefix(neo, paragraphs, seed=1)["replacement"], whole["replacement"])


def test_true_continuations_cannot_be_asked_of_paragraphs_that_hold_own_ones_only(neo, tokens):
    own = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION, continuation="own")
    with pytest.raises(lz.InputError) as caught:
        lz.perturb_prefix(neo, own, continuation="true")
    assert (
        str(caught.value)
        == "perturb_prefix: Tensor hold own continuations only; continuation='true' needs the true text."
    )


def test_the_three_measurements_join(neo, paragraphs):
    signature = (
        lz.gradients(neo, paragraphs) | lz.rare_token_heads(neo, paragraphs) | lz.perturb_prefix(neo, paragraphs)
    )
    assert {"gradient_max", "rare_token_score", "perturbed_nll", "exact_match"} <= set(signature.variables)
    assert [call["measurement"] for call in signature.dataset.attrs["calls"]] == [
        "gradients",
        "rare_token_heads",
        "perturb_prefix",
    ]
