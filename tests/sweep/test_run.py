"""What a sweep holds is what the same calls give; what is there is not measured again, and nothing else is taken for it."""

import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import localize as lz
from localize import code
from localize.errors import InputError, LocalizeError
from localize.sweep.bench import Bench
from localize.sweep.dry_run import dry_run


@pytest.fixture
def measured(monkeypatch):
    """The units that were measured, as they are named."""
    words, measure = [], Bench.measure

    def counted(bench, unit):
        words.append(unit.words)
        return measure(bench, unit)

    monkeypatch.setattr(Bench, "measure", counted)
    return words


def test_every_cell_holds_what_the_same_call_gives(grid, files, measured):
    done = lz.run_sweep(grid, files / "s.zarr")
    assert len(measured) == 2 * (1 + 2 + 2)
    assert (done.cells()["status"] == "finished").all()
    for name in ("deep", "flat"):
        model = lz.load_model(files / name, dtype="float64")
        paragraphs = lz.load_paragraphs(files / "rows.npy", prefix_length=30, continuation_length=20)
        alone = lz.gradients(model, paragraphs, sets=False)
        found = done.signature(name, measures=["gradients"])
        for variable in alone.variables:
            np.testing.assert_allclose(found[variable], alone[variable], rtol=1e-10, err_msg=variable)
        for coordinate in ("paragraph", "group", "cluster", "tokens", "layer"):
            assert np.array_equal(found.dataset[coordinate], alone.dataset[coordinate]), coordinate
        for layer in (0, 1):
            expected = lz.ablate(model, paragraphs, layers=layer)
            part = done.dataset(name, measure=f"ablate, layers={layer}")
            assert np.array_equal(part["ablated_nll"], expected["ablated_nll"], equal_nan=True)
            assert part.attrs["model"]["weights_hash"] == expected.dataset.attrs["model"]["weights_hash"]


def test_the_same_again_measures_nothing_and_a_changed_option_only_what_it_changes(grid, files, measured):
    first = lz.run_sweep(grid, files / "s.zarr").signature("flat", measures=["gradients"])
    measured.clear()
    lz.run_sweep(grid, files / "s.zarr")
    assert measured == []
    grid["measure"][0]["options"]["statistics"] = "norm"
    again = lz.run_sweep(grid, files / "s.zarr")
    assert [words.split(" / ")[2].split(",")[0] for words in measured] == ["gradients"] * 4
    assert "gradient_max" in first and "gradient_max" not in again.signature("flat", measures=["gradients"])
    assert set(again.cells()["status"]) == {"finished"}


def test_with_another_block_a_measurement_is_done_anew_and_finished(grid, files):
    grid["measure"] = [{"measurement": "prefix_attention"}]
    whole = lz.run_sweep(grid, files / "s.zarr")["prefix_attention"].load()
    grid["measure"] = [{"measurement": "prefix_attention", "block": 4}]  # the last one has 2
    done = lz.run_sweep(grid, files / "s.zarr")
    assert set(done.cells()["status"]) == {"finished"}
    np.testing.assert_allclose(done["prefix_attention"], whole, rtol=1e-9)


def test_with_another_block_recall_too_is_done_anew_and_finished(grid, files):
    grid["model"], grid["measure"] = grid["model"][:1], [{"measurement": "recall"}]
    whole = lz.run_sweep(grid, files / "s.zarr")["nll"].load()
    grid["measure"] = [{"measurement": "recall", "block": 4}]
    done = lz.run_sweep(grid, files / "s.zarr")
    assert done.cells()[["status", "done", "of"]].values.tolist() == [["finished", 6, 6]]
    np.testing.assert_allclose(done["nll"], whole, rtol=1e-9)
    assert dry_run(grid, files / "s.zarr")[0].missing == 0


@pytest.mark.parametrize("what", ["weights", "paragraphs", "code"])
def test_other_weights_paragraphs_or_code_are_measured_anew(what, grid, files, measured, monkeypatch):
    lz.run_sweep(grid, files / "s.zarr")
    measured.clear()
    if what == "weights":
        model = lz.load_model(files / "flat", dtype="float64")
        with torch.no_grad():
            model.hf.transformer.ln_f.bias[0] += 1e-9
        model.hf.save_pretrained(files / "flat")
    elif what == "paragraphs":
        rows = np.load(files / "rows.npy")
        rows[2, 40] += 1
        np.save(files / "rows.npy", rows)
    else:
        known = code.code_of
        for place in ("localize.sweep.bench.code_of", "localize.sweep.plan.code_of"):
            monkeypatch.setattr(place, lambda call: known(call)[::-1] if call.__name__ == "ablate" else known(call))
    lz.run_sweep(grid, files / "s.zarr")
    expected = {"weights": 5, "paragraphs": 10, "code": 4}[what]
    assert len(measured) == expected


