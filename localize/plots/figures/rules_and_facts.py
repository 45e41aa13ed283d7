"""Rules and Facts: errors against examples, facts and penalty, theory as lines and simulation as points; and both errors at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.errors import LocalizeError, caller, public
from localize.plots.over_training import HEIGHT, ROOM, UNDER, half_page, whisker_points
from localize.plots.series import Series, whiskers
from localize.plots.sheet import NOTE, TITLE, Panel, Sheet
from localize.plots.theme import INK
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

SIGNS = {"alpha": "α", "eps": "ε", "penalty": "λ", "nu": "ν"}
ALONG = {
    "alpha": ("By examples", "training examples per dimension α"),
    "eps": ("By the share of facts", "share of facts ε"),
    "penalty": ("By the penalty", "penalty λ"),
}
ERRORS = {"rule_error": "rule", "fact_error": "fact"}
DASHES = {"rule_error": "solid", "fact_error": "dash"}
SYMBOLS = {"rule_error": "circle", "fact_error": "diamond-open"}
CHANCE, GUESSING, BAYES = 0.5, "guessing", "least possible rule error (Bayes)"
PLACES = (6, 0, 2, 1, 4, 5, 3)
"""Of kernels among the colours."""

WIDEST, THINNEST = 2.8, 1.3
"""The first kernel's line, and the last's, which lies on it where they agree."""

SHARES = {"range": [-0.03, 1.03], "dtick": 0.25}
DECADES = 2.0
"""From so many decades on an axis has one label for each, below them three."""


@public("plots.rules_and_facts")
def rules_and_facts(theory: "Sequence[xr.Dataset]", simulated: "Sequence[xr.Dataset]" = ()) -> "go.Figure":
    """Errors along the axis of each dataset, exact as lines and simulated as points; in the last panel both at once, as the penalty varies.

    Colours are kernels (nu). The thin line is the least rule error that any method can have; grey: guessing.

    Args:
        theory: Of `lz.theory.rules_and_facts`, each along one of alpha, eps and penalty, and along nu if there are several; no axis twice.
        simulated: Of `lz.theory.simulate` along some of the same axes, for the same model.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If a dataset goes along no axis, along two, or along one that another has; if a simulation is of another model than
            the lines of its panel, or of no panel.
    """
    lines = {_axis(dataset): dataset for dataset in theory}
    points = {_axis(dataset): dataset for dataset in simulated}
    if not lines or len(lines) < len(theory) or len(points) < len(simulated):
        raise LocalizeError(f"{caller()}: at least one dataset is needed, and each along another axis.")
    for axis, dataset in points.items():
        _check_alike(axis, dataset, lines)
    sheet = Sheet()
    for number, (axis, dataset) in enumerate(lines.items()):
        title, words = ALONG[axis]
        x = {"title": {"text": words}} | (SHARES if axis == "eps" else _logarithmic(dataset[axis].values))
        panel = sheet.panel(
            half_page(number),
            title,
            _fixed(dataset),
            x=x,
            y={"title": {"text": "error (share)"}, "rangemode": "tozero"},
        )
        _along(panel, axis, dataset, points.get(axis))
    count = len(lines)
    if "penalty" in lines:
        x = {
            "title": {"text": "rule error (share): generalizing"},
            "nticks": 6,
            "range": _reach(lines["penalty"], points.get("penalty")),
        }
        y = {"title": {"text": "fact error (share): memorizing"}, "rangemode": "tozero"}
        note = "lower left: both at once; guessing is at 0.5, 0.5"
        panel = sheet.panel(half_page(count), "Both errors, as the penalty varies", note, x=x, y=y)
        _plane(panel, lines["penalty"], points.get("penalty"))
        count += 1
    rows = (count + 1) // 2
    return sheet.finish(TITLE + NOTE + HEIGHT + (rows - 1) * (HEIGHT + ROOM) + UNDER)


def _axis(dataset: "xr.Dataset") -> str:
    """The only axis along which it goes, but for kernels."""
    found = [name for name in ALONG if dataset.sizes.get(name, 1) > 1]
    if len(found) != 1 or "rule_error" not in dataset:
        raise LocalizeError(
            f"{caller()}: a dataset along {' and '.join(found) or 'no axis'}; each must go along one of {', '.join(ALONG)}, "
            "as lz.theory.rules_and_facts makes it of several values."
        )
    return found[0]


def _check_alike(axis: str, simulated: "xr.Dataset", lines: "dict[str, xr.Dataset]") -> None:
    """Points stand only beside the lines of their own model."""
    if axis not in lines:
        raise LocalizeError(f"{caller()}: a simulation along {axis}, and no theory along it.")
    for name in ("loss", "mu"):
        if simulated.attrs[name] != lines[axis].attrs[name]:
            raise LocalizeError(
                f"{caller()}: along {axis} the simulation has {name} = {simulated.attrs[name]}, the theory {lines[axis].attrs[name]}."
            )
    for name in set(SIGNS) - {axis}:
        one, other = (np.atleast_1d(dataset[name].values) for dataset in (simulated, lines[axis]))
        if not np.isin(one, other).all():
            raise LocalizeError(f"{caller()}: along {axis} the simulation has {name} = {one}, the theory {other}.")


def _fixed(dataset: "xr.Dataset") -> str:
    """ "ε = 0.1, λ = 0.94; square loss"."""
    told = [f"{SIGNS[name]} = {float(dataset[name]):.3g}" for name in ALONG if dataset[name].size == 1]
    return f"{', '.join(told)}; {dataset.attrs['loss']} loss"


def _logarithmic(values: np.ndarray) -> dict[str, Any]:
    """A logarithmic axis with round labels."""
    low, high = np.log10(values.min()), np.log10(values.max())
    digits = (1,) if high - low >= DECADES else (1, 2, 5)
    ticks = [digit * 10.0**power for power in range(int(np.floor(low)), int(np.ceil(high)) + 1) for digit in digits]
    shown = [tick for tick in ticks if 0.999 * values.min() <= tick <= 1.001 * values.max()]
    return {
        "type": "log",
        "tickvals": shown,
        "ticktext": [f"{tick:g}" for tick in shown],
        "range": [float(low), float(high)],
    }


def _kernels(dataset: "xr.Dataset") -> "list[tuple[Series, xr.Dataset]]":
    """Each kernel with its look and its part of the dataset."""
    whole = dataset if "nu" in dataset.dims else dataset.expand_dims("nu")
    return [
        (Series.of(f"ν = {nu:.3g}", PLACES[place % len(PLACES)]), whole.isel(nu=place))
        for place, nu in enumerate(whole["nu"].values.tolist())
    ]


def _part(simulated: "xr.Dataset | None", nu: float) -> "xr.Dataset | None":
    """What was simulated of a kernel."""
    if simulated is None:
        return None
    whole = simulated if "nu" in simulated.dims else simulated.expand_dims("nu")
    return whole.sel(nu=nu) if nu in whole["nu"].values else None


def _interval(dataset: "xr.Dataset", what: str) -> Interval:
    return Interval(*(np.atleast_1d(dataset[what + end].values).astype(float) for end in ("", "_low", "_high")))


def _along(panel: Panel, axis: str, dataset: "xr.Dataset", simulated: "xr.Dataset | None") -> None:
    """Errors along an axis."""
    import plotly.graph_objects as go

    x = dataset[axis].values
    panel.null_line([x[0], x[-1]], [CHANCE, CHANCE], GUESSING)
    bayes = np.broadcast_to(dataset["bayes_error"].values, x.shape)
    _bayes(panel, x, bayes)
    kernels = _kernels(dataset)
    for place, (series, part) in enumerate(kernels):
        found = _part(simulated, float(part["nu"]))
        width = float(np.linspace(WIDEST, THINNEST, len(kernels))[place]) if len(kernels) > 1 else THINNEST
        for what, words in ERRORS.items():
            name = f"{words} error, {series.words}"
            line = {"color": series.colour, "width": width, "dash": DASHES[what], "simplify": False}
            trace = go.Scatter(
                x=x, y=part[what].values, mode="lines", line=line, name=name, legendgroup=name,
                showlegend=panel.sheet.first(name),
            )  # fmt: skip
            panel.add(trace, what)
            if found is not None:
                look = Series(name, series.colour, SYMBOLS[what])
                whisker_points(panel, look, found[axis].values, _interval(found, what), of=_size(found))
    _key(panel, simulated)


def _reach(dataset: "xr.Dataset", simulated: "xr.Dataset | None") -> list[float]:
    """From left of the least possible rule error to right of all that is drawn."""
    ends = [dataset["bayes_error"], dataset["rule_error"]]
    ends += [] if simulated is None else [simulated["rule_error_low"], simulated["rule_error_high"]]
    low, high = min(float(end.min()) for end in ends), max(float(end.max()) for end in ends)
    room = 0.04 * (high - low)
    return [low - room, high + room]


def _plane(panel: Panel, dataset: "xr.Dataset", simulated: "xr.Dataset | None") -> None:
    """Rule error to the right and fact error upwards, a line for each kernel."""
    import plotly.graph_objects as go

    best = float(dataset["bayes_error"])
    _bayes(panel, np.array([best, best]), np.array([0.0, float(dataset["fact_error"].max())]))
    for series, part in _kernels(dataset):
        rule, fact = part["rule_error"].values, part["fact_error"].values
        told = [f"λ = {value:.3g}" for value in part["penalty"].values]
        line = {"color": series.colour, "width": 1.5, "simplify": False}
        trace = go.Scatter(
            x=rule, y=fact, mode="lines", line=line, text=told, name=series.words, showlegend=False,
            hovertemplate="%{text}: rule %{x:.3f}, fact %{y:.3f}<extra></extra>",
        )  # fmt: skip
        panel.add(trace, "both")
        found = _part(simulated, float(part["nu"]))
        if found is not None:
            across, up = _interval(found, "rule_error"), _interval(found, "fact_error")
            points = go.Scatter(
                x=across.estimate, y=up.estimate, mode="markers", marker={"symbol": "circle", "size": 6, "color": series.colour},
                error_x=whiskers(across, series.colour), error_y=whiskers(up, series.colour), showlegend=False,
                name=f"{series.words}, {_size(found)}",
            )  # fmt: skip
            panel.add(points, "mean")


def _bayes(panel: Panel, x: np.ndarray, y: np.ndarray) -> None:
    import plotly.graph_objects as go

    line = {"color": INK, "width": 1, "dash": "dot", "simplify": False}
    first = panel.sheet.first(BAYES)
    panel.add(go.Scatter(x=x, y=y, mode="lines", line=line, name=BAYES, legendgroup=BAYES, showlegend=first), "bound")


def _size(simulated: "xr.Dataset") -> str:
    return f"simulated, d = {simulated.attrs['d']}, {simulated.attrs['seeds']} seeds"


def _key(panel: Panel, simulated: "xr.Dataset | None") -> None:
    """What points are, once in the legend."""
    import plotly.graph_objects as go

    if simulated is not None and panel.sheet.first("points"):
        key: Any = go.Scatter(
            x=[None], y=[None], mode="markers", marker={"symbol": "circle", "size": 6, "color": INK}, showlegend=True,
            name=f"{_size(simulated)}: 95% intervals", legendrank=1500,
        )  # fmt: skip
        panel.add(key, "key")
