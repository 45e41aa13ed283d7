"""A variable that no figure draws is drawn by its axes, with its null; its numbers are the means of what was measured."""

import numpy as np
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.measurements import AXES, REGISTRY, Axis, Measurement, Variable, nulls_of, register
from localize.measurements.registry import remove
from localize.plots.catalogue import KINDS, figures_of, undrawn
from localize.plots.figures.default import default_words
from localize.plots.theme import WIDTH, group_style
from localize.statistics import cluster_bootstrap

GROUPS = ["memorized"] * 4 + ["not_memorized"] * 3
CLUSTERS = [0, 0, 1, 2, 3, 4, 4]
SIZES = {"paragraph": len(GROUPS), "set": 2, "other_set": 2, "layer": 3, "head": 2, "component": 6, "attention_component": 4, "query": 2,
         "prefix_position": 6, "continuation_position": 4, "position": 10}  # fmt: skip
LABELS = {"other_set": ["memorized", "not_memorized"], "term": ["objective", "forget", "keep"], "correlation": ["pearson", "kendall"],
          "site": ["q", "z"], "bias": ["b_Q", "b_O"], "embedding": ["W_E", "W_E + W_U"], "replaced": ["rarest", "common"],
          "direction": ["denoising", "noising"], "metric": ["first_changed", "continuation"], "stream": ["attn_out", "resid"],
          "order": ["random", "first"], "chosen_by": ["memorized", "random"], "prompt": ["as_is", "half_given"]}  # fmt: skip


@pytest.fixture
def hold(make):
    """`hold(name, ..., **arrays)`: a signature that holds these variables, drawn at random, and the arrays given."""

    def held(*names, **arrays):
        rng = np.random.default_rng(0)
        for name in names:
            variable = REGISTRY[name]
            shape = [SIZES.get(dim, 2) for dim in variable.dims]
            shape = [len(LABELS.get(dim, range(size))) for dim, size in zip(variable.dims, shape, strict=True)]
            values = rng.uniform(0, 1, shape)
            arrays.setdefault(name, values.round().astype(int) if variable.kind == "integer" else values)
        signature = make(GROUPS, arrays, cluster=CLUSTERS)
        labelled = {dim: labels for dim, labels in LABELS.items() if dim in signature.dataset.dims}
        return type(signature)(signature.dataset.assign_coords(labelled))

    return held


def traces(figure, what, panel="", group=None):
    found = [trace for trace in figure.data if trace.meta and trace.meta["what"] == what]
    found = [trace for trace in found if panel in str(trace.meta["panel"])]
    return [trace for trace in found if group is None or trace.meta["group"] == group]


def words_on(figure):
    return [note.text for note in figure.layout.annotations]


def test_a_curve_is_each_groups_mean_with_its_interval_over_clusters(hold):
    signature = hold("residual_gradient", "token_nll")
    values = signature["token_nll"].values
    figure = plots.default(signature, "token_nll", seed=3)
    for name, rows in (("memorized", slice(0, 4)), ("not memorized", slice(4, 7))):
        (line,), (band,) = traces(figure, "mean", group=name), traces(figure, "interval", group=name)
        np.testing.assert_allclose(line.y, values[rows].mean(0))
        np.testing.assert_array_equal(line.x, [6, 7, 8, 9])
        oracle = cluster_bootstrap(values[rows], np.array(CLUSTERS[rows]), seed=3)
        np.testing.assert_allclose(band.y, [*np.maximum(oracle.low, 0), *oracle.high[::-1]])
        assert line.line.color == group_style(name.replace(" ", "_"), ("memorized", "not_memorized"))[0]
    assert figure.layout.xaxis.title.text == "position in the paragraph (tokens)"
    assert figure.layout.yaxis.title.text == "token NLL (nats)"


