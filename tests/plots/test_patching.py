"""What a patch does is drawn as measured, its null beside it, the strongest sites chosen on other clusters than shown."""

from itertools import combinations

import numpy as np
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.plots.theme import WIDTH
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap
from localize.statistics.clusters import choosing_half


@pytest.fixture(scope="module")
def figure(made):
    return plots.patching(made)


def traces(figure, what, panel=""):
    return [t for t in figure.data if t.meta["what"] == what and (t.meta["panel"] or "").startswith(panel)]


def notes_on(figure):
    return [note.text for note in figure.layout.annotations]


def boxes_apart(figure):
    boxes = [(*x.domain, *y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)]
    apart = [a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2] for a, b in combinations(boxes, 2)]
    return all(0 <= end <= 1 for box in boxes for end in box) and all(apart)


def changed(made, **arrays):
    """The signature with other values, or with None without them."""
    dataset = made.dataset.copy(deep=True)
    gone = [name for name, values in arrays.items() if values is None]
    for name, values in arrays.items():
        if values is not None:
            dataset[name] = dataset[name].copy(data=values)
    return MemorizationSignature(dataset.drop_vars(gone))


@pytest.mark.parametrize("group", ["memorized", "not_memorized"])
@pytest.mark.parametrize(("metric", "number"), [("first_changed", 0), ("continuation", 1)])
def test_a_heat_map_is_the_mean_over_the_groups_pairs_white_at_zero(made, group, metric, number):
    figure, rows = plots.patching(made, group=group, metric=metric), made["group"].values == group
    for direction, title in enumerate(("Denoising", "Noising")):
        for site, name in enumerate("qkvz"):
            (heat,) = traces(figure, "mean", f"{title}, {name}")
            by_hand = made["head_patch_effect"].values[rows, direction, number, site].mean(0)
            np.testing.assert_allclose(heat.z, by_hand, atol=1e-12)
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmid) == (-axis.cmax, 0)


def test_the_strongest_sites_are_chosen_on_one_half_of_the_clusters_and_shown_on_the_other(made, figure):
    rows = made["group"].values == "memorized"
    effect = made["head_patch_effect"].values[rows, 0, 0].reshape(rows.sum(), -1)
    null = made["head_patch_null"].values[rows, 0, 0].reshape(rows.sum(), -1)
    clusters = made["cluster"].values[rows]
    chooses = choosing_half(clusters, 0)
    order = sorted(range(effect.shape[1]), key=lambda cell: -abs(effect[chooses, cell].mean()))[:8]
    (points,) = traces(figure, "mean", "Denoising: ")
    (beside,) = traces(figure, "null", "Denoising: ")
    np.testing.assert_allclose(points.x, effect[~chooses][:, order].mean(0), atol=1e-12)
    np.testing.assert_allclose(beside.x, null[~chooses][:, order].mean(0), atol=1e-12)
    interval = cluster_bootstrap(effect[~chooses][:, order], clusters[~chooses], seed=0)
    np.testing.assert_allclose(points.error_x.array, interval.high - interval.estimate, atol=1e-12)
    np.testing.assert_allclose(points.error_x.arrayminus, interval.estimate - interval.low, atol=1e-12)
    names = [f"L{layer}.H{head}.{site}" for site in "qkvz" for layer in range(4) for head in range(4)]
    labels = figure.layout["yaxis" + points.yaxis[1:]].ticktext
    assert labels == tuple(names[cell] for cell in order)
    assert labels[0] == "L1.H2.z"
    assert "chosen on other clusters" in notes_on(figure)


def test_the_title_says_what_the_strongest_site_does_or_that_it_is_not_beyond_its_null(made, figure):
    told = " ".join(notes_on(figure))
    assert "Denoising: L1.H2.z restores most" in told
    assert "Noising: L1.H2.z breaks most" in told
    alike = plots.patching(changed(made, head_patch_null=made["head_patch_effect"].values))
    assert "Denoising: L1.H2.z not beyond its null" in " ".join(notes_on(alike))
    reversed_ = " ".join(notes_on(plots.patching(changed(made, head_patch_effect=-made["head_patch_effect"].values))))
    assert "Denoising: L1.H2.z hinders most" in reversed_
    assert "Noising: L1.H2.z helps most" in reversed_


