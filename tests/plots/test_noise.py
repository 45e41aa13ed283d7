"""Noise curves are drawn as measured, from the unnoised model on, beside as many random weights."""

from itertools import combinations

import numpy as np
import pytest

from localize.axes import RANDOM
from localize.errors import LocalizeError
from localize.plots.figures.noise import noise
from localize.plots.roughness import ROUGH
from localize.plots.series import from_zero
from localize.plots.theme import RECALL_COLOURS
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap

CHOSEN_BY, COUNTS, STRENGTHS = ["memorized", "not_memorized", RANDOM], [1, 12_000], [0.5, 1.0, 2.0, 8.0]


def noised_signature(made, chosen_by=CHOSEN_BY, counts=COUNTS, strengths=STRENGTHS, **arrays):
    """The made-up paragraphs with noise of two draws."""
    rng, shape = np.random.default_rng(0), (len(made), len(chosen_by), len(counts), len(strengths), 2)
    values = {"noised_exact_match": rng.integers(7, size=shape).astype(float), "noised_nll": rng.gamma(2.0, size=shape)}
    dims = ("paragraph", "chosen_by", "weights_noised", "strength", "noise_draw")
    noised = {name: (dims, array, {"continuation": "own"}) for name, array in (values | arrays).items()}
    coords = {"chosen_by": chosen_by, "weights_noised": counts, "strength": strengths, "noise_draw": [0, 1]}
    return MemorizationSignature(made.dataset.assign(noised).assign_coords(coords))


@pytest.fixture(scope="module")
def signature(made):
    return noised_signature(made)


@pytest.fixture(scope="module")
def figure(signature):
    return noise(signature)


def traces(figure, what, group="memorized"):
    """Of one group, in the order of the panels."""
    return [t for t in figure.data if t.meta["what"] == what and t.meta["group"] == group]


def words_on(figure):
    return [str(note.text) for note in figure.layout.annotations] + [str(trace.name) for trace in figure.data]


@pytest.mark.parametrize("quantity", ["exact_match", "nll"])
def test_a_line_is_the_mean_over_draws_then_paragraphs_and_starts_at_the_unnoised_model(signature, quantity):
    figure = noise(signature, quantity=quantity)
    rows = signature["group"].values == "not_memorized"
    before = signature[f"unperturbed_{quantity}"].values[rows]
    values = signature[f"noised_{quantity}"].values[rows]
    panels = [(chooser, k) for chooser in (0, 1) for k in (0, 1)]
    for what, chosen in (("mean", [0, 0, 1, 1]), ("null", [2, 2, 2, 2])):
        lines = traces(figure, what, "not memorized")
        assert len(lines) == 4
        for line, (_, k), chooser in zip(lines, panels, chosen, strict=True):
            by_hand = [before.mean(), *(values[:, chooser, k, s, :].mean() for s in range(4))]
            np.testing.assert_allclose(line.y, by_hand, atol=1e-12)
            np.testing.assert_allclose(line.x[1:], STRENGTHS)
    clusters = signature["cluster"].values[rows]
    for what, chooser in (("interval", 1), ("null interval", 2)):
        interval = cluster_bootstrap(values[:, chooser, 1].mean(-1), clusters, seed=0)
        low, high = np.split(np.array(traces(figure, what, "not memorized")[3].y), 2)
        most = signature.dataset.sizes["continuation_position"] if quantity == "exact_match" else np.inf
        np.testing.assert_allclose(low[1:], np.clip(interval.low, 0, most), atol=1e-9)
        np.testing.assert_allclose(high[::-1][1:], np.clip(interval.high, 0, most), atol=1e-9)


def test_random_weights_are_dashed_in_the_groups_colour_and_once_in_the_legend(figure):
    for line in traces(figure, "null"):
        assert (line.line.color, line.line.dash) == (RECALL_COLOURS["memorized"], "dash")
    assert all(line.line.dash is None for line in traces(figure, "mean"))
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(shown) == [
        "memorized (n = 8, 4 clusters)", "not memorized (n = 6, 3 clusters)", "null: as many random weights", ROUGH
    ]  # fmt: skip


def test_a_row_of_panels_for_each_group_that_chose_and_a_column_for_each_count(figure):
    titles = [note.text for note in figure.layout.annotations]
    heading = "Noise on the weights with the largest gradient of: {} (own continuation)"
    assert titles == [
        heading.format("memorized"), "<b>(a)</b> 1 weight noised", "<b>(b)</b> 12,000 weights noised",
        heading.format("not memorized"), "<b>(c)</b> 1 weight noised", "<b>(d)</b> 12,000 weights noised",
    ]  # fmt: skip
    places = [(x.domain[0], y.domain[0]) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)]
    assert places[0][0] == places[2][0] < places[1][0] == places[3][0]
    assert places[0][1] == places[1][1] > places[2][1] == places[3][1]


def test_axes_have_titles_with_units_and_one_scale_that_holds_all_that_is_drawn(signature, figure):
    assert [axis.title.text for axis in figure.select_xaxes()] == ["noise (std of the weight matrix)"] * 4
    assert [axis.title.text for axis in figure.select_yaxes()] == ["exact match (tokens)", ""] * 2
    (one,) = {axis.range for axis in figure.select_yaxes()}
    assert one[0] == 0
    assert max(max(trace.y) for trace in figure.data if trace.y[0] is not None) < one[1] < 1.1 * 7
    nll = noise(signature, quantity="nll")
    assert nll.layout.yaxis.title.text == "NLL (nats per token)"


