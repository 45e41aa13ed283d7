"""Files for a paper: the sizes of print, no half-written file, and one line where the browser is missing."""

import json
import re
import struct

import plotly.graph_objects as go
import plotly.io as pio
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.plots.catalogue import Drawn
from localize.plots.export import sized_png, sized_svg


def has_chrome():
    from choreographer.browsers.chromium import Chromium
    from choreographer.errors import ChromeNotFoundError

    try:
        Chromium(None)
    except ChromeNotFoundError:
        return False
    except Exception:
        return True
    return True


needs_chrome = pytest.mark.skipif(
    not has_chrome(), reason="draws images, for which there is no Chrome or Chromium here"
)


@pytest.fixture(scope="module")
def recall(signature):
    return plots.recall(signature)


@pytest.fixture(scope="module")
def drawn(recall, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    seen = []
    return plots.save({"recall": Drawn("recall", "t", "c", recall)}, folder, on_progress=seen.append), seen


def inches(path, height):
    """Width and height of an image in print."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        head = content[: content.index(b">")].decode()
        return [float(re.search(rf'{side}="([0-9.]+)in"', head)[1]) for side in ("width", "height")]
    if path.suffix == ".pdf":
        (box,) = re.findall(rb"MediaBox *\[0 0 ([0-9.]+) ([0-9.]+)\]", content)
        return [float(side) / 72 for side in box]
    wide, high = struct.unpack(">II", content[16:24])
    per_metre = struct.unpack(">I", content[content.index(b"pHYs") + 4 :][:4])[0]
    return [wide / per_metre / 0.0254, high / per_metre / 0.0254]


@needs_chrome
def test_every_format_and_width_is_written_and_told_of(drawn):
    written, seen = drawn
    names = [f"recall{width}.{kind}" for width in ("", "-column") for kind in ("svg", "pdf", "png", "json")]
    assert [path.name for path in written] == names
    assert sorted(seen) == sorted(written)
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(names)


@needs_chrome
def test_images_are_7_and_3_and_a_half_inches_wide_in_print(drawn, recall):
    for path in drawn[0]:
        if path.suffix != ".json":
            narrow = "column" in path.stem
            figure = plots.column(recall) if narrow else recall
            wide, high = inches(path, figure.layout.height)
            assert wide == pytest.approx(3.5 if narrow else 7.0, abs=0.02), path.name
            assert high == pytest.approx(figure.layout.height / 100, abs=0.03), path.name


@needs_chrome
def test_a_png_has_300_dots_to_the_inch_and_a_pdf_one_page(drawn):
    for path in drawn[0]:
        if path.suffix == ".png":
            assert struct.unpack(">I", path.read_bytes()[16:20])[0] == (1050 if "column" in path.stem else 2100)
        if path.suffix == ".pdf":
            assert len(re.findall(rb"/Type */Page\b", path.read_bytes())) == 1


@needs_chrome
def test_the_words_of_an_svg_are_text_and_nothing_comes_from_the_network(drawn):
    svg = next(path for path in drawn[0] if path.suffix == ".svg").read_text(encoding="utf-8")
    assert "exact match (tokens)" in svg
    assert not re.search(r'(href|src)="http', svg)


@needs_chrome
@pytest.mark.slow
def test_an_image_that_cannot_be_drawn_is_named_and_the_old_file_stays(tmp_path, recall, monkeypatch):
    (tmp_path / "recall.svg").write_text("old")

    async def fails(*_, **__):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("kaleido.Kaleido.calc_fig", fails)
    with pytest.raises(LocalizeError) as refused:
        plots.save({"recall": recall}, tmp_path, ["svg"], ["page"])
    assert str(refused.value) == "plots.save: recall.svg could not be drawn: out of memory"
    assert (tmp_path / "recall.svg").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recall.json", "recall.svg"]


def test_json_alone_needs_no_browser_and_reads_back(tmp_path, recall, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    written = plots.save({"recall": recall}, tmp_path / "new", formats=())
    assert [path.name for path in written] == ["recall.json", "recall-column.json"]
    assert json.loads(pio.read_json(written[0]).to_json()) == json.loads(recall.to_json())
    assert json.loads(written[1].read_text())["layout"]["width"] == 350


def test_without_kaleido_the_json_is_written_and_one_line_tells_how_to_get_it(tmp_path, recall, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    with pytest.raises(LocalizeError) as refused:
        plots.save({"recall": recall}, tmp_path, widths=["page"])
    told = 'plots.save: static images need kaleido: pip install "localize-memorization[figures]". The JSON was written.'
    assert str(refused.value) == told
    assert [path.name for path in tmp_path.iterdir()] == ["recall.json"]


def test_without_chrome_the_json_is_written_and_one_line_tells_how_to_get_it(tmp_path, recall, monkeypatch):
    from choreographer.errors import ChromeNotFoundError

    def missing(*_, **__):
        raise ChromeNotFoundError("no\nchrome")

    monkeypatch.setattr("kaleido.Kaleido.__init__", missing)
    with pytest.raises(LocalizeError) as refused:
        plots.save({"recall": recall}, tmp_path, widths=["column"])
    assert str(refused.value) == (
        "plots.save: static images need Chrome or Chromium, which was not found: plotly_get_chrome fetches one, "
        "or install your system's package chromium. The JSON was written."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["recall-column.json"]


def test_what_is_no_format_width_or_name_is_refused_before_anything_is_written(tmp_path, recall):
    for figures, more, told in (
        ({"a": recall}, {"formats": ["eps"]}, "plots.save: formats=['eps'] may hold svg, pdf, png."),
        ({"a": recall}, {"formats": "svg"}, "plots.save: formats='svg' may hold svg, pdf, png."),
        ({"a": recall}, {"widths": ["wide"]}, "plots.save: widths=['wide'] may hold page, column."),
        ({"../a": recall}, {}, "plots.save: '../a' is no name for a file; letters, digits, -, _ and . are allowed."),
    ):
        with pytest.raises(LocalizeError) as refused:
            plots.save(figures, tmp_path / "new", **more)
        assert str(refused.value) == told
    with pytest.raises(LocalizeError, match="the figure has no layout"):
        plots.save({"a": recall, "mine": go.Figure()}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_sizes_are_told_in_the_files_themselves():
    svg = b'<svg class="main-svg" width="700" height="431" viewBox="0 0 700 431"><rect width="390"/></svg>'
    sized = b'<svg class="main-svg" width="7in" height="4.31in" viewBox="0 0 700 431"><rect width="390"/></svg>'
    assert sized_svg(svg) == sized
    bare = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(13 + 4) + b"rest"
    assert sized_png(bare)[33:] == struct.pack(">I", 9) + b"pHYs" + struct.pack(">IIB", 11811, 11811, 1) + (
        bytes.fromhex("78a53f76") + b"rest"
    )
