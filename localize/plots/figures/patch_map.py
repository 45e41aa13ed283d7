"""Position by layer: what patching one activation of one token does, in one paragraph."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.errors import LocalizeError, caller, public
from localize.plots.figures.patch_view import METRIC_WORDS, STREAM_WORDS, metric_of
from localize.plots.groups import continuation_words, require
from localize.plots.kinds import FigureAsked, FigureKind
from localize.plots.paragraph import measured_tokens, row_of
from localize.plots.sheet import NOTE, TITLE, Box, Sheet
from localize.plots.theme import INK, SCORE, WIDTH, axis_words, plain, variable_words
from localize.plots.token_text import token_texts

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

MAPS = ("stream_patch_map", "stream_patch_estimate_map")
LEFT, GAP, ROW, LONGEST = 96, 10, 12, 11


@public("plots.patch_map")
def patch_map(
    signature: "MemorizationSignature",
    paragraph: int | str = 0,
    *,
    site: str | None = None,
    metric: str | None = None,
    direction: str | None = None,
    tokenizer: Any = None,
) -> "go.Figure":
    """Change of the NLL when one activation at one position is put in from the other run: tokens downwards, layers across.

    The changed position is bold, a line divides prefix and continuation; positions before the first and after the last
    effect are left out. One paragraph has no interval. Its null, as large a random change, is told in words above.
    Where only the gradient approximation was measured, it is drawn and the title says so.

    Args:
        signature: Holds `localize.patch(..., at="each")`.
        paragraph: Its number or id.
        site: "q", "k", "v" or "z" of every head; None is the streams of whole layers.
        metric: "first_changed" or "continuation"; None is the first measured.
        direction: "denoising" or "noising"; None is both.
        tokenizer: Of transformers or tokenizers, or a model with one; None shows token ids.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If the signature lacks the map, or there is no such paragraph, site, metric or direction.
    """
    name = _variable(signature, "stream" if site is None else "head")
    dataset = signature.dataset
    row = row_of(dataset, paragraph)
    array = dataset[name].isel(paragraph=row).sel(metric=metric_of(dataset, metric))
    columns = _columns(array, site, direction)
    shown = _positions(columns, int(dataset["patch_position"].values[row]))
    texts = token_texts(measured_tokens(dataset, row, name).tolist(), tokenizer)
    sheet = Sheet()
    top = _told(sheet, signature, name, row, site, metric_of(dataset, metric)) + TITLE + NOTE
    width = (WIDTH - LEFT - 8 - GAP * (len(columns) - 1)) / len(columns)
    height = ROW * len(shown)
    furthest = max((float(np.nanmax(np.abs(v))) for v in columns.values() if np.isfinite(v).any()), default=1.0) or 1.0
    bar = {"title": variable_words(name), "nticks": 7}
    colours = {"colorscale": SCORE, "cmin": -furthest, "cmax": furthest, "cmid": 0}
    axis = sheet.colour_axis(colours, bar, Box(LEFT, top + height + 40, 320, 7))
    for number, (words, values) in enumerate(columns.items()):
        box = Box(LEFT + number * (width + GAP), top, width, height)
        _map(sheet, box, words, values[:, shown], dataset, row, shown, texts, axis, first=number == 0)
    return sheet.finish(top + height + 84)


def _variable(signature: "MemorizationSignature", place: str) -> str:
    """The exact map, or the estimated one where that alone was measured."""
    exact, estimated = f"{place}_patch_map", f"{place}_patch_estimate_map"
    if exact not in signature and estimated in signature:
        return estimated
    require(signature, (exact,), 'localize.patch(model, paragraphs, at="each")')
    return exact


def _columns(
    array: "xr.DataArray", site: str | None, direction: str | None
) -> dict[tuple[str, str], Float[np.ndarray, "cell position"]]:
    """What each panel shows, by direction and stream or site: layers, or every head of every layer.

    Raises:
        LocalizeError: If site or direction is not there.
    """
    axis = "stream" if site is None else "site"
    for dim, value in (("direction", direction), ("site", site)):
        there = [str(label) for label in array[dim].values] if dim in array.dims else []
        if value is not None and value not in there:
            raise LocalizeError(f"{caller()}: {dim}={value!r} is not one of {', '.join(there)}.")
    found = {}
    for way in [direction] if direction else [str(label) for label in array["direction"].values]:
        for label in [site] if site else [str(label) for label in array[axis].values]:
            values = array.sel({"direction": way, axis: label}).transpose("layer", ..., "position").values
            values = values.reshape(-1, values.shape[-1]).astype(np.float64)
            if np.isfinite(values).any():
                words = STREAM_WORDS.get(label, plain(label)) if site is None else f"{plain(label)} of every head"
                found[plain(way.capitalize()), words.split(",")[0]] = values
    if not found:
        raise LocalizeError(
            f"{caller()}: nothing was measured of this paragraph; its copy changes no token of the continuation."
        )
    return found


def _positions(columns: dict[tuple[str, str], Float[np.ndarray, "cell position"]], changed: int) -> np.ndarray:
    """From the first to the last position where anything happens, the changed one among them."""
    moved = np.any([np.nan_to_num(np.abs(values)).max(0) > 0 for values in columns.values()], axis=0)
    moved[changed] = True
    at = np.flatnonzero(moved)
    return np.arange(at[0], at[-1] + 1)


def _told(sheet: Sheet, signature: "MemorizationSignature", name: str, row: int, site: str | None, metric: str) -> int:
    """Lines above: whose, judged by what, and the null."""
    dataset = signature.dataset
    group = plain(str(dataset["group"].values[row]))
    estimated = "estimated from the gradient, " if "estimate" in name else ""
    where = plain(str(dataset["paragraph"].values[row]))
    judged = METRIC_WORDS.get(metric, plain(metric))
    sheet.text(
        f"<b>Paragraph {where}</b>, {group}; {estimated}NLL, {judged}, {continuation_words(signature, name)}", 0, NOTE
    )
    null = f"{name.split('_')[0]}_patch_null"
    if null in dataset:
        values = dataset[null].isel(paragraph=row).sel(metric=metric)
        values = values if site is None else values.sel(site=site)
        if bool(values.notnull().any()):
            most = float(np.abs(values).max())
            sheet.text(
                f"null: as large a change in a random direction moves the NLL by at most {most:.2g} nats", 0, 2 * NOTE
            )
    return 2 * NOTE + 8


def _map(
    sheet: Sheet,
    box: Box,
    words: tuple[str, str],
    values: Float[np.ndarray, "cell shown"],
    dataset: "xr.Dataset",
    row: int,
    shown: np.ndarray,
    texts: list[str],
    axis: str,
    *,
    first: bool,
) -> None:
    import plotly.graph_objects as go

    layers, cells = dataset["layer"].values, len(values)
    per = cells // len(layers)  # heads of a layer, or 1
    every = max(1, int(np.ceil(len(layers) * 16 / box.width)))
    x: dict[str, Any] = {
        "title": {"text": axis_words("layer") + (f", heads 0 to {per - 1} inside" if per > 1 else "")},
        "tickvals": np.arange(len(layers))[::every] * per + (per - 1) / 2,
        "ticktext": [str(layer) for layer in layers[::every]],
        "range": [-0.5, cells - 0.5],
    }
    y: dict[str, Any] = {"tickvals": shown, "range": [shown[-1] + 0.5, shown[0] - 0.5], "ticktext": [""] * len(shown)}
    y |= {} if first else {"title": {"text": ""}}
    if first:
        changed = int(dataset["patch_position"].values[row])
        y["ticktext"] = [_label(place, texts[place], bold=place == changed) for place in shown.tolist()]
    panel = sheet.panel(box, *words, x=x, y=y, grid=False)
    heads = dataset["head"].values if per > 1 else []
    names = [f"L{layer}.H{head}" for layer in layers for head in heads] or [f"layer {layer}" for layer in layers]
    text = np.broadcast_to(np.array(names), (len(shown), cells))
    hover = "token %{y}, %{text}: %{z:.3f} nats<extra></extra>"
    heat = go.Heatmap(
        x=np.arange(cells), y=shown, z=values.T, text=text, coloraxis=axis, hovertemplate=hover, name=", ".join(words)
    )
    panel.add(heat, "values")
    number = "" if panel.number == 1 else str(panel.number)
    prefix = int(dataset.attrs["paragraphs"]["prefix_length"])
    line = {"color": INK, "width": 1, "dash": "dot"}
    if shown[0] < prefix <= shown[-1]:
        sheet.figure.add_shape(
            type="line",
            x0=0,
            x1=1,
            xref=f"x{number} domain",
            y0=prefix - 0.5,
            y1=prefix - 0.5,
            yref=f"y{number}",
            line=line,
        )
    for at in np.arange(per, cells, per) - 0.5 if per > 1 else []:
        sheet.figure.add_shape(
            type="line",
            x0=at,
            x1=at,
            xref=f"x{number}",
            y0=0,
            y1=1,
            yref=f"y{number} domain",
            line={"color": "#BBBBBB", "width": 0.5},
        )


def _label(place: int, text: str, *, bold: bool) -> str:
    """ "44: ␣flag", the changed one bold."""
    words = f"{place}: {plain(text, LONGEST)}"
    return f"<b>{words}</b>" if bold else words


def _of_one_paragraph(signature: "MemorizationSignature", asked: FigureAsked) -> dict[str, "go.Figure"]:
    """Of the paragraph asked for, or of the first that has a map, those of the first group before others."""
    chosen = asked.paragraph
    if chosen is None:
        array = signature[next(name for name in MAPS if name in signature)]
        mapped = array.notnull().any([dim for dim in array.dims if dim != "paragraph"]).values
        group = signature.dataset["group"].values
        rows = [row for name in signature.groups for row in np.flatnonzero(mapped & (group == name))]
        if not rows:
            return {}
        chosen = int(rows[0])
    return {"": patch_map(signature, chosen, tokenizer=asked.tokenizer)}


KIND = FigureKind(
    "patch_map",
    needs=(MAPS,),
    title="Where in one paragraph a patch acts",
    caption="Change of the NLL of one paragraph when a layer's activation at one token is put in from the other run, tokens downwards, "
    "the replaced token in bold. One paragraph has no interval; what a random change of the same size does is told above.",
    function=patch_map,
    make=_of_one_paragraph,
)
