"""Which heads attend to rare tokens, or to common ones: score, nulls and the heads furthest from the null."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.dealt_counts import DealtScores, dealt_scores
from localize.axes import NULLS, QUERIES
from localize.errors import LocalizeError, caller, public
from localize.plots.figures.gradients import layer_axis, map_height
from localize.plots.groups import Group, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.series import whiskers
from localize.plots.sheet import TITLE, Box, Panel, Px, Sheet
from localize.plots.theme import NULL, SCORE, axis_words, see_through, variable_words
from localize.signature.schema import range_of
from localize.statistics import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

VARIABLES = ("rare_token_score", "rare_token_null")
NULL_NAME = "rarity of other paragraphs"
DEALT_NAME = "counts dealt out over token types (central 95%)"
LEFT, MAP_WIDTH, LIST_LEFT, LIST_WIDTH = 80, 188, 528, 160
ROW = 12.5


@public("plots.heads")
def heads(signature: "MemorizationSignature", *, top: int = 12, seed: int = 0) -> "go.Figure":
    """Mean rare-token score of every head beside the mismatched null, and the heads furthest from it; a row per group.

    Score and null share one scale of colours, white at 0; a cross marks a head without a score (it attends evenly).
    Local layers are labelled with their window. The list shows each head's mean score with its 95 % interval by
    bootstrap over clusters, its null, and around that the central 95 % of the score with token counts dealt out over the
    token types: what the head would score if it liked the same tokens, whatever their rarity. It is ordered on the
    paragraphs that it shows, so that its first heads look better than they are: `signature.summary()` tests the first head
    on other clusters. The attention is that of the last prefix token; continuations play no part.

    Args:
        signature: Holds `localize.rare_token_heads`.
        top: How many heads to list.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the scores, or `top` is below 1.

    Source:
        Stoehr et al. 2024, section 5; ranking inside each paragraph, null and intervals are ours.
    """
    sheet = Sheet()
    return sheet.finish(draw_heads(signature, sheet, 0, top=top, seed=seed))


def draw_heads(
    signature: "MemorizationSignature", sheet: Sheet, start: Px, *, top: int, seed: int, compact: bool = False
) -> Px:
    """Draw on a sheet from `start` px downwards; gives the bottom in px."""
    if top < 1:
        raise LocalizeError(f"{caller()}: top={top} must be at least 1.")
    require(signature, VARIABLES, "localize.rare_token_heads(model, paragraphs)")
    dataset, groups = signature.dataset, groups_of(signature)
    score, null = scores(dataset)
    top = min(top, score[0].size)
    height = max(map_height(score.shape[1], compact), ROW * top)
    step = height + TITLE + 11
    last = start + len(groups) * step - 11
    means = [(group.mean(score), group.mean(null)) for group in groups]
    axis = _colours(sheet, means, Box(LEFT, last + 39, 2 * MAP_WIDTH + 14, 7))
    dealt = dealt_scores(dataset, QUERIES[0], [group.rows for group in groups], seed)
    lists = [
        Best.of(group, dataset, _ends_of(dealt, at, score.shape[1:]), top, seed) for at, group in enumerate(groups)
    ]
    for row, (group, pair) in enumerate(zip(groups, means, strict=True)):
        above, is_last = start + TITLE + row * step, row == len(groups) - 1
        for column, what in enumerate(("mean", "null")):
            box = Box(LEFT + column * (MAP_WIDTH + 14), above, MAP_WIDTH, height)
            _heat_map(sheet, box, group, pair[column], dataset, axis, what, last=is_last)
        place = Box(LIST_LEFT, above, LIST_WIDTH, height)
        _list(sheet, place, group, lists[row], score[0].size, top, _ends(lists), last=is_last)
    return last + 80


def scores(
    dataset: "xr.Dataset",
) -> tuple[Float[np.ndarray, "paragraph layer head"], Float[np.ndarray, "paragraph layer head"]]:
    """What is drawn: the score of the last prefix token's attention, and its mismatched null."""
    score, null = (dataset[name].sel(query=QUERIES[0]) for name in VARIABLES)
    axes = ("paragraph", "layer", "head")
    return score.transpose(*axes).values, null.sel(null=NULLS[0]).transpose(*axes).values


