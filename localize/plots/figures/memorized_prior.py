"""Memorized priors: prior, likelihood and posterior of one unknown, ellipses of two, and how many training examples are left."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.errors import LocalizeError, caller, public
from localize.plots.series import Series, with_room
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import INK, OTHER_COLOURS, Px, see_through

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

LEFT, STEP, WIDE, HEIGHT, ROOM, UNDER = 40, 228, 186, 170, 74, 40
COLUMNS = 3
LOOKS = {
    "prior": ("prior", OTHER_COLOURS[1], 1.0, "solid"),
    "likelihood": ("likelihood, scaled", OTHER_COLOURS[0], 1.0, "solid"),
    "exact": ("posterior", INK, 1.8, "solid"),
    "linearised": ("posterior, linearised", OTHER_COLOURS[5], 1.3, "dot"),
}
"""Words, colour, width and dashes."""

FILLED = ("prior", "likelihood")
NOTHING, TRAINING, ONE = "posterior if nothing is memorized", "training examples", "one mode: a lookup"
FAINTEST, INVISIBLE = 0.15, 1e-3
"""Opacity of an ellipse of nearly no weight; and the weight from which on it is drawn."""


@public("plots.memorized_prior")
def memorized_prior(
    curves: "xr.Dataset", plane: "xr.Dataset | None" = None, modes: "xr.Dataset | None" = None
) -> "go.Figure":
    """What a prior that has memorized its training examples makes of an inverse problem, as its spread s goes down.

    Grey: the posterior if nothing is memorized, under one Gaussian like the examples.

    Args:
        curves: Of `lz.theory.memorized_curves`: a panel for each spread.
        plane: Of `lz.theory.memorized_plane`: a panel for each spread, the exact posterior as shade, an ellipse for each example, the more
            opaque the more weight it has.
        modes: Of `lz.theory.modes_over_spread`: one panel, a line for each number of examples.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If a dataset is of another function.
    """
    given = (
        (curves, "likelihood", "memorized_curves"),
        (plane, "ellipse", "memorized_plane"),
        (modes, "effective_modes_low", "modes_over_spread"),
    )
    for dataset, name, source in given:
        if dataset is not None and name not in dataset:
            raise LocalizeError(f"{caller()}: a dataset without {name!r}; lz.theory.{source} makes it.")
    sheet, number = Sheet(), 0
    for place in range(curves.sizes["spread"]):
        _curves(sheet, _box(number), curves.isel(spread=place))
        number += 1
    for place in range(plane.sizes["spread"] if plane is not None else 0):
        _plane(sheet, _box(number), plane.isel(spread=place))  # pyright: ignore[reportOptionalMemberAccess]
        number += 1
    if modes is not None:
        _modes(sheet, _box(number), modes)
        number += 1
    rows = (number + COLUMNS - 1) // COLUMNS
    return sheet.finish(TITLE + NOTE + HEIGHT + (rows - 1) * (HEIGHT + ROOM) + UNDER)


def _box(number: int) -> Box:
    row, column = divmod(number, COLUMNS)
    top: Px = TITLE + NOTE + row * (HEIGHT + ROOM)
    return Box(LEFT + column * STEP, top, WIDE, HEIGHT)


def _left(counted: "xr.DataArray") -> str:
    return f"{float(counted):.2f} effective modes"


def _curves(sheet: Sheet, box: Box, told: "xr.Dataset") -> None:
    """Densities of one spread, and the training examples below."""
    import plotly.graph_objects as go

    posterior, x = told["posterior"], told["x"].values
    exact = told["effective_modes"].sel(kind="exact")
    axes: dict[str, Any] = {"x": {"title": {"text": "unknown x"}}, "y": {"title": {"text": "density"}}}
    panel = sheet.panel(box, f"s = {float(told['spread']):.3g}", f"posterior: {_left(exact)}", **axes)
    values = {name: told[name].values if name in told else posterior.sel(kind=name).values for name in LOOKS}
    for name, (words, colour, width, dash) in LOOKS.items():
        line = {"color": colour, "width": width, "dash": dash, "simplify": False}
        fill = {"fill": "tozeroy", "fillcolor": see_through(colour, 0.3)} if name in FILLED else {}
        trace = go.Scatter(
            x=x, y=values[name], mode="lines", line=line, name=words, legendgroup=words, showlegend=sheet.first(words), **fill,
        )  # fmt: skip
        panel.add(trace, name)
    panel.null_line(x, told["null"].values, NOTHING)
    examples = told["example"].values
    _training(panel, examples, np.zeros(len(examples)), "line-ns", 9)


def _training(panel: Panel, x: np.ndarray, y: np.ndarray, symbol: str, size: int) -> None:
    import plotly.graph_objects as go

    marker = {"symbol": symbol, "size": size, "color": INK, "line": {"width": 1.2, "color": INK}}
    trace = go.Scatter(
        x=x, y=y, mode="markers", marker=marker, name=TRAINING, legendgroup=TRAINING, cliponaxis=False,
        showlegend=panel.sheet.first(TRAINING),
    )  # fmt: skip
    panel.add(trace, "training")


def _plane(sheet: Sheet, box: Box, told: "xr.Dataset") -> None:
    """The exact posterior as shade, and an ellipse for each example that has weight."""
    import plotly.graph_objects as go

    x1, x2 = told["x1"].values, told["x2"].values
    axes: dict[str, Any] = {
        "x": {"title": {"text": "unknown x<sub>1</sub>"}, "range": [x1[0], x1[-1]]},
        "y": {"title": {"text": "unknown x<sub>2</sub>"}, "range": [x2[0], x2[-1]]},
    }
    title = f"Two unknowns, s = {float(told['spread']):.3g}"
    panel = sheet.panel(box, title, f"linearised: {_left(told['effective_modes'])}", grid=False, **axes)
    shade = go.Heatmap(
        x=x1, y=x2, z=told["posterior"].values.T, colorscale=[[0, "#FFFFFF"], [1, "#6A6A6A"]], showscale=False, zsmooth="best",
        name="exact posterior", hoverinfo="skip",
    )  # fmt: skip
    panel.add(shade, "exact")
    words = f"linearised: ellipses of {100 * told.attrs['mass']:.0f}%, opaque by weight"
    weights = told["weight"].values
    for place in np.flatnonzero(weights > INVISIBLE):
        outline = told["ellipse"].values[place]
        colour = see_through(OTHER_COLOURS[5], FAINTEST + (1 - FAINTEST) * float(weights[place]))
        line = go.Scatter(
            x=outline[:, 0],
            y=outline[:, 1],
            mode="lines",
            line={"color": colour, "width": 1.8},
            showlegend=False,
            name=words,
        )
        panel.add(line, "linearised")
    if sheet.first("ellipses"):
        look = {"color": OTHER_COLOURS[5], "width": 1.8}
        panel.add(go.Scatter(x=[None], y=[None], mode="lines", line=look, name=words, showlegend=True), "key")
    training = told["training"].values
    _training(panel, training[:, 0], training[:, 1], "cross-thin", 6)


def _modes(sheet: Sheet, box: Box, told: "xr.Dataset") -> None:
    """Effective modes against the spread, by the number of training examples."""
    import plotly.graph_objects as go

    x, counts = told["spread"].values, told["count"].values.tolist()
    top = float(told["effective_modes_high"].max())
    axes: dict[str, Any] = {
        "x": {"title": {"text": "spread s of the prior"}, "type": "log", "dtick": 1},
        "y": {"title": {"text": "effective modes"}, "type": "log", "tickvals": with_room(np.array([1.0, *counts])),
              "range": [-0.05, float(np.log10(1.1 * max(top, *counts)))]},
    }  # fmt: skip
    panel = sheet.panel(box, "How many examples are left", f"means of {told.attrs['draws']} problems", **axes)
    lookup = go.Scatter(
        x=[x[0], x[-1]],
        y=[1.0, 1.0],
        mode="lines",
        line={"color": INK, "width": 1, "dash": "dot"},
        name=ONE,
        showlegend=True,
    )
    panel.add(lookup, "bound")
    for place, count in enumerate(counts):
        series = Series.of(f"{count} training examples", (6, 5, 2, 4, 1, 0, 3)[place % 7])
        low, middle, high = (told[f"effective_modes{end}"].values[place] for end in ("_low", "", "_high"))
        panel.band(
            x, low, high, "interval", fillcolor=see_through(series.colour, 0.18), name=f"{series.words}: 95% interval"
        )
        line = go.Scatter(
            x=x, y=middle, mode="lines", line={"color": series.colour, "width": 1.5}, name=series.words, showlegend=True
        )
        panel.add(line, "mean")
