"""The gradient approximation of a patch against the patch itself: a point per head's activation and per stream of a layer."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.patch_agreement import SPEARMAN
from localize.analysis.patch_agreement import patch_agreement as agreement_table
from localize.plots.figures.patch_view import HALF_STEP, HALF_WIDTH, HEADS, LEFT, STREAM_WORDS, PatchView
from localize.plots.series import Series
from localize.plots.sheet import NOTE, TITLE, Box, Px, Sheet
from localize.plots.theme import INK, plain, variable_words

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

HEIGHT = 150


def draw_estimates(sheet: Sheet, top: Px, view: PatchView, signature: "MemorizationSignature") -> Px:
    """The gradient approximation against the exact effect, a point per head's activation and per stream of a layer."""
    import plotly.graph_objects as go

    for column, direction in enumerate(view.directions):
        box = Box(LEFT + column * HALF_STEP, top + TITLE + NOTE, HALF_WIDTH, HEIGHT)
        x = {"title": {"text": variable_words("head_patch_estimate", "estimated NLL change")}, "nticks": 6}
        y = {"title": {"text": variable_words(HEADS, "exact NLL change")}, "nticks": 6}
        panel = sheet.panel(
            box,
            f"{direction.capitalize()}, estimated from the gradient",
            _agreement(signature, view, direction),
            x=x,
            y=y,
        )
        clouds = [cloud for place in ("head", "stream") for cloud in _cloud(view, direction, place)]
        if not clouds:
            continue
        both = np.concatenate([np.concatenate([estimate, exact]) for _, _, estimate, exact in clouds])
        ends = [float(min(0.0, np.nanmin(both))), float(max(0.0, np.nanmax(both)))]
        panel.null_line(ends, ends, "estimate exact")
        for line, names, estimate, exact in clouds:
            marker = {"color": line.colour, "symbol": line.symbol, "size": 5, "opacity": 0.5}
            hover = "%{text}: estimated %{x:.3f}, patched %{y:.3f} nats<extra></extra>"
            panel.add(go.Scatter(x=estimate, y=exact, mode="markers", marker=marker, text=names, hovertemplate=hover,
                      name=line.words, legendgroup=line.words, showlegend=sheet.first("series " + line.words)),
                      "mean", view.group)  # fmt: skip
    return top + TITLE + NOTE + HEIGHT + 40


def _agreement(signature: "MemorizationSignature", view: PatchView, direction: str) -> str:
    """Spearman's rho over heads' activations, or layers, as `signature.patch_agreement` tells it, beside other paragraphs'."""
    places = [place for place in ("head", "stream") if f"{place}_patch_effect" in view.dataset]
    if not all(f"{place}_patch_estimate" in view.dataset for place in places):
        return ""
    metric = str(view.dataset["metric"].item())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "few effective clusters")  # their number stands above
        alone = signature.where(group=view.group.name)
        table = agreement_table(alone, metric=metric, direction=direction, seed=view.seed)
    known = [key for place in places if (key := (SPEARMAN, place, direction, metric, view.group.name)) in table.index]
    if not known:
        return ""
    row = table.loc[known[0]]
    own = f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    return f"ρ {own}; other paragraphs' {row['null']:.2f}".replace("-", "−")


def _cloud(
    view: PatchView, direction: str, place: str
) -> list[tuple[Series, list[str], Float[np.ndarray, " point"], Float[np.ndarray, " point"]]]:
    """Line, names, estimate and exact effect of the heads together, or of each stream; empty where not both were measured."""
    dataset, names = view.dataset, (f"{place}_patch_estimate", f"{place}_patch_effect")
    if not all(name in dataset for name in names):
        return []
    estimate, exact = (view.mean(name, direction) for name in names)
    layers = dataset["layer"].values
    if place == "head":
        cells = [
            f"L{layer}.H{head}.{plain(str(site))}"
            for site in dataset["site"].values
            for layer in layers
            for head in dataset["head"].values
        ]
        return [(Series("one head's q, k, v or z", INK, "circle-open"), cells, estimate.ravel(), exact.ravel())]
    streams = [plain(str(name)) for name in dataset["stream"].values]
    lines = [
        Series.of(STREAM_WORDS.get(str(name), plain(str(name))), at) for at, name in enumerate(dataset["stream"].values)
    ]
    cells = [[f"L{layer}.{stream}" for layer in layers] for stream in streams]
    return list(zip(lines, cells, estimate, exact, strict=True))