def _colours(sheet: Sheet, means: list[tuple[np.ndarray, np.ndarray]], box: Box) -> str:
    values = np.abs(np.array(means))
    furthest = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    bar = {"title": f"mean {variable_words(VARIABLES[0])}; null: same attention, {NULL_NAME}", "nticks": 9}
    return sheet.colour_axis({"colorscale": SCORE, "cmin": -furthest, "cmax": furthest, "cmid": 0}, bar, box)


def layer_words(dataset: "xr.Dataset") -> list[str]:
    """Names of the layers, local ones with the window they see."""
    windows = dataset["window"].values if "window" in dataset.coords else np.zeros(dataset.sizes["layer"], int)
    layers = dataset["layer"].values
    return [
        f"{layer} (local {window})" if window else str(layer) for layer, window in zip(layers, windows, strict=True)
    ]


def _heat_map(
    sheet: Sheet,
    box: Box,
    group: Group,
    means: Float[np.ndarray, "layer head"],
    dataset: "xr.Dataset",
    axis: str,
    what: str,
    *,
    last: bool,
) -> None:
    import plotly.graph_objects as go

    layers, heads = dataset["layer"].values, dataset["head"].values
    y = layer_axis(layers, box.height, layer_words(dataset))
    if what == "null":
        y |= {"title": {"text": ""}, "ticktext": [""] * len(y["tickvals"])}
    ticks = heads[:: max(1, int(np.ceil(len(heads) * 16 / box.width)))]
    x = {"tickvals": ticks, "range": [heads[0] - 0.5, heads[-1] + 0.5]}
    x |= {"title": {"text": axis_words("head")}} if last else {"ticktext": [""] * len(ticks)}
    panel = sheet.panel(box, f"{'Score' if what == 'mean' else 'Null'}, {group.words}", x=x, y=y, grid=False)
    hover = "layer %{y}, head %{x}: %{z:.3f}<extra></extra>"
    name = group.words if what == "mean" else f"{group.words}: null"
    panel.add(
        go.Heatmap(x=heads, y=layers, z=means, coloraxis=axis, hovertemplate=hover, hoverongaps=False, name=name),
        what,
        group,
    )
    mark_missing(panel, group, means, heads, layers, "no score: attends evenly")


def mark_missing(
    panel: Panel, group: Group, means: Float[np.ndarray, "row column"], x: np.ndarray, y: np.ndarray, name: str
) -> None:
    """A cross on each cell of a heat map that has no number."""
    import plotly.graph_objects as go

    empty = np.argwhere(np.isnan(means))
    if len(empty):
        marker = {"symbol": "x-thin", "size": 6, "line": {"color": NULL, "width": 1}}
        crosses = go.Scatter(
            x=x[empty[:, 1]], y=y[empty[:, 0]], mode="markers", marker=marker, name=name, legendgroup="empty",
            showlegend=panel.sheet.first("empty"), hoverinfo="name",
        )  # fmt: skip
        panel.add(crosses, "empty", group)


@dataclass(frozen=True, eq=False)
class Best:
    """The heads of one group that lie furthest from their null, first the furthest.

    Attributes:
        names: "L1.H2".
        score: Mean rare-token score, with its interval.
        null: Mean of the mismatched null.
        dealt: Around it, the ends of the null with counts dealt out; nan where that is not known.
    """

    names: list[str]
    score: Interval
    null: Float[np.ndarray, " rank"]
    dealt: Float[np.ndarray, "end rank"]

    @classmethod
    def of(
        cls, group: Group, dataset: "xr.Dataset", dealt: Float[np.ndarray, "end layer head"], top: int, seed: int
    ) -> "Best":
        """Choose them and work out their intervals."""
        score, null = scores(dataset)
        means = group.mean(null)
        at = tuple(np.array(best_heads(np.abs(group.mean(score) - means), top), dtype=int).reshape(-1, 2).T)
        layers, heads = dataset["layer"].values[at[0]], dataset["head"].values[at[1]]
        return cls(
            [f"L{a}.H{b}" for a, b in zip(layers, heads, strict=True)],
            group.interval(score[:, *at], seed, range_of(dataset, "rare_token_score")),
            means[at],
            means[at] + dealt[:, *at],
        )


