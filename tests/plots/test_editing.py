"""What an edit forgets and what else it loses is drawn as measured, of every paragraph, in colours that mean one thing."""

from itertools import combinations, pairwise

import numpy as np
import plotly.io as pio
import pytest
import xarray as xr

from localize import plots
from localize.analysis.change import Change, edit_table
from localize.errors import LocalizeError, SignatureError
from localize.plots.column import column
from localize.plots.figures.editing import editing
from localize.plots.roughness import ROUGH
from localize.plots.spots import edges
from localize.plots.theme import GRID, INK, NULL, ROLE_COLOURS, ROLE_SYMBOLS, WIDTH, group_style
from localize.signature.signature import MemorizationSignature
from localize.statistics import Range, cluster_bootstrap

FEW = "ignore:few effective clusters"
LENGTH = 6
GROUPS = (
    ("forget",) * 8 + ("near_duplicate",) * 4 + ("kept_memorized",) * 6 + ("kept_not_memorized",) * 6
    + ("memorized",) * 10 + ("partial",) * 4 + ("not_memorized",) * 8 + ("general",) * 4
)  # fmt: skip
SEEN = ("forget", "near_duplicate", "kept_memorized", "memorized")


def signature_of(groups, gone, recited):
    """What an evaluation of an edit holds, two paragraphs a cluster."""
    values = {
        "exact_match": np.maximum(recited - gone, 0), "nll": 0.1 + 0.5 * gone,
        "reference_exact_match": np.maximum(LENGTH - gone, 0), "reference_nll": 0.1 + 0.4 * gone,
    }  # fmt: skip
    variables = {name: (("paragraph",), array, {"continuation": "true"}) for name, array in values.items()}
    coords = {
        "paragraph": ("paragraph", np.array([f"p{row}" for row in range(len(groups))])),
        "group": ("paragraph", np.array(groups)), "cluster": ("paragraph", np.arange(len(groups)) // 2),
        "tokens": (("paragraph", "position"), np.arange(10 * len(groups)).reshape(-1, 10)),
    }  # fmt: skip
    about = {"source": "made", "data_hash": "d" * 64, "prefix_length": 10 - LENGTH, "continuation_length": LENGTH}
    return MemorizationSignature(
        xr.Dataset(variables, coords, {"model": {"name": "made"}, "paragraphs": about, "calls": []})
    )


def make_change(lost, seed=0, groups=GROUPS):
    """An edit that takes up to `lost[group]` tokens off each paragraph."""
    rng, names = np.random.default_rng(seed), np.array(groups)
    most = np.array([lost.get(name, 0) for name in names])
    recited = np.where(np.isin(names, ("not_memorized", "kept_not_memorized", "general")), 1, LENGTH)
    gone = np.floor(rng.uniform(0, most + 0.999)).astype(int)
    return Change(signature_of(groups, 0 * gone, recited), signature_of(groups, gone, recited))


@pytest.fixture(scope="module")
def changes():
    """An edit in three repetitions, one of its own, and a control."""
    return {
        "top 1 %": [make_change({"forget": 6, "memorized": 1}, seed) for seed in range(3)],
        "all": make_change({"forget": 6, "memorized": 3, "near_duplicate": 5, "not_memorized": 4, "general": 2}, 5),
        "random": make_change({"forget": 2, "memorized": 2}, 6),
    }


@pytest.fixture(scope="module")
def figure(changes):
    return editing(changes, controls=["random"])


def traces(figure, what, panel=""):
    return [t for t in figure.data if t.meta["what"] == what and (t.meta["panel"] or "").startswith(panel)]


def words_on(figure):
    axes = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    return [note.text for note in figure.layout.annotations] + [t for t in axes if t] + [t.name for t in figure.data]


def rows_of(change, variable, group):
    """Before, after and clusters of a group's paragraphs."""
    inside = change.before["group"].values == group
    values = (side[variable].values[inside].astype(float) for side in (change.before, change.after))
    return (*values, change.before["cluster"].values[inside])


def pooled(given, variable, group):
    parts = [rows_of(change, variable, group) for change in (given if isinstance(given, list) else [given])]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def test_an_edit_stands_at_what_it_left_and_what_else_it_changed(changes, figure):
    points = traces(figure, "mean", "What is forgotten")
    assert [point.name for point in points] == list(changes)
    for point, given in zip(points, changes.values(), strict=True):
        _, left, clusters = pooled(given, "exact_match", "forget")
        assert point.x[0] == pytest.approx(left.mean())
        interval = cluster_bootstrap(left, clusters, seed=0).within(Range(0, LENGTH))
        assert point.x[0] + point.error_x.array[0] == pytest.approx(float(interval.high))
        assert point.x[0] - point.error_x.arrayminus[0] == pytest.approx(float(interval.low))
        before, after, clusters = pooled(given, "exact_match", "memorized")
        assert point.y[0] == pytest.approx((after - before).mean())
        interval = cluster_bootstrap(after - before, clusters, seed=0)
        assert point.y[0] + point.error_y.array[0] == pytest.approx(float(interval.high))
        assert point.y[0] - point.error_y.arrayminus[0] == pytest.approx(float(interval.low))


@pytest.mark.filterwarnings(FEW)
def test_the_change_is_that_of_the_table(changes, figure):
    table = edit_table(changes)
    for point in traces(figure, "mean", "What is forgotten"):
        row = table.loc[(point.name, "exact_match", "memorized")]
        assert point.y[0] == pytest.approx(row["estimate"])
        assert point.y[0] - point.error_y.arrayminus[0] == pytest.approx(row["low"])


def test_every_repetition_is_a_small_point_led_to_their_mean(changes, figure):
    (small,), (spokes,) = traces(figure, "repetitions"), traces(figure, "spokes")
    mean = traces(figure, "mean", "What is forgotten")[0]
    for place, change in enumerate(changes["top 1 %"]):
        _, left, _ = rows_of(change, "exact_match", "forget")
        before, after, _ = rows_of(change, "exact_match", "memorized")
        assert (small.x[place], small.y[place]) == pytest.approx((left.mean(), (after - before).mean()))
        assert spokes.x[3 * place : 3 * place + 3] == (small.x[place], mean.x[0], None)
        assert spokes.y[3 * place : 3 * place + 3] == (small.y[place], mean.y[0], None)
    assert small.marker.size < mean.marker.size
    keys = {t.name for t in figure.data if t.meta["what"] == "key"}
    assert keys == {"null: no change", "one repetition", "control", ROUGH}


def test_a_repetition_without_such_paragraphs_is_left_out():
    groups = tuple("other" if group == "memorized" else group for group in GROUPS)
    both = [make_change({"forget": 3, "memorized": 3}), make_change({"forget": 6}, groups=groups)]
    figure = editing({"x": both})
    (small,) = traces(figure, "repetitions")
    assert np.isfinite(small.y).tolist() == [True, False]
    assert all(np.isfinite(axis.range).all() for axis in figure.select_yaxes())


def test_the_unedited_model_is_a_cross_and_no_change_is_dashed(figure):
    (cross,) = traces(figure, "before", "What is forgotten")
    assert (list(cross.x), list(cross.y), cross.name) == ([LENGTH], [0], "unedited")
    (line,) = traces(figure, "null")
    assert (line.y, line.line.dash, line.line.color) == ((0, 0), "dash", NULL)


def test_controls_are_grey_and_open(figure):
    *edits, control = traces(figure, "mean", "What is forgotten")
    assert (control.marker.color, control.error_x.color) == (NULL, NULL)
    assert control.marker.symbol.endswith("-open")
    assert all(edit.marker.color == INK and not edit.marker.symbol.endswith("open") for edit in edits)
    assert len({point.marker.symbol for point in (*edits, control)}) == 3
    assert figure.layout.yaxis2.ticktext == (
        f'<span style="color:{INK}">top 1 %</span>', f'<span style="color:{INK}">all</span>',
        f'<span style="color:{NULL}">random</span>',
    )  # fmt: skip


def test_every_paragraph_is_a_point_in_the_row_of_its_edit(changes, figure):
    for group in set(GROUPS):
        variable, panel = ("exact_match", "Memorized") if group in SEEN else ("reference_exact_match", "Others")
        (cloud,) = [t for t in traces(figure, "values", panel) if t.meta["group"] == group.replace("_", " ")]
        shown = np.array([cloud.x, cloud.y], dtype=float)
        for row, given in enumerate(changes.values()):
            _, after, _ = pooled(given, variable, group)
            own = shown[:, np.abs(shown[1] - row) < 0.5]
            assert own.shape[1] == len(after)
            np.testing.assert_array_equal(np.round(own[0]), after)
            assert len(np.unique(own[1])) == len(after)


def test_the_first_edit_is_uppermost_and_the_rows_are_named_once(figure):
    left, right = figure.layout.yaxis2, figure.layout.yaxis3
    assert left.range == right.range == (2.5, -0.5)
    assert (left.showticklabels, right.showticklabels) == (True, False)
    assert list(left.tickvals) == [0, 1, 2]


def test_lanes_lie_apart_and_inside_their_row(figure):
    for panel, count in (("Memorized", 4), ("Others", 4)):
        lanes = [np.array(t.y) % 1 for t in traces(figure, "values", panel)]
        lanes = sorted([((y + 0.5) % 1).min(), ((y + 0.5) % 1).max()] for y in lanes)
        assert len(lanes) == count
        assert all(one[1] < other[0] for one, other in pairwise(lanes))
        assert lanes[0][0] > 0 and lanes[-1][1] < 1


def test_over_the_points_stand_mean_interval_and_what_was_before(changes, figure):
    for group in set(GROUPS):
        variable, panel = ("exact_match", "Memorized") if group in SEEN else ("reference_exact_match", "Others")
        means, earlier = (
            next(t for t in traces(figure, what, panel) if t.meta["group"] == group.replace("_", " "))
            for what in ("mean", "before")
        )
        for row, given in enumerate(changes.values()):
            before, after, clusters = pooled(given, variable, group)
            interval = cluster_bootstrap(after, clusters, seed=0)
            assert means.x[row] == pytest.approx(after.mean())
            low, high = (float(np.clip(end, 0, LENGTH)) for end in (interval.low, interval.high))
            assert means.x[row] + means.error_x.array[row] == pytest.approx(high)
            assert means.x[row] - means.error_x.arrayminus[row] == pytest.approx(low)
            assert earlier.x[row] == pytest.approx(before.mean())
            assert means.y[row] == earlier.y[row] and abs(means.y[row] - row) < 0.5
        assert (means.marker.color, means.marker.symbol) == (ROLE_COLOURS[group], ROLE_SYMBOLS[group])
        assert group in SEEN or set(earlier.x) == {LENGTH}


def test_it_says_which_continuation_is_asked_for_and_who_was_seen(figure):
    on = words_on(figure)
    assert "<b>(a)</b> What is forgotten, and what else is lost" in on
    assert "true continuation; upper left: forgotten, and nothing else lost; 95% intervals" in on
    assert "<b>(b)</b> Memorized, true continuation" in on
    assert "with near duplicates; kept: seen by the edit" in on
    assert "<b>(c)</b> Others, unedited model's continuation" in on
    assert "recited in full before; kept: seen by the edit" in on
    assert "exact match of the forget set after the edit (tokens)" in on
    assert "memorized, not seen by the edit:<br>change of exact match (tokens)" in on
    assert on.count("exact match after the edit (tokens)") == 2
    assert "Text that is said with little confidence loses its exact match to almost any edit: see also its NLL." in on


def test_the_legend_tells_each_role_once_with_its_paragraphs(figure):
    shown = [t.name for t in figure.data if t.showlegend]
    assert len(shown) == len(set(shown))
    assert "to forget (n = 8, effectively 4)" in shown
    assert "memorized, not seen (n = 10, effectively 5)" in shown
    fewer = GROUPS[:1] + ("memorized",) * 7 + GROUPS[8:]
    ranges = editing({"x": make_change({}), "y": make_change({}, groups=fewer)})
    assert "to forget (n = 1–8, effectively 1–4)" in [t.name for t in ranges.data if t.showlegend]
    each = editing({"y": make_change({}, groups=fewer)})
    assert "to forget (n = 1)" in [t.name for t in each.data if t.showlegend], "a cluster for each"


def test_roles_that_are_not_there_are_not_drawn():
    groups = ("forget",) * 4 + ("memorized",) * 6 + ("not_memorized",) * 6
    figure = editing({"x": make_change({"forget": 6}, groups=groups)})
    assert {t.meta["group"] for t in traces(figure, "values")} == {"forget", "memorized", "not memorized"}
    on = words_on(figure)
    assert "recited in full before" in on
    assert not any("near duplicates" in words or "kept" in words for words in on)
    alone = editing({"x": make_change({"forget": 6}, groups=groups[:10])})
    assert [panel for panel in words_on(alone) if panel.startswith("<b>")] == [
        "<b>(a)</b> What is forgotten, and what else is lost", "<b>(b)</b> Memorized, true continuation",
    ]  # fmt: skip
    assert not any("little confidence" in words for words in words_on(alone))
    assert alone.layout.xaxis2.domain[1] == figure.layout.xaxis3.domain[1]


def test_a_role_that_only_some_edits_have_keeps_its_rows():
    groups = tuple("memorized" if group == "near_duplicate" else group for group in GROUPS)
    figure = editing({"x": make_change({}, groups=groups), "y": make_change({})})
    (near,) = [t for t in traces(figure, "mean", "Memorized") if t.meta["group"] == "near duplicate"]
    assert len(near.y) == 1 and abs(near.y[0] - 1) < 0.5


def test_a_users_own_group_is_asked_for_what_the_unedited_model_says():
    groups = tuple("my own" if group == "partial" else group for group in GROUPS)
    figure = editing({"x": make_change({}, groups=groups)})
    (own,) = [t for t in traces(figure, "mean", "Others") if t.meta["group"] == "my own"]
    assert own.name == "my own (n = 4, effectively 2)"


def test_an_interval_that_is_not_known_is_not_drawn_as_none():
    groups = ("forget",) * 2 + ("memorized",) * 2  # a cluster each
    (point,) = traces(editing({"x": make_change({"forget": 3}, groups=groups)}), "mean", "What is forgotten")
    assert np.isnan([point.error_x.array[0], point.error_x.arrayminus[0], point.error_y.array[0]]).all()


def boxes_of(figure):
    return [(*x.domain, *y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)]


def name_boxes(figure, names):
    """The boxes of the edits' names in px of their panel."""
    (text,) = traces(figure, "names")
    x, y = figure.layout.xaxis, figure.layout.yaxis
    size = [figure.layout.width * np.diff(x.domain)[0], figure.layout.height * np.diff(y.domain)[0]]
    across = (np.array(text.x) - x.range[0]) / np.diff(x.range)[0] * size[0]
    down = (y.range[1] - np.array(text.y)) / np.diff(y.range)[0] * size[1]
    return [edges(np.array(at), min(len(n), 24)) for *at, n in zip(across, down, names, strict=True)], size


@pytest.mark.parametrize("width", ["page", "column", "column, read from a file"])
@pytest.mark.parametrize("count", [1, 7])
def test_names_do_not_meet_even_of_edits_that_do_the_same(count, width):
    names = [
        "top 0.1 %",
        "top 1 %",
        "random 0.1 %",
        "random 1 %",
        "all",
        "other layers",
        "a name too long to be shown",
    ][:count]
    figure = editing({name: make_change({"forget": 9}) for name in names})
    if width != "page":
        figure = column(pio.from_json(figure.to_json()) if "file" in width else figure)
    boxes, size = name_boxes(figure, names)
    assert len(boxes) == count
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(min(a) >= 0 and a[2] <= size[0] and a[3] <= size[1] for a in boxes)
    leaders = [leader for leader in traces(figure, "leaders") if len(leader.x) == 2]
    assert bool(leaders) == (count > 1)
    for leader in leaders:
        point = next(t for t in traces(figure, "mean", "What is forgotten") if t.name == leader.name)
        assert (leader.x[0], leader.y[0]) == pytest.approx((point.x[0], point.y[0]), abs=1e-9)


@pytest.mark.parametrize("count", [1, 7])
def test_panels_lie_apart_at_the_width_of_a_page(count):
    figure = editing({str(place): make_change({"forget": 5, "memorized": 2}, place) for place in range(count)})
    assert figure.layout.width == WIDTH
    boxes = boxes_of(figure)
    assert len(boxes) == 3
    assert all(0 <= end <= 1 for box in boxes for end in box)
    assert all(a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2] for a, b in combinations(boxes, 2))
    lanes = figure.layout.height * (boxes[1][3] - boxes[1][2]) / count / 4
    assert lanes >= 8
    (rules,) = traces(figure, "rule", "Memorized")
    assert rules.line.color == GRID and [y for y in rules.y or () if y is not None] == [
        row + 0.5 for row in range(count - 1) for _ in (0, 1)
    ]


