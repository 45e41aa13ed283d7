"""Counterfactual memory of texts: what their own rows do for them, against how hard they are without."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.counterfactual import MEMORY, NLL_IN, Halves, means_by_kind
from localize.analysis.counterfactual import counterfactual as of_each
from localize.analysis.draws import Draws
from localize.analysis.rows import Row
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    HELD_OUT,
    INTERVALS,
    STEP,
    UNDER,
    WIDE,
    basis_words,
    half_page,
    interval_of,
    labelled_axis,
    whisker_points,
)
from localize.plots.series import Series
from localize.plots.sheet import Box, Panel, Sheet
from localize.plots.theme import plain
from localize.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

PANELS = {
    MEMORY: ("Memory by kind and copies", "NLL without − with its rows (nats per token)"),
    NLL_IN: ("Loss by kind and copies", "NLL with its rows (nats per token)"),
}


@public("plots.counterfactual")
def counterfactual(signature: "MemorizationSignature", step: int = -1, *, seed: int = 0) -> "go.Figure":
    """Each text's memory against its NLL in models that were not trained on it; and means of memory and of loss by kind.

    The memory of a text is its NLL in models without its rows less that in models with them. Grey: held-out texts, which no model was
    trained on, dealt to the halves in turn. The numbers are those of `localize.counterfactual` and `localize.counterfactual_table`.

    Args:
        signature: Over training, as `localize.counterfactual` takes it.
        step: Steps of training after which it was measured; -1 for the last.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.counterfactual` raises it.
    """
    each, sheet = of_each(signature, step), Sheet()
    means = means_by_kind(Halves.of(signature, step), Draws(seed))
    series = {kind: Series.of(plain(str(kind)), place) for place, kind in enumerate(dict.fromkeys(each["kind"]))}
    note = basis_words(signature.dataset.sizes.get("training_seed", 1))
    box = replace(half_page(0), width=STEP + WIDE)
    x = {"title": {"text": "NLL without its rows (nats per token)"}}
    panel = sheet.panel(
        box, "Hard is not memorized", "a point a text, mean over models", x=x, y={"title": {"text": PANELS[MEMORY][1]}}
    )
    _points(panel, each, series)
    for number, (quantity, (title, words)) in enumerate(PANELS.items()):
        box = half_page(2 + number)
        _means(sheet, box, title, words, note, [row for row in means if row["quantity"] == quantity], series)
    return sheet.finish(box.bottom + UNDER)


def _points(panel: Panel, each: "pd.DataFrame", series: dict[str, Series]) -> None:
    """Held-out texts, and over them the planted ones by kind."""
    import plotly.graph_objects as go

    groups = [(each[each["copies"] == 0], Series.of(HELD_OUT, 0, null=True))]
    groups += [(each[(each["copies"] > 0) & (each["kind"] == kind)], one) for kind, one in series.items()]
    for rows, one in groups:
        if not len(rows):
            continue
        marker = {"symbol": one.symbol, "size": 5, "color": one.colour}
        name = f"null: {one.words}" if one.null else one.words
        trace = go.Scatter(
            x=rows["nll_without"], y=rows["memory"], mode="markers", marker=marker, name=name, customdata=rows.index.astype(str),
            hovertemplate="%{customdata}<extra>%{fullData.name}</extra>", showlegend=panel.sheet.first("series " + one.words),
            legendgroup=one.words,
        )  # fmt: skip
        panel.add(trace, "null" if one.null else "paragraphs")


def _means(
    sheet: Sheet, box: Box, title: str, words: str, note: str, means: list[Row], series: dict[str, Series]
) -> None:
    """The means of one quantity by copies, a series per kind, each with its null in grey to its right."""
    copies = sorted({row["copies"] for row in means})
    x = labelled_axis("copies in the models that were trained on them", [str(count) for count in copies])
    panel, held = sheet.panel(box, title, note, x=x, y={"title": {"text": words}}), Series.of(HELD_OUT, 0, null=True)
    for place, (kind, one) in enumerate(series.items()):
        rows = [row for row in means if row["kind"] == kind]
        at = np.array([copies.index(row["copies"]) for row in rows], dtype=float)
        at += 0.2 * (place - (len(series) - 1) / 2)
        whisker_points(panel, one, at, interval_of(rows))
        ends = (np.array([row[end] for row in rows], float) for end in ("null", "null_mean_low", "null_mean_high"))
        whisker_points(panel, held, at + 0.07, Interval(*ends), of=one.words)


KIND = TrainingFigureKind(
    "counterfactual",
    title="Counterfactual memory",
    caption="Memory of each planted text, its NLL in models that were trained without its rows less that in models with them (nats per "
    "token), against its NLL without them; below, means of memory and of NLL by kind of text and copies. Grey: held-out texts of the "
    "same kind, which no model was trained on, dealt to the halves in turn. " + INTERVALS,
    function=counterfactual,
    there=lambda signature: "exposures" in signature.dataset,
    of="halves",
)