def test_strengths_stand_on_a_logarithmic_axis_with_0_one_step_to_the_left(figure):
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.ticktext == ("0", "0.5", "1", "2", "8")
    step = 16 ** (1 / 3)
    assert traces(figure, "mean")[0].x[0] == pytest.approx(0.5 / step)
    assert figure.layout.xaxis.tickvals == tuple(traces(figure, "mean")[0].x)


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0, 7.9], [0.0], [0.0, 3.0]])
def test_few_or_near_values_stand_where_they_are(values):
    places, axis = from_zero(np.array(values))
    assert places.tolist() == values
    assert axis == {"nticks": 6, "rangemode": "tozero"}


def test_labels_keep_their_distance():
    places, axis = from_zero(np.concatenate([[0.0], np.geomspace(0.1, 100, 40)]))
    assert axis["ticktext"][0] == "0"
    distances = np.diff(np.log(axis["tickvals"])) / np.log(places[-1] / places[0])
    assert 3 < len(distances) < 10
    assert distances.min() > 0.1


def test_a_strength_of_0_that_was_measured_is_drawn_as_measured(made):
    signature = noised_signature(made, strengths=[0.0, 1.0, 2.0])
    (line,) = traces(noise(MemorizationSignature(signature.dataset.isel(chosen_by=[0], weights_noised=[0]))), "mean")
    rows = signature["group"].values == "memorized"
    np.testing.assert_allclose(line.y, signature["noised_exact_match"].values[rows, 0, 0].mean((0, 2)), atol=1e-12)
    assert line.x.tolist() == [0, 1, 2]


def test_without_a_control_nothing_is_dashed_and_the_control_alone_is_drawn_as_a_line(signature):
    alone = noise(MemorizationSignature(signature.dataset.sel(chosen_by=["not_memorized"])))
    assert traces(alone, "null") == []
    assert len(traces(alone, "mean")) == 2
    random = noise(MemorizationSignature(signature.dataset.sel(chosen_by=[RANDOM])))
    assert traces(random, "null") == []
    assert len(traces(random, "mean")) == 2
    assert random.layout.annotations[0].text == "Noise on random weights (own continuation)"


@pytest.mark.parametrize("counts", [[5], [1, 2, 3], [1, 2, 3, 4, 5, 6, 7]])
def test_panels_do_not_overlap_and_stay_on_the_sheet(made, counts):
    figure = noise(noised_signature(made, counts=counts))
    boxes = [(*x.domain, *y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)]
    assert len(boxes) == 2 * len(counts)
    assert all(a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2] for a, b in combinations(boxes, 2))
    assert all(0 < box[0] < box[1] <= 1 and 0 < box[2] < box[3] < 1 for box in boxes)
    titled = [axis.title.text == "exact match (tokens)" for axis in figure.select_yaxes()]
    assert titled == 2 * [k % 3 == 0 for k in range(len(counts))]


def test_what_is_no_number_is_left_out_and_counted(made, signature):
    assert not any("no finite number" in words for words in words_on(noise(signature)))
    lost = signature["noised_exact_match"].values.copy()
    lost[0, 0, 0, 0, 0] = np.nan
    lost[:, :, 1, 3] = np.nan
    figure = noise(noised_signature(made, noised_exact_match=lost))
    count = 14 * 3 * 2 + 1
    assert f"{count} of {lost.size} values are no finite number and left out." in words_on(figure)
    first, second = traces(figure, "mean")[:2]
    rows = signature["group"].values == "memorized"
    kept = np.array([np.nanmean(values) for values in lost[rows, 0, 0, 0]])
    assert first.y[1] == pytest.approx(kept.mean())
    assert np.isnan(second.y[4])


def test_where_all_is_lost_the_axis_still_has_a_length(made, signature):
    nothing = {name: np.zeros(signature[name].shape) for name in ("noised_exact_match", "noised_nll")}
    dataset = noised_signature(made, **nothing).dataset
    dataset = dataset.assign(unperturbed_exact_match=0 * dataset["unperturbed_exact_match"])
    assert noise(MemorizationSignature(dataset)).layout.yaxis.range == (0, 1)


def test_hostile_names_stay_text(signature):
    name = "<b>x</b>&$y$"
    group = np.where(signature["group"].values == "memorized", name, "other")
    hostile = signature.dataset.assign_coords(group=("paragraph", group), chosen_by=[name, "other", RANDOM])
    figure = noise(MemorizationSignature(hostile.copy(deep=True)))
    escaped = [words for words in words_on(figure) if "&lt;b&gt;x&lt;/b&gt;&amp;&#36;y&#36;" in words]
    assert any(words.startswith("Noise on") for words in escaped)
    assert "<b>x" not in str(figure.to_dict())


def test_what_cannot_be_drawn_is_refused(made, signature):
    with pytest.raises(LocalizeError) as error:
        noise(made)
    told = "plots.noise: the signature has no 'noised_exact_match'; measure it with localize.noise(model, paragraphs)."
    assert str(error.value) == told
    with pytest.raises(LocalizeError) as error:
        noise(MemorizationSignature(signature.dataset.drop_vars("unperturbed_nll")), quantity="nll")
    assert str(error.value) == told.replace("noised_exact_match", "unperturbed_nll")
    with pytest.raises(LocalizeError) as error:
        noise(signature, quantity="loss")
    assert str(error.value) == "plots.noise: quantity='loss' is not one of exact_match, nll."
