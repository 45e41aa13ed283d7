"""Any variable of two groups alike in loss: the matched difference of its rise, cell by cell."""

import numpy as np
import pytest

from localize.analysis.alike import Alike
from localize.analysis.rows import COLUMNS
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import false_discovery, matched_difference

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

A, B = "memorized", "not_memorized"
GROUP = np.array([A] * 40 + [B] * 50)


def of(make_dataset, seed=0, rise=lambda nll, rng: nll * (0.3 + rng.normal(0, 0.05, nll.shape)), apart=1.0):
    """Paragraphs whose NLL rises with their NLL when a token is replaced, in two draws and three positions."""
    rng = np.random.default_rng(seed)
    nll = np.exp(rng.normal(np.where(GROUP == A, -apart / 2, apart / 2), 1.0))
    token_nll = nll[:, None] * np.array([0.5, 1.0, 1.0, 1.5])
    arrays = {
        "unperturbed_nll": nll,
        "perturbed_nll": nll[:, None, None]
        + np.stack([[rise(nll, rng) for _ in range(6)] for _ in range(2)], 0).transpose(2, 0, 1),
    }
    dataset = make_dataset(list(GROUP), arrays)
    dataset["token_nll"] = dataset["token_nll"].dims, token_nll, dataset["token_nll"].attrs
    dataset["nll"] = "paragraph", nll, dataset["nll"].attrs
    return MemorizationSignature(dataset)


@pytest.mark.parametrize("on", ["nll", "confidence"])
def test_a_row_is_the_matched_difference_of_the_rise(make_dataset, on):
    signature = of(make_dataset)
    table = signature.matched_contrast("perturbed_nll", on=on)
    dataset = signature.dataset
    rise = (dataset["perturbed_nll"] - dataset["unperturbed_nll"]).mean("draw").transpose("paragraph", ...).values
    nll = dataset["token_nll"].values
    scale = Alike.in_loss(nll.mean(1), "") if on == "nll" else Alike.in_confidence(np.exp(-nll).mean(1), "")
    found = matched_difference(rise, scale.on, GROUP == A, GROUP == B, np.arange(90))
    assert table.index.names == ["variable", "kind", "prefix_position"] and len(table) == 6
    assert table.columns.tolist() == [*COLUMNS, on, "support"]
    np.testing.assert_allclose(table["estimate"], found.difference.estimate.ravel())
    np.testing.assert_allclose(table["low"], found.difference.low.ravel())
    np.testing.assert_allclose(table["q_value"], false_discovery(found.p_value).ravel())
    used = found.weights[:, 0, 0] > 0
    assert (table["n"] == used.sum()).all()
    assert table["support"].iloc[0] == pytest.approx(min(used[GROUP == A].mean(), used[GROUP == B].mean()))
    assert table["matched_on"].iloc[0] == f"{on} of the paragraph"


def test_a_rise_that_follows_from_loss_is_none_among_the_alike_and_another_is(make_dataset):
    nothing = [of(make_dataset, seed).matched_contrast("perturbed_nll")["p_value"].iloc[0] for seed in range(40)]
    assert np.mean(np.array(nothing) <= 0.05) <= 0.15
    more = of(make_dataset, 1, lambda nll, rng: nll * (0.3 + rng.normal(0, 0.05, nll.shape)) + 0.2 * (GROUP == A))
    table = more.matched_contrast("perturbed_nll")
    assert ((table["low"] < 0.2) & (table["high"] > 0.2) & (table["low"] > 0)).all()


def test_a_single_number_has_a_single_row_and_nothing_alike_is_nan(make_dataset):
    table = of(make_dataset, apart=30.0).matched_contrast("exact_match")
    assert len(table) == 1 and table["support"].tolist() == [0.0]
    assert table[["estimate", "low", "p_value", "nll"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("perturbed_nll", "x"), "signature: no group 'x'; it has memorized, not_memorized."),
        (("gone",), "signature: no 'gone'; it holds exact_match, nll, token_nll, unperturbed_nll, perturbed_nll."),
    ],
    ids=["group", "variable"],
)
def test_what_is_not_there_is_said(make_dataset, arguments, message):
    with pytest.raises(SignatureError) as told:
        of(make_dataset).matched_contrast(*arguments)
    assert str(told.value) == message


def test_another_scale_is_refused(make_dataset):
    with pytest.raises(SignatureError) as told:
        of(make_dataset).matched_contrast("perturbed_nll", on="exact_match")
    assert str(told.value) == "matched_contrast: on='exact_match' is not one of nll, confidence."
