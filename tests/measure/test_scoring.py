"""Exact match and NLL against real decoding and against sums written out."""

import math

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure import scoring
from localize.measure.scoring import measure_recall, score, token_scores

PREFIX = 24


def decoded_match(model, row, prefix):
    """Greedy decoding, one whole forward pass per token, until the first error; and the smallest lead of a top logit on the way."""
    lead = math.inf
    for position in range(prefix, len(row)):
        logits = model(row[None, :position])[0, -1]
        first, second = logits.topk(2).values
        lead = min(lead, float(first - second))
        if int(logits.argmax()) != int(row[position]):
            return position - prefix, lead
    return len(row) - prefix, lead


@torch.no_grad()
def half_true(model, tokens):
    """Rows that the model recites for 0, 7, 14, ... tokens and not after, so that every exact match occurs."""
    rows = torch.cat([tokens[:, :PREFIX], model.continue_greedily(tokens[:, :PREFIX], tokens.shape[1] - PREFIX)], dim=1)
    for i, row in enumerate(rows):
        if (wrong := PREFIX + 7 * i) < len(row):
            row[wrong] = (row[wrong] + 1) % model.vocab_size
    return rows


@torch.no_grad()
def test_exact_match_is_what_greedy_decoding_gives(hooked, tokens):
    rows = half_true(hooked, tokens)
    recall = measure_recall(hooked, rows, PREFIX)
    decoded = [decoded_match(hooked, row, PREFIX) for row in rows]
    unequal = [i for i, (match, _) in enumerate(decoded) if match != recall.exact_match[i]]
    # In float64 only an exact tie could fall either way; there is none.
    assert all(lead > 1e-9 for _, lead in decoded)
    assert unequal == []
    assert recall.exact_match.tolist()[:3] == [0, 7, 14]


@torch.no_grad()
def test_exact_match_in_float32_differs_from_decoding_at_near_ties_only(hooked, tokens):
    hooked.hf.float()
    rows = half_true(hooked, tokens)
    recall = measure_recall(hooked, rows, PREFIX)
    decoded = [decoded_match(hooked, row, PREFIX) for row in rows]
    margin = 1e-4
    mismatches = [lead for (match, lead), got in zip(decoded, recall.exact_match, strict=True) if match != got]
    assert all(lead < margin for lead in mismatches)
    assert len(mismatches) <= sum(lead < margin for _, lead in decoded)


@torch.no_grad()
def test_nll_is_minus_log_of_the_softmax_one_position_before(hooked, tokens):
    recall = measure_recall(hooked, tokens, PREFIX)
    for row in range(2):
        for offset in (0, 5, tokens.shape[1] - PREFIX - 1):
            position = PREFIX + offset
            logits = hooked(tokens[row : row + 1, :position])[0, -1]
            by_hand = math.log(sum(math.exp(float(x)) for x in logits)) - float(logits[tokens[row, position]])
            assert recall.token_nll[row, offset] == pytest.approx(by_hand, rel=1e-10)


def test_exact_match_counts_up_to_the_first_error_and_not_beyond(hooked):
    targets = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    said = torch.tensor([[1, 2, 3, 4], [1, 0, 3, 4], [0, 2, 3, 4]])
    hooked.hf.lm_head.weight = torch.nn.Parameter(torch.eye(97, 32, dtype=torch.float64))
    matched, nll = score(hooked, torch.nn.functional.one_hot(said, 32).double(), targets)
    assert matched.tolist() == [4, 1, 0]
    assert nll[0].tolist() == pytest.approx([math.log(math.e + 96) - 1] * 4)


def test_recall_is_the_same_for_any_batch_size(hooked, tokens):
    whole, single = (measure_recall(hooked, tokens, PREFIX, batch_size=size) for size in (64, 1))
    assert np.array_equal(whole.exact_match, single.exact_match)
    assert np.allclose(whole.token_nll, single.token_nll, rtol=1e-12)


@pytest.mark.parametrize("at_once", [(1, 1), (5, 10), (7, 97), (1024, 1024)])
@pytest.mark.parametrize("bias", [False, True])
def test_scores_are_those_of_whole_logits_in_whatever_pieces(hooked, monkeypatch, at_once, bias):
    monkeypatch.setattr(scoring, "SCORED_AT_ONCE", {"cpu": at_once})
    generator = torch.Generator().manual_seed(0)
    states, targets = (
        torch.randn(3, 4, 32, generator=generator).double(),
        torch.randint(97, (3, 4), generator=generator),
    )
    if bias:
        hooked.hf.lm_head.bias = torch.nn.Parameter(torch.randn(97, generator=generator).double())
    with torch.no_grad():
        logits = hooked.hf.lm_head(states)
    targets[0] = logits[0].argmax(-1)
    right, nll = token_scores(hooked, states, targets)
    assert torch.equal(right, logits.argmax(-1) == targets)
    assert right[0].all() and not right[1:].all()
    expected = -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    assert torch.allclose(nll, expected, rtol=1e-12)


