"""Which layer is named for texts of known layers: every text is counted where it was named, beside chance and held-out text."""

from dataclasses import replace

import numpy as np
import pytest

from localize import plots
from localize.bench.layer_maps import STATISTICS, LayerMap
from localize.bench.results import BenchedTruth, BenchResults
from localize.bench.scoring import TextScore
from localize.errors import LocalizeError
from localize.plots.figures.named_layers import drawn_localizer
from localize.report.bench import bench_figures
from localize.truths.truth import Gate

NAN = float("nan")
TITLES = ("Gradient map: largest share", "Gradient map over held-out text", "Votes of best units: ratio")


def map_of(text, layer, shares, over):
    named = dict.fromkeys(STATISTICS, int(np.argmax(shares))) | {"share_over_held_out": over}
    right = {name: NAN if layer is None else float(at == layer) for name, at in named.items()}
    return LayerMap(text, layer, shares, named, right)


def score_of(localizer, text, layer, voted):
    numbers = dict.fromkeys(("recall", "within", "nominal", "auroc", "chance", "chance_within", "chance_nominal"), 0.5)
    return TextScore(localizer, text, **numbers, taken=0.5, layer=layer, voted=float(voted == layer), summed=0.0, cost=1.0,
                     seconds=0.1, voted_layer=voted)  # fmt: skip


@pytest.fixture
def results():
    """Two layers: three texts kept in each and four held out; the map names layer 0 always, and ratio is right but for one text."""
    kept = [(f"t{i}", i % 2) for i in range(6)]
    maps = [map_of(text, layer, (0.8, 0.2) if layer == 0 else (0.5, 0.5 - 1e-9), layer) for text, layer in kept]
    maps += [map_of(f"h{i}", None, (0.6 + 0.01 * i, 0.4 - 0.01 * i), 0) for i in range(4)]
    scores = [score_of("ratio", text, layer, 1 if text == "t0" else layer) for text, layer in kept]
    scores += [score_of("norm", text, layer, 0) for text, layer in kept]
    settings = {"kind": "layer", "routing": "own", "units": 9, "texts": 6, "seed": 0}
    gates = (Gate("recited", "share", 1.0, 0.75, 1.0),)
    truth = BenchedTruth("layer", settings, tuple(text for text, _ in kept), (), 9.0, gates, tuple(scores), tuple(maps))
    return BenchResults({}, {"ratio": {}, "norm": {}}, (truth,))


def drawn(figure, panel, what):
    return [trace for trace in figure.data if (trace.meta["panel"], trace.meta["what"]) == (panel, what)]


def test_every_text_is_counted_at_its_layer_and_the_one_named(results):
    figure = plots.named_layers(results)
    expected = (
        {(0, 0): 3, (1, 0): 3},
        {(0, 0): 3, (1, 1): 3},
        {(0, 0): 2, (0, 1): 1, (1, 1): 3},
    )
    for title, counts in zip(TITLES, expected, strict=True):
        (marks,) = drawn(figure, title, "texts")
        assert {(x, y): int(n) for x, y, n in zip(marks.x, marks.y, marks.text, strict=True)} == counts
        assert [symbol == "circle" for symbol in marks.marker.symbol] == [
            x == y for x, y in zip(marks.x, marks.y, strict=True)
        ]
    notes = [note.text for note in figure.layout.annotations]
    assert [note for note in notes if note.startswith("right")] == [
        f"right: {hits} of 6 texts; chance 3" for hits in (3, 6, 5)
    ]


def test_shares_of_each_layers_texts_stand_over_held_out_texts(results):
    figure = plots.named_layers(results)
    (line,) = drawn(figure, "Texts kept in layer 1 alone", "ratio")
    held = 0.6 + 0.01 * np.arange(4).mean()
    ratios = np.array([[0.8 / held, 0.2 / (1 - held)], [0.5 / held, 0.5 / (1 - held)]])
    np.testing.assert_allclose(line.y, ratios[1], rtol=1e-6)
    (null,) = drawn(figure, "Texts kept in layer 1 alone", "null")
    assert list(null.y) == [1, 1]
    (cells,) = drawn(figure, "Texts kept in each layer", "ratio")
    np.testing.assert_allclose(np.exp2(np.array(cells.z, float)), ratios, rtol=1e-6)
    assert plots.column(figure).layout.width == 350


def test_the_usual_localizer_is_drawn_or_else_the_one_that_is_right_most_often(results):
    assert drawn_localizer(results) == "ratio"
    truth = results.truths[0]
    other = tuple(score for score in truth.scores if score.localizer == "norm")
    assert drawn_localizer(replace(results, truths=(replace(truth, scores=other),))) == "norm"
    assert list(bench_figures(results)) == ["bench", "layers"]


def test_without_layers_or_the_localizer_there_is_one_line(results):
    failing = replace(results.truths[0], gates=(Gate("recited", "share", 0.1, 0.75, 1.0),))
    none = replace(results, truths=(failing,))
    assert drawn_localizer(none) is None and bench_figures(none) == {}
    for call, told in (
        (lambda: plots.named_layers(none), "plots.named_layers: no truth that keeps each text in one layer passed its gates; "),
        (lambda: plots.named_layers(results, "slimming"), "plots.named_layers: localizer='slimming' was not run on texts kept in one "
         "layer; there are ratio, norm."),
    ):  # fmt: skip
        with pytest.raises(LocalizeError) as error:
            call()
        assert str(error.value).startswith(told) and len(str(error.value).splitlines()) == 1
