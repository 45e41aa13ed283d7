"""What a number depends on is in the hash that it is found again by: change any one thing, and nothing is reused; nothing, and all is."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

import localize as lz
from localize import code
from localize.sweep import plan
from localize.sweep.dry_run import dry_run
from localize.train.texts import train_tokenizer

WORDS = "the cat sat on the mat, and the dog sat on the log; nobody saw them leave the old house by the river"
MEASURES = [{"measurement": "prefix_attention"}, {"measurement": "ablate", "options": {"layers": [0], "to": "zero"}}]


def text(seed):
    return " ".join(np.random.default_rng(seed).choice(WORDS.split(), 40))


def rewrite(path, change):
    """A file of JSON lines with something changed in its rows."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def measured(tmp_path_factory, make_model):
    """A folder with a model, its tokenizer and texts, the grid of both, and the sweep of it."""
    folder = tmp_path_factory.mktemp("reuse")
    model = make_model("gpt-neo", vocab_size=300)
    model.hf.save_pretrained(folder / "model")
    train_tokenizer([WORDS] * 5, 280).save_pretrained(folder / "model")
    rows = [{"text": text(i), "id": f"p{i}", "group": "ab"[i % 2], "duplicates": i} for i in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lz.run_sweep(grid_of(folder), folder / "s.zarr")
    return folder


def grid_of(folder):
    return {
        "model": [{"source": str(folder / "model"), "dtype": "float64"}],
        "paragraphs": [{"source": str(folder / "rows.jsonl"), "prefix": 12, "continuation": 8}],
        "measure": [dict(measure) for measure in MEASURES],
    }


def reused(folder, grid=None):
    """By cell, whether what is stored of it would be used again."""
    return {cell.measure: cell.missing == 0 for cell in dry_run(grid or grid_of(folder), folder / "s.zarr")}


@pytest.fixture
def folder(measured, tmp_path):
    """The same in a folder of the test's own, where nothing has changed."""
    return shutil.copytree(measured, tmp_path / "own")


def test_where_nothing_has_changed_all_is_used_again(folder):
    assert reused(folder) == {"recall": True, "prefix_attention": True, "ablate": True}
    for path in folder.rglob("*"):
        os.utime(path)
    lz.load_model(folder / "model", dtype="float32").hf.save_pretrained(folder / "model")  # as it was, written anew
    assert all(reused(folder).values())


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "transformer.h.1.attn.attention.q_proj.weight", "transformer.ln_f.bias"]
)
def test_another_weight_is_another_model(name, folder):
    hf = lz.load_model(folder / "model", dtype="float64").hf
    with torch.no_grad():
        hf.get_parameter(name).view(-1)[0] += 1e-12
    hf.save_pretrained(folder / "model")
    assert not any(reused(folder).values())


@pytest.mark.parametrize(
    ("field", "value"),
    [("layer_norm_epsilon", 1e-3), ("activation_function", "relu"), ("window_size", 5), ("num_heads", 2)],
)
def test_another_config_with_the_same_weights_is_another_model(field, value, folder):
    path = folder / "model" / "config.json"
    config = json.loads(path.read_text())
    assert config[field] != value
    path.write_text(json.dumps(config | {field: value}))
    assert not any(reused(folder).values())


ROWS = {
    "a word of a text": lambda rows: rows[3].update(text=rows[3]["text"].replace("the", "saw", 1)),
    "a text beyond its tokens": lambda rows: rows[3].update(text=rows[3]["text"] + " leave"),
    "an id": lambda rows: rows[3].update(id="other"),
    "a label": lambda rows: rows[3].update(group="b" if rows[3]["group"] == "a" else "a"),
    "a count of duplicates": lambda rows: rows[3].update(duplicates=77),
    "the order": lambda rows: rows.insert(0, rows.pop()),
    "a row less": lambda rows: rows.pop(),
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_other_paragraphs_are_another_set(change, folder):
    rewrite(folder / "rows.jsonl", change)
    assert not any(reused(folder).values())


def test_clusters_that_a_row_left_out_had_joined_are_part_of_the_set(folder):
    """Rows 0 and 2 are taken; each shares half with row 1, which is not: that makes them one cluster, until it goes."""
    halves = [" ".join(text(10 + i).split()[:9]) for i in range(4)]
    linked = [f"{halves[0]} {halves[1]}", f"{halves[1]} {halves[2]}", f"{halves[2]} {halves[3]}", text(20)]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"text": t * 2, "id": str(i)}) + "\n" for i, t in enumerate(linked))
    )
    grid = grid_of(folder)
    grid["paragraphs"][0] |= {"sample": 2, "prefix": 20, "continuation": 20}
    done = lz.run_sweep(grid, folder / "s.zarr")
    before = done.dataset(measure="prefix_attention")["cluster"].values.tolist()
    assert all(reused(folder, grid).values())
    rewrite(folder / "rows.jsonl", lambda rows: rows[1].update(text=text(30)))
    assert not any(reused(folder, grid).values())
    after = lz.run_sweep(grid, folder / "s.zarr").dataset(measure="prefix_attention")["cluster"].values.tolist()
    assert len(set(before)) == 1 and len(set(after)) == 2