def test_of_equally_likely_tokens_the_first_counts_as_said_also_across_pieces(neo, monkeypatch):
    monkeypatch.setattr(scoring, "SCORED_AT_ONCE", {"cpu": (2, 10)})
    weight = torch.zeros(97, 32, dtype=torch.float64)
    weight[[15, 17, 40]] = 1
    neo.hf.lm_head.weight = torch.nn.Parameter(weight)
    states = torch.ones(3, 32, dtype=torch.float64)
    right, _ = token_scores(neo, states, torch.tensor([15, 17, 40]))
    assert right.tolist() == [True, False, False]


def test_a_hook_on_the_unembedding_is_heeded(neo):
    states, targets = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([3, 4])
    handle = neo.hf.lm_head.register_forward_hook(lambda module, inputs, logits: logits * 0)
    _, nll = token_scores(neo, states, targets)
    handle.remove()
    assert torch.allclose(nll, torch.full((2,), 97.0).double().log())


# Numbers that are none.


@pytest.fixture
def poisoned(make_model):
    """A model in which every text with a token from 50 on gives no number, and paragraphs without such tokens, new to it."""
    model = make_model("gpt2", tie_word_embeddings=False)
    with torch.no_grad():
        model.hf.transformer.wte.weight[50:] = torch.nan
    tokens = torch.randint(50, (4, 32), generator=torch.Generator().manual_seed(0))
    return model, lz.load_paragraphs(tokens, prefix_length=16, continuation_length=16).with_groups("aabb")


COUNTS = torch.arange(1, 98)
OF_OWN = {
    "ablate": lz.ablate,
    "corrupt_prefix": lambda *of, **how: lz.corrupt_prefix(*of, orders="random", **how),
    "replace_rarest": lambda *of, **how: lz.replace_rarest(*of, counts=COUNTS, **how),
    "perturb_prefix": lz.perturb_prefix,
    "noise": lambda *of, **how: lz.noise(*of, chosen_by="a", strengths=1.0, draws=1, **how),
}


@pytest.mark.parametrize("name", OF_OWN)
def test_own_continuations_that_give_no_number_are_refused(name, poisoned):
    model, paragraphs = poisoned
    assert (lz.recall(model, paragraphs)["exact_match"] < 16).all()  # the true ones are fine
    with pytest.raises(lz.LocalizeError) as error:
        OF_OWN[name](model, paragraphs)
    assert str(error.value) == (
        "small gpt2: the NLL of paragraph '0' at position 16 is nan; a finite number is needed (damaged weights, or a dtype too "
        "narrow?)."
    )


@pytest.mark.parametrize("name", ["corrupt_prefix", "replace_rarest", "perturb_prefix"])
def test_changed_prefixes_that_give_no_number_are_refused(name, poisoned):
    with pytest.raises(lz.LocalizeError) as error:
        OF_OWN[name](*poisoned, continuation="true")
    assert str(error.value) == (
        "small gpt2: the NLL of paragraph '0' behind a changed prefix is nan; a finite number is needed (damaged weights, or a dtype "
        "too narrow?)."
    )


def test_a_head_without_which_no_number_comes_out_is_missing_and_not_a_match_of_nothing(neo, monkeypatch):
    from localize.measure import ablate

    paragraphs = lz.load_paragraphs(torch.arange(64).view(2, 32), prefix_length=16, continuation_length=16)
    calm, score = lz.ablate(neo, paragraphs, layers=[0, 1], heads=[0, 3], continuation="true"), ablate.score

    def overflowing(model, states, targets):
        exact, loss = score(model, states, targets)
        loss[1, 5] = torch.inf  # of the first row's second head
        return exact, loss

    monkeypatch.setattr(ablate, "score", overflowing)
    found = lz.ablate(neo, paragraphs, layers=[0, 1], heads=[0, 3], continuation="true")
    for name in ("ablated_exact_match", "ablated_nll"):
        there = found[name].sel(layer=[0, 1], head=[0, 3]).values
        assert np.isnan(there[0, :, 1]).all()
        there[0, :, 1] = calm[name].sel(layer=[0, 1], head=[0, 3]).values[0, :, 1]
        assert (there == calm[name].sel(layer=[0, 1], head=[0, 3]).values).all()