def test_one_cluster_chooses_and_shows_itself_and_the_panel_says_so(made):
    alone = MemorizationSignature(
        made.dataset.isel(paragraph=[0, 1]).drop_vars(["head_patch_estimate", "stream_patch_estimate"])
    )
    figure = plots.patching(alone)
    assert "chosen on the paragraphs shown" in notes_on(figure)
    assert np.isfinite(traces(figure, "mean", "Denoising: ")[0].x).all()


def test_whole_layers_have_a_line_a_band_and_a_null_for_each_stream_and_what_patching_everything_does(made, figure):
    rows, clusters = made["group"].values == "memorized", made["cluster"].values[made["group"].values == "memorized"]
    panel = "Noising, whole layers"
    for stream, (line, band, null) in enumerate(
        zip(
            traces(figure, "mean", panel), traces(figure, "interval", panel), traces(figure, "null", panel), strict=True
        )
    ):
        effect = made["stream_patch_effect"].values[rows, 1, 0, stream]
        np.testing.assert_allclose(line.y, effect.mean(0), atol=1e-12)
        interval = cluster_bootstrap(effect, clusters, seed=0)
        np.testing.assert_allclose(band.y, [*interval.low, *interval.high[::-1]], atol=1e-12)
        np.testing.assert_allclose(null.y, made["stream_patch_null"].values[rows, 1, 0, stream].mean(0), atol=1e-12)
    gap = (made["corrupted_run_nll"].values - made["clean_nll"].values)[rows, 0].mean()
    for direction, sign in (("Noising", 1), ("Denoising", -1)):
        (whole,) = traces(figure, "whole", direction)
        np.testing.assert_allclose(whole.y, [sign * gap] * 2)


def test_estimates_stand_against_exact_effects_with_their_agreement(made, figure):
    rows = made["group"].values == "memorized"
    heads, *streams = traces(figure, "mean", "Denoising, estimated")
    np.testing.assert_allclose(heads.x, made["head_patch_estimate"].values[rows, 0, 0].mean(0).ravel(), atol=1e-12)
    np.testing.assert_allclose(heads.y, made["head_patch_effect"].values[rows, 0, 0].mean(0).ravel(), atol=1e-12)
    assert (heads.text[0], heads.text[-1]) == ("L0.H0.q", "L3.H3.z")
    assert [trace.text[1] for trace in streams] == ["L1.attn out", "L1.mlp out", "L1.resid"]
    (diagonal,) = traces(figure, "null", "Denoising, estimated")
    assert diagonal.x == diagonal.y
    assert any(note.startswith("ρ 1.00 [1.00, 1.00]; other paragraphs' ") for note in notes_on(figure))


def test_what_was_not_asked_for_is_left_out(made):
    effect = made["head_patch_effect"].values.copy()
    effect[:, 1], effect[:, :, :, :2] = np.nan, np.nan
    part = changed(made, head_patch_effect=effect, head_patch_null=None, stream_patch_effect=None, stream_patch_null=None,
                   head_patch_estimate=None, stream_patch_estimate=None)  # fmt: skip
    figure = plots.patching(part)
    panels = {trace.meta["panel"] for trace in figure.data if trace.meta["panel"]}
    assert panels == {"Denoising, v", "Denoising, z", "Denoising: L1.H2.z restores most"}
    whole = changed(made, **{f"head_patch_{what}": None for what in ("effect", "null", "estimate")})
    assert not any(trace.type == "heatmap" for trace in plots.patching(whole).data)


def test_a_direction_that_only_whole_layers_have_is_drawn_for_them(made):
    effect = made["head_patch_effect"].values.copy()
    effect[:, 1] = np.nan
    figure = plots.patching(changed(made, head_patch_effect=effect))
    assert len(traces(figure, "mean", "Noising, whole layers")) == 3
    assert len(traces(figure, "mean", "Noising: no site measured")[0].x) == 0


