"""Whether the heads that look at rare tokens are those whose removal costs: score against cost, a point per head."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.causal import RANKS, TOGETHER, removal_effects
from localize.analysis.choice import head_name, head_scores
from localize.analysis.compare import rough_cells
from localize.analysis.dealt_counts import DealtScores, dealt_scores
from localize.analysis.sentences import Wording, decision
from localize.errors import public
from localize.plots.figures.gradients import whole_group
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.lettering import BREAK, wrapped
from localize.plots.names import free_places
from localize.plots.roughness import mark_rough
from localize.plots.sheet import NOTE, TITLE, Box, Panel, Sheet
from localize.plots.theme import INK, MAGNITUDE, NULL, SMALL, axis_words, plain, see_through, variable_words
from localize.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

SCORES = ("rare_token_score", "rare_token_null")
VARIABLES = ("ablated_nll", "ablated_exact_match", "unperturbed_nll", "unperturbed_exact_match")
LEFT, WIDTH, HEIGHT, ASIDE = 50, 274, 190, 350
ABOVE, BELOW = TITLE + NOTE, 34 + 5 * NOTE + 14
"""Room in px for title and note above a panel, and for axis and verdict below it."""

ACROSS = 2
"""Panels side by side."""

LABELLED = 3
"""So many heads are named for their score, and as many for what their removal costs."""

NUMBERS = (("estimate", "low", "high"), ("null", "null_range_low", "null_range_high"))
"""What is told of the correlation over heads: itself, and what it is held against."""

DEALT = "counts dealt out over token types (central 95%)"
ALIKE = "every head costs alike"
TITLES = Wording(
    above="score and cost go together",
    below="score and cost opposed",
    neither="score and cost not significantly related",
    unknown="not known",
)


@public("plots.ablation")
def ablation(signature: "MemorizationSignature", query: str = "last_prefix", *, seed: int = 0) -> "go.Figure":
    """Rare-token score above its null against the NLL rise when the head is removed: a panel per group, a point per head.

    If attention to rare tokens is how the model recites, heads further right stand higher. Above a panel: Spearman's rho
    over heads with its 95 % interval, and the null, heads permuted within their layers. Below it: how the strongest head,
    chosen on one half of the clusters, ranks on the other among the heads of its layer by what its removal costs. Both are
    those of `signature.causal_check`. The grey band holds 95 % of the scores of a head that likes some tokens whatever their
    rarity (counts dealt out over the token types, mean over heads; none where attention's ranks were not kept); the dashed
    line is the mean rise over heads. The heads that stand out are named, with 95 % intervals by bootstrap over clusters; they
    are picked on the paragraphs shown.

    Args:
        signature: Holds `localize.rare_token_heads` and `localize.ablate`.
        query: Who looks: "last_prefix" or "continuation".
        seed: Of bootstrap, permutation and choice.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks a measurement, or the query.
    """
    require(signature, SCORES, "localize.rare_token_heads(model, paragraphs)")
    require(signature, VARIABLES, "localize.ablate(model, paragraphs)")
    dataset, groups, sheet = signature.dataset, groups_of(signature), Sheet()
    score, null = head_scores(dataset, query)
    dealt = dealt_scores(dataset, query, [group.rows for group in groups], seed)
    rise = removal_effects(dataset)[0]
    clouds = [
        Cloud.of(group, dataset, score - null, rise, _ends_of(dealt, at), seed) for at, group in enumerate(groups)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "few effective clusters")  # the legend tells of them
        table = signature.causal_check(query=query, seed=seed)
    ends = [_ends([end for cloud in clouds for end in cloud.reach(side)]) for side in ("x", "y")]
    places = [_place(number) for number in range(len(clouds) + 1)]
    bottom = places[len(clouds) - 1].bottom + BELOW
    # Beside a last panel that stands alone there is room for the colours.
    corner = places[-1] if len(clouds) % ACROSS else Box(LEFT, bottom, WIDTH, HEIGHT)
    words = _what_is_drawn(signature, query)
    for line, told in enumerate(words):
        sheet.text(told, corner.left, corner.top + NOTE * (line + 1), colour=NULL)
    axis = _colours(sheet, dataset, Box(corner.left, corner.top + NOTE * len(words) + 8, WIDTH, 7))
    for cloud, box in zip(clouds, places, strict=False):
        _cloud(sheet, box, cloud, table, ends, axis)
    return sheet.finish(max(bottom, corner.top + NOTE * len(words) + 44))


def _place(number: int) -> Box:
    """Where a group's panel stands."""
    row, column = divmod(number, ACROSS)
    return Box(LEFT + column * ASIDE, row * (ABOVE + HEIGHT + BELOW) + ABOVE, WIDTH, HEIGHT)


@dataclass(frozen=True, eq=False)
class Cloud:
    """The heads of one group: a point each, with the null of their scores.

    Attributes:
        group: The group.
        names: "L1.H2".
        layer: The layer of each.
        score: Mean rare-token score above its mismatched null.
        rise: Mean NLL rise when the head is removed.
        null: Ends of the score with counts dealt out over the token types, mean over heads; nan where that is not known.
        named: Which heads stand out.
        error: Of these, the distances from score and rise to the ends of their intervals.
        interval: Of these, the rise with its interval, rough where one of the two is.
    """

    group: Group
    names: list[str]
    layer: np.ndarray
    score: Float[np.ndarray, " head"]
    rise: Float[np.ndarray, " head"]
    null: tuple[float, float]
    named: np.ndarray
    error: dict[str, dict[str, Any]]
    interval: Interval

    @classmethod
    def of(
        cls,
        group: Group,
        dataset: "xr.Dataset",
        above: Float[np.ndarray, "paragraph layer head"],
        rise: Float[np.ndarray, "paragraph layer head"],
        null: tuple[float, float],
        seed: int,
    ) -> "Cloud":
        """Means, null and intervals; a head that was not removed, or has no score, is left out."""
        points = [(layer, head) for layer in range(above.shape[1]) for head in range(above.shape[2])]
        columns = [side[group.rows].reshape(len(group.clusters), -1) for side in (above, rise)]
        alone = whole_group(group)
        known = ~np.isnan(alone.mean(columns[0])) & ~np.isnan(alone.mean(columns[1]))
        columns = [side[:, known] for side in columns]
        score, cost = (alone.mean(side) for side in columns)
        outstanding = np.flatnonzero((score > null[1]) | (score < null[0])), np.flatnonzero(cost > _mean(cost))
        sides = zip(outstanding, (np.abs(score), cost), strict=True)
        named = [at[np.argsort(-side[at])][:LABELLED] for at, side in sides]
        named = np.unique(np.concatenate(named))
        error, intervals = {}, [alone.interval(values[:, named], seed) for values in columns]
        for side, interval in zip(("x", "y"), intervals, strict=True):
            error[f"error_{side}"] = {
                "type": "data", "symmetric": False, "array": interval.high - interval.estimate,
                "arrayminus": interval.estimate - interval.low, "color": INK, "thickness": 0.8, "width": 2,
            }  # fmt: skip
        either = replace(intervals[1], rough=rough_cells(*intervals))
        names = [head_name(dataset, point) for point, there in zip(points, known, strict=True) if there]
        layer = np.array([dataset["layer"].values[layer] for layer, _ in points])[known]
        return cls(group, names, layer, score, cost, null, named, error, either)

    def reach(self, side: str) -> list[float]:
        """From where to where points and intervals go, along "x" (score) or "y" (rise)."""
        values, error = (self.score if side == "x" else self.rise), self.error[f"error_{side}"]
        if len(values) == 0:
            return [0.0]
        low, high = (
            values[self.named] + sign * np.nan_to_num(error[end]) for sign, end in ((-1, "arrayminus"), (1, "array"))
        )
        return [float(end) for end in (*values, *low, *high)]


def _ends_of(dealt: DealtScores | None, at: int) -> tuple[float, float]:
    """Of the null of one set's scores, mean over heads."""
    if dealt is None:
        return float("nan"), float("nan")
    low, high = dealt.ends(at)
    return _mean(low), _mean(high)


def _mean(values: np.ndarray) -> float:
    """Mean of what is known; nan if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _ends(shown: list[float]) -> list[float]:
    """One range for all groups, with 0 and room for names."""
    low, high = min(0.0, *shown), max(0.0, *shown)
    room = 0.06 * (high - low) + 1e-3
    return [low - room, high + room]


def _colours(sheet: Sheet, dataset: "xr.Dataset", box: Box) -> str:
    layers = dataset["layer"].values
    every = max(1, len(layers) // 12)
    bar = {"title": axis_words("layer"), "tickvals": layers[::every], "ticktext": [str(n) for n in layers[::every]]}
    ends = {"cmin": float(layers[0]), "cmax": float(max(layers[-1], layers[0] + 1))}
    return sheet.colour_axis({"colorscale": MAGNITUDE, **ends}, bar, box)


def _cloud(sheet: Sheet, box: Box, cloud: Cloud, table: "pd.DataFrame", ends: list[list[float]], axis: str) -> None:
    import plotly.graph_objects as go

    group = cloud.group
    together: dict[str, Any] = table.loc[[(TOGETHER, group.name)]].to_dict("records")[0]
    title = f"{group.words}: {TITLES.words(decision(together, 'null'))}"
    x = {"title": {"text": variable_words("rare_token_score", "rare-token score above its null")}, "range": ends[0]}
    y = {"title": {"text": variable_words("ablated_nll", "NLL rise without the head")}, "range": ends[1]}
    if box.left > LEFT:
        y["title"] = {"text": ""}
    panel = sheet.panel(box, title, _rho_words(together), x=x | {"nticks": 6}, y=y | {"nticks": 6})
    _nulls(panel, cloud, ends)
    marker = {
        "color": cloud.layer,
        "coloraxis": axis,
        "symbol": group.symbol,
        "size": 7,
        "line": {"width": 0.6, "color": INK},
    }
    hover = "%{text}: score above null %{x:.3f}, NLL rise %{y:.3f}<extra></extra>"
    points = go.Scatter(
        x=cloud.score, y=cloud.rise, mode="markers", marker=marker, text=cloud.names, hovertemplate=hover,
        name=group.words, showlegend=False,
    )  # fmt: skip
    named = cloud.named
    cross = {"mode": "markers", "marker": {"size": 1, "color": INK}, "hoverinfo": "skip", "showlegend": False}
    panel.add(
        go.Scatter(x=cloud.score[named], y=cloud.rise[named], name="95% interval", **cross, **cloud.error),
        "interval",
        group,
    )
    panel.add(points, "mean", group)
    mark_rough(panel, cloud.score[named], cloud.rise[named], cloud.interval, group)
    _names(panel, cloud, ends)
    _key(sheet, group)
    _verdict(sheet, box, table, group)


def _key(sheet: Sheet, group: Group) -> None:
    """The group with its size and symbol; colours say layers here."""
    import plotly.graph_objects as go

    marker = {"symbol": group.symbol, "size": 7, "color": "white", "line": {"width": 1, "color": INK}}
    meta = {"panel": None, "group": group.words, "what": "key"}
    key = go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=group.label, meta=meta)
    # With a group in the legend its entries are as wide as their words, not as the longest of all.
    sheet.figure.add_trace(key.update(showlegend=True, legendgroup=group.words))


def _rho_words(row: dict[str, Any]) -> str:
    """ "ρ −0.13 [−0.23, −0.04]; null −0.10 [−0.26, 0.07]; p = 0.740"."""
    if np.isnan(row["p_value"]):
        return "ρ over heads not known"
    own, null = ("{:.2f} [{:.2f}, {:.2f}]".format(*(row[name] for name in names)) for names in NUMBERS)
    p = "p < 0.001" if row["p_value"] < 0.001 else f"p = {row['p_value']:.3f}"
    return f"ρ {own}; null {null}; {p}".replace("-", "−")


def _nulls(panel: Panel, cloud: Cloud, ends: list[list[float]]) -> None:
    """Where a head stands that likes tokens whatever their rarity, and what the removal of any head costs on average."""
    import plotly.graph_objects as go

    (left, right), (low, high) = cloud.null, ends[1]
    if np.isfinite(left):
        band = go.Scatter(
            x=[left, right, right, left], y=[low, low, high, high], mode="lines", line={"width": 0}, fill="toself",
            fillcolor=see_through(NULL, 0.22), name=DEALT, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        panel.add(band, "null")
        key = {"symbol": "square", "size": 9, "color": "rgba(119,119,119,0.35)"}
        panel.sheet.null_key(DEALT, {"mode": "markers", "marker": key})
    if len(cloud.rise):
        panel.null_line(ends[0], [float(cloud.rise.mean())] * 2, ALIKE)


def _verdict(sheet: Sheet, box: Box, table: "pd.DataFrame", group: Group) -> None:
    """Under the axis: what removing the strongest head says, on clusters that did not choose it."""
    heads = [head for head in table["head"] if head]
    if not heads:
        return
    verdict = table.loc[(RANKS["in its layer"].format(heads[0]), group.name), "verdict"]
    below = box.bottom + 34
    sheet.text(f"<b>{heads[0]}</b>, chosen on other clusters:", box.left, below + NOTE)
    for line, words in enumerate(wrapped(str(verdict), WIDTH + 18, SMALL).split(BREAK), start=2):
        sheet.text(words, box.left, below + line * NOTE)


def _what_is_drawn(signature: "MemorizationSignature", query: str) -> list[str]:
    """Lines that say who looks, what is removed, and what the numbers above the panels are."""
    looking = {"last_prefix": "the last prefix token", "continuation": "the continuation's tokens"}.get(query, query)
    calls = [call for call in signature.dataset.attrs["calls"] if call.get("measurement") == "ablate"]
    output = {"mean": "its mean", "zero": "zero"}.get(calls[-1].get("to")) if calls else None
    text = plain(str(calls[-1].get("reference", "")).rpartition(", ")[0], 30) if calls else ""
    over = f" over {text}" if text else ""
    removed = f"removed: head output replaced by {output}{over}" if output else "removed: one head at a time"
    return [
        f"attention from {looking}",
        f"{removed}; {continuation_words(signature, 'ablated_nll')}",
        "ρ: rank correlation over heads, 95% interval",
        "its null: heads permuted in their layers (central 95%)",
    ]


def _names(panel: Panel, cloud: Cloud, ends: list[list[float]]) -> None:
    """Names beside the heads that stand out, each where it covers the least."""
    import plotly.graph_objects as go

    if len(cloud.named) == 0:
        return
    # px per unit; then everything in px from the upper left corner
    scale = [size / (high - low) for size, (low, high) in zip((WIDTH, HEIGHT), ends, strict=True)]
    at = np.stack([(cloud.score - ends[0][0]) * scale[0], (ends[1][1] - cloud.rise) * scale[1]], axis=1)
    names = [cloud.names[head] for head in cloud.named]
    error = [np.nan_to_num(np.stack([e["arrayminus"], e["array"]], 1)) for e in cloud.error.values()]  # (head, end)
    left, right = (error[0] * scale[0]).T
    down, up = (error[1] * scale[1]).T
    x, y = at[cloud.named].T
    bars = [*zip(x - left, y - 2, x + right, y + 2, strict=True), *zip(x - 2, y - up, x + 2, y + down, strict=True)]
    mean = (ends[1][1] - float(cloud.rise.mean())) * scale[1]
    bars.append((0.0, mean - 1, float(WIDTH), mean + 1))
    places = free_places(at, bars, cloud.named, names, (WIDTH, HEIGHT))
    panel.add(
        go.Scatter(
            x=cloud.score[cloud.named], y=cloud.rise[cloud.named], mode="markers+text", text=names, textposition=places,
            marker={"size": 9, "opacity": 0},
            textfont={"size": SMALL, "color": INK}, hoverinfo="skip", showlegend=False, name="names",
        ), "names", cloud.group,
    )  # fmt: skip


KIND = FigureKind(
    "ablate",
    needs=tuple((name,) for name in (*SCORES, *VARIABLES)),
    title="Whether the heads that look at rare tokens are needed",
    caption="One point per head: its rare-token score above its null against the rise of the NLL when the head is removed. Grey band: "
    f"token counts dealt out over the token types (central 95%); dashed: all heads cost alike. {BANDS}",
    function=ablation,
)