def test_every_component_has_a_panel_with_a_profile_over_layers(hold):
    signature = hold("gradient_norm")
    figure = plots.default(signature, "gradient_norm")
    for at, component in enumerate(
        ("W<sub>Q</sub>", "W<sub>K</sub>", "W<sub>V</sub>", "W<sub>O</sub>", "W<sub>in</sub>", "W<sub>out</sub>")
    ):
        (line,) = traces(figure, "mean", component, "not memorized")
        np.testing.assert_allclose(line.y, signature["gradient_norm"].values[4:, :, at].mean(0))
        np.testing.assert_array_equal(line.x, [0, 1, 2])


def test_the_null_of_a_profile_is_dashed_in_the_colour_of_its_group(hold):
    signature = hold("copy_similarity", "copy_similarity_null")
    figure = plots.default(signature, "copy_similarity")
    for name, rows in (("memorized", slice(0, 4)), ("not memorized", slice(4, 7))):
        (line,), (null,) = (traces(figure, what, "W<sub>V</sub>", name) for what in ("mean", "null"))
        np.testing.assert_allclose(null.y, signature["copy_similarity_null"].values[rows, :, 2].mean(0))
        np.testing.assert_allclose(line.y, signature["copy_similarity"].values[rows, :, 2].mean(0))
        assert (null.line.dash, null.line.color) == ("dash", line.line.color)
    assert "null: gradient similarity to another's copy" in [trace.name for trace in figure.data if trace.showlegend]


def test_without_its_null_a_variable_is_drawn_alone(hold):
    assert not traces(plots.default(hold("copy_similarity"), "copy_similarity"), "null")


def test_a_heat_map_is_a_groups_mean_beside_its_first_null_on_one_scale(hold):
    signature = hold("rare_token_kendall", "rare_token_kendall_null")
    figure = plots.default(signature, "rare_token_kendall")
    score, null = (signature[name].values for name in ("rare_token_kendall", "rare_token_kendall_null"))
    means, nulls = (traces(figure, what, group="not memorized") for what in ("mean", "null"))
    assert [trace.type for trace in (*means, *nulls)] == ["heatmap"] * 4
    for query in range(2):
        np.testing.assert_allclose(means[query].z, score[4:, query].mean(0))
        np.testing.assert_allclose(nulls[query].z, null[4:, 0, query].mean(0))
    assert {trace.coloraxis for trace in (*means, *nulls)} == {"coloraxis"}
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax, "white is 0"
    assert "its null (mismatched): the same score" in default_words(signature, "rare_token_kendall")[1]


def test_a_head_that_was_not_measured_is_crossed_out(hold):
    values = np.random.default_rng(0).uniform(size=(len(GROUPS), 3, 2))
    values[:, 1, 0] = np.nan
    crosses = traces(plots.default(hold(ablated_nll=values), "ablated_nll"), "empty")
    assert [(trace.x.tolist(), trace.y.tolist()) for trace in crosses] == [([0], [1])] * 2


def test_positive_means_that_differ_tenfold_have_logarithmic_colours_and_say_what_they_are(hold):
    values = np.full((len(GROUPS), 3, 4, 2), 0.001)
    values[:4] = 1.0
    figure = plots.default(hold(head_gradient_norm=values), "head_gradient_norm")
    high, low = traces(figure, "mean", "W<sub>Q</sub>")
    assert (high.z.max(), low.z.max(), low.customdata.max()) == pytest.approx((0.0, -3.0, 0.001))
    assert figure.layout.coloraxis.colorbar.title.text.endswith("log scale")


def test_a_null_that_knows_no_heads_is_the_same_for_each(hold):
    signature = hold("summed_rank_correlation", "summed_rank_correlation_uniform")
    figure = plots.default(signature, "summed_rank_correlation")
    for at, null in enumerate(traces(figure, "null", group="not memorized")):
        uniform = signature["summed_rank_correlation_uniform"].values[1, at]
        np.testing.assert_allclose(null.z, np.repeat(uniform[:, None], 2, axis=1))
    assert [trace.meta["panel"] for trace in traces(figure, "mean", group="memorized")] == ["pearson", "kendall"]


