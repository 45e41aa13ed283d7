"""Metrics of memorization against hand cases, slow second implementations and actual sampling."""

import math
import zlib

import numpy as np
import pytest
import torch

import localize as lz
from localize.errors import LocalizeError
from localize.measure.memory import chance_of_a_hit, lowest_mean, rouge_l, sampled_log_p, standardized_log_p

pytestmark = pytest.mark.gpt2_is_slow("hooked")

PREFIX, LENGTH, GIVEN = 24, 40, (3, 10, 24)
ASKED = LENGTH - PREFIX
EXACT = 1e-10
VARIABLES = (
    "continued_exact_match", "continued_rouge_l", "extraction_probability", "extraction_chance", "text_log_p", "min_k",
    "min_k_plus_plus",
)  # fmt: skip


@pytest.fixture
def paragraphs(tokens):
    """Rows of 40 tokens, longer than the local window."""
    return lz.load_paragraphs(tokens[:5, :LENGTH], prefix_length=PREFIX, continuation_length=ASKED)


@pytest.fixture
def recited(hooked, paragraphs):
    """The same, two of them continued as the model continues its first 3 and its first 24 tokens."""
    tokens = paragraphs.tokens.clone()
    for row, given in ((0, 3), (1, 24)):
        tokens[row, given:] = hooked.continue_greedily(tokens[row : row + 1, :given], LENGTH - given)[0]
    tokens[2, 3:] = hooked.continue_greedily(tokens[2:3, :3], LENGTH - 3)[0]
    tokens[2, 6] = (tokens[2, 6] + 1) % 97  # from there on it is another text
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=ASKED)


def longest_common(one, other):
    """By its definition, with a table of what is known already."""
    known = {}

    def of(i, j):
        if i == len(one) or j == len(other):
            return 0
        if (i, j) not in known:
            skipped = max(of(i + 1, j), of(i, j + 1))
            known[i, j] = max(skipped, 1 + of(i + 1, j + 1)) if one[i] == other[j] else skipped
        return known[i, j]

    return of(0, 0)