def test_another_tokenizer_is_another_set(folder):
    train_tokenizer([WORDS[::-1]] * 5, 262).save_pretrained(folder / "model")
    assert not any(reused(folder).values())


GRID = {
    "dtype": lambda grid: grid["model"][0].update(dtype="float32"),
    "processing of the weights": lambda grid: grid["model"][0].update(weights="folded"),
    "prefix": lambda grid: grid["paragraphs"][0].update(prefix=11),
    "continuation": lambda grid: grid["paragraphs"][0].update(continuation=7),
    "limit": lambda grid: grid["paragraphs"][0].update(limit=5),
}


@pytest.mark.parametrize("change", GRID.values(), ids=GRID)
def test_what_a_grid_says_of_model_and_paragraphs_is_part_of_it(change, folder):
    grid = grid_of(folder)
    change(grid)
    assert not any(reused(folder, grid).values())


@pytest.mark.parametrize(
    ("option", "value"),
    [("layers", [1]), ("heads", [0]), ("to", "mean"), ("continuation", "true"), ("batch_size", 2)],
)
def test_another_option_is_measured_anew_and_what_does_not_have_it_is_not(option, value, folder):
    """The size of the batches too: it changes the rounding."""
    grid = grid_of(folder)
    grid["measure"][1]["options"] = grid["measure"][1]["options"] | {option: value}
    assert reused(folder, grid) == {"recall": True, "prefix_attention": True, "ablate": False}


def test_the_counts_of_tokens_beside_a_model_are_part_of_all_but_recall(folder):
    counts = folder / "model" / "unigram_counts.npy"
    np.save(counts, np.arange(300))
    assert reused(folder) == {"recall": True, "prefix_attention": False, "ablate": False}
    lz.run_sweep(grid_of(folder), folder / "s.zarr")
    assert all(reused(folder).values())
    np.save(counts, np.arange(1, 301))
    assert reused(folder) == {"recall": True, "prefix_attention": False, "ablate": False}


def test_other_code_of_recall_is_measured_anew_and_so_is_all_that_stands_on_it(folder, monkeypatch):
    known = plan.code_of
    monkeypatch.setattr(plan, "code_of", lambda call: known(call)[::-1])
    assert not any(reused(folder).values())


def test_other_bins_of_exact_match_are_another_set(folder):
    grid = grid_of(folder)
    grid["paragraphs"][0]["em_bins"] = [(0, 3), (4, 8)]
    lz.run_sweep(grid, folder / "s.zarr")
    assert all(reused(folder, grid).values())
    grid["paragraphs"][0]["em_bins"] = [(0, 4), (5, 8)]
    assert not any(reused(folder, grid).values())


def test_a_reworded_analysis_measures_nothing_again_and_a_changed_kernel_does(folder, monkeypatch):
    house = folder / "localize"
    shutil.copytree(code.HOUSE, house, ignore=shutil.ignore_patterns("__pycache__", "data", "*.js"))
    monkeypatch.setattr(code, "HOUSE", house)

    def reused_after(file, old, new):
        text = (house / file).read_text(encoding="utf-8")
        assert old in text
        (house / file).write_text(text.replace(old, new), encoding="utf-8")
        code.code_hash.cache_clear()
        code._read.cache_clear()
        return reused(folder)

    try:
        assert all(reused_after("analysis/causal.py", "removal agrees", "removal says so").values())
        assert reused_after("measure/ablate.py", "means[some] - z[:, :, some]", "z[:, :, some] - means[some]") == {
            "recall": True, "prefix_attention": True, "ablate": False,
        }  # fmt: skip
    finally:
        monkeypatch.undo()
        code.code_hash.cache_clear()
        code._read.cache_clear()