def test_comments_and_docstrings_are_no_other_code(monkeypatch, tmp_path):
    package = tmp_path / "localize"
    (package / "measure").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "measure" / "__init__.py").write_text("")
    (package / "measure" / "other.py").write_text("A = 1\n")
    texts = [
        'from localize.measure.other import A\ndef f():\n    """Say."""\n    return A\n',
        'from localize.measure.other import A\n# why\ndef f():\n\n    """Say more."""\n    return (A)\n',
        "from localize.measure.other import A\ndef f():\n    return -A\n",
    ]
    monkeypatch.setattr(code, "HOUSE", package)

    def hashed(text, other="A = 1\n"):
        (package / "measure" / "one.py").write_text(text)
        (package / "measure" / "other.py").write_text(other)
        code.code_hash.cache_clear()
        code._read.cache_clear()
        return code.code_hash("localize.measure.one")

    try:
        assert hashed(texts[0]) == hashed(texts[1])
        assert hashed(texts[0]) != hashed(texts[2])
        assert hashed(texts[0]) != hashed(texts[0], "A = 2\n")
    finally:
        code.code_hash.cache_clear()
        code._read.cache_clear()


def test_the_code_of_a_measurement_is_all_that_it_imports():
    seen, waiting = set(), ["localize.measure.ablate"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += code._read(name)[1]
    assert {"localize.models.blocks", "localize.measure.scoring", "localize.paragraphs.clusters"} <= seen
    assert not any(
        name.startswith(("localize.plots", "localize.cli", "localize.report", "localize.sweep")) for name in seen
    )


def test_a_failed_cell_is_told_and_does_not_stop_the_others(grid, files, measured):
    grid["measure"].append({"measurement": "patch", "options": {"metrics": ["no such"]}})
    lines = []
    done = lz.run_sweep(grid, files / "s.zarr", on_line=lines.append)
    cells = done.cells().set_index(["model", "measure"])
    assert set(cells.loc[(slice(None), "patch"), "status"]) == {"failed"}
    assert set(cells.drop(index="patch", level=1)["status"]) == {"finished"}
    assert cells.loc[("deep", "patch"), "error"].startswith("InputError: patch: ")
    assert lines[0] == "0 of 12 units are there; 12 to do."
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        ["failed", f"{name} / rows / patch"] for name in ("deep", "flat")
    ]
    measured.clear()
    lz.run_sweep(grid, files / "s.zarr")
    assert measured == []
    lz.run_sweep(grid, files / "s.zarr", retry=True)
    assert measured == [f"{name} / rows / patch" for name in ("deep", "flat")]


def test_blocks_are_refused_where_paragraphs_are_not_measured_alone(grid, files):
    grid["measure"][0]["options"] = {}
    with pytest.raises(InputError) as error:
        lz.run_sweep(grid, files / "s.zarr")
    assert str(error.value) == (
        "grid: gradients of deep: block = 4, but a paragraph's numbers depend on the other paragraphs; blocks are allowed if: "
        "sets = false."
    )


def test_a_dry_run_writes_nothing_and_tells_what_is_missing(grid, files, measured):
    rows = dry_run(grid, files / "s.zarr")
    assert not (files / "s.zarr").exists() and measured == []
    assert [(r.model, r.measure, r.units, r.missing) for r in rows[:4]] == [
        ("deep", "recall", 1, 1), ("deep", "gradients", 2, 2), ("deep", "ablate, layers=0", 1, 1), ("deep", "ablate, layers=1", 1, 1),
    ]  # fmt: skip
    recall, gradients, low, high = rows[:4]
    assert recall.passes == 6 and gradients.passes == 18
    assert low.passes == 6 * (1 + 1 + 4) and high.passes == 6 * (
        1 + 1 + 3
    )  # resumed at its layer: 4 heads x 3/4 of a pass
    assert all(row.seconds > 0 and row.teraflop > 0 for row in rows)
    lz.run_sweep(grid, files / "s.zarr")
    assert [row.missing for row in dry_run(grid, files / "s.zarr")] == [0] * 8


