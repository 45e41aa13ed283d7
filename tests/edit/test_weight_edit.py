"""An edit does what it says, is taken back to the bit, survives a file, and becomes a checkpoint whole or not at all."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

import localize as lz
from localize.edit.masks import WeightMask, choose_weights
from localize.edit.weight_edit import HEADER, WeightEdit, _digest, load_edit
from localize.models.folding import folded
from localize.resources import embedded

PLACES = {(0, "W_Q"): [0, 33, 1023], (2, "W_in"): [5, 4095], (2, "W_O"): [31, 32]}
"""Corners among them; (2, W_O) is written back as it was, so that two matrices of three change."""
CALL = {"measurement": "unlearn", "steps": 3, "forget": ["ab", "cd"], "log": [{"step": 0, "forget_loss": 0.125}]}
OTHERS_DIFFER = (
    "{}: {} has the edited weights as they were before, but other weights, its settings or the hooks on it differ from the model that "
    "the edit was made of; it applies to "
    "that one alone."
)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def mask_of(model, places):
    indices = {cell: torch.tensor(chosen) for cell, chosen in places.items()}
    shapes = {cell: tuple(model.weight(*cell).shape) for cell in places}
    return WeightMask(indices, shapes, model.weights_hash())


def edit_of(model, places=PLACES, kept=((2, "W_O"),), call=CALL):
    """Each chosen weight w becomes 1 - 2 w, but for those kept."""
    mask = mask_of(model, places)
    before = {cell: model.weight(*cell).flatten()[chosen] for cell, chosen in mask.indices.items()}
    after = {cell: values.clone() if cell in kept else 1 - 2 * values for cell, values in before.items()}
    return WeightEdit.of(mask, before, after, call)


def edited_by_hand(model, places=PLACES, kept=((2, "W_O"),)):
    """A copy in which the same is done weight by weight."""
    model = model.copied()
    for cell, chosen in places.items():
        matrix = model.weight(*cell)
        for place in chosen if cell not in kept else ():
            row, column = place // matrix.shape[1], place % matrix.shape[1]
            matrix[row, column] = 1 - 2 * matrix[row, column]
    return model


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def bits(values):
    return values.contiguous().view(torch.uint8).tolist()


def refusal(call, error=lz.LocalizeError):
    """The one line of an error."""
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What an edit is


def test_an_edit_holds_what_changed_to_the_bit():
    nan, other_nan = math.nan, torch.tensor([0x7FF8000000000001]).view(torch.float64).item()
    mask = WeightMask(
        {(0, "W_Q"): torch.tensor([2, 3, 5, 7, 11, 13]), (0, "W_K"): torch.tensor([1])},
        {(0, "W_Q"): (4, 4), (0, "W_K"): (4, 4), (1, "W_Q"): (4, 4)},
        "hash",
    )
    before = {
        (0, "W_Q"): doubles(0.0, nan, 1.0, 2.0, nan, -1.0),
        (0, "W_K"): doubles(7.0),
    }
    after = {(0, "W_Q"): doubles(-0.0, nan, 1.0, 3.0, 0.0, -1.0), (0, "W_K"): before[0, "W_K"].clone()}
    after[0, "W_Q"][5] = other_nan
    edit = WeightEdit.of(mask, before, after, CALL)
    assert {cell: places.tolist() for cell, places in edit.indices.items()} == {(0, "W_Q"): [2, 7, 11, 13]}
    assert bits(edit.before[0, "W_Q"]) == bits(doubles(0.0, 2.0, nan, -1.0))
    assert bits(edit.after[0, "W_Q"]) == bits(doubles(-0.0, 3.0, 0.0, other_nan))
    assert (edit.shapes, edit.weights_hash, edit.call) == (mask.shapes, "hash", CALL)
    assert (len(edit), edit.total, edit.dtype) == (4, 48, torch.float64)


def test_an_edit_does_not_follow_the_arrays_it_was_made_of(neo):
    mask = mask_of(neo, PLACES)
    before = {cell: neo.weight(*cell).flatten()[chosen] for cell, chosen in mask.indices.items()}
    after = {cell: values + 1 for cell, values in before.items()}
    call = {"measurement": "unlearn", "log": [1]}
    edit = WeightEdit.of(mask, before, after, call)
    for values in after.values():
        values.zero_()
    call["log"].append(2)
    assert all(bool((values != 0).all()) for values in edit.after.values())
    assert edit.call["log"] == [1]


def test_an_edit_tells_its_size(neo):
    assert repr(edit_of(neo)) == "WeightEdit(unlearn: 5 of 6,144 weights, 0.081%, in 2 of 3 matrices)"


def test_an_edit_that_changes_nothing_is_none(neo):
    assert refusal(lambda: edit_of(neo, kept=PLACES)) == "unlearn: none of the 7 weights changed; there is no edit."


@pytest.mark.parametrize("lacking", ["before", "after"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda side: side.pop((0, "W_Q")),
        lambda side: side.update({(0, "W_Q"): torch.ones(2)}),
        lambda side: side.update({(0, "W_Q"): torch.zeros(3).double()}),
    ],
)
def test_every_weight_of_the_mask_needs_both_values(neo, lacking, cut):
    sides = {side: {cell: torch.ones(len(places)) for cell, places in PLACES.items()} for side in ("before", "after")}
    cut(sides[lacking])
    assert (
        refusal(lambda: WeightEdit.of(mask_of(neo, PLACES), **sides, call=CALL))
        == "edit: layer 0 W_Q: a value before and one after, of one dtype, are needed for each of 3 weights."
    )


CELL, OTHER = (0, "W_Q"), (1, "W_Q")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"places": (), "before": (), "after": ()}, "no weight changes; at least one must."),
        ({"before": (1.0,)}, "layer 0 W_Q has 2 places, 1 values before and 2 after; one each is needed."),
        ({"after": (1.0,)}, "layer 0 W_Q has 2 places, 2 values before and 1 after; one each is needed."),
        ({"places": (2, 1)}, "places in layer 0 W_Q must ascend, each once, but 1 follows 2."),
        ({"places": (2, 2)}, "places in layer 0 W_Q must ascend, each once, but 2 follows 2."),
        ({"places": (-1, 2)}, "place -1 in layer 0 W_Q must lie in 0..5."),
        ({"places": (1, 6)}, "place 6 in layer 0 W_Q must lie in 0..5."),
        ({"shapes": {OTHER: (2, 3)}}, "layer 0 W_Q has places, but no shape."),
        (
            {"shapes": {CELL: (2, 3), (0, "W_E"): (2, 3)}},
            "component='W_E' is not one of W_Q, W_K, W_V, W_O, W_in, W_out.",
        ),
        ({"cell_after": OTHER}, "indices, before and after must be of the same layers and components."),
        ({"after": (3.0, 2.0)}, "layer 0 W_Q (1, 2) is the same before and after; it must change."),
        ({"call": {}}, "call['measurement'] must be the name of what made the edit."),
        ({"call": {"measurement": 3}}, "call['measurement'] must be the name of what made the edit."),
        (
            {"call": {"measurement": "x", "log": {1, 2}}},
            "call cannot be written as JSON (Object of type set is not JSON serializable).",
        ),
    ],
)
def test_what_does_not_hang_together_is_no_edit(changes, message):
    def build(places=(1, 5), before=(1.0, 2.0), after=(3.0, 4.0), shapes=None, call=CALL, cell_after=CELL):
        places = torch.tensor(places, dtype=torch.int64)
        values = {CELL: doubles(*before)}, {cell_after: doubles(*after)}
        return WeightEdit({CELL: places}, *values, shapes or {CELL: (2, 3)}, "hash", call)

    assert len(build()) == 2
    assert refusal(lambda: build(**changes)) == f"edit: {message}"


def test_values_of_two_dtypes_are_no_edit():
    def build():
        WeightEdit({CELL: torch.tensor([1])}, {CELL: torch.ones(1)}, {CELL: doubles(2.0)}, {CELL: (2, 2)}, "hash", CALL)

    assert refusal(build) == "edit: values are torch.float32 and torch.float64; those of one model have one dtype."


# Applying and undoing


def test_applying_changes_these_weights_and_no_other(model):
    expected = edited_by_hand(model).hf.state_dict()
    edit_of(model).apply(model)
    found = model.hf.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_undoing_restores_every_bit_in_every_dtype(make_model, family, dtype):
    model = make_model(family, dtype=dtype)
    matrix = model.weight(1, "W_V")
    matrix[0, :4] = torch.tensor([0.0, -0.0, math.nan, math.inf]).to(dtype)
    before = model.weights_hash()
    edit = edit_of(model, {(1, "W_V"): [0, 1, 3, 40], (0, "W_out"): [17]}, kept=())
    edit.apply(model)
    assert model.weights_hash() != before
    edit.undo(model)
    assert model.weights_hash() == before


def test_an_edit_of_zeros_signs_is_applied_and_undone(neo):
    matrix = neo.weight(0, "W_V")
    matrix[0, :2] = torch.tensor([0.0, -0.0]).double()
    mask = mask_of(neo, {(0, "W_V"): [0, 1]})
    edit = WeightEdit.of(mask, {(0, "W_V"): matrix[0, :2].clone()}, {(0, "W_V"): -matrix[0, :2]}, CALL)
    with edit.applied(neo):
        assert torch.signbit(matrix[0, :2]).tolist() == [True, False]
    assert torch.signbit(matrix[0, :2]).tolist() == [False, True]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_raises_inside_leaves_the_model_as_it_was(model, error):
    before, edit, expected = model.weights_hash(), edit_of(model), edited_by_hand(model).weights_hash()

    def body():
        with edit.applied(model) as edited:
            assert edited is model
            assert model.weights_hash() == expected
            raise error

    with pytest.raises(error):
        body()
    assert model.weights_hash() == before


def test_edits_on_edits_come_off_in_reverse(model):
    first_hash = model.weights_hash()
    first = edit_of(model)
    first.apply(model)
    second = edit_of(model, {(0, "W_Q"): [33, 40]}, kept=())
    assert second.weights_hash == model.weights_hash() != first_hash
    second.apply(model)
    found, left = float(model.weight(0, "W_Q")[1, 1]), float(first.after[0, "W_Q"][1])
    both = model.weights_hash()
    assert refusal(lambda: first.undo(model)) == (
        f"undo: layer 0 W_Q (1, 1) is {found}, not {left} as after the edit; edits that lie on it must be undone first, the last one "
        "first."
    )
    assert model.weights_hash() == both
    second.undo(model)
    first.undo(model)
    assert model.weights_hash() == first_hash


def test_an_edit_is_applied_once_and_undone_once(neo):
    edit, before = edit_of(neo), neo.weights_hash()
    assert refusal(lambda: edit.undo(neo)) == "undo: the edit is not applied to small gpt-neo."
    edit.apply(neo)
    after = neo.weights_hash()
    assert refusal(lambda: edit.apply(neo)) == "apply: the edit is applied to small gpt-neo already."
    assert neo.weights_hash() == after != before


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda make: make("gpt-neo", attention_types=[[["global"], 2]], num_layers=2),
            "{}: the edit is of a model with a layer 2; small gpt-neo has 2.",
        ),
        (
            lambda make: make("gpt-neo", hidden_size=16),
            "{}: the edit is of a model whose layer 0 W_Q is (32, 32); that of small gpt-neo is (16, 16).",
        ),
        (
            lambda make: make("gpt-neo", intermediate_size=64),
            "{}: the edit is of a model whose layer 2 W_in is (32, 128); that of small gpt-neo is (32, 64).",
        ),
        (
            lambda make: make("gpt-neo", dtype=torch.float32),
            "{}: the edit is of torch.float64 weights; those of small gpt-neo are torch.float32.",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["apply", "undo"])
def test_another_architecture_is_told_and_not_touched(make_model, neo, build, message, verb):
    edit, other = edit_of(neo), build(make_model)
    before = other.weights_hash()
    assert refusal(lambda: getattr(edit, verb)(other)) == message.format(verb)
    assert other.weights_hash() == before


def test_other_weights_of_the_same_shape_are_told_and_not_touched(make_model, family):
    model, other = make_model(family), make_model(family, seed=1)
    edit, before = edit_of(model), other.weights_hash()
    found, made_of = float(other.weight(0, "W_Q")[0, 0]), float(model.weight(0, "W_Q")[0, 0])
    assert refusal(lambda: edit.apply(other)) == (
        f"apply: layer 0 W_Q (0, 0) is {found}, not {made_of} as before the edit; it was made of other weights than those of "
        f"small {family}."
    )
    assert other.weights_hash() == before


def test_the_first_weight_that_differs_is_named(neo):
    edit, matrix = edit_of(neo), neo.weight(2, "W_in")
    matrix[31, 127] = 0.5
    assert (
        refusal(lambda: edit.apply(neo))
        == f"apply: layer 2 W_in (31, 127) is 0.5, not {float(edit.before[2, 'W_in'][1])} as before the edit; it was made of other "
        "weights than those of small gpt-neo."
    )


def test_a_weight_beside_the_edited_ones_counts_too(neo):
    edit = edit_of(neo)
    neo.hf.transformer.wte.weight.data[3, 1] += 1
    before = neo.weights_hash()
    assert refusal(lambda: edit.apply(neo)) == OTHERS_DIFFER.format("apply", neo.name)
    assert neo.weights_hash() == before


def test_a_write_that_is_broken_off_leaves_the_old_weights(neo, monkeypatch):
    edit, before, whole = edit_of(neo), neo.weights_hash(), WeightEdit._put

    def half(self, model, values):
        monkeypatch.setattr(WeightEdit, "_put", whole)
        whole(self, model, {(0, "W_Q"): values[0, "W_Q"]})
        raise KeyboardInterrupt

    monkeypatch.setattr(WeightEdit, "_put", half)
    with pytest.raises(KeyboardInterrupt):
        edit.apply(neo)
    assert neo.weights_hash() == before


# Files


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_saved_edit_is_the_same_edit(make_model, family, dtype, tmp_path):
    model = make_model(family, dtype=dtype)
    model.weight(0, "W_Q")[0, 0] = math.nan
    edit = edit_of(model, {**PLACES, (0, "W_Q"): [33, 1023]}, call=CALL | {"options": {"λ": (1, 2.5, None)}})
    edit.save(tmp_path / "edit.safetensors")
    loaded = load_edit(str(tmp_path / "edit.safetensors"))
    for side in ("indices", "before", "after"):
        saved, read = getattr(edit, side), getattr(loaded, side)
        assert saved.keys() == read.keys()
        assert all(saved[cell].dtype == read[cell].dtype and bits(saved[cell]) == bits(read[cell]) for cell in saved)
    assert (loaded.shapes, loaded.weights_hash, loaded.call) == (edit.shapes, edit.weights_hash, edit.call)
    assert repr(loaded) == repr(edit)
    with edit.applied(model):
        expected = model.weights_hash()
    with loaded.applied(model):
        assert model.weights_hash() == expected


def test_one_edit_makes_one_file(neo, tmp_path):
    edit = edit_of(neo)
    edit.save(tmp_path / "one.safetensors")
    edit.save(tmp_path / "two.safetensors")
    load_edit(tmp_path / "one.safetensors").save(tmp_path / "three.safetensors")
    assert len(set(contents(tmp_path).values())) == 1


def test_values_that_lie_apart_in_memory_are_saved_too(tmp_path):
    places = torch.tensor([[0, 7], [3, 7]])[:, 0]
    edit = WeightEdit({CELL: places}, {CELL: torch.ones(4)[::2]}, {CELL: torch.zeros(4)[::2]}, {CELL: (2, 2)}, "", CALL)
    edit.save(tmp_path / "edit.safetensors")
    assert load_edit(tmp_path / "edit.safetensors").indices[CELL].tolist() == [0, 3]


def test_a_save_that_breaks_off_leaves_the_old_file(neo, tmp_path, monkeypatch):
    edit_of(neo).save(tmp_path / "edit.safetensors")
    before = contents(tmp_path)

    def break_off(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", break_off)
    with pytest.raises(OSError, match="disk full"):
        edit_of(neo, kept=()).save(tmp_path / "edit.safetensors")
    assert contents(tmp_path) == before


def test_only_one_kind_of_file_is_written(neo, tmp_path):
    assert (
        refusal(lambda: edit_of(neo).save(tmp_path / "edit.pt"))
        == f"save: {tmp_path}/edit.pt must end in .safetensors."
    )
    assert contents(tmp_path) == {}


def test_what_is_no_edit_is_told(neo, tmp_path):
    path = tmp_path / "edit.safetensors"
    said = lambda: refusal(lambda: load_edit(path), lz.InputError).removeprefix(f"edit {path}: ")  # noqa: E731
    assert said() == "no such file."
    path.mkdir()
    assert said() == "no such file."
    path.rmdir()
    none = "a .safetensors file, but none that an edit was saved to."
    for metadata in (None, {"format": "pt"}, {HEADER: "[]"}, {HEADER: "{}"}, {HEADER: "null"}):
        safetensors.torch.save_file({"x": torch.ones(2)}, path, metadata=metadata)
        assert said() == none
    safetensors.torch.save_file({"x": torch.ones(2)}, path, metadata={HEADER: json.dumps({"format": 2})})
    assert said() == "written in format 2 by a newer version; this one reads 1."
    safetensors.torch.save_file({"x": torch.ones(2)}, path, metadata={HEADER: json.dumps({"format": 1})})
    assert said() == "damaged; its digest is another."
    path.write_text("just some words, long enough for a header")
    assert said().startswith("not a readable .safetensors file (")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda about, tensors: about.pop("weights_hash"), "'weights_hash'"),
        (
            lambda about, tensors: about.update(shapes=[[0, "W_Q", 32]]),
            "not enough values to unpack (expected 4, got 3)",
        ),
        (lambda about, tensors: about.update(shapes=7), "'int' object is not iterable"),
        (
            lambda about, tensors: tensors.pop("after.0.W_Q"),
            "edit: indices, before and after must be of the same layers and components.",
        ),
        (
            lambda about, tensors: tensors["indices.0.W_Q"].zero_(),
            "edit: places in layer 0 W_Q must ascend, each once, but 0 follows 0.",
        ),
    ],
)
def test_a_file_that_does_not_hang_together_is_told(neo, tmp_path, change, reason):
    path = tmp_path / "edit.safetensors"
    edit_of(neo).save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[HEADER])
    tensors = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
    del about["digest"]
    change(about, tensors)
    header = json.dumps(about | {"digest": _digest(about, tensors)})
    safetensors.torch.save_file(tensors, path, metadata={HEADER: header})
    assert refusal(lambda: load_edit(path), lz.InputError) == f"edit {path}: damaged ({reason})."


def test_no_damaged_file_is_read(neo, tmp_path):
    path = tmp_path / "edit.safetensors"
    edit_of(neo).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        assert refusal(lambda: load_edit(path), lz.InputError).startswith(
            f"edit {path}: not a readable .safetensors file ("
        )
    for place in [*range(0, 24), *range(24, len(whole), 7)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        assert refusal(lambda: load_edit(path), lz.InputError).startswith(f"edit {path}: ")


def test_values_read_in_another_dtype_are_damage(make_model, tmp_path):
    path = tmp_path / "edit.safetensors"
    edit_of(make_model("gpt2", dtype=torch.bfloat16)).save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    halves = {name: t.view(torch.float16) if t.dtype == torch.bfloat16 else t for name, t in tensors.items()}
    safetensors.torch.save_file(halves, path, metadata=metadata)
    assert refusal(lambda: load_edit(path), lz.InputError) == f"edit {path}: damaged; its digest is another."


def test_a_loaded_edit_does_not_follow_its_file(neo, tmp_path):
    path = tmp_path / "edit.safetensors"
    edit = edit_of(neo)
    edit.save(path)
    loaded = load_edit(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(loaded.after[cell], values) for cell, values in edit.after.items())


# Checkpoints


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_an_exported_model_computes_the_same_to_the_bit(make_model, family, dtype, tokens, tokenizer, tmp_path):
    model = make_model(family, tokenizer, dtype=getattr(torch, dtype), vocab_size=len(tokenizer))
    model.unigram_counts = torch.arange(len(tokenizer)) * 2**28  # past 32 bits
    edit, before = edit_of(model), model.weights_hash()
    edit.export(model, tmp_path / "new" / "edited")
    assert model.weights_hash() == before
    loaded = lz.load_model(tmp_path / "new" / "edited", dtype=dtype)
    with edit.applied(model):
        assert loaded.weights_hash() == model.weights_hash()
        assert torch.equal(loaded(tokens), model(tokens))
    assert torch.equal(loaded.unigram_counts, model.unigram_counts)
    assert loaded.tokenizer("the dog sat").input_ids == tokenizer("the dog sat").input_ids
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["edited"]


def test_a_model_without_tokenizer_and_counts_is_exported_without_and_all_may_read_it(neo, tmp_path):
    (tmp_path / "edited").mkdir()
    (tmp_path / "link").symlink_to("edited")
    private = os.umask(0o077)
    try:
        edit_of(neo).export(neo, tmp_path / "link")
    finally:
        os.umask(private)
    assert sorted(contents(tmp_path / "edited")) == ["config.json", "generation_config.json", "model.safetensors"]
    assert (tmp_path / "edited").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "edited").iterdir()} == {0o644}


def test_an_empty_folder_that_is_called_as_the_model_is_free(neo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    neo.name = "gpt2"
    (tmp_path / "gpt2").mkdir()
    edit_of(neo).export(neo, "gpt2")
    assert (tmp_path / "gpt2" / "model.safetensors").is_file()


def test_an_edited_model_is_exported_as_it_is_and_stays_edited(model, tmp_path):
    edit = edit_of(model)
    edit.export(model, tmp_path / "one")
    edit.apply(model)
    edited = model.weights_hash()
    edit.export(model, tmp_path / "two")
    assert model.weights_hash() == edited
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    model.hf.transformer.wte.weight.data[3, 1] += 1
    changed = model.weights_hash()
    assert refusal(lambda: edit.export(model, tmp_path / "three")) == OTHERS_DIFFER.format("export", model.name)
    assert model.weights_hash() == changed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_an_export_overwrites_nothing(neo, tmp_path):
    neo.hf.save_pretrained(tmp_path / "own")
    model = lz.load_model(tmp_path / "own", dtype="float64")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    before, edit = contents(tmp_path), edit_of(model)
    said = {
        name: refusal(lambda name=name: edit.export(model, tmp_path / name))
        for name in ("own", "link", "own/edited", "full", "full/thesis.txt")
    }
    itself = "export: {0}/{1} is in the folder of {0}/own itself, which stays as it is; give a new one."
    taken = "export: {0}/{1} exists and is not an empty folder; a checkpoint is written to a new one."
    assert said == {
        "own": itself.format(tmp_path, "own"),
        "link": itself.format(tmp_path, "link"),
        "own/edited": itself.format(tmp_path, "own/edited"),
        "full": taken.format(tmp_path, "full"),
        "full/thesis.txt": taken.format(tmp_path, "full/thesis.txt"),
    }
    assert contents(tmp_path) == before


def test_the_embedded_models_folder_is_not_written_to(neo):
    neo.name, inside = "embedded", embedded("model") / "edited"
    assert (
        refusal(lambda: edit_of(neo).export(neo, inside))
        == f"export: {inside} is in the folder of embedded itself, which stays as it is; give a new one."
    )


def test_an_edit_is_not_exported_with_another_model(make_model, neo, tmp_path):
    other = make_model("gpt-neo", hidden_size=16)
    assert refusal(lambda: edit_of(neo).export(other, tmp_path / "edited")) == (
        "export: the edit is of a model whose layer 0 W_Q is (32, 32); that of small gpt-neo is (16, 16)."
    )
    assert list(tmp_path.iterdir()) == []


def test_folded_weights_have_no_place_in_a_checkpoint(model, tmp_path):
    processed = folded(model)
    edit = edit_of(processed)
    assert refusal(lambda: edit.export(processed, tmp_path / "edited")) == (
        f"export: small {model.family} has folded weights, and a checkpoint has no place for their biases; edit the raw model."
    )
    processed.hf.save_pretrained(tmp_path / "anyway")  # what the refusal says is so
    with pytest.raises(lz.ModelError, match="the checkpoint is of a folded model"):
        lz.load_model(tmp_path / "anyway", dtype="float64")


@pytest.mark.parametrize("where", ["save_pretrained", "replace"])
def test_an_export_that_breaks_off_leaves_nothing_behind(neo, tmp_path, monkeypatch, where):
    neo.hf.save_pretrained(tmp_path / "own")
    model = lz.load_model(tmp_path / "own", dtype="float64")
    (tmp_path / "edited").mkdir()
    edit, before, weights = edit_of(model), contents(tmp_path), model.weights_hash()
    save = model.hf.save_pretrained

    def break_off(*places):
        if where == "save_pretrained":
            save(places[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(*((model.hf, where) if where == "save_pretrained" else (os, where)), break_off)
    with pytest.raises(KeyboardInterrupt):
        edit.export(model, tmp_path / "edited")
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edited", "own"]
    assert model.weights_hash() == weights


KILLED = """
import os, sys
import localize as lz
from localize.edit import weight_edit
model = lz.load_model(sys.argv[1], dtype="float64")
model.hf.save_pretrained = lambda folder: (type(model.hf).save_pretrained(model.hf, folder), os._exit(9))
weight_edit.load_edit(sys.argv[2]).export(model, sys.argv[3])
"""


def test_a_process_killed_while_exporting_leaves_both_folders_as_they_were(neo, tmp_path):
    neo.hf.save_pretrained(tmp_path / "models" / "own")
    edit_of(neo).save(tmp_path / "edit.safetensors")
    before = contents(tmp_path / "models")
    places = [str(tmp_path / name) for name in ("models/own", "edit.safetensors", "exported/edited")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *places], cwd=Path(lz.__file__).parents[1], capture_output=True
    )
    assert done.returncode == 9, done.stderr
    assert contents(tmp_path / "models") == before
    assert not (tmp_path / "exported" / "edited").exists()
    assert any(name.endswith("model.safetensors") for name in contents(tmp_path / "exported"))  # it got that far


def test_all_weights_of_a_model_make_an_edit(model):
    mask = choose_weights(model)
    before = {cell: model.weight(*cell).flatten() for cell in mask.indices}
    edit = WeightEdit.of(mask, before, {cell: torch.zeros_like(values) for cell, values in before.items()}, CALL)
    with edit.applied(model):
        assert all(not model.weight(*cell).any() for cell in mask.shapes)
        assert bool(model.hf.transformer.wte.weight.any())
    assert len(edit) == edit.total == mask.total
