"""`localize figures`: a folder of figures with captions after a good run, one line after bad input."""

import json

import pytest

from localize import plots
from localize.claims import COMMAND_FILE
from localize.plots.kinds import FigureKind
from tests.plots.conftest import made_signature

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a run"
    made_signature(groups=(SCRIPT,) * 8 + ("other",) * 6).save(folder / "signature.zarr.zip")
    return folder


def test_every_figure_is_written_at_both_widths_with_its_caption(localize, run, tmp_path):
    code, stdout, stderr = localize("figures", run, "--out", tmp_path / "figs", "--format", "none")
    assert (code, stderr) == (0, "")
    names = {path.name for path in (tmp_path / "figs").iterdir()} - {COMMAND_FILE}
    figures = {
        "recall",
        "perturb_prefix",
        "corrupt_prefix",
        "patch_map",
        "patch-script-alert-1-script",
        "patch-other",
        "signature",
    }
    assert {f"{name}{width}.json" for name in figures for width in ("", "-column")} | {"captions.md"} <= names
    assert f"Wrote {len(names) - 1} files of {(len(names) - 1) // 2} figures" in stdout
    captions = (tmp_path / "figs" / "captions.md").read_text(encoding="utf-8")
    assert [line[3:] for line in captions.splitlines() if line.startswith("## ")] == sorted(
        {name.removesuffix(".json") for name in names if name.endswith(".json") and "column" not in name},
        key=[line[3:] for line in captions.splitlines()].index,
    )
    assert "**How much of each paragraph the model says.** Exact match (tokens)" in captions
    assert "<script>" not in captions
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in captions


def test_a_figure_of_ones_own_is_written_with_the_houses(localize, run, tmp_path):
    own = FigureKind(
        "own", (("nll",),), "Mine", "What is mine.", lambda signature, seed: plots.recall(signature, seed=seed)
    )
    own.register()
    try:
        localize("figures", run, "--out", tmp_path, "--format", "none", "--width", "page")
    finally:
        own.unregister()
    captions = (tmp_path / "captions.md").read_text(encoding="utf-8")
    assert "## own\n\n**Mine.** What is mine.\n" in captions
    assert (tmp_path / "own.json").read_text() == (tmp_path / "recall.json").read_text()


def test_one_width_and_one_paragraph(localize, run, tmp_path):
    code, _, _ = localize(
        "figures", run, "--out", tmp_path, "--format", "none", "--width", "column", "--paragraph", "p3"
    )
    assert code == 0
    assert all("-column" in path.name for path in tmp_path.glob("*.json") if path.name != COMMAND_FILE)
    figure = json.loads((tmp_path / "patch_map-column.json").read_text())
    assert figure["layout"]["width"] == 350
    assert "Paragraph p3" in figure["layout"]["annotations"][0]["text"]


@pytest.mark.slow
def test_several_runs_have_a_folder_each(localize, run, tmp_path):
    code, _, _ = localize("figures", run, run, "--out", tmp_path, "--format", "none", "--width", "page")
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a run", "a run-2", COMMAND_FILE]
    assert (tmp_path / "a run-2" / "captions.md").is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--format", "eps"), "--format eps: not one of svg, pdf, png, none."),
        (("--format", "none", "--format", "svg"), "--format none: leaves no other format; give it alone."),
        (("--width", "wide"), "--width wide: not one of page, column."),
        (("--paragraph", "p99"), "plots.figures_of: no paragraph 'p99'; the ids are p0, p1, p2, ...."),
    ],
)
def test_bad_options_are_refused_in_a_line_and_nothing_is_written(localize, run, tmp_path, options, told):
    assert localize.refused("figures", run, "--out", tmp_path / "figs", *options) == told
    assert not (tmp_path / "figs").exists()


def test_a_folder_without_results_is_refused(localize, tmp_path):
    assert localize.refused("figures", tmp_path, "--out", tmp_path / "figs") == (
        f"{tmp_path}: holds neither signature.zarr.zip nor edits.json nor training.zarr.zip; "
        "a folder that `localize run`, `localize edit` or `localize train` wrote is needed."
    )


def test_without_kaleido_json_and_captions_are_written_and_a_line_tells_what_is_missing(
    localize, run, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    told = localize.refused("figures", run, "--out", tmp_path, "--width", "page")
    assert (
        told
        == 'plots.save: static images need kaleido: pip install "localize-memorization[figures]". The JSON was written.'
    )
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md"}
