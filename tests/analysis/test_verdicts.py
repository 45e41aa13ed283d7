"""No table says a sentence that its row does not support: in simulated worlds with an effect, without one, and with loss alone."""

import re

import numpy as np
import pytest

from localize.axes import NULLS, QUERIES
from localize.signature.signature import MemorizationSignature

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")

GROUP = np.array(["memorized"] * 40 + ["not_memorized"] * 40)
IN_A = GROUP == "memorized"

WORLDS = {"true effect": (1.0, 0.6), "no effect": (0.0, 0.0), "loss alone": (1.0, 0.0)}
"""How far the groups' log losses lie apart, and what they differ in at any loss."""

NUMBER = r"-?(?:\d+\.?\d*(?:e[-+]\d+)?|inf)"
NUMBERS = re.compile(
    rf" \((?P<estimate>{NUMBER})(?: \[(?P<low>{NUMBER}), (?P<high>{NUMBER})\])?(?: [a-z]+(?: [a-z]+)*)?(?:, null {NUMBER})?"
    rf"(?:, (?P<which>[pq]) (?P<p>< 0\.001|= \d\.\d+))?; (?P<n>\d+) paragraphs in (?P<clusters>\d+) clusters(?P<rough>; rough)?\)"
)

NOTHING_SAID = ("no significant", "no evidence", "not known", "not comparable")
"""How a sentence begins, after what it is about, that claims nothing."""


def world(make_dataset, name, seed=0):
    """Replacement, removal and noise in 80 paragraphs whose rises follow their loss, and their group as the world has it."""
    apart, effect = WORLDS[name]
    rng = np.random.default_rng(seed)
    log_loss = rng.normal(np.where(IN_A, -apart / 2, apart / 2), 0.7)
    costs = 0.3 + 0.05 * log_loss + 0.3 * effect * IN_A
    token_nll = np.exp(log_loss[:, None] - 1 + rng.normal(0, 0.5, (80, 4)))
    rise = costs[:, None, None] * rng.gamma(4.0, 0.25, (80, 2, 6))
    lost = np.minimum(np.floor(20 * rise), 20)
    scores = rng.normal(0, 0.1, (80, 2, 2, 4))
    scores[:, :, 0, 1] += 0.5 * effect
    removal = rng.gamma(4.0, 0.02, (80, 2, 4)) + 0.2 * effect * (scores[:, 0] > 0.3)
    noise = np.array([0.0, 1.0])[:, None] * (
        rng.gamma(4.0, 0.05, (80, 2, 1, 2, 2)) + 0.2 * effect * np.array([1, 0])[:, None, None, None]
    )
    before = token_nll.mean(1)
    arrays = {
        "unperturbed_exact_match": np.full(80, 20), "unperturbed_nll": before, "unperturbed_token_nll": token_nll,
        "perturbed_exact_match": 20 - lost, "perturbed_nll": before[:, None, None] + rise,
        "perturbed_token_error": (costs[:, None] * rng.uniform(0.5, 1.5, (80, 4)))[:, None].clip(0, 1),
        "rare_token_score": scores.clip(-1, 1), "rare_token_null": rng.normal(0, 0.1, (80, 3, 2, 2, 4)).clip(-1, 1),
        "ablated_nll": before[:, None, None] + removal, "ablated_exact_match": np.floor(20 - 10 * removal).clip(0, 20),
        "noised_nll": before.reshape(80, 1, 1, 1, 1) + noise, "noised_exact_match": np.floor(20 - 10 * noise).clip(0, 20),
    }  # fmt: skip
    dataset = make_dataset(list(GROUP), arrays)
    dataset["nll"] = ("paragraph", before, dataset["nll"].attrs)
    axes = {"query": list(QUERIES), "null": list(NULLS), "chosen_by": ["memorized", "random"], "weights_noised": [10]}
    return MemorizationSignature(dataset.assign_coords(axes | {"strength": [0.0, 1.0]}))


def tables(signature):
    """Every table of these measurements that says something in words."""
    return {
        "matched_drop": signature.matched_drop(resamples=100),
        "causal_check": signature.causal_check(resamples=100),
        "noise_table": signature.noise_table(resamples=100),
    }


def claims(verdict):
    """Whether a sentence says that something is so."""
    words = NUMBERS.sub("", verdict)
    return bool(words) and not any(start in words for start in NOTHING_SAID)


def supported(row, told):
    """Whether the numbers in a sentence are its row's, and the row's interval and p-value say as much as the words."""
    ends = [("estimate", "low", "high"), ("difference", "difference_low", "difference_high")]
    assert any(
        f"{row[names[0]]:.3g}" == told["estimate"]
        and (told["low"] is None or [f"{row[name]:.3g}" for name in names[1:]] == [told["low"], told["high"]])
        for names in ends
        if names[0] in row
    )
    assert (str(row["n"]), str(row["clusters"])) == (told["n"], told["clusters"])
    assert bool(told["rough"]) == (row["rough"] is True or row["rough"] is np.True_)
    p_value = row["q_value" if told["which"] == "q" else "p_value"]
    if told["p"] is None:
        assert np.isnan(p_value)
    else:
        assert told["p"] == ("< 0.001" if p_value < 0.001 else f"= {p_value:.3f}")
    return not p_value > 0.05


@pytest.mark.parametrize("name", WORLDS)
def test_every_sentence_has_the_numbers_of_its_row_and_claims_only_what_they_support(make_dataset, name):
    seen = 0
    for seed in range(3):
        for table in tables(world(make_dataset, name, seed)).values():
            for row in table.to_dict("records"):
                if not row["verdict"]:
                    continue
                told = NUMBERS.search(row["verdict"])
                if told is None:
                    assert not claims(row["verdict"]), row["verdict"]
                    continue
                assert supported(row, told) >= claims(row["verdict"]), row["verdict"]
                seen += 1
    assert seen > 30


def claimed(make_dataset, name, pick, repeats=40):
    """In which share of simulated worlds the sentence of a row of the difference claims something."""
    found = []
    for seed in range(repeats):
        rows = world(make_dataset, name, seed).matched_drop(resamples=100).reset_index().to_dict("records")
        found += [claims(row["verdict"]) for row in rows if row["group"] == "memorized - not_memorized" and pick(row)]
    return np.mean(found)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("true effect", 0.9, 1.0), ("no effect", 0, 0.15), ("loss alone", 0, 0.15)]
)
def test_at_like_loss_words_claim_an_effect_where_there_is_one_and_not_where_loss_alone_makes_it(
    make_dataset, name, least, most
):
    at_like = lambda row: row["matched_on"] and "NLL rise" in row["quantity"]  # noqa: E731
    assert least <= claimed(make_dataset, name, at_like) <= most


def test_without_matching_loss_alone_would_be_claimed(make_dataset):
    plain = lambda row: row["quantity"] == "NLL rise"  # noqa: E731
    assert claimed(make_dataset, "loss alone", plain) > 0.5