def test_twelve_by_twelve_heads_and_one_direction_have_their_room(make_signature):
    figure = plots.patching(make_signature(layers=12, heads=12), direction="noising", top=12)
    assert figure.layout.width == WIDTH
    assert boxes_apart(figure)
    assert traces(figure, "mean", "Noising, z")[0].z.shape == (12, 12)
    assert not traces(figure, "mean", "Denoising")


def test_panels_do_not_overlap_and_the_pairs_are_told(figure):
    assert boxes_apart(figure)
    assert "<b>memorized</b>, n = 8, 4 clusters" in notes_on(figure)
    assert any(
        note.startswith("NLL of the first changed token, own continuation: clean run 0.0") for note in notes_on(figure)
    )


def test_the_signatures_figure_has_the_strongest_sites_and_the_layers(made):
    figure = plots.signature(made)
    assert traces(figure, "mean", "Denoising: L1.H2.z restores most")
    assert traces(figure, "mean", "Noising, whole layers")
    assert not traces(figure, "mean", "Denoising, q")
    assert boxes_apart(figure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "partial"}, "plots.patching: group='partial' is not one of memorized, not_memorized."),
        ({"direction": "both"}, "plots.patching: direction='both' is not one of denoising, noising."),
        (
            {"metric": "em"},
            "plots.patching: metric='em' was not measured; the signature has first_changed, continuation.",
        ),
        ({"top": 0}, "plots.patching: top=0 must be at least 1."),
    ],
)
def test_what_is_not_there_is_named(made, options, message):
    with pytest.raises(LocalizeError) as error:
        plots.patching(made, **options)
    assert str(error.value) == message


def test_a_signature_without_patching_says_what_to_measure(made):
    bare = MemorizationSignature(made.dataset[["exact_match", "nll"]])
    with pytest.raises(LocalizeError) as error:
        plots.patching(bare)
    told = (
        "plots.patching: the signature has no 'stream_patch_effect'; measure it with localize.patch(model, paragraphs)."
    )
    assert str(error.value) == told


def test_a_patch_map_is_one_paragraphs_values_with_its_tokens_as_labels(made):
    figure = plots.patch_map(made, "p3")
    values = made["stream_patch_map"].values[3, 0, 0, 2]  # (layer, position)
    (heat,) = [trace for trace in traces(figure, "values") if trace.name == "Denoising, residual stream"]
    np.testing.assert_allclose(heat.z, values[:, 8:11].T)
    assert list(heat.y) == [8, 9, 10]
    tokens = made["tokens"].values[3]
    assert figure.layout.yaxis.ticktext == (f"<b>8: {tokens[8]}</b>", f"9: {tokens[9]}", f"10: {tokens[10]}")
    assert len(traces(figure, "values")) == 6
    null = np.abs(made["stream_patch_null"].values[3, :, 0]).max()
    assert f"null: as large a change in a random direction moves the NLL by at most {null:.2g} nats" in notes_on(figure)


def test_a_patch_map_of_heads_falls_back_on_the_estimate_and_says_so(made):
    figure = plots.patch_map(made, 0, site="v", direction="noising", metric="continuation")
    (heat,) = traces(figure, "values")
    by_hand = made["head_patch_estimate_map"].values[0, 1, 1, 2]  # (layer, head, position)
    np.testing.assert_allclose(heat.z, by_hand.reshape(16, -1).T)
    assert heat.text[0][6] == "L1.H2"
    assert any("estimated from the gradient, NLL, mean over the continuation" in note for note in notes_on(figure))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paragraph": 14}, "plots.patch_map: paragraph=14 must lie in 0..13, or be an id."),
        ({"paragraph": "x"}, "plots.patch_map: no paragraph 'x'; the ids are p0, p1, p2, ...."),
        ({"site": "w"}, "plots.patch_map: site='w' is not one of q, k, v, z."),
        ({"direction": "up"}, "plots.patch_map: direction='up' is not one of denoising, noising."),
    ],
)
def test_a_patch_map_names_what_is_not_there(made, options, message):
    with pytest.raises(LocalizeError) as error:
        plots.patch_map(made, **options)
    assert str(error.value) == message
