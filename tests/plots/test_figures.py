"""What the figures show is what the signature holds, in the signature's words."""

import re
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from localize import plots
from localize.analysis.dealt_counts import dealt_scores
from localize.errors import LocalizeError
from localize.measurements import AXES, REGISTRY
from localize.plots.figures.perturbation import concentration
from localize.plots.theme import NULL, WIDTH, group_style, plain
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap, cluster_permutation_difference

FIGURES = (plots.gradients, plots.heads, plots.perturbation, plots.signature)


@pytest.fixture(scope="module")
def figures(signature):
    return {draw.__name__: draw(signature) for draw in FIGURES}


def traces(figure, what, *, panel=None, group=None):
    """The traces of a role, in drawing order."""
    return [
        trace
        for trace in figure.data
        if trace.meta["what"] == what
        and (panel is None or panel in trace.meta["panel"])
        and (group is None or trace.meta["group"] == group)
    ]


def looking(signature, name):
    """What is drawn of the heads: the last prefix token's attention, and the mismatched null."""
    values = signature[name].sel(query="last_prefix")
    return (values.sel(null="mismatched") if "null" in values.dims else values).values


def members(signature, group):
    return np.flatnonzero(signature.dataset["group"].values == group)


def words_on(figure):
    axes = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    return (
        [note.text for note in figure.layout.annotations]
        + [text for text in axes if text]
        + [str(trace.name) for trace in figure.data]
    )


def test_a_heat_map_of_gradients_is_the_mean_over_the_groups_paragraphs(signature):
    for value, head, whole in (
        ("max", "head_gradient_max", "gradient_max"),
        ("norm", "head_gradient_norm", "gradient_norm"),
    ):
        figure = plots.gradients(signature, value=value)
        heads, mlp, rows = signature[head].values, signature[whole].values, members(signature, "partial")
        (shown,) = [t for t in traces(figure, "mean", group="partial") if t.type == "heatmap"]
        for layer in range(4):
            by_hand = [np.mean([heads[row, layer, c, h] for row in rows]) for c in range(4) for h in range(4)]
            by_hand += [np.mean([mlp[row, layer, c] for row in rows]) for c in (4, 5)]
            np.testing.assert_allclose(shown.customdata[layer], by_hand, rtol=1e-6)
            np.testing.assert_allclose(shown.z[layer], np.log10(by_hand), atol=1e-6)
        assert shown.text[1][:5].tolist() == ["W_Q head 0", "W_Q head 1", "W_Q head 2", "W_Q head 3", "W_K head 0"]
        assert shown.text[1][-2:].tolist() == ["W_in", "W_out"]


def test_linear_colours_start_at_zero_and_are_shared(signature):
    figure = plots.gradients(signature, scale="linear")
    maps = [t for t in traces(figure, "mean") if t.type == "heatmap"]
    assert {trace.coloraxis for trace in maps} == {"coloraxis"}
    assert figure.layout.coloraxis.cmin == 0
    assert figure.layout.coloraxis.cmax == max(trace.z.max() for trace in maps)
    np.testing.assert_array_equal(maps[0].z, maps[0].customdata)


def test_set_level_gradients_are_drawn_as_they_are_and_have_no_interval(signature):
    figure = plots.gradients(signature, value="set")
    row = signature["set"].values.tolist().index("not_memorized")
    (shown, profile) = traces(figure, "mean", group="not memorized")
    np.testing.assert_allclose(
        shown.customdata[2, 4:8], signature["set_head_gradient_max"].values[row, 2, 1], rtol=1e-6
    )
    assert all(len(band.x) == 0 for band in traces(figure, "interval"))
    assert profile.y.sum() == pytest.approx(100)
    assert (
        "(a)</b> memorized: sensitivity, max |gradient| of the mean NLL of 6 paragraphs, true continuation"
        in figure.layout.annotations[0].text
    )


def profile_by_hand(signature):
    shares = []
    for row in range(len(signature)):
        sums = [
            signature["head_gradient_max"].values[row, layer].astype(float).sum()
            + signature["gradient_max"].values[row, layer, 4:].astype(float).sum()
            for layer in range(4)
        ]
        shares.append([100 * s / sum(sums) for s in sums])
    return np.array(shares)