def test_a_store_of_another_format_or_of_something_else_is_refused(grid, files):
    path = files / "s.zarr"
    lz.run_sweep(grid | {"measure": [{"measurement": "recall"}]}, path)
    mark = json.loads((path / "zarr.json").read_text())
    mark["attributes"]["localize_sweep"] = {"format": 99, "version": "9.9"}
    (path / "zarr.json").write_text(json.dumps(mark))
    for call in (lambda: lz.run_sweep(grid, path), lambda: lz.open_sweep(path)):
        with pytest.raises(LocalizeError) as error:
            call()
        assert str(error.value) == (
            f"sweep {path}: made by localize 9.9 in format 99; this version reads and writes format 1. Choose another --out, or read "
            "it with that version."
        )
    (files / "mine").mkdir()
    (files / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(LocalizeError, match="something else is there"):
        lz.run_sweep(grid, files / "mine")
    assert [p.name for p in (files / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(LocalizeError, match="no sweep is there"):
        lz.open_sweep(files / "nowhere.zarr")


def test_a_second_writer_is_refused_and_a_reader_is_not(grid, files):
    from localize.sweep.store import writing

    path = files / "s.zarr"
    lz.run_sweep(grid | {"measure": [{"measurement": "recall"}]}, path)
    with writing(path):
        with pytest.raises(LocalizeError, match="another process is writing to it"):
            lz.run_sweep(grid, path)
        assert set(lz.open_sweep(path).cells()["status"]) == {"finished"}


def test_an_object_store_holds_the_same_and_its_lease_is_given_back(grid, files):
    import fsspec

    from localize.sweep.store import writing

    url = "memory://bucket/s.zarr"
    grid["model"] = grid["model"][:1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*asynchronous.*")
        there, here = lz.run_sweep(grid, url), lz.run_sweep(grid, files / "s.zarr")
        assert fsspec.filesystem("memory").ls("/bucket", detail=False) == ["/bucket/s.zarr"]
        with writing(url), pytest.raises(LocalizeError, match="another process is writing to it"), writing(url):
            pass
        xr.testing.assert_identical(
            there.signature(measures=["gradients"]).dataset.drop_attrs(),
            here.signature(measures=["gradients"]).dataset.drop_attrs(),
        )


def test_a_lease_is_taken_over_once_it_is_stale_and_its_holder_then_writes_no_more(monkeypatch):
    import fsspec

    from localize.sweep import lease as module
    from localize.sweep.lease import Lease

    url, now = "memory://bucket/other.zarr", [1000.0]
    monkeypatch.setattr(module, "time", lambda: now[0])
    with Lease(url) as first:
        now[0] += module.STALE - 1
        with pytest.raises(LocalizeError, match="another process is writing to it"):
            Lease(url).__enter__()
        now[0] += 2
        with Lease(url) as second:
            second.check()
            with pytest.raises(LocalizeError, match="another process took over while this one stood still"):
                first.check()
        assert not fsspec.filesystem("memory").exists("/bucket/other.zarr.lease")
    with Lease(url) as third:
        now[0] += module.STALE
        third.check()
        assert json.loads(fsspec.filesystem("memory").cat_file("/bucket/other.zarr.lease"))["renewed"] == now[0]


def test_bad_arguments_are_told(grid, files):
    with pytest.raises(LocalizeError, match=r"^run_sweep: workers=0 must be at least 1\.$"):
        lz.run_sweep(grid, files / "s.zarr", workers=0)
    with pytest.raises(LocalizeError, match="both workers and scheduler are given"):
        lz.run_sweep(grid, files / "s.zarr", workers=1, scheduler="tcp://x:1")
    grid["model"][0]["source"] = str(files / "nowhere")
    with pytest.raises(lz.ModelError, match="no such folder"):
        lz.run_sweep(grid, files / "s.zarr")


def test_what_some_paragraphs_lack_is_missing_for_them_in_a_sweep_too(grid, files):
    rows = np.load(files / "rows.npy").tolist()
    labels = [{"group": "a", "count": 3}, {}, {"group": "b"}, {"count": 0}, {"group": "a", "count": 3}, {}]
    lines = [json.dumps({"tokens": row, **label}) for row, label in zip(rows, labels, strict=True)]
    (files / "rows.jsonl").write_text("\n".join(lines))
    grid["paragraphs"][0]["source"] = str(files / "rows.jsonl")
    done = lz.run_sweep(grid, files / "s.zarr")
    assert done.cells()["status"].unique().tolist() == ["finished"]
    dataset = done.dataset(*done.cells()[["model", "paragraphs", "measure"]].iloc[0])
    assert dataset["group"].values.astype(str).tolist() == ["a", "unlabelled", "b", "unlabelled", "a", "unlabelled"]
    assert np.array_equal(dataset["duplicates"].values, [3, np.nan, np.nan, 0, 3, np.nan], equal_nan=True)
    figure = lz.plots.sweep(done, "exact_match", against="duplicates")
    assert next(figure.select_xaxes()).ticktext == ("0", "3")
