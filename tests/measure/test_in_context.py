"""Recall from the context: against plain passes and greedy decoding of one text at a time; a model that cannot look back gains nothing."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.analysis.in_context import EXACT_MATCH, GAIN, LONGER, NLL
from localize.axes import SHOWN
from localize.errors import InputError, LocalizeError, SignatureError
from localize.measure.in_context import prefix_of, shuffled
from localize.measure.partners import mismatched

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")


def shown_before(paragraphs, length, seed):
    """What stands before each text, by its label."""
    texts = [row[:length] for row in paragraphs.tokens]
    others = mismatched(paragraphs, 1, seed)[:, 0]
    orders = shuffled(torch.stack(texts), paragraphs.hashes, seed)
    return {
        "nothing": [row[:0] for row in texts], "same": texts, "shuffled": list(orders), "other": [texts[at] for at in others],
    }  # fmt: skip


def test_every_number_is_that_of_a_plain_pass_and_of_greedy_decoding(model, rows):
    length, prefix = 15, 9  # 24 of 40 tokens are the prefix, so 9 of 15
    found = lz.in_context(model, rows, length=length, seed=2, batch_size=3)
    assert found["shown"].values.tolist() == list(SHOWN)
    for shown, before in shown_before(rows, length, 2).items():
        for row, text in enumerate(rows.tokens[:, :length]):
            read = torch.cat([before[row], text])
            start = len(read) - length + prefix
            with torch.no_grad():
                log_p = model(read[None])[0].double().log_softmax(-1)
            nll = -np.mean([log_p[at - 1, read[at]].item() for at in range(start, len(read))])
            at = found.dataset.sel(shown=shown).isel(paragraph=row)
            assert at["in_context_nll"].item() == pytest.approx(nll, abs=1e-6)
            said = model.continue_greedily(read[None, :start], length - prefix)[0]
            right = (said == read[start:]).tolist()
            assert at["in_context_exact_match"] == (right.index(False) if False in right else length - prefix)


def test_what_is_recited_behind_its_prefix_alone_is_counted(counter):
    ascending = torch.arange(20)[None] + torch.tensor([[0], [30], [60], [76]])
    ascending[3, 13:] = 5  # goes wrong: 8 of 10 are the prefix, and two are asked for by length 10
    rows = lz.load_paragraphs(ascending, prefix_length=10, continuation_length=10)
    found = lz.in_context(counter, rows, length=16)
    assert found["in_context_exact_match"].sel(shown="nothing").values.tolist() == [8, 8, 8, 5]


def test_a_model_that_sees_only_the_last_token_gains_nothing(counter, rows):
    found = lz.in_context(counter, rows)
    for name in ("in_context_nll", "in_context_exact_match"):
        values = found[name].values
        np.testing.assert_array_equal(values, np.repeat(values[:, :1], len(SHOWN), axis=1))


def test_two_texts_stand_where_recall_reads_one_unless_told_otherwise(counter, rows):
    call = lz.in_context(counter, rows).dataset.attrs["calls"][-1]
    assert (call["length"], call["prefix"]) == (20, 12)
    short = lz.load_paragraphs(rows.tokens[:, :3], prefix_length=2, continuation_length=1)
    call = lz.in_context(counter, short).dataset.attrs["calls"][-1]
    assert (call["length"], call["prefix"]) == (2, 1)
    assert [prefix_of(length, short) for length in (2, 3)] == [1, 2]


def test_the_whole_text_alone_is_recall(model, rows):
    found = lz.in_context(model, rows, length=40)
    alone = found.dataset.sel(shown="nothing")
    np.testing.assert_allclose(alone["in_context_nll"], found["nll"], rtol=1e-6)
    np.testing.assert_array_equal(alone["in_context_exact_match"], found["exact_match"])


def test_the_other_order_is_keyed_and_holds_the_same_tokens(rows):
    texts = rows.tokens[:, :20]
    one, again, other = (shuffled(texts, rows.hashes, seed) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, texts)
    assert torch.equal(one.sort(1).values, texts.sort(1).values)
    assert torch.equal(shuffled(texts[2:3], rows.hashes[2:3], 0), one[2:3])


def made(make):
    """Three texts a group; the gain is .5, .75 and 1, of shuffled tokens a tenth."""
    other = np.array([3.0, 4.0, 5.0, 6.0, 6.0, 6.0])
    gain = np.array([0.5, 0.75, 1.0, 0.0, 0.0, 0.3])
    nll = np.stack([other - 2, other - gain, other - gain / 10, other], axis=1)
    said = np.array([[6, 3, 1, 1]] * 3 + [[0, 2, 2, 0]] * 3, dtype=float)
    arrays = {"in_context_nll": nll, "in_context_exact_match": said}
    dataset = make(["memorized"] * 3 + ["not_memorized"] * 3, arrays).dataset.assign_coords(shown=list(SHOWN))
    return lz.MemorizationSignature(dataset), nll, said


def test_the_table_holds_each_number_beside_what_it_is_held_against(make):
    signature, nll, said = made(make)
    table, at = lz.in_context_table(signature), {shown: place for place, shown in enumerate(SHOWN)}
    for group, rows in {"memorized": slice(0, 3), "not_memorized": slice(3, 6)}.items():
        for quantity, values in ((NLL, nll[rows]), (EXACT_MATCH, said[rows])):
            for shown, null in {"same": "other", "shuffled": "other", "other": "nothing"}.items():
                row, means = table.loc[(quantity, shown, group)], values.mean(0)
                expected = [means[at[shown]], means[at[null]], means[at[shown]] - means[at[null]]]
                np.testing.assert_allclose(row[["estimate", "null", "difference"]].astype(float), expected)
            alone = table.loc[(quantity, "nothing", group)]
            assert alone["estimate"] == values[:, 0].mean() and np.isnan(alone["null"]) and alone["n"] == 3
    gains = table.xs("same", level="shown").loc[GAIN]
    np.testing.assert_allclose(gains["estimate"], [0.75, 0.1, 0.65])
    np.testing.assert_allclose(gains["null"], [0.075, 0.01, 0])
    longer = table.xs("same", level="shown").loc[LONGER]
    np.testing.assert_allclose(longer["estimate"], [2, 2, 0])
    np.testing.assert_allclose(longer["null"], [0, 2, 0])
    assert list(gains.index) == ["memorized", "not_memorized", "memorized - not_memorized"]


def test_the_summary_tells_the_gain(make):
    signature = made(make)[0]
    summary = signature.summary().loc[GAIN]
    np.testing.assert_allclose(summary["estimate"], [0.75, 0.1, 0.65])
    np.testing.assert_allclose(summary["null"], [0.075, 0.01, 0])


@pytest.mark.parametrize("length", [1, 41, True])
def test_a_length_that_does_not_fit_is_told(counter, rows, length):
    with pytest.raises(LocalizeError) as error:
        lz.in_context(counter, rows, length=length)
    assert str(error.value) == (
        f"in_context: length={length} must be a whole number in 2..40: a text has 40 tokens, and two must fit the context of "
        f"{counter.name}, which is {counter.n_ctx}."
    )


def test_two_long_texts_must_fit_the_context(counter):
    long = lz.load_paragraphs(torch.arange(200).view(2, 100) % 97, prefix_length=50, continuation_length=50)
    with pytest.raises(LocalizeError, match=r"in_context: length=65 must be a whole number in 2\.\.64: a text has 100"):
        lz.in_context(counter, long, length=65)


def test_texts_of_one_cluster_and_a_signature_without_are_told(counter, rows):
    with pytest.raises(InputError, match="the null of in_context needs at least two clusters"):
        lz.in_context(counter, rows[[0]])
    with pytest.raises(SignatureError) as error:
        lz.in_context_table(lz.recall(counter, rows))
    assert str(error.value) == (
        "in_context_table: the signature has no 'in_context_nll'; measure it with localize.in_context(model, paragraphs)."
    )