def test_the_profile_is_the_mean_share_with_a_cluster_interval(signature, figures):
    shares, rows = profile_by_hand(signature), members(signature, "memorized")
    (line,) = traces(figures["gradients"], "mean", panel="Sensitivity: share", group="memorized")
    bands = traces(figures["gradients"], "interval", panel="Sensitivity: share", group="memorized")
    np.testing.assert_allclose(line.y, shares[rows].mean(0), rtol=1e-6)
    interval = cluster_bootstrap(shares[rows], signature["cluster"].values[rows], seed=0)
    drawn = {(x, y) for band in bands for x, y in zip(band.x, np.round(band.y, 4), strict=True) if not np.isnan(x)}
    assert drawn == {(x, y) for end in (interval.low, interval.high) for x, y in enumerate(np.round(end, 4))}


def test_the_nulls_of_the_profile_are_evenness_and_permuted_labels(signature, figures):
    band, even = traces(figures["gradients"], "null", panel="Sensitivity: share")
    assert even.y == (25.0, 25.0)
    shares, first = profile_by_hand(signature), signature["group"].values == "memorized"
    test = cluster_permutation_difference(shares, first, ~first, signature["cluster"].values, seed=0)
    np.testing.assert_allclose(band.y[:4], shares.mean(0) + 16 / 24 * test.null_low, rtol=1e-4)
    np.testing.assert_allclose(band.y[4:], (shares.mean(0) + 16 / 24 * test.null_high)[::-1], rtol=1e-4)
    names = [trace.name for trace in figures["gradients"].data if trace.showlegend]
    assert "null: even over layers" in names
    assert "null: memorized with permuted labels (central 95%)" in names


def test_heads_show_score_and_null_on_one_scale_around_zero(signature, figures):
    figure, rows = figures["heads"], members(signature, "not_memorized")
    (score,) = [t for t in traces(figure, "mean", group="not memorized") if t.type == "heatmap"]
    (null,) = [t for t in traces(figure, "null", group="not memorized") if t.type == "heatmap"]
    np.testing.assert_allclose(score.z, looking(signature, "rare_token_score")[rows].mean(0), atol=1e-6)
    np.testing.assert_allclose(null.z, looking(signature, "rare_token_null")[rows].mean(0), atol=1e-6)
    assert score.coloraxis == null.coloraxis
    axis = figure.layout[score.coloraxis]
    assert (axis.cmin, axis.cmid) == (-axis.cmax, 0)


def test_the_list_is_sorted_by_how_far_the_score_lies_from_its_null_with_both_nulls_beside(signature):
    figure, rows = plots.heads(signature, top=5), members(signature, "memorized")
    score, null = (looking(signature, n)[rows].astype(float).mean(0) for n in ("rare_token_score", "rare_token_null"))
    order = sorted((abs(score - null)[layer, head], layer, head) for layer in range(4) for head in range(4))[::-1][:5]
    assert {np.sign((score - null)[layer, head]) for _, layer, head in order} == {1, -1}
    (points,) = traces(figure, "mean", panel="Top 5 of 16", group="memorized")
    (beside,) = traces(figure, "null", panel="Top 5 of 16", group="memorized")
    np.testing.assert_allclose(points.x, [score[layer, head] for _, layer, head in order], atol=1e-6)
    np.testing.assert_allclose(beside.x, [null[layer, head] for _, layer, head in order], atol=1e-6)
    assert figure.layout["yaxis" + points.yaxis[1:]].ticktext == tuple(f"L{layer}.H{head}" for _, layer, head in order)
    (bars,) = traces(figure, "dealt", panel="Top 5 of 16", group="memorized")
    sets = [signature["group"].values == name for name in signature.groups]
    ends = dealt_scores(signature.dataset, "last_prefix", sets, 0).ends(0)
    expected = [[*(null[layer, head] + ends[:, layer, head]), np.nan] for _, layer, head in order]
    np.testing.assert_allclose(bars.x, np.ravel(expected), atol=1e-6)
    assert "null: counts dealt out over token types (central 95%)" in [trace.name for trace in figure.data]
    _, layer, head = order[0]
    values = looking(signature, "rare_token_score")[rows, layer, head].astype(float)
    interval = cluster_bootstrap(values, signature["cluster"].values[rows], seed=0)
    assert points.error_x.array[0] == pytest.approx(float(interval.high) - points.x[0], abs=1e-5)
    assert points.error_x.arrayminus[0] == pytest.approx(points.x[0] - float(interval.low), abs=1e-5)


def test_local_layers_are_labelled_with_their_window(figures):
    assert figures["heads"].layout.yaxis.ticktext == ("0", "1 (local 6)", "2", "3 (local 6)")


