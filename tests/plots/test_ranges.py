"""No figure draws the end of an interval where its variable cannot lie."""

from importlib import import_module

import numpy as np
import pytest

import localize as lz
from localize.plots import groups
from localize.statistics import Interval
from tests.plots.conftest import PREFIX, made_signature, random_paragraphs

FAR = 1e6
GROUPS = ("memorized",) * 6 + ("not_memorized",) * 6


@pytest.fixture
def boundless(monkeypatch):
    """A bootstrap that knows nothing: its intervals reach far below and above everything."""

    def bootstrap(values, clusters, *, seed):
        mean = np.asarray(np.nanmean(values, axis=0))
        return Interval(mean, np.full_like(mean, -FAR), np.full_like(mean, FAR))

    for module in ("groups", "figures.recall"):
        monkeypatch.setattr(import_module(f"localize.plots.{module}"), "cluster_bootstrap", bootstrap)


def ends(figure):
    """Every number drawn, error bars taken from where they stand."""
    found = []
    for trace in figure.data:
        for axis in ("x", "y"):
            values = getattr(trace, axis, None)
            if values is None or not np.issubdtype(np.asarray(values).dtype, np.number):
                continue
            at = np.asarray(values, float)
            found.append(at)
            error = getattr(trace, f"error_{axis}", None)
            if error is not None and error.array is not None:
                found += [at + np.asarray(error.array, float), at - np.asarray(error.arrayminus, float)]
    return np.concatenate([part.ravel() for part in found])


def drawn(model):
    """Figures by name, each with whether its variables have an upper end too."""
    paragraphs = random_paragraphs(GROUPS)
    signature = lz.gradients(model, paragraphs) | lz.rare_token_heads(model, paragraphs, untrained=False, null_draws=1)
    made = made_signature(groups=GROUPS)
    relearned = lz.relearn(model, paragraphs[:4], steps=1)
    kept, edit = paragraphs[6:8], lz.unlearn(model, paragraphs[:2], paragraphs[6:8], steps=1)
    attacked = lz.resurface(model, edit, paragraphs[:2], paragraphs[4:6], kept, steps=1, begun=2, samples=2, draws=1)
    return {
        "recall": (lz.plots.recall(made), False),  # NLL has no upper end
        "gradients": (lz.plots.gradients(signature), True),
        "heads": (lz.plots.heads(signature), True),
        "default": (lz.plots.default(signature, "gradient_share"), True),
        "corruption": (lz.plots.corruption(made), False),
        "noise": (lz.plots.noise(lz.noise(model, paragraphs, draws=1, fractions=[0.1], strengths=[1.0])), True),
        "relearning": (lz.plots.relearning({"it": relearned}), False),
        "resurfacing": (lz.plots.resurfacing({"it": attacked}), True),
    }


def test_an_interval_ends_where_the_variable_does(model, boundless):
    assert PREFIX < FAR / 10
    for name, (figure, above) in drawn(model).items():
        found = ends(figure)
        assert np.nanmin(found) > -FAR / 10, name
        if above:
            assert np.nanmax(found) < FAR / 10, name


def test_a_change_of_exact_match_lies_within_its_length_both_ways():
    dataset = made_signature(groups=GROUPS).dataset
    for sign in (1.0, -1.0):
        assert groups.change_range(dataset, "exact_match", sign) == (-6, 6)  # of 6 tokens
    assert groups.change_range(dataset, "nll", 1.0) == (-np.inf, np.inf)