def decoded(model, row, number):
    """Greedily, every token by a whole forward pass."""
    row = row[None]
    for _ in range(number):
        row = torch.cat([row, model(row)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return row[0, -number:].tolist()


def distributions(model, row):
    """Probabilities of each token of the vocabulary at each position but the first, one after the other."""
    return [np.exp(model(row[None, :at])[0, -1].log_softmax(-1).detach().numpy()) for at in range(1, len(row))]


def test_recital_is_that_of_greedy_decoding_behind_the_first_tokens(hooked, recited):
    signature = lz.memory(hooked, recited, prefixes=GIVEN, batch_size=2)
    for row, tokens in enumerate(recited.tokens):
        for given in GIVEN:
            said, wanted = decoded(hooked, tokens[:given], ASKED), tokens[given : given + ASKED].tolist()
            right = [a == b for a, b in zip(said, wanted, strict=True)]
            at = signature.dataset.isel(paragraph=row).sel(tokens_given=given)
            assert at["continued_exact_match"] == (right.index(False) if False in right else ASKED)
            assert at["continued_rouge_l"].item() == longest_common(said, wanted) / ASKED
    assert signature["continued_exact_match"].sel(tokens_given=3).values[:3].tolist() == [16, 0, 3]
    assert np.array_equal(signature["continued_exact_match"].sel(tokens_given=24), signature["exact_match"])
    assert signature["exact_match"].values[1] == 16


def test_min_k_and_loss_against_every_position_by_itself(hooked, paragraphs):
    share = 0.3
    signature = lz.memory(hooked, paragraphs, k=share)
    for row, tokens in enumerate(paragraphs.tokens):
        plain, standardized = [], []
        for at, p in enumerate(distributions(hooked, tokens), start=1):
            log_p = [math.log(one) for one in p]
            mu = sum(one * log for one, log in zip(p, log_p, strict=True))
            sigma = math.sqrt(sum(one * log**2 for one, log in zip(p, log_p, strict=True)) - mu**2)
            plain.append(log_p[int(tokens[at])])
            standardized.append((plain[-1] - mu) / sigma)
        count = int(share * (LENGTH - 1))
        assert count == 11
        found = signature.dataset.isel(paragraph=row)
        assert found["text_log_p"].item() == pytest.approx(np.mean(plain), abs=EXACT)
        assert found["min_k"].item() == pytest.approx(np.mean(sorted(plain)[:count]), abs=EXACT)
        assert found["min_k_plus_plus"].item() == pytest.approx(np.mean(sorted(standardized)[:count]), abs=1e-8)


def test_lowest_shares_are_of_whole_tokens_and_of_one_at_least():
    values = np.array([[3.0, 1.0, 2.0, 5.0, 4.0, 9.0, 8.0, 7.0, 6.0, 0.0]])
    assert [lowest_mean(values, share)[0] for share in (0.01, 0.1, 0.3, 0.39, 1.0)] == [0.0, 0.0, 1.0, 1.0, 4.5]


def test_a_token_of_an_even_or_a_certain_distribution_is_no_deviation_off():
    logits = torch.tensor([[0.0, 0.0], [800.0, 0.0]], dtype=torch.float64)
    log_p, standardized = standardized_log_p(logits, torch.tensor([1, 0]))
    assert log_p.tolist() == [-math.log(2), 0.0]
    assert standardized.tolist() == [0.0, 0.0]


def test_extraction_is_the_share_of_samples_that_are_the_true_text(make_model):
    """10,000 samples of three tokens, drawn token by token with the temperature from the top k."""
    model = make_model("gpt2")
    row, temperature, top_k, tries, samples = torch.arange(5, 11), 0.5, 6, 7, 10_000
    row[3:] = model.continue_greedily(row[None, :3], 3)[0]  # not too rare to be seen
    paragraphs = lz.load_paragraphs(row[None], prefix_length=3, continuation_length=3)
    signature = lz.memory(model, paragraphs, prefixes=3, temperature=temperature, top_k=top_k, tries=tries)
    p = signature["extraction_probability"].item()
    generator, texts = torch.Generator().manual_seed(0), row[None, :3].expand(samples, 3)
    for _ in range(3):
        best = model(texts)[:, -1].topk(top_k)
        drawn = (best.values / temperature).softmax(-1).multinomial(1, generator=generator)
        texts = torch.cat([texts, best.indices.gather(1, drawn)], dim=1)
    hits = (texts == row).all(1).double()
    assert 0.02 < p < 0.9
    assert abs(hits.mean() - p) < 4 * math.sqrt(p * (1 - p) / samples)
    assert signature["extraction_chance"].item() == pytest.approx(1 - (1 - p) ** tries, rel=1e-12)


def test_a_token_outside_the_top_k_is_never_sampled_and_one_as_likely_as_the_last_is():
    logits = torch.tensor([[4.0, 2.0, 2.0, 1.0]], dtype=torch.float64).expand(4, 4)
    log_p = sampled_log_p(logits, torch.arange(4), 2.0, 2)
    weights = np.exp([2.0, 1.0, 1.0])
    np.testing.assert_allclose(log_p[:3].exp(), weights / weights.sum())
    assert log_p[3] == -math.inf
    np.testing.assert_allclose(sampled_log_p(logits, torch.arange(4), 1.0, None), logits[0].log_softmax(-1))


def test_extraction_is_zero_where_a_token_is_outside_the_top_k(hooked, recited):
    one = lz.memory(hooked, recited, prefixes=GIVEN, top_k=1)
    whole = one["continued_exact_match"] == ASKED
    assert np.array_equal(
        one["extraction_probability"], whole
    )  # the likeliest alone: 1 where all of it is said, else 0
    assert np.array_equal(one["extraction_chance"], whole)
    untouched = lz.memory(hooked, recited, prefixes=24, top_k=None)
    np.testing.assert_allclose(
        np.log(untouched["extraction_probability"].values[:, 0]), -ASKED * untouched["nll"].values
    )


def test_the_chance_of_a_hit_is_right_from_far_below_rounding_to_certain():
    p = np.array([0.0, 1e-40, 0.5, 1.0])
    np.testing.assert_allclose(chance_of_a_hit(p, 3), [0.0, 3e-40, 0.875, 1.0], rtol=1e-12)


def test_rouge_l_is_the_longest_common_subsequence_over_the_length():
    rng = np.random.default_rng(0)
    said, wanted = rng.integers(0, 5, (2, 40, 12))
    expected = [longest_common(*pair) / 12 for pair in zip(said.tolist(), wanted.tolist(), strict=True)]
    assert rouge_l(said, wanted).tolist() == expected
    assert rouge_l(wanted, wanted).tolist() == [1.0] * 40


def test_zlib_is_that_of_the_text_or_of_what_the_tokenizer_decodes(make_model, paragraphs):
    class Words:
        def decode(self, tokens):
            return " ".join(f"w{token}" for token in tokens)

        def get_vocab(self):
            return {f"w{token}": token for token in range(97)}

    bare, speaking = make_model("gpt2"), make_model("gpt2", Words())
    assert "text_log_p_per_byte" not in lz.memory(bare, paragraphs)
    found = lz.memory(speaking, paragraphs)
    sizes = [len(zlib.compress(Words().decode(row).encode())) for row in paragraphs.tokens.tolist()]
    total = found["text_log_p"].values * (LENGTH - 1)
    np.testing.assert_allclose(found["text_log_p_per_byte"], total / sizes)
    rows = [{"tokens": row, "text": "é" * 9 if at else None} for at, row in enumerate(paragraphs.tokens.tolist())]
    told = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=ASKED)
    per_byte = lz.memory(bare, told)["text_log_p_per_byte"].values
    assert np.isnan(per_byte[0])
    np.testing.assert_allclose(per_byte[1:], total[1:] / len(zlib.compress(("é" * 9).encode())))


def test_bits_are_what_the_reference_needs_more_and_never_below_0(make_model, paragraphs):
    model, reference = make_model("gpt2"), make_model("gpt2", seed=1)
    signature = lz.memory(model, paragraphs, reference=reference)
    rows = np.arange(LENGTH - 1)
    gain = []
    for tokens in paragraphs.tokens:
        bits = [np.log2(np.array(distributions(one, tokens))[rows, tokens[1:]]).sum() for one in (model, reference)]
        gain.append(bits[0] - bits[1])
    assert min(gain) < 0 < max(gain)
    np.testing.assert_allclose(signature["memorized_bits"], np.maximum(gain, 0), atol=EXACT)
    np.testing.assert_allclose(signature["text_log_p_gain"], np.array(gain) * math.log(2) / (LENGTH - 1), atol=EXACT)
    told = signature.dataset.attrs["calls"][0]["reference"]
    assert told == {"name": reference.name, "weights_hash": reference.weights_hash()}
    assert "memorized_bits" not in lz.memory(model, paragraphs)
    itself = lz.memory(model, paragraphs, reference=model)
    assert np.abs(itself["text_log_p_gain"]).max() < EXACT


def test_numbers_are_the_same_in_batches_of_any_size(hooked, recited, make_model):
    one, all_ = (lz.memory(hooked, recited, batch_size=size) for size in (1, 64))
    for name in VARIABLES:
        np.testing.assert_allclose(one[name], all_[name], rtol=1e-9, atol=EXACT)


def test_the_prefixes_are_8_16_32_where_they_fit_and_the_whole(neo, tokens):
    for prefix, given in ((50, [8, 16, 32, 50]), (16, [8, 16]), (5, [5])):
        paragraphs = lz.load_paragraphs(tokens[:2], prefix_length=prefix, continuation_length=4)
        assert lz.memory(neo, paragraphs)["tokens_given"].values.tolist() == given


def test_own_continuations_are_held_against_the_true_text_where_it_is_known(neo, paragraphs):
    own = paragraphs.with_own_continuation(neo)
    found, plain = lz.memory(neo, own), lz.memory(neo, paragraphs)
    assert np.array_equal(found["min_k"], plain["min_k"])
    assert found["min_k"].attrs["continuation"] == "true"


def test_a_watch_measures_it_by_name(gpt2, paragraphs):
    watch = lz.Watch(paragraphs, at=[0, 1], measures="memory")
    watch(gpt2, 0)
    gpt2.hf.lm_head.weight.data.mul_(1.01)
    watch(gpt2, 1)
    found = watch.signature()
    assert found["continued_rouge_l"].dims == ("training_step", "paragraph", "tokens_given")
    assert np.array_equal(found["min_k"][1], lz.memory(gpt2, paragraphs)["min_k"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prefixes": [8, 25]}, "prefixes=25 must be a whole number in 1..24, the tokens of the prefix."),
        ({"prefixes": 0}, "prefixes=0 must be a whole number in 1..24, the tokens of the prefix."),
        ({"prefixes": []}, "prefixes=[] is empty; at least one in 1..24 is needed."),
        ({"temperature": 0.0}, "temperature=0.0 must be a number above 0."),
        ({"temperature": math.nan}, "temperature=nan must be a number above 0."),
        ({"k": 0.0}, "k=0.0 must lie above 0 and be at most 1: a share of the tokens."),
        ({"k": 20.0}, "k=20.0 must lie above 0 and be at most 1: a share of the tokens."),
        ({"top_k": 0}, "top_k=0 must be a whole number of at least 1, or None for all tokens."),
        ({"tries": 0}, "tries=0 must be a whole number of at least 1."),
    ],
)
def test_options_outside_their_range_are_refused_in_one_line(gpt2, paragraphs, options, told):
    with pytest.raises(LocalizeError) as error:
        lz.memory(gpt2, paragraphs, **options)
    assert str(error.value) == f"memory: {told}"


def test_a_reference_of_another_vocabulary_is_refused(make_model, paragraphs):
    with pytest.raises(lz.InputError) as error:
        lz.memory(make_model("gpt2"), paragraphs, reference=make_model("gpt2", vocab_size=99))
    assert str(error.value) == (
        "memory: the reference small gpt2 has 99 tokens in its vocabulary, small gpt2 has 97; one with the same vocabulary is needed."
    )