def test_a_head_without_a_score_is_crossed_out_and_never_listed(signature):
    dataset = signature.dataset.copy(deep=True)
    dataset["rare_token_score"].values[:, 0, 2, 1] = np.nan
    figure = plots.heads(MemorizationSignature(dataset), top=16)
    crosses = traces(figure, "empty")
    assert [(trace.x[0], trace.y[0]) for trace in crosses] == [(1, 2)] * 3
    assert [trace.showlegend for trace in crosses] == [True, False, False]
    assert all("L2.H1" not in (axis.ticktext or ()) for axis in figure.select_yaxes())
    assert all(len(points.x) == 15 for points in traces(figure, "mean", panel="Top"))


@pytest.mark.parametrize(("kind", "panel", "sign"), [("exact_match", "Lost exact match", -1), ("nll", "Raised NLL", 1)])
def test_perturbation_is_the_change_at_each_position_and_its_null_the_mean_over_them(
    signature, figures, kind, panel, sign
):
    rows = members(signature, "not_memorized")
    after, before = (
        signature[f"perturbed_{kind}"].values[:, 0].astype(float),
        signature[f"unperturbed_{kind}"].values.astype(float),
    )
    by_hand = [np.mean([sign * (after[row, :, p].mean() - before[row]) for row in rows]) for p in range(12)]
    (line,) = traces(figures["perturbation"], "mean", panel=panel, group="not memorized")
    (null,) = traces(figures["perturbation"], "null", panel=panel, group="not memorized")
    np.testing.assert_allclose(line.y, by_hand, rtol=1e-5)
    np.testing.assert_allclose(null.y, [np.mean(by_hand)] * 2, rtol=1e-5)
    assert line.x.tolist() == list(range(12))


def test_how_often_each_continuation_token_is_wrong_stands_below(signature, figures):
    rows = members(signature, "partial")
    (line,) = traces(figures["perturbation"], "mean", panel="Tokens wrong", group="partial")
    (null,) = traces(figures["perturbation"], "null", panel="Tokens wrong", group="partial")
    by_hand = signature["perturbed_token_error"].values[rows, 0].mean(0)
    np.testing.assert_allclose(line.y, by_hand, rtol=1e-5)
    np.testing.assert_allclose(null.y, [by_hand.mean()] * 2, rtol=1e-5)
    assert line.x.tolist() == list(range(12, 20))
    assert not traces(figures["signature"], "mean", panel="Tokens wrong")
    assert not traces(figures["perturbation"], "mean", panel="by kind")


def test_the_first_kind_is_drawn_unless_another_is_asked_for(made):
    rows = members(made, "memorized")
    lost = made["unperturbed_exact_match"].values[:, None, None, None] - made["perturbed_exact_match"].values
    for number, kind in enumerate((None, "second_choice")):
        figure = plots.perturbation(made, kind=kind)
        (line,) = traces(figure, "mean", panel="Lost exact", group="memorized")
        np.testing.assert_allclose(line.y, lost[rows, number].mean(1).mean(0), atol=1e-12)
        (null,) = traces(figure, "null", panel="Lost exact", group="memorized")
        np.testing.assert_allclose(null.y, [np.nanmean(line.y)] * 2)
        assert ("second choice; dashed: positions permuted" in words_on(figure)) == bool(number)
        (curve,) = traces(figure, "mean", panel="Concentration", group="memorized")
        assert len(curve.y) == 11 - number  # the first position has no second choice
        (points,) = traces(figure, "mean", panel="by kind", group="memorized")
        np.testing.assert_allclose(points.y, np.nanmean(lost[rows], axis=(2, 3)).mean(0), atol=1e-12)
        (level,) = traces(figure, "null", panel="by kind", group="memorized")
        np.testing.assert_allclose(level.y, [points.y.mean()] * 2)


def test_spans_are_told(made):
    dataset = made.dataset
    dataset.attrs["calls"] = [{"measurement": "perturb_prefix", "span": 3}]
    assert "spans of 3; dashed: positions permuted" in words_on(plots.perturbation(MemorizationSignature(dataset)))


def test_a_kind_that_was_not_measured_is_named(made):
    with pytest.raises(LocalizeError) as error:
        plots.perturbation(made, kind="neutral")
    told = "plots.perturbation: kind='neutral' was not measured; the signature has uniform, second_choice."
    assert str(error.value) == told