def test_what_is_measured_of_a_set_has_its_groups_colour_and_no_interval(hold):
    signature = hold("set_cancellation", "set_cancellation_null")
    figure = plots.default(signature, "set_cancellation")
    (line,), (null,) = (traces(figure, what, "W<sub>in</sub>", "memorized") for what in ("mean", "null"))
    np.testing.assert_allclose(line.y, signature["set_cancellation"].values[0, :, 4])
    np.testing.assert_allclose(null.y, signature["set_cancellation_null"].values[0, :, 4])
    assert (line.name, line.line.color) == ("memorized", group_style("memorized", ("memorized",))[0])
    assert {len(band.x) for band in traces(figure, "interval")} == {0}


def test_draws_are_averaged_and_positions_where_layers_and_heads_are_drawn(hold):
    signature = hold("noised_nll", "activation_gradient")
    noised = signature["noised_nll"].values
    lines = traces(plots.default(signature, "noised_nll"), "mean", group="memorized")
    np.testing.assert_allclose(lines[0].y, noised[:4, 0, 0].mean((0, 2)))
    np.testing.assert_allclose(lines[3].y, noised[:4, 1, 1].mean((0, 2)))
    figure = plots.default(signature, "activation_gradient")
    heat = traces(figure, "mean", "z", "memorized")[0]
    np.testing.assert_allclose(heat.z, signature["activation_gradient"].values[:4, :, 1].mean((0, 3)))
    assert words_on(figure)[0] == "true continuation; mean over positions"


def test_layers_and_positions_alone_are_a_heat_map(hold):
    signature = hold("residual_gradient")
    heat = traces(plots.default(signature, "residual_gradient"), "mean", group="memorized")[0]
    np.testing.assert_allclose(heat.z, signature["residual_gradient"].values[:4].mean(0))


def test_names_are_drawn_as_points_with_their_intervals(hold):
    signature = hold("replaced_nll")
    figure = plots.default(signature, "replaced_nll", seed=1)
    (points,) = traces(figure, "mean", group="memorized")
    values = signature["replaced_nll"].values[:4]
    oracle = cluster_bootstrap(values, np.array(CLUSTERS[:4]), seed=1)
    np.testing.assert_allclose(points.y, values.mean(0))
    np.testing.assert_allclose(points.y + points.error_y.array, oracle.high)
    assert figure.layout.xaxis.ticktext == ("rarest", "common")
    embeddings = plots.default(hold("embedding_gradient_norm"), "embedding_gradient_norm").layout.xaxis.ticktext
    assert embeddings == ("W<sub>E</sub>", "W<sub>E</sub> + W<sub>U</sub>")


def test_one_number_per_paragraph_is_a_histogram_of_those_that_are_known(hold):
    values = np.array([0.1, 0.2, np.nan, 0.3, 0.5, 0.6, 0.7])
    figure = plots.default(hold(token_accuracy=values), "token_accuracy")
    (bars,), (mean,) = (traces(figure, what, group="memorized") for what in ("values", "mean"))
    assert bars.y.sum() == pytest.approx(100)
    assert float(mean.x[0]) == pytest.approx(0.2)


def test_of_too_many_labels_the_first_are_shown_and_told(hold):
    signature = hold("head_patch_map")
    figure = plots.default(signature, "head_patch_map")
    values = signature["head_patch_map"].values  # paragraph, direction, metric, site, layer, head, position
    assert words_on(figure)[0] == "true continuation; mean over positions; direction of patching: denoising"
    first, *_, last = traces(figure, "mean", group="memorized")
    np.testing.assert_allclose(first.z, values[:4, 0, 0, 0].mean((0, 3)))
    np.testing.assert_allclose(last.z, values[:4, 0, 1, 1].mean((0, 3)))


def test_a_label_that_was_not_measured_has_no_panel(hold):
    values = np.random.default_rng(0).uniform(size=(len(GROUPS), 3, 2))
    values[:, :, 0] = np.nan
    figure = plots.default(hold(bias_gradient_norm=values), "bias_gradient_norm")
    (line,) = traces(figure, "mean", group="memorized")
    np.testing.assert_allclose(line.y, values[:4, :, 1].mean(0))
    assert "bias: b<sub>O</sub>" in words_on(figure)[0]


