"""Relearning is drawn as measured, a line per run and group."""

import numpy as np
import pytest

from localize.errors import LocalizeError
from localize.plots.figures.relearning import relearning
from localize.plots.roughness import ROUGH
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap

STEPS = [0, 1, 5, 25]
MEMORIZED, OTHERS = range(8), range(8, 14)


def relearned(made, rows, steps=STEPS, seed=0, continuation="true"):
    """Some of the made-up paragraphs, taught for so many steps."""
    rng = np.random.default_rng(seed)
    part = made.dataset.isel(paragraph=list(rows))[["exact_match", "nll", "token_nll"]]
    shape, told = (len(rows), len(steps)), {"continuation": continuation}
    values = {
        "relearned_exact_match": (("paragraph", "step"), rng.integers(7, size=shape).astype(float), told),
        "relearned_nll": (("paragraph", "step"), rng.gamma(2.0, size=shape), told),
    }
    return MemorizationSignature(part.assign(values).assign_coords(step=steps))


@pytest.fixture(scope="module")
def runs(made):
    return {
        "forgotten": relearned(made, MEMORIZED),
        "never_seen": relearned(made, OTHERS, seed=1),
        "not taught": relearned(made, range(14), steps=[0, 5, 10, 100], seed=2),
    }


@pytest.fixture(scope="module")
def figure(runs):
    return relearning(runs)


def traces(figure, what, panel="Exact match"):
    return [t for t in figure.data if t.meta["what"] == what and t.meta["panel"].startswith(panel)]


@pytest.mark.parametrize(("panel", "name"), [("Exact match", "relearned_exact_match"), ("NLL", "relearned_nll")])
def test_a_line_is_the_mean_over_a_groups_paragraphs_with_its_interval(runs, figure, panel, name):
    lines, bands = traces(figure, "mean", panel), traces(figure, "interval", panel)
    last = runs["not taught"]
    of = [
        (runs["forgotten"], slice(None)),
        (runs["never_seen"], slice(None)),
        (last, slice(0, 8)),
        (last, slice(8, 14)),
    ]
    for line, band, (signature, rows) in zip(lines, bands, of, strict=True):
        values = signature[name].values[rows]
        np.testing.assert_allclose(line.y, values.mean(0), atol=1e-12)
        interval = cluster_bootstrap(values, signature["cluster"].values[rows], seed=0)
        most = signature.dataset.sizes["continuation_position"] if panel == "Exact match" else np.inf
        low, high = (np.clip(end, 0, most) for end in (interval.low, interval.high))
        np.testing.assert_allclose(band.y, [*low, *high[::-1]], atol=1e-12)


def test_every_run_stands_at_its_own_steps(figure):
    first, _, third, _ = traces(figure, "mean")
    assert first.x.tolist() == [0, 1, 5, 25]
    assert third.x.tolist() == [0, 5, 10, 100]
    assert {axis.type for axis in figure.select_xaxes()} == {None}


def test_a_line_stands_in_the_legend_once_with_its_run_and_of_several_groups_which(figure):
    assert [trace.name for trace in figure.data if trace.showlegend and trace.name != ROUGH] == [
        "forgotten (n = 8, 4 clusters)",
        "never seen (n = 6, 3 clusters)",
        "not taught, memorized (n = 8, 4 clusters)",
        "not taught, not memorized (n = 6, 3 clusters)",
    ]
    looks = [(line.line.color, line.marker.symbol) for line in traces(figure, "mean")]
    assert len(set(looks)) == 4
    assert looks == [(line.line.color, line.marker.symbol) for line in traces(figure, "mean", "NLL")]


def test_axes_have_titles_with_units(figure):
    assert [axis.title.text for axis in figure.select_xaxes()] == ["step of training"] * 2
    assert [axis.title.text for axis in figure.select_yaxes()] == ["exact match (tokens)", "NLL (nats per token)"]


def test_the_title_says_which_continuation(made, figure):
    assert [note.text for note in figure.layout.annotations] == [
        "<b>(a)</b> Exact match, true continuation", "<b>(b)</b> NLL, true continuation"
    ]  # fmt: skip
    mixed = {"one": relearned(made, MEMORIZED), "other": relearned(made, OTHERS, continuation="own")}
    assert relearning(mixed).layout.annotations[1].text == "<b>(b)</b> NLL, own continuation and true continuation"


def test_panels_do_not_overlap(figure):
    one, other = figure.select_xaxes()
    assert 0 < one.domain[0] < one.domain[1] < other.domain[0] < other.domain[1] <= 1


def test_hostile_names_stay_text(made):
    name = "<b>x</b>&$y$"
    signature = relearned(made, range(14))
    group = np.where(signature["group"].values == "memorized", name, "other")
    hostile = MemorizationSignature(signature.dataset.assign_coords(group=("paragraph", group)).copy(deep=True))
    figure = relearning({"<i>run</i>": hostile})
    escaped = "&lt;i&gt;run&lt;/i&gt;, &lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36; (n = 8, 4 clusters)"
    assert escaped in [trace.name for trace in figure.data]
    assert "<b>x" not in str(figure.to_dict())
    assert "<i>" not in str(figure.to_dict())


def test_what_cannot_be_drawn_is_refused(made, runs):
    with pytest.raises(LocalizeError) as error:
        relearning({})
    assert (
        str(error.value) == "plots.relearning: runs is empty; at least one signature from localize.relearn is needed."
    )
    with pytest.raises(LocalizeError) as error:
        relearning({"forgotten": runs["forgotten"], "bare": made})
    assert str(error.value) == (
        "plots.relearning, run 'bare': the signature has no 'relearned_exact_match'; "
        "measure it with localize.relearn(model, taught)."
    )