def test_concentration_chooses_on_some_draws_and_scores_on_the_others():
    drop = np.array([[[3.0, 0.0, 1.0], [2.0, 2.0, 0.0]]])
    # Chosen by draw 0 (order 0 2 1), scored by draw 1: 2 2 4 of 4.
    # Chosen by draw 1 (0 and 1 tie, then 2), scored by draw 0: 1.5 3 4 of 4.
    np.testing.assert_allclose(concentration(drop), [[0, (50 + 37.5) / 2, (50 + 75) / 2, 100]])
    np.testing.assert_allclose(concentration(drop[:, :1]), [[0, 75, 100, 100]])
    assert np.isnan(concentration(np.zeros((1, 2, 3)))).all()


def test_noise_has_the_diagonal_as_its_concentration_but_not_with_one_draw():
    noise = np.random.default_rng(0).exponential(size=(4000, 2, 10))
    np.testing.assert_allclose(concentration(noise).mean(0), np.linspace(0, 100, 11), atol=1)
    assert concentration(noise[:, :1]).mean(0)[5] > 80


def test_the_concentration_panel_has_the_diagonal_and_tells_of_a_single_draw(figures, one_draw):
    (null,) = traces(figures["perturbation"], "null", panel="Concentration")
    assert (null.x, null.y) == ((0, 12), (0, 100))
    told = "one draw chooses and scores: biased up"
    assert told in words_on(plots.perturbation(one_draw))
    assert told not in words_on(figures["perturbation"])


def test_the_continuation_is_told(figures, one_draw):
    assert "<b>(a)</b> Lost exact match, own continuation" in words_on(figures["perturbation"])
    assert "<b>(a)</b> Lost exact match, true continuation" in words_on(plots.perturbation(one_draw))
    assert "<b>(a)</b> memorized: sensitivity, mean of max |gradient|, true continuation" in words_on(
        figures["gradients"]
    )


def test_the_whole_figure_holds_what_the_signature_holds(signature, one_draw, figures):
    letters = re.findall(r"<b>\((\w+)\)</b>", " ".join(words_on(figures["signature"])))
    assert letters == [chr(ord("a") + i) for i in range(3 + 4 + 9 + 3)]
    smaller = words_on(plots.signature(one_draw))
    assert any("Concentration" in text for text in smaller)
    assert not any("gradient" in text or "Score" in text for text in smaller)


def test_a_group_has_one_colour_in_every_figure(signature, figures):
    for figure in figures.values():
        for trace in figure.data:
            if trace.meta["what"] in ("mean", "values") and trace.type != "heatmap" and trace.meta["group"]:
                name = trace.meta["group"].replace(" ", "_")
                colour = trace.line.color if trace.type == "scatter" and trace.line.color else trace.marker.color
                assert colour == group_style(name, signature.groups)[0]
    assert (
        group_style("memorized", ("memorized",))[0]
        == group_style("memorized", ("a", "memorized", "partial"))[0]
        == "#D55E00"
    )
    assert len({group_style(name, ("a", "b", "c"))[0] for name in ("a", "b", "c")}) == 3


def test_every_figure_draws_its_nulls(figures):
    for figure in figures.values():
        assert traces(figure, "null")
        named = [trace.name for trace in figure.data if trace.showlegend and trace.name.startswith("null: ")]
        assert named
    assert all(trace.line.color == NULL for trace in traces(figures["perturbation"], "null", panel="Concentration"))


def test_axes_are_titled_with_the_registrys_words_and_units(figures):
    on = words_on(figures["perturbation"])
    assert AXES["prefix_position"].words in on
    assert f"lost exact match ({REGISTRY['perturbed_exact_match'].unit})" in on
    assert f"NLL rise ({REGISTRY['perturbed_nll'].unit})" in on
    bar = figures["gradients"].layout.coloraxis.colorbar.title.text
    assert bar == f"{REGISTRY['head_gradient_max'].label} ({REGISTRY['head_gradient_max'].unit}), log scale"


def test_the_legend_names_each_group_once_with_paragraphs_and_clusters(figures):
    for figure in figures.values():
        names = [trace.name for trace in figure.data if trace.showlegend]
        assert len(names) == len(set(names))
        assert "memorized (n = 8, 6 clusters, effectively 5)" in names
        assert "not memorized (n = 10, 10 clusters)" in names


def font_sizes(part, inside=""):
    """Every size of a font, however deep."""
    if isinstance(part, dict):
        own = [part["size"]] if "size" in part and inside.endswith("font") else []
        return own + [size for key, value in part.items() for size in font_sizes(value, key)]
    return [size for value in part for size in font_sizes(value, inside)] if isinstance(part, list | tuple) else []


