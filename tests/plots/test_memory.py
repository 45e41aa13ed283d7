"""The figure of metrics of memorization shows what the two tables hold, and says what it leaves out."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.plots import catalogue
from localize.signature.signature import MemorizationSignature

pytestmark = pytest.mark.filterwarnings("ignore:.*few effective clusters")

GROUP = ["planted"] * 12 + ["never_trained"] * 18


@pytest.fixture
def signature(make):
    rng = np.random.default_rng(0)
    planted = np.arange(30) < 12
    log_p = -9 + rng.normal(size=30) + planted
    said = np.where(planted[:, None], rng.integers(1, 5, (30, 2)), 0)
    arrays = {
        "continued_exact_match": said, "extraction_chance": said / 5, "text_log_p": log_p,
        "min_k": log_p + 0.3 * rng.normal(size=30), "min_k_plus_plus": rng.normal(size=30),
    }  # fmt: skip
    return MemorizationSignature(make(GROUP, arrays).dataset.assign_coords(tokens_given=[8, 32]))


METRICS = ("exact match, 8 tokens given", "exact match, 32 tokens given", "log p of the text", "Min-K%", "Min-K%++")


def trace(figure, what, panel):
    (found,) = [t for t in figure.data if t.meta["what"] == what and str(t.meta["panel"]).startswith(panel)]
    return found


def test_below_the_diagonal_stand_all_paragraphs_and_above_it_the_planted(signature):
    figure, table = plots.memory(signature), lz.memory_agreement(signature)
    heat = trace(figure, "values", "Which")
    assert heat.z.shape == (5, 5) and np.isnan(np.diagonal(heat.z)).all()
    for i, one in enumerate(METRICS):
        for j, other in list(enumerate(METRICS))[i + 1 :]:
            for at, group in (((j, i), "all"), ((i, j), "planted")):
                row = table.loc[(one, other, group)]
                assert heat.z[at] == pytest.approx(row["estimate"])
                np.testing.assert_allclose(heat.customdata[at], row[["low", "high", "p_value"]].astype(float))
    crosses = trace(figure, "x-thin", "Which")
    crossed = {(METRICS[y], METRICS[x]) for x, y in zip(crosses.x, crosses.y, strict=True) if x > y}
    above = table.xs("planted", level="group")
    assert crossed == set(above.index[above["q_value"] > 0.05])
    assert ("log p of the text", "Min-K%") not in crossed
    assert figure.layout.annotations[1].text == "below: all paragraphs (n = 30); above: planted (n = 12)"


def test_beside_it_stands_each_metrics_auc_in_its_row(signature):
    figure, table = plots.memory(signature), lz.memory_table(signature).xs("AUC", level="quantity")
    points = trace(figure, "mean", "How surely")
    rows = table.loc[[(name, "planted - never_trained") for name in METRICS]]
    np.testing.assert_allclose(points.x, rows["estimate"])
    np.testing.assert_allclose(points.x + points.error_x.array, rows["high"])
    np.testing.assert_allclose(points.x - points.error_x.arrayminus, rows["low"])
    assert points.y.tolist() == list(range(5))
    assert trace(figure, "null", "How surely").x.tolist() == [0.5, 0.5]
    labels = figure.layout.yaxis.ticktext
    assert labels[0] == "exact match, 8 tokens given  <b>1</b>" and labels[4] == "Min-K%++  <b>5</b>"
    assert [note.text for note in figure.layout.annotations][-1] == "planted from never trained (n = 30)"


def test_two_other_groups_can_be_told_apart_and_without_two_the_map_stands_alone(signature):
    turned = plots.memory(signature, "never_trained", "planted")
    assert "above: never trained (n = 18)" in turned.layout.annotations[1].text
    plain = trace(plots.memory(signature), "mean", "How surely").x
    np.testing.assert_allclose(trace(turned, "mean", "How surely").x, 1 - plain)
    named = MemorizationSignature(signature.dataset.assign_coords(group=("paragraph", np.array(["<b>x</b>"] * 30))))
    alone = plots.memory(named)
    assert len(alone.layout.annotations) == 2
    assert "<b>x" not in "".join(note.text for note in alone.layout.annotations)


def test_the_catalogue_draws_it_in_place_of_a_figure_per_metric(signature):
    drawn = catalogue.figures_of(signature)
    assert "memory" in drawn and not {"min_k", "text_log_p", "continued_exact_match"} & set(drawn)
    assert drawn["memory"].figure.to_json() == plots.memory(signature).to_json()


def test_it_has_a_column_and_says_what_to_measure(signature, make):
    assert plots.column(plots.memory(signature)).layout.width == 350
    with pytest.raises(lz.SignatureError) as error:
        plots.memory(make(["a", "b"]))
    assert (
        str(error.value)
        == "plots.memory: the signature has no 'min_k'; measure it with localize.memory(model, paragraphs)."
    )