def test_all_points_are_inside_their_panel(figure):
    for number, panel in (("", "What"), ("2", "Memorized"), ("3", "Others")):
        for side in "xy":
            low, high = sorted(figure.layout[f"{side}axis{number}"].range)
            for trace in (
                traces(figure, "mean", panel) + traces(figure, "values", panel) + traces(figure, "before", panel)
            ):
                assert all(low <= value <= high for value in trace[side])


def test_the_change_is_drawn_from_the_most_to_the_least_that_is_shown_and_none(figure):
    (small,), means = traces(figure, "repetitions"), traces(figure, "mean", "What is forgotten")
    ends = [t.y[0] + sign * end[0] for t in means for sign, end in ((1, t.error_y.array), (-1, t.error_y.arrayminus))]
    low, high = min([0, *ends, *small.y]), max([0, *ends, *small.y])
    room = 0.12 * (high - low) + 0.02 * LENGTH
    assert figure.layout.yaxis.range == pytest.approx((low - room, high + room))
    assert figure.layout.xaxis.range == pytest.approx((-0.04 * LENGTH, 1.06 * LENGTH))


def test_the_same_seed_draws_the_same_figure(changes, figure):
    assert editing(changes, controls=["random"]).to_json() == figure.to_json()
    other = editing(changes, controls=["random"], seed=1)
    assert list(traces(other, "values")[0].x) != list(traces(figure, "values")[0].x)
    ends = [[t.error_x.array.tolist() for t in traces(drawn, "mean")] for drawn in (figure, other)]
    assert ends[0] == ends[1], "of so few clusters the ends are those of Student's t, whatever the seed"


