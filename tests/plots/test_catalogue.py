"""The catalogue holds a figure for each thing that was measured, and nothing for what was not."""

import ast
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

import localize as lz
from localize import plots
from localize.errors import LocalizeError
from localize.measurements import MEASUREMENTS, REGISTRY
from localize.plots import catalogue
from localize.plots.catalogue import edit_figures_of, figures_of, slug
from localize.plots.kinds import REGISTERED, FigureKind


@pytest.fixture(scope="module")
def drawn(signature):
    return figures_of(signature)


def test_a_signature_gives_the_figures_of_what_it_holds_in_the_order_of_a_paper(drawn):
    names = [
        "recall",
        "contrast",
        "gradients",
        "rare_token_heads",
        "perturb_prefix",
        "perturb_prefix_paragraph",
        "signature",
    ]
    assert [name for name in drawn if name not in REGISTRY or name in names] == names
    assert list(drawn)[: len(names)] == names, "default figures come last"


def test_a_figure_is_what_its_public_function_draws_by_default(signature, drawn):
    for name in ("recall", "gradients", "contrast", "rare_token_heads", "perturb_prefix", "signature"):
        assert drawn[name].figure.to_json() == getattr(plots, name)(signature).to_json()


def test_recall_alone_is_drawn_of_a_signature_with_nothing_else(recalled):
    assert list(figures_of(recalled)) == ["recall", "signature", "token_nll"]


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


def longest_token(signature, *, seed=0):
    """A figure of one's own."""
    return go.Figure(go.Scatter(y=signature["token_nll"].values.max(1)), layout={"title": f"seed {seed}"})


@pytest.fixture(scope="module")
def recalled(signature):
    """Recall alone."""
    recall = signature.dataset[["exact_match", "nll", "token_nll"]]
    return type(signature)(recall.assign_coords(tokens=signature.dataset["tokens"]))


@pytest.fixture
def own():
    """A kind of figure that is registered during a test."""
    kind = FigureKind("longest_token", (("token_nll",),), "The worst token", "Largest NLL of a token.", longest_token)
    yield kind.register()
    if REGISTERED.get(kind.name) is kind:
        kind.unregister()


def test_a_figure_of_ones_own_comes_after_the_houses_and_draws_its_variable(recalled, own):
    names = list(figures_of(recalled, seed=3))
    assert names.index("longest_token") == names.index("signature") + 1
    assert "token_nll" not in names
    drawn = figures_of(recalled, seed=3)["longest_token"]
    assert (drawn.title, drawn.caption, drawn.figure.layout.title.text) == (own.title, own.caption, "seed 3")
    assert plots.longest_token is longest_token
    assert "longest_token" in dir(plots)
    own.unregister()
    assert "longest_token" not in figures_of(recalled)
    assert "token_nll" in figures_of(recalled)
    assert not hasattr(plots, "longest_token")


def test_a_report_shows_a_figure_of_ones_own(recalled, own, tmp_path):
    assert own.title in lz.report(recalled, tmp_path / "with.html").read_text(encoding="utf-8")
    own.unregister()
    assert own.title not in lz.report(recalled, tmp_path / "without.html").read_text(encoding="utf-8")


def test_what_makes_several_figures_or_none_is_named_after_its_kind(recalled, own):
    several = replace(
        own, make=lambda signature, asked: {group: longest_token(signature) for group in signature.groups}
    )
    several.register()
    names = [name for name in figures_of(recalled) if name.startswith("longest_token")]
    assert names == ["longest_token-memorized", "longest_token-partial", "longest_token-not-memorized"]
    replace(own, make=lambda signature, asked: {}).register()
    assert "token_nll" in figures_of(recalled), "what nothing has drawn gets a default figure"
    own.register()


def test_a_name_that_is_taken_is_refused_in_a_line_but_the_same_figure_may_come_again(own):
    replace(own, title="Another title").register()
    assert REGISTERED["longest_token"].title == "Another title"
    own.register()
    with pytest.raises(LocalizeError) as error:
        FigureKind("recall", (("nll",),), "Mine", "Mine.", longest_token).register()
    assert str(error.value) == (
        "FigureKind.register: a figure 'recall' of another function is registered already; choose another name, or unregister that one."
    )
    own.unregister()
    with pytest.raises(LocalizeError) as error:
        own.unregister()
    assert str(error.value) == "FigureKind.unregister: the figure 'longest_token' is not registered, or is another one."


def test_a_kind_draws_what_it_needs_and_what_is_told_beside():
    kind = FigureKind("x", (("nll",), ("a", "b")), "X", "X.", longest_token, also=("c",))
    assert kind.draws == {"nll", "a", "b", "c"}
    for kind in catalogue.KINDS:
        assert kind.draws <= set(REGISTRY), kind.name


def test_every_figure_goes_by_its_own_name_and_by_its_measurements():
    for name, other in {
        "rare_token_heads": "heads", "prefix_attention": "attention", "ablate": "ablation", "perturb_prefix": "perturbation",
        "corrupt_prefix": "corruption", "patch": "patching",
    }.items():  # fmt: skip
        assert getattr(plots, name) is getattr(plots, other)
        assert name in MEASUREMENTS
    assert plots.perturb_prefix_paragraph.__doc__


def test_the_public_names_are_those_of_the_figures_and_what_is_listed_beside_them():
    names = [
        "FigureKind", "TokenView", "ablate", "ablation", "arms", "attention", "bench", "capacity", "capacity_by_size", "column",
        "comparison", "contrast", "corrupt_prefix", "corruption", "counterfactual", "default", "distinguish", "dose",
        "early_signs", "editing", "facts", "forgetting", "gradients", "heads", "locality", "loss_change",
        "loss_change_over_training", "massive_activations", "membership", "memorized_prior", "memory", "named_layers", "noise",
        "patch", "patch_map", "patching", "perturb_prefix", "perturb_prefix_paragraph", "perturbation", "prefix_attention",
        "priming", "rare_token_heads", "recall", "relearning", "resurfacing", "rules_and_facts", "save", "signature", "sinks",
        "stored_units", "sweep", "tokens", "training", "unit_dynamics",
    ]  # fmt: skip
    assert dir(plots) == plots.__all__ == names
    for name in names:
        assert getattr(plots, name).__doc__, name
    with pytest.raises(AttributeError) as error:
        plots.nosuch  # noqa: B018
    assert str(error.value) == "module 'localize.plots' has no attribute 'nosuch'"


def test_what_editors_are_told_is_what_there_is():
    tree = ast.parse(Path(plots.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    for line in block.body:
        for name in line.names:
            assert getattr(plots, name.name) is getattr(import_module(line.module), name.name)


def test_the_paragraph_of_a_perturbation_is_drawn_by_a_function_of_its_own(signature):
    one, other = plots.perturb_prefix_paragraph(signature, 3), plots.perturbation(signature, paragraph=3)
    assert one.to_json() == other.to_json()
