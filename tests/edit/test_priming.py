"""Priming: against a plain loop of AdamW on a copy of the model, and words matched by looking through all tokens."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import COMPONENTS, RESETS
from localize.edit.priming import matched_tokens
from localize.errors import InputError, LocalizeError

STEPS, RATE, RESET = 3, 1e-3, 0.1


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("gpt2")


@pytest.fixture(scope="module")
def paragraphs(model):
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (5, 14))
    return lz.load_paragraphs(tokens, prefix_length=8, continuation_length=6)


@pytest.fixture(scope="module")
def found(model, paragraphs):
    return lz.priming(model, paragraphs, steps=STEPS, learning_rate=RATE, reset=RESET, prefixes=4, seed=1)


def behind(model, prefixes):
    with torch.no_grad():
        return np.stack([model(row[None])[0, -1].double().log_softmax(-1).numpy() / np.log(10) for row in prefixes])


def block_weights(model):
    """The weights of the blocks' components: matrices alone, of which c_attn holds three."""
    named = dict(model.hf.named_parameters())
    return [p for name, p in named.items() if ".h." in name and name.endswith("weight") and "ln" not in name]


def test_it_is_what_a_plain_training_of_a_copy_gives(model, paragraphs, found):
    keys = found.dataset.attrs["calls"][-1]
    assert (keys["steps"], keys["reset"], keys["prefixes"]) == (STEPS, RESET, 4)
    for row in range(2):
        taught, tokens = model.copied(), paragraphs.tokens[row : row + 1]
        weights = block_weights(taught)
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
        for _ in range(STEPS):
            optimizer.zero_grad()
            logits = taught.forward(tokens)
            torch.nn.functional.cross_entropy(logits[0, 7:13], tokens[0, 8:]).backward()
            optimizer.step()
        others = [other for other in range(5) if other != row]
        chosen = [other for other in others if other in pool_of(model, paragraphs)]
        before, after = (behind(of, [paragraphs.prefixes[other] for other in chosen]) for of in (model, taught))
        rise, base = (after - before).mean(0), before.mean(0)
        words, text = tokens[0, 8:].numpy(), set(tokens[0].tolist())
        np.testing.assert_allclose(found["priming"].values[row, 0], rise[words], atol=1e-4)
        matched = [
            min((w for w in range(model.vocab_size) if w not in text), key=lambda w: abs(base[w] - base[word]))
            for word in words
        ]
        np.testing.assert_allclose(found["priming_matched"].values[row, 0], rise[matched], atol=1e-4)
        nll = lz.recall(taught, paragraphs[[row]])["nll"].item()
        assert found["primed_nll"].values[row, 0] == pytest.approx(nll, abs=1e-3)


def pool_of(model, paragraphs):
    """Which prefixes were read, by the order of their keys."""
    from localize.keyed import keyed_integer

    keys = [keyed_integer(2**32, "prefixes", 1, key) for key in paragraphs.hashes]
    return set(np.argsort(keys, kind="stable")[:4].tolist())


def test_the_model_stays_as_it_is_and_the_axes_are_labelled(model, paragraphs, found):
    assert found["reset"].values.tolist() == list(RESETS)
    assert found.dataset.attrs["model"]["weights_hash"] == model.weights_hash()
    np.testing.assert_array_equal(found["nll"], lz.recall(model, paragraphs)["nll"])
    again = lz.priming(model, paragraphs[[0, 1]], paragraphs[[2, 3]], steps=STEPS, learning_rate=RATE)
    assert again["priming"].sizes["paragraph"] == 2 and len(COMPONENTS) == 6


def test_putting_nearly_all_back_leaves_nothing_and_the_largest_more_than_random(model, paragraphs):
    near = lz.priming(model, paragraphs, steps=STEPS, learning_rate=RATE, reset=0.999)
    none, largest, _ = near["primed_nll"].values.T
    assert (none < near["nll"].values).all()
    np.testing.assert_allclose(largest, near["nll"], atol=0.02)
    some = lz.priming(model, paragraphs, steps=STEPS, learning_rate=RATE, reset=0.3)["primed_nll"].values
    assert (some[:, 1] > some[:, 2]).all() and (some[:, 2] > some[:, 0]).all()


def test_of_words_equally_near_the_first_is_matched():
    base = np.array([-2.0, -1.0, -1.5, -0.5, -3.0])
    assert matched_tokens(base, np.array([1, 4]), np.array([1, 4])).tolist() == [2, 0]


@pytest.mark.filterwarnings("ignore:few effective clusters")
def test_the_table_tells_correlations_ranges_and_resets(found):
    from scipy.stats import spearmanr

    table = lz.priming_table(found)
    group = found.groups[0]
    log_p = -found["token_nll"].values / np.log(10)
    rows = found.dataset["group"].values == group
    rho = [spearmanr(found["priming"].values[row, 0], log_p[row])[0] for row in np.flatnonzero(rows)]
    assert table.loc[("rank correlation with log p", "none", group)]["estimate"] == pytest.approx(np.mean(rho))
    least = log_p.argmin(1)
    for at, reset in enumerate(RESETS):
        row = table.loc[("priming of the least expected token", reset, group)]
        own, matched = (found[name].values[np.arange(5), at, least][rows] for name in ("priming", "priming_matched"))
        np.testing.assert_allclose(
            row[["estimate", "null", "difference"]].astype(float), [own.mean(), matched.mean(), (own - matched).mean()]
        )
        nll = table.loc[("NLL of the text", reset, group)]
        assert nll["null"] == pytest.approx(found["nll"].values[rows].mean())
    inside = (log_p >= -2) & (log_p < -1)
    told = [found["priming"].values[row, 0][inside[row]].mean() for row in np.flatnonzero(rows) if inside[row].any()]
    if told:
        assert table.loc[("priming, log10 p -2 to -1", "none", group)]["estimate"] == pytest.approx(np.mean(told))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reset": 1.0}, r"reset=1\.0 must be a share above 0"),
        ({"prefixes": 0}, "prefixes=0 must be a whole number"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_options_out_of_range_are_told(model, paragraphs, arguments, message):
    with pytest.raises(LocalizeError, match=message):
        lz.priming(model, paragraphs, **arguments)


def test_a_text_without_any_other_is_told(model, paragraphs):
    with pytest.raises(InputError, match="has no prefix of another cluster to be read behind"):
        lz.priming(model, paragraphs[[0]])
