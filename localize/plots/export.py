"""Figures as files for a paper: SVG, PDF and PNG in the sizes of print, and plotly's JSON."""

import asyncio
import importlib.util
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from localize.errors import LocalizeError, caller, how_to_install, public
from localize.plots.column import column
from localize.storage import replacing
from localize.threads import available_cpus

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.plots.catalogue import Drawn

FORMATS = ("svg", "pdf", "png")
PAGE, COLUMN = "page", "column"
WIDTHS = (PAGE, COLUMN)

PER_INCH = 100
"""Pixels of a figure that are an inch in print."""

CSS_PER_INCH, PNG_SCALE = 96, 3
"""Pixels that a browser prints on an inch; and those of a PNG for each of the figure's: 300 to the inch."""

TABS = 2
"""Images drawn at a time."""

HOW_TO_GET = {
    "kaleido": f"static images need kaleido: {how_to_install('figures')}",
    "chrome": "static images need Chrome or Chromium, which was not found: plotly_get_chrome fetches one, or install your "
    "system's package chromium",
}


@dataclass(frozen=True)
class Image:
    """One image to be drawn.

    Attributes:
        path: Where to.
        kind: Of `FORMATS`.
        figure: As plotly's JSON has it.
    """

    path: Path
    kind: str
    figure: dict[str, Any]


@public("plots.save")
def save(
    figures: "Mapping[str, go.Figure | Drawn]",
    folder: str | Path,
    formats: Sequence[str] = FORMATS,
    widths: Sequence[str] = WIDTHS,
    *,
    on_progress: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write figures at the width of a page (7 in) and of a column (3.5 in), each also as plotly's JSON.

    A page's file is called as the figure is, a column's has "-column" behind it. Type is 7 pt or larger in both; PNGs have
    300 dots to the inch. Each file is replaced at once: a killed call leaves the old one or the new one.

    Args:
        figures: By the name of their files, such as `figures_of` gives; of `localize.plots`, where a column is asked for.
        folder: Made if it is not there.
        formats: Of "svg", "pdf" and "png"; none gives the JSON alone, for which no browser is needed.
        widths: "page", "column" or both.
        on_progress: Called with each file that was written.

    Returns:
        What was written, a figure after the other.

    Raises:
        LocalizeError: If a format, a width or a name is none, a figure has no column, or kaleido or a Chrome is missing;
            then the JSON is written all the same.
    """
    _check(figures, formats, widths)
    laid = {}
    for name, entry in figures.items():
        figure: Any = getattr(entry, "figure", entry)
        for width in widths:
            stem = name if width == PAGE else f"{name}-{width}"
            laid[stem] = figure if width == PAGE else column(figure)
    told = on_progress or (lambda path: None)
    written, images = [], []
    for stem, figure in laid.items():
        path = Path(folder) / f"{stem}.json"
        with replacing(path) as beside:
            beside.write_text(figure.to_json(), encoding="utf-8")
        told(path)
        here = [Image(path.with_suffix(f".{kind}"), kind, figure.to_dict()) for kind in formats]
        images += here
        written += [*(image.path for image in here), path]
    if images:
        _draw(images, told)
    return written


def _check(figures: Mapping[str, Any], formats: Sequence[str], widths: Sequence[str]) -> None:
    for word, given, allowed in (("formats", formats, FORMATS), ("widths", widths, WIDTHS)):
        if isinstance(given, str) or (set(given) - set(allowed)):
            raise LocalizeError(f"{caller()}: {word}={given!r} may hold {', '.join(allowed)}.")
    for name in figures:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise LocalizeError(f"{caller()}: {name!r} is no name for a file; letters, digits, -, _ and . are allowed.")


def _draw(images: list[Image], told: Callable[[Path], None]) -> None:
    """Draw all images in one browser, in a thread with an event loop of its own: a notebook's is running already.

    Raises:
        LocalizeError: If kaleido or a browser is missing, or an image cannot be drawn.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise LocalizeError(f"{caller()}: {HOW_TO_GET['kaleido']}. The JSON was written.")
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_in_browser(images, told))
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=copy_context().run, args=(run,), daemon=True)  # which knows the caller
    thread.start()
    thread.join()
    if failed:
        raise _as_told(failed[0]) from failed[0]


def _as_told(error: BaseException) -> BaseException:
    """What the user must know of what went wrong in the browser; errors that are not the browser's stay as they are."""
    from choreographer.errors import BrowserFailedError, ChromeNotFoundError

    if isinstance(error, ChromeNotFoundError):
        return LocalizeError(f"{caller()}: {HOW_TO_GET['chrome']}. The JSON was written.")
    if isinstance(error, BrowserFailedError):
        words = " ".join(str(error).split())
        return LocalizeError(
            f"{caller()}: the browser that draws images did not start ({words}). The JSON was written."
        )
    return error


async def _in_browser(images: list[Image], told: Callable[[Path], None]) -> None:
    from kaleido import Kaleido

    waiting = list(reversed(images))

    async def draw_in_turn(browser: Any) -> None:
        while waiting:
            image = waiting.pop()
            _write(image, await _drawn(browser, image))
            told(image.path)

    # No MathJax: it would be fetched from the network, and no figure here has any TeX.
    async with Kaleido(n=min(TABS, available_cpus()), mathjax=False) as browser:
        await asyncio.gather(*(draw_in_turn(browser) for _ in range(TABS)))


async def _drawn(browser: Any, image: Image) -> bytes:
    scale = {"svg": 1, "png": PNG_SCALE, "pdf": CSS_PER_INCH / PER_INCH}[image.kind]
    try:
        return await browser.calc_fig(image.figure, {"format": image.kind, "scale": scale})
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise LocalizeError(f"{caller()}: {image.path.name} could not be drawn: {words}") from error


def _write(image: Image, content: bytes) -> None:
    finish = {"svg": sized_svg, "png": sized_png}.get(image.kind, bytes)
    with replacing(image.path) as beside:
        beside.write_bytes(finish(content))


def sized_svg(content: bytes) -> bytes:
    """An SVG whose width and height are told in inches, not in pixels of a screen."""

    def inches(found: re.Match[bytes]) -> bytes:
        return b'%s="%sin"' % (found[1], f"{float(found[2]) / PER_INCH:g}".encode())

    end = content.index(b">")
    return re.sub(rb'\b(width|height)="([0-9.]+)"', inches, content[:end]) + content[end:]


def sized_png(content: bytes) -> bytes:
    """A PNG that tells its dots per metre, so that it is set at its size in print."""
    after_header = 8 + 25  # signature; length, name, 13 bytes and checksum of IHDR
    per_metre = round(PER_INCH * PNG_SCALE / 0.0254)
    chunk = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
    sized = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:after_header] + sized + content[after_header:]
