"""Stored units and locality are drawn as their analyses tell them, beside what nothing looks like."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.stored_units import twin_votes, votes
from localize.errors import LocalizeError
from localize.plots import catalogue
from localize.plots.catalogue import figures_of

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")


@pytest.fixture(scope="module")
def stored(model, paragraphs):
    scores = lz.stored_units(model, paragraphs)
    return scores | lz.locality(model, paragraphs, scores=scores)


def drawn(figure, panel, what, group=None):
    return [
        t
        for t in figure.data
        if (t.meta["panel"], t.meta["what"]) == (panel, what) and group in (None, t.meta["group"])
    ]


def test_votes_by_layer_stand_beside_the_twins_and_even_ones(stored):
    figure, dataset = plots.stored_units(stored), stored.dataset
    panel = "Layers of the best 16 units"
    for group in ("memorized", "partial", "not_memorized"):
        (curve,) = drawn(figure, panel, "mean", group.replace("_", " "))
        chosen = dataset["group"].values == group
        np.testing.assert_allclose(curve.y, 100 * votes(dataset, 16)[chosen].mean(0))
        assert drawn(figure, panel, "interval", group.replace("_", " "))
    twin = [trace for trace in drawn(figure, panel, "null") if trace.mode == "lines" and trace.line.dash == "dash"]
    np.testing.assert_allclose(twin[0].y, 100 * twin_votes(dataset, 16).mean(0))
    (even,) = drawn(figure, panel, "even")
    assert list(even.y) == [25.0] * 4
    names = {trace.name for trace in figure.data if trace.showlegend}
    assert {"all layers alike", "null: best units of random weights"} <= names
    assert [figure.layout[axis].title.text for axis in ("xaxis", "xaxis2")] == ["layer", "rank of the unit"]


def test_without_the_twin_its_null_is_not_drawn(stored, model, paragraphs):
    bare = lz.stored_units(model, paragraphs, untrained=False)
    assert not [trace for trace in plots.stored_units(bare).data if trace.meta["what"] == "null"]


def test_the_curve_of_locality_is_the_mean_of_those_tried(stored):
    figure, dataset = plots.locality(stored), stored.dataset
    lines = {"own loss, its best units": "located_rise", "other texts' loss, the same units": "located_others_rise"}
    for words, name in lines.items():
        (curve,) = [t for t in drawn(figure, "memorized: NLL rise", "mean") if t.name == words]
        np.testing.assert_allclose(curve.y, np.nanmean(dataset[name].values, axis=0))
        assert list(curve.x) == dataset["units_ablated"].values.tolist()
    (null,) = [t for t in drawn(figure, "memorized: NLL rise", "null")]
    np.testing.assert_allclose(null.y, np.nanmean(dataset["located_random_rise"].values, axis=0))
    assert figure.layout.xaxis.type == "log" and figure.layout.yaxis.title.text == "NLL rise (nats per token)"
    assert figure.layout.yaxis2.title.text == "exact match lost (tokens)"


def test_beside_a_control_both_rises_are_shares_of_their_own_gap(stored):
    figure, dataset = plots.locality(stored, control=stored), stored.dataset
    curves = [trace for trace in drawn(figure, "Share of the memory that the units take", "mean")]
    assert [curve.name for curve in curves] == [
        "measured texts, their best units",
        "positive control: planted texts, their best units",
    ]
    group, nll = dataset["group"].values, dataset["nll"].values.astype(float)
    gap = nll[group == "not_memorized"].mean() - nll
    expected = 100 * np.nanmean(
        dataset["located_rise"].values / np.where((group == "memorized") & (gap > 0), gap, np.nan)[:, None], axis=0
    )
    for curve in curves:
        np.testing.assert_allclose(curve.y, expected, rtol=1e-5)
    lost = [trace for trace in drawn(figure, "Exact match lost", "mean")]
    np.testing.assert_allclose(lost[1].y, np.nanmean(dataset["located_lost_match"].values, axis=0))


def test_a_control_without_text_that_is_not_recited_is_refused(stored, model, paragraphs):
    recited = paragraphs[stored.dataset["group"].values == "memorized"]
    alone = lz.locality(model, recited, numbers=4, texts=2)
    with pytest.raises(LocalizeError) as error:
        plots.locality(stored, control=alone)
    assert str(error.value).startswith(
        "plots.locality: the control holds no text of the group 'not_memorized', whose loss "
    )


def test_the_signature_and_the_catalogue_begin_with_them(stored, signature):
    whole = stored | signature
    names = list(figures_of(whole))
    assert names[:5] == ["recall", "stored_units", "locality", "contrast", "gradients"]
    titles = [note.text for note in plots.signature(whole).layout.annotations if note.text.startswith("<b>(")]
    order = [
        next(at for at, title in enumerate(titles) if words in title)
        for words in ("Exact match", "Layers of the best", "Locality", "max |gradient|")
    ]
    assert order == sorted(order)


def test_gradient_maps_are_called_sensitivity_wherever_they_are_shown(signature):
    kind = next(kind for kind in catalogue.KINDS if kind.name == "gradients")
    assert kind.title.startswith("Sensitivity") and "not where the text is stored" in kind.caption
    for figure in (plots.gradients(signature), plots.signature(signature)):
        titles = [note.text for note in figure.layout.annotations]
        maps = [title for title in titles if "max |gradient|" in title or "hare of each layer" in title]
        assert maps and all("ensitivity" in title for title in maps)


def test_what_cannot_be_drawn_is_refused(stored, signature):
    for call, line in (
        (
            lambda: plots.stored_units(signature),
            "plots.stored_units: the signature has no 'unit_score'; measure it with localize.stored_units(model, paragraphs).",
        ),
        (
            lambda: plots.locality(signature),
            "plots.locality: the signature has no 'located_rise'; measure it with localize.locality(model, paragraphs).",
        ),
        (lambda: plots.stored_units(stored, units=65), "plots.stored_units: units=65 must lie in 1..64."),
    ):
        with pytest.raises(LocalizeError) as error:
            call()
        assert str(error.value) == line