def test_text_is_at_least_seven_points_in_print_and_panels_do_not_overlap(figures, twelve_by_twelve):
    for figure in (*figures.values(), plots.signature(twelve_by_twelve)):
        assert figure.layout.width == WIDTH
        assert min(font_sizes(figure.to_dict())) >= 9.72
        boxes = [(*x.domain, *y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)]
        assert all(0 <= end <= 1 for box in boxes for end in box)
        for a, b in combinations(boxes, 2):
            assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]


def test_twelve_by_twelve_heads_have_room_for_their_labels(twelve_by_twelve):
    figure = plots.heads(twelve_by_twelve)
    box = (figure.layout.yaxis.domain[1] - figure.layout.yaxis.domain[0]) * figure.layout.height
    assert box / len(figure.layout.yaxis.tickvals) >= 11
    assert traces(figure, "mean", panel="Score")[0].z.shape == (12, 12)
    small = plots.signature(twelve_by_twelve)
    labels = [axis.ticktext for axis in small.select_yaxes() if axis.ticktext and "3 (local 6)" in axis.ticktext]
    assert labels[0] == ("0", "3 (local 6)", "6", "9 (local 6)")


def test_one_group_is_enough(signature):
    alone = signature.where(group="partial")
    for draw in FIGURES:
        figure = draw(alone)
        assert {trace.meta["group"] for trace in figure.data} <= {"partial", None}
    assert len(traces(plots.gradients(alone), "null", panel="Sensitivity: share")) == 1


def test_one_cluster_has_means_but_no_bands(signature):
    rows = np.flatnonzero(signature["cluster"].values == signature["cluster"].values[0])
    alone = MemorizationSignature(signature.dataset.isel(paragraph=rows).copy(deep=True))
    (line,) = traces(plots.perturbation(alone), "mean", panel="Lost")
    assert np.isfinite(line.y).all()
    assert all(len(band.x) == 0 for band in traces(plots.perturbation(alone), "interval"))


def test_hostile_names_and_texts_stay_text(signature):
    name = "<b>x</b>&$y$"
    group = np.where(signature["group"].values == "partial", name, signature["group"].values)
    hostile = MemorizationSignature(
        signature.dataset.drop_dims("set").assign_coords(group=("paragraph", group)).copy(deep=True)
    )
    for draw in FIGURES:
        figure = draw(hostile)
        on = " ".join(words_on(figure))
        assert "&lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36;" in on
        assert "<b>x" not in str(figure.to_dict())
        assert "alert" not in str(figure.to_dict())
    assert plain("a" * 99) == "a" * 23 + "…"


@pytest.mark.parametrize(
    ("draw", "missing", "call"),
    [
        (plots.gradients, "head_gradient_max", "gradients(model, paragraphs)"),
        (plots.heads, "rare_token_score", "rare_token_heads(model, paragraphs)"),
        (plots.perturbation, "unperturbed_exact_match", "perturb_prefix(model, paragraphs)"),
    ],
)
def test_what_was_not_measured_is_named(signature, draw, missing, call):
    bare = MemorizationSignature(signature.dataset[["exact_match", "nll"]].copy(deep=True))
    with pytest.raises(LocalizeError) as error:
        draw(bare)
    told = f"plots.{draw.__name__}: the signature has no {missing!r}; measure it with localize.{call}."
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "mean"}, "plots.gradients: value='mean' is not one of max, norm, set."),
        ({"scale": "cubic"}, "plots.gradients: scale='cubic' is not one of log, linear."),
    ],
)
def test_an_unknown_option_is_named(signature, options, message):
    with pytest.raises(LocalizeError) as error:
        plots.gradients(signature, **options)
    assert str(error.value) == message


def test_set_level_gradients_that_were_not_measured_are_named(twelve_by_twelve):
    with pytest.raises(LocalizeError) as error:
        plots.gradients(twelve_by_twelve, value="set")
    told = "plots.gradients: the signature has no 'set_head_gradient_max'; measure it with "
    assert str(error.value) == told + "localize.gradients(model, paragraphs, sets=True)."


def test_a_list_of_no_heads_is_refused(signature):
    with pytest.raises(LocalizeError) as error:
        plots.heads(signature, top=0)
    assert str(error.value) == "plots.heads: top=0 must be at least 1."


def test_the_same_seed_draws_the_same_figure(signature, figures):
    assert plots.signature(signature).to_json() == figures["signature"].to_json()
    assert plots.signature(signature, seed=1).to_json() != figures["signature"].to_json()


def test_importing_the_figures_does_not_import_plotly():
    code = "import sys, localize.plots; sys.exit('plotly' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