MEASURED = [name for name, variable in REGISTRY.items() if variable.role == "measured"]


@pytest.mark.parametrize("name", MEASURED)
def test_every_variable_that_is_measured_has_a_figure(hold, name):
    if any(name in kind.draws for kind in KINDS):
        return
    signature = hold(name, *nulls_of(name))
    assert undrawn(signature, {"exact_match", "nll", "token_nll"} - {name}) == [name]
    figure, (title, caption) = plots.default(signature, name), default_words(signature, name)
    assert (figure.layout.width, plots.column(figure).layout.width) == (WIDTH, 350)
    assert 2 <= len(title) <= 70
    assert caption.endswith(".") and REGISTRY[name].unit in caption
    assert any(trace.meta["group"] for trace in traces(figure, "null")) == bool(nulls_of(name))
    shown = [text for axis in (*figure.select_xaxes(), *figure.select_yaxes()) for text in [axis.title.text] if text]
    assert all(AXES[dim].words in shown for dim in ("layer", "head") if dim in REGISTRY[name].dims)


def test_a_null_or_what_was_set_up_has_no_figure_of_its_own(hold):
    signature = hold("copy_similarity", "copy_similarity_null", "patch_position", "unperturbed_nll")
    drawn = figures_of(signature)
    assert [name for name in drawn if name in REGISTRY] == ["token_nll", "copy_similarity"]
    assert drawn["copy_similarity"].title == "Gradient similarity to the copy by layer and component"
    assert drawn["copy_similarity"].figure.to_json() == plots.default(signature, "copy_similarity").to_json()
    assert drawn["copy_similarity"].caption == (
        "Cosine between the gradients of a paragraph's and its changed copy's mean NLL (cosine): mean over each group's paragraphs. "
        "Dashed its null: cosine between the gradients of a paragraph's and another one's copy's mean NLL, from another cluster. "
        "Bands and bars are 95% intervals by bootstrap over clusters of near-duplicates."
    )


def test_a_variable_without_a_number_is_left_out_of_the_catalogue_and_refused_by_name(hold):
    empty = hold(gradient_norm=np.full((len(GROUPS), 3, 6), np.nan))
    assert "gradient_norm" not in figures_of(empty)
    for name, message in (
        ("gradient_norm", "plots.default: every value of 'gradient_norm' is missing."),
        (
            "nonsense",
            "plots.default: the signature has no variable 'nonsense'; it has exact_match, nll, token_nll, gradient_norm.",
        ),
    ):
        with pytest.raises(LocalizeError) as error:
            plots.default(empty, name)
        assert str(error.value) == message


def test_a_measurement_of_ones_own_is_drawn_along_its_own_axis_with_its_null(make):
    said = ("cosine", "echo", "how much of it comes back", "a test")
    variables = (
        Variable("echo", ("paragraph", "wall"), "float", *said, low=0),
        Variable("echo_null", ("paragraph", "wall"), "float", *said, low=0, role="null", of="echo"),
    )
    register(Measurement("echo", words="echo", variables=variables, axes=(Axis("wall", "wall of the room"),)))
    try:
        values = np.random.default_rng(0).uniform(size=(2, len(GROUPS), 3))
        signature = make(GROUPS, {"echo": values[0], "echo_null": values[1]}, cluster=CLUSTERS)
        signature = type(signature)(signature.dataset.assign_coords(wall=["north", "east", "south"]))
        drawn = figures_of(signature)["echo"]
    finally:
        remove("echo")
    (points,) = traces(drawn.figure, "mean", group="not memorized")
    np.testing.assert_allclose(points.y, values[0, 4:].mean(0))
    np.testing.assert_allclose(
        [dash.y[0] for dash in traces(drawn.figure, "null", group="not memorized")], values[1, 4:].mean(0)
    )
    assert (drawn.title, drawn.figure.layout.xaxis.title.text) == ("Echo", "wall of the room")
