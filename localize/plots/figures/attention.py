"""What heads look at in one paragraph: heads downwards, tokens of the prefix across."""

from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.choice import head_name
from localize.analysis.effects import one_kind
from localize.errors import LocalizeError, caller, public
from localize.plots.colouring import Looking, looking_heads
from localize.plots.groups import require
from localize.plots.kinds import FigureAsked, FigureKind, paragraph_asked
from localize.plots.paragraph import loss_variable, measured_tokens, row_of
from localize.plots.sheet import NOTE, TITLE, Box, Sheet
from localize.plots.theme import INK, MAGNITUDE, WIDTH, plain, variable_words
from localize.plots.token_axis import changed_position, token_axis
from localize.plots.token_text import token_texts

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

LEFT, RIGHT, ROW = 56, 8, 14
WHO = {"last_prefix": "the last prefix token", "continuation": "the continuation's tokens"}


@public("plots.attention")
def attention(
    signature: "MemorizationSignature",
    paragraph: int | str = 0,
    *,
    heads: int = 12,
    layer: int | None = None,
    query: str = "last_prefix",
    tokenizer: Any = None,
) -> "go.Figure":
    """Attention of one paragraph: a row per head, a column per token of the prefix.

    The heads that look most at the most changed position (at the last token where none was replaced), first the one that
    looks most; or all heads of a layer. That position is bold and framed. Null, told above: even attention, the same share
    for every token. These are one paragraph's numbers: they have no interval, and the heads are picked on what is shown.

    Args:
        signature: Holds `localize.prefix_attention`.
        paragraph: Its number or id.
        heads: How many to show, where no layer is named.
        layer: Show all heads of this layer instead.
        query: Who looks: "last_prefix" or "continuation".
        tokenizer: Of transformers or tokenizers, or a model with one; None shows token ids.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the attention, there is no such paragraph, layer or query, or `heads` is below 1.
    """
    require(signature, ("prefix_attention",), "localize.prefix_attention(model, paragraphs)")
    dataset = signature.dataset
    row = row_of(dataset, paragraph)
    prefix = dataset.sizes["prefix_position"]
    changed = changed_position(one_kind(dataset, None) if "kind" in dataset.dims else dataset, row)
    looking = looking_heads(dataset, row, prefix - 1 if changed is None else changed, query, heads)
    assert looking is not None  # prefix_attention is there
    if layer is not None:
        looking = _of_layer(dataset, row, layer, query)
    ids = measured_tokens(dataset, row, loss_variable(dataset))[:prefix]
    texts = token_texts(ids.tolist(), tokenizer)
    group, name = plain(str(dataset["group"].values[row])), plain(str(dataset["paragraph"].values[row]))
    which = f"layer {layer}, every head" if layer is not None else "heads that look most at "
    which += (
        "" if layer is not None else f"token {changed}, the most changed" if changed is not None else "the last token"
    )
    return _drawn(looking, texts, changed, f"Attention from {WHO.get(query, plain(query))}: {name}, {group}", which)


def _of_layer(dataset: "xr.Dataset", row: int, layer: int, query: str) -> Looking:
    layers = dataset["layer"].values.tolist()
    if layer not in layers:
        raise LocalizeError(f"{caller()}: layer={layer} is not one of {', '.join(map(str, layers))}.")
    at = layers.index(layer)
    values = dataset["prefix_attention"].isel(paragraph=row, layer=at).sel(query=query)
    names = [head_name(dataset, (at, head)) for head in range(dataset.sizes["head"])]
    return Looking(names, values.transpose("head", "prefix_position").values.astype(np.float64))


def _drawn(looking: Looking, texts: list[str], changed: int | None, title: str, which: str) -> "go.Figure":
    """One heat map, its colour bar below the tokens."""
    import plotly.graph_objects as go

    sheet, count, width = Sheet(), len(texts), WIDTH - LEFT - RIGHT
    box = Box(LEFT, TITLE + NOTE, width, max(60, ROW * len(looking.names)))
    x, below = token_axis(texts, width, changed)
    rank = np.arange(len(looking.names))
    y = {"tickvals": rank, "ticktext": looking.names, "range": [len(rank) - 0.5, -0.5]}
    even = 1 / count
    panel = sheet.panel(box, title, f"{which}; null: even attention, {even:.3f} to each token", x=x, y=y, grid=False)
    most = float(np.nanmax(looking.attention)) if np.isfinite(looking.attention).any() else 1.0
    bar: dict[str, Any] = {"title": variable_words("prefix_attention"), "nticks": 7}
    colours = {"colorscale": MAGNITUDE, "cmin": 0, "cmax": max(most, 2 * even)}
    axis = sheet.colour_axis(colours, bar, Box(LEFT, box.bottom + below + 10, 320, 7))
    told = np.broadcast_to(np.array([plain(text, 40) for text in texts]), looking.attention.shape)
    hover = "%{y} to token %{x}, %{text}: %{z:.3f}<extra></extra>"
    panel.add(
        go.Heatmap(x=np.arange(count), y=rank, z=looking.attention, text=told, hovertemplate=hover, coloraxis=axis, name="attention"),
        "values",
    )  # fmt: skip
    if changed is not None:
        frame = {"color": "white", "width": 2.5}, {"color": INK, "width": 1}
        for line in frame:  # seen on dark and on light cells
            sheet.figure.add_shape(
                type="rect", x0=changed - 0.5, x1=changed + 0.5, y0=0, y1=1, xref="x", yref="y domain", line=line
            )
    return sheet.finish(box.bottom + below + 54)


def _of_one_paragraph(signature: "MemorizationSignature", asked: FigureAsked) -> dict[str, "go.Figure"]:
    return {"": attention(signature, paragraph_asked(signature, asked), tokenizer=asked.tokenizer)}


KIND = FigureKind(
    "prefix_attention",
    needs=(("prefix_attention",),),
    title="What heads look at in one paragraph",
    caption="Attention of the last prefix token to each token of the prefix, for the heads that look most at the token whose "
    "replacement changes the paragraph most (bold, framed). Even attention, the null, is told above; one paragraph has no interval.",
    function=attention,
    make=_of_one_paragraph,
)
