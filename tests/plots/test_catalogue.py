"""The catalogue holds a figure for each thing that was measured, and nothing for what was not."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.plots import catalogue
from localize.plots.catalogue import edit_figures_of, figures_of, slug


@pytest.fixture(scope="module")
def drawn(signature):
    return figures_of(signature)


def test_a_signature_gives_the_figures_of_what_it_holds_in_the_order_of_a_paper(drawn):
    names = [
        "recall",
        "gradients",
        "contrast",
        "rare_token_heads",
        "perturb_prefix",
        "perturb_prefix_paragraph",
        "signature",
    ]
    assert list(drawn)[: len(names)] == names


def test_a_figure_is_what_its_public_function_draws_by_default(signature, drawn):
    for name in ("recall", "gradients", "contrast", "rare_token_heads", "perturb_prefix", "signature"):
        assert drawn[name].figure.to_json() == getattr(plots, name)(signature).to_json()


def test_recall_alone_is_drawn_of_a_signature_with_nothing_else(signature):
    names = ("exact_match", "nll", "token_nll")
    only = type(signature)(signature.dataset[list(names)])
    assert list(figures_of(only)) == ["recall", "signature"]


def test_patching_is_drawn_for_each_of_the_main_groups_that_has_pairs(made, make_signature):
    names = list(figures_of(made))
    assert [name for name in names if name.startswith("patch-")] == ["patch-memorized", "patch-not-memorized"]
    assert names.index("patch-not-memorized") + 1 == names.index("patch_map")
    assert {"corrupt_prefix", "perturb_prefix"} <= set(names)
    three = make_signature(groups=("memorized",) * 4 + ("partial",) * 4 + ("not_memorized",) * 4)
    assert "patch-partial" not in figures_of(three)
    unpatched = three.dataset.copy(deep=True)
    for name in ("head_patch_effect", "stream_patch_effect"):
        unpatched[name].values[8:] = np.nan
    assert "patch-not-memorized" not in figures_of(type(three)(unpatched))
    assert {"contrast"}.isdisjoint(names)


def test_the_paragraph_asked_for_is_drawn_and_an_unknown_one_refused(made):
    assert "Paragraph p3" in figures_of(made, paragraph="p3")["patch_map"].figure.layout.annotations[0].text
    assert "Paragraph p0" in figures_of(made)["patch_map"].figure.layout.annotations[0].text
    with pytest.raises(LocalizeError, match="no paragraph 'p99'"):
        figures_of(made, paragraph="p99")


def test_every_entry_has_words_and_a_name_that_is_a_file_s(drawn):
    for name, entry in drawn.items():
        assert entry.name == name == name.strip().replace("/", "")
        assert isinstance(entry.figure, go.Figure)
        assert 10 < len(entry.title) < 70
        assert entry.caption.endswith(".")
        assert 1 <= entry.caption.count(". ") + 1 <= 4


def test_a_broken_figure_is_not_passed_over(signature, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken")

    kinds = tuple(replace(kind, make=broken) if kind.name == "rare_token_heads" else kind for kind in catalogue.KINDS)
    monkeypatch.setattr(catalogue, "KINDS", kinds)
    with pytest.raises(RuntimeError, match="broken"):
        figures_of(signature)


def test_the_seed_is_that_of_every_interval(signature):
    one, other = (figures_of(signature, seed=seed)["recall"].figure for seed in (0, 1))
    assert one.to_json() != other.to_json()


def test_without_edits_there_is_no_figure_of_them():
    assert edit_figures_of({}) == {}


def test_file_names_are_plain_whatever_a_group_is_called():
    assert slug("not_memorized") == "not-memorized"
    assert slug("../../etc/<b>É") == "etc-b"
    assert np.array_equal([slug("a__b"), slug("EM 0-10")], ["a-b", "em-0-10"])
