"""How many tokens it takes is drawn as measured; the random order is the null of the others."""

from itertools import combinations

import numpy as np
import pytest

from localize import plots
from localize.axes import ORDERS
from localize.errors import LocalizeError
from localize.plots.roughness import ROUGH
from localize.plots.theme import NULL
from localize.signature.signature import MemorizationSignature
from localize.statistics import cluster_bootstrap


@pytest.fixture(scope="module")
def figure(made):
    return plots.corruption(made)


def traces(figure, what, panel):
    return [t for t in figure.data if t.meta["what"] == what and (t.meta["panel"] or "").startswith(panel)]


def rows_of(made, group="memorized"):
    return made["group"].values == group


def test_a_line_is_the_mean_over_draws_then_paragraphs_with_its_interval(made, figure):
    rows = rows_of(made)
    values = np.nanmean(made["corrupted_exact_match"].values[rows], axis=2)  # (paragraph, order, count)
    drawn = traces(figure, "null", "memorized: ") + traces(figure, "mean", "memorized: ")
    assert [trace.name for trace in drawn] == [
        "null: random order", "rarest first", "largest effect first", "from the first", "from the last"
    ]  # fmt: skip
    for order, line in enumerate(drawn):
        np.testing.assert_allclose(line.y, values[:, order].mean(0), atol=1e-12)
        assert line.x.tolist() == [1, 2, 4, 10]
    interval = cluster_bootstrap(values[:, 1], made["cluster"].values[rows], seed=0)
    band = traces(figure, "interval", "memorized: ")[1]
    low, high = (np.clip(end, 0, 6) for end in (interval.low, interval.high))  # of 6 tokens
    np.testing.assert_allclose(band.y, [*low, *high[::-1]], atol=1e-12)


def test_the_random_order_is_the_null_grey_and_dashed(figure):
    for line in traces(figure, "null", ""):
        assert (line.line.color, line.line.dash) == (NULL, "dash")
    assert len(traces(figure, "null", "")) == 2 * 3
    assert all(line.line.color != NULL for line in traces(figure, "mean", ""))


def test_a_recital_holds_until_so_many_tokens_as_break_it(made, figure):
    rows, needed = rows_of(made, "not_memorized"), made["tokens_to_break"].values
    panels = [t for t in traces(figure, "mean", "Recitals that hold") if t.meta["group"] == "not memorized"]
    for order, line in enumerate(panels, start=1):
        of_order = needed[rows, order, 0]
        by_hand = [100 * np.mean([not value <= count for value in of_order]) for count in (1, 2, 4, 10)]
        np.testing.assert_allclose(line.y, by_hand, atol=1e-9)


def test_what_breaks_half_of_the_recitals_is_told(make_signature):
    needed = np.full((14, 5, 2), 2.0)
    needed[:, 1], needed[:3, 2], needed[3:, 2] = 1.0, 1.0, np.nan
    needed[:4, 4], needed[4:8, 4] = 1.0, 10.0  # half of the memorized ones
    figure = plots.corruption(make_signature(tokens_to_break=needed))
    told = [note.text for note in figure.layout.annotations if "break half" in note.text]
    assert told[0] == (
        "Tokens that break half of the recitals: random 2, rarest 1, effect more than 10, first 2, last 1."
    )
    assert len(told) == 2


def test_before_anything_is_replaced_there_is_a_dotted_line(made, figure):
    (before,) = traces(figure, "before", "memorized: ")
    assert before.y == (6.0, 6.0)
    nll = [t for t in traces(figure, "before", "NLL, own") if t.y[0] != 6.0]
    assert nll[0].y[0] == pytest.approx(made["unperturbed_nll"].values[rows_of(made)].mean())


def test_counts_are_on_a_logarithmic_axis_where_they_grow_eightfold(made, figure):
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.ticktext == ("1", "2", "4", "10")
    few = MemorizationSignature(made.dataset.isel(tokens_replaced=[0, 1, 2]))
    assert plots.corruption(few).layout.xaxis.type is None


def test_orders_that_were_not_tried_are_not_drawn(made):
    part = MemorizationSignature(made.dataset.sel(order=["rarest", "last"]))
    names = {t.name for t in plots.corruption(part).data if t.showlegend}
    assert names == {"rarest first", "from the last", "nothing replaced", ROUGH}
    assert ORDERS[0] == "random"


def test_panels_do_not_overlap(figure):
    boxes = [(*x.domain, *y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True)]
    assert len(boxes) == 6
    assert all(a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2] for a, b in combinations(boxes, 2))


def test_a_signature_without_corruption_says_what_to_measure(made):
    bare = MemorizationSignature(made.dataset[["exact_match", "nll"]])
    with pytest.raises(LocalizeError) as error:
        plots.corruption(bare)
    told = "plots.corruption: the signature has no 'corrupted_exact_match'; measure it with "
    assert str(error.value) == told + "localize.corrupt_prefix(model, paragraphs)."
