"""`localize report`: the file it writes, and what it refuses in one line."""

import pytest

import localize as lz
from localize.claims import COMMAND_FILE
from localize.report.folder import SIGNATURE_FILE
from localize.storage import write_json


@pytest.fixture
def ran(checkpoint, good, tmp_path):
    model = lz.load_model(str(checkpoint))
    signature = lz.recall(model, lz.load_paragraphs(good, model, prefix_length=20, continuation_length=12))
    for name in ("one", "two"):
        signature.save(tmp_path / name / SIGNATURE_FILE)
        write_json(tmp_path / name / COMMAND_FILE, {"command": f"localize run --out {name} '<script>'"})
    return tmp_path


def test_one_file_is_written_into_the_first_folder_or_where_asked(localize, ran):
    code, stdout, stderr = localize("report", ran / "one")
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"Wrote {ran / 'one' / 'report.html'} (1.")
    assert stdout.endswith(" MB); it opens in a browser, without a network.\n")
    page = (ran / "one" / "report.html").read_text(encoding="utf-8")
    assert "localize run --out one &#39;&lt;script&gt;&#39;" in page
    assert f"localize report {ran / 'one'}" in page
    code, _, _ = localize(
        "report", ran / "one", ran / "two" / SIGNATURE_FILE, "--out", ran / "new" / "both.html", "--title", "A & B", "--max-paragraphs", 8
    )  # fmt: skip
    page = (ran / "new" / "both.html").read_text(encoding="utf-8")
    assert code == 0
    assert "<h1>A &amp; B</h1>" in page
    assert "4 of 12 paragraphs are shown here" in page


def test_what_it_cannot_read_or_write_is_told_in_one_line(localize, ran):
    (ran / "empty").mkdir()
    (ran / "half").mkdir()
    (ran / "half" / SIGNATURE_FILE).write_bytes((ran / "one" / SIGNATURE_FILE).read_bytes()[:500])
    needed = "a folder that `localize run`, `localize edit` or `localize train` wrote is needed."
    refused = localize.refused
    assert (
        refused("report", ran / "no")
        == f"{ran / 'no'}: no such folder; one that `localize run` or `localize edit` wrote is needed."
    )
    assert (
        refused("report", ran / "one", ran / "empty")
        == f"{ran / 'empty'}: holds neither signature.zarr.zip nor edits.json nor training.zarr.zip; {needed}"
    )
    assert str(ran / "half" / SIGNATURE_FILE) in refused("report", ran / "half")
    assert refused("report", ran / "one", ran / "two", "--max-paragraphs", 1) == (
        "--max-paragraphs 1: must be at least 2, one for each of the runs."
    )
    assert (
        refused("report", ran / "one", "--out", ran / "two")
        == f"--out {ran / 'two'}: is a folder; the name of a file is needed."
    )
    file = ran / "one" / SIGNATURE_FILE
    assert (
        refused("report", ran / "one", "--out", file / "x.html")
        == f"--out {file / 'x.html'}: {file} is a file; a folder is needed."
    )
    assert not list(ran.rglob("*.html"))