def test_hostile_names_stay_text():
    name = "<b>x</b>&$y$"
    groups = tuple(name if group == "partial" else group for group in GROUPS)
    figure = editing({name: make_change({"forget": 2}, groups=groups)})
    assert "<b>x" not in str(figure.to_dict())
    assert traces(figure, "names")[0].text == ("&lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36;",)
    assert "&lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36; (n = 4, effectively 2)" in words_on(figure)


def test_a_role_has_the_same_colour_in_every_figure():
    roles = tuple(ROLE_COLOURS)
    assert set(GROUPS) | {"kept_partial"} == set(roles)
    for role in roles:
        assert (
            group_style(role, (role,)) == group_style(role, ("a", *roles)) == (ROLE_COLOURS[role], ROLE_SYMBOLS[role])
        )
    assert len(set(ROLE_COLOURS.values())) == len(set(ROLE_SYMBOLS.values())) == len(roles)
    assert group_style("a", (*roles, "a")) == group_style("a", ("a",)), "a user's own groups are counted without them"


def seen_as(colour, matrix):
    """CIE Lab of `#rrggbb` as it is seen through a matrix on linear RGB."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(matrix @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    "matrix",  # Machado, Oliveira and Fernandes 2009, at full severity
    [
        np.eye(3),
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ],
    ids=["full", "deuteranopia", "protanopia", "tritanopia"],
)
def test_roles_are_told_apart_with_any_colour_vision(matrix):
    seen = [seen_as(colour, np.array(matrix)) for colour in ROLE_COLOURS.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


@pytest.mark.parametrize(
    ("missing", "there"),
    [("forget", "memorized, not_memorized"), ("memorized", "forget, not_memorized")],
)
def test_what_cannot_be_drawn_is_told_in_a_line(missing, there):
    groups = tuple(g for g in ("forget",) * 4 + ("memorized",) * 4 + ("not_memorized",) * 4 if g != missing)
    with pytest.raises(LocalizeError) as caught:
        editing({"x": make_change({}, groups=groups)})
    assert str(caught.value) == (
        f"plots.editing: 'x' has no group {missing!r}; both forget and memorized are drawn, and there are {there}."
    )


def test_what_was_not_measured_and_unknown_controls_are_named(changes):
    with pytest.raises(LocalizeError) as caught:
        editing(changes, controls=["rundom"])
    assert str(caught.value) == "plots.editing: the control 'rundom' is none of the edits: top 1 %, all, random."
    whole = make_change({})
    bare = Change(
        *(MemorizationSignature(s.dataset.drop_vars("reference_exact_match")) for s in (whole.before, whole.after))
    )
    with pytest.raises(LocalizeError) as caught:
        editing({"x": bare})
    assert str(caught.value) == (
        "plots.editing: the signature has no 'reference_exact_match'; "
        "measure it with localize.evaluate_edit(model, edit, paragraphs)."
    )
    with pytest.raises(SignatureError, match="changes is empty"):
        editing({})


def test_it_is_among_the_figures():
    assert plots.editing is editing and "editing" in plots.__all__