def _ends_of(dealt: DealtScores | None, at: int, heads: tuple[int, ...]) -> Float[np.ndarray, "end layer head"]:
    """Of the null of one set's scores, less what position gives; nan where it is not known."""
    return np.full((2, *heads), np.nan) if dealt is None else dealt.ends(at)


def best_heads(above: Float[np.ndarray, "layer head"], top: int) -> list[tuple[int, int]]:
    """Layer and head of the largest values, largest first; those without a value are left out."""
    order = np.argsort(-above, axis=None, kind="stable")[: min(top, int(np.isfinite(above).sum()))]
    return [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, above.shape), strict=True)]


def _ends(lists: list[Best]) -> list[float]:
    """One range for all lists: from the least to the most that any shows, with 0."""
    parts = [(b.score.low, b.score.high, b.score.estimate, b.null, *b.dealt) for b in lists]
    shown = np.concatenate([values for part in parts for values in part])
    shown = np.append(shown[np.isfinite(shown)], 0.0)
    low, high = float(shown.min()), float(shown.max())
    room = 0.05 * (high - low) + 0.01
    return [low - room, high + room]


def _list(
    sheet: Sheet, box: Box, group: Group, best: Best, of: int, rows: int, ends: list[float], *, last: bool
) -> None:
    import plotly.graph_objects as go

    rank, score = np.arange(len(best.names)), best.score
    x: dict[str, Any] = {"range": ends, "nticks": 5}
    x |= {"title": {"text": variable_words(VARIABLES[0])}} if last else {"showticklabels": False}
    y = {"tickvals": rank, "ticktext": best.names, "range": [rows - 0.5, -0.5]}
    panel = sheet.panel(box, f"Top {len(rank)} of {of} off their null", x=x, y=y)
    _dealt(panel, group, best)
    tick = {"symbol": "line-ns", "size": 9, "line": {"color": NULL, "width": 2}}
    panel.add(
        go.Scatter(x=best.null, y=rank, mode="markers", marker=tick, name=NULL_NAME, showlegend=False), "null", group
    )
    sheet.null_key(NULL_NAME, {"mode": "markers", "marker": tick})
    marker = {"color": group.colour, "symbol": group.symbol, "size": 5}
    shown = sheet.first("group " + group.name)
    points = go.Scatter(
        x=score.estimate,
        y=rank,
        mode="markers",
        marker=marker,
        error_x=whiskers(score, group.colour),
        name=group.label,
        showlegend=shown,
    )
    panel.add(points, "mean", group)


def _dealt(panel: Panel, group: Group, best: Best) -> None:
    """A grey bar for each head: its null with counts dealt out over the token types."""
    import plotly.graph_objects as go

    if not np.isfinite(best.dealt).any():
        return
    x = np.stack([*best.dealt, np.full(len(best.names), np.nan)], axis=1).ravel()  # nan: no line between heads
    line = {"color": see_through(NULL, 0.35), "width": 6}
    bars = go.Scatter(
        x=x, y=np.repeat(np.arange(len(best.names)), 3), mode="lines", line=line, name=DEALT_NAME, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    panel.add(bars, "dealt", group)
    panel.sheet.null_key(DEALT_NAME, {"mode": "lines", "line": line})


KIND = FigureKind(
    "rare_token_heads",
    needs=tuple((name,) for name in VARIABLES),
    title="Which heads look at rare tokens",
    caption="Mean rank correlation of a head's attention, from the last prefix token, with the rarity of the tokens it looks at; beside it "
    "the null, the same attention against the rarity of other paragraphs on the same scale. The list, ordered on the paragraphs "
    "shown, gives the heads furthest from their null; grey bars: token counts dealt out over the token types, so that a head likes the "
    f"same tokens whatever their rarity (central 95%). {BANDS}",
    function=heads,
)
