"""A saved signature comes back to the bit; a killed save leaves the old file; a damaged file is told in one line."""

import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from localize.errors import SignatureError
from localize.signature import load_signature

HOSTILE = ("<script>alert(1)</script>", "quotes \" ' \\", "lines\nand\r\nmore", "emoji 👩‍👩‍👧 𝔘 日本語", "", "a\u2028b")


@pytest.fixture
def signature(make, layered):
    """Floats of both widths with gaps, integers, texts and coordinates of every kind."""
    count = len(HOSTILE)
    rng = np.random.default_rng(1)
    scores = rng.uniform(-1, 1, (count, 2, 2, 2)).astype(np.float32)
    scores[2, :, 1] = np.nan
    arrays = layered([1.0, 2 / 3], count) | {
        "rare_token_score": scores,
        "replacement": rng.integers(0, 50257, (count, 2, 6)),
    }
    return make(
        ["memorized", "not_memorized", "größer"] * 2,
        arrays,
        ids=[f"{i}{text}" for i, text in enumerate(HOSTILE)],
        cluster=[3, 1, 3, 0, 0, 2],
        text=list(HOSTILE),
        duplicates=[1, 2, 3, 40382, 5, 6],
        model={"name": HOSTILE[0], "revision": None},
        about={"source": HOSTILE[3], "skipped": list(HOSTILE)},
        call={"seed": 3, "share": 0.1, "nothing": None, "yes": True, "list": [1, "two"]},
    )


def told(path):
    with pytest.raises(SignatureError) as caught:
        load_signature(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def same_to_the_bit(one, other):
    a, b = one.dataset, other.dataset
    assert a.attrs == b.attrs
    assert set(a.variables) == set(b.variables)
    assert set(a.coords) == set(b.coords)
    for name, variable in a.variables.items():
        twin = b.variables[name]
        assert (variable.dims, variable.attrs) == (twin.dims, twin.attrs)
        assert variable.dtype == twin.dtype
        assert variable.values.tobytes() == twin.values.tobytes()
    return True


def test_what_is_loaded_is_what_was_saved_to_the_bit(signature, tmp_path):
    assert signature.save(tmp_path / "s.zarr.zip") is None
    assert same_to_the_bit(load_signature(tmp_path / "s.zarr.zip"), signature)
    assert same_to_the_bit(load_signature(str(tmp_path / "s.zarr.zip")), signature)


def test_what_is_loaded_is_frozen(signature, tmp_path):
    signature.save(tmp_path / "s.zarr.zip")
    loaded = load_signature(tmp_path / "s.zarr.zip")
    for name in ("nll", "group", "cluster", "text"):
        assert not loaded[name].values.flags.writeable


def test_variables_come_back_in_their_order(signature, tmp_path):
    signature.save(tmp_path / "s.zarr.zip")
    assert load_signature(tmp_path / "s.zarr.zip").variables == signature.variables


def test_a_measured_signature_comes_back_to_the_bit_and_joins(measured, parts, tmp_path):
    measured.save(tmp_path / "s.zarr.zip")
    loaded = load_signature(tmp_path / "s.zarr.zip")
    assert same_to_the_bit(loaded, measured)
    assert same_to_the_bit(loaded | measured, measured)
    assert same_to_the_bit(parts[0] | loaded | measured, measured)


def test_equal_signatures_give_equal_bytes(signature, tmp_path):
    one, other, again = (tmp_path / f"{name}.zarr.zip" for name in ("one", "other", "again"))
    signature.save(one)
    time.sleep(0.01)
    signature.save(other)
    load_signature(one).save(again)
    assert one.read_bytes() == other.read_bytes() == again.read_bytes()


def test_every_part_stands_in_the_file_once_and_nothing_is_pickled(signature, tmp_path):
    signature.save(tmp_path / "s.zarr.zip")
    with zipfile.ZipFile(tmp_path / "s.zarr.zip") as archive:
        names = archive.namelist()
        told_of = b"".join(archive.read(name) for name in names if name.endswith("zarr.json"))
    assert len(names) == len(set(names))
    assert b"pickle" not in told_of.lower()


def test_folders_are_made_and_the_suffix_is_needed(make, tmp_path):
    make(["a", "b"]).save(tmp_path / "new" / "er" / "s.zarr.zip")
    assert len(load_signature(tmp_path / "new" / "er" / "s.zarr.zip")) == 2
    for name in ("s.zarr", "s.zip", "s", "s.nc"):
        with pytest.raises(SignatureError) as caught:
            make(["a", "b"]).save(tmp_path / name)
        assert str(caught.value) == f"save: {tmp_path / name} must end in .zarr.zip."
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_a_text_that_no_file_can_hold_is_refused_in_one_line(make, tmp_path):
    with pytest.raises(SignatureError) as caught:
        make(["a", "b"], text=["half \ud83d", "x"]).save(tmp_path / "s.zarr.zip")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# A save that does not end.


def test_a_failed_save_leaves_the_old_file_and_nothing_else(make, tmp_path, monkeypatch):
    path = tmp_path / "s.zarr.zip"
    make(["a", "b"]).save(path)
    before = path.read_bytes()

    def refuse(*_):
        raise OSError("no space left")

    for module, name in ((os, "replace"), (zipfile.ZipFile, "writestr")):
        with monkeypatch.context() as broken:
            broken.setattr(module, name, refuse)
            with pytest.raises(OSError, match="no space left"):
                make(["c", "d", "e"]).save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["s.zarr.zip"]
    make(["c", "d", "e"]).save(path)
    assert load_signature(path).groups == ("c", "d", "e")


SAVING = """
import os, signal, sys, zipfile
from localize.signature import load_signature
folder, kill_after = sys.argv[1], int(sys.argv[2])
both = [load_signature(os.path.join(folder, name + ".zarr.zip")) for name in ("one", "other")]
written = 0
def count(self, *args, write=zipfile.ZipFile.writestr):
    global written
    written += 1
    if written == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *args)
zipfile.ZipFile.writestr = count
print("ready", flush=True)
while True:
    for signature in both:
        signature.save(os.path.join(folder, "target.zarr.zip"))
"""


def test_a_save_killed_at_any_moment_leaves_a_whole_file(make, layered, tmp_path):
    one, other = make(["a", "b"] * 40), make(["c", "d", "e"] * 40, layered([1.0, 2.0, 3.0], 120))
    one.save(tmp_path / "one.zarr.zip")
    with zipfile.ZipFile(tmp_path / "one.zarr.zip") as archive:
        entries = len(archive.namelist())
    whole = [make(["x"])]
    # In the middle of the second file, and twice at a moment that nobody chose.
    moments = [(entries + 5, None), (10_000, 0.2), (10_000, 0.45)]
    running = []
    for number, (kill_after, _) in enumerate(moments):
        folder = tmp_path / str(number)
        for name, signature in (("one", one), ("other", other), ("target", whole[0])):
            signature.save(folder / f"{name}.zarr.zip")
        running.append(
            subprocess.Popen([sys.executable, "-c", SAVING, folder, str(kill_after)], stdout=subprocess.PIPE, text=True)
        )
    for number, (process, (_, seconds)) in enumerate(zip(running, moments, strict=True)):
        assert process.stdout.readline() == "ready\n"
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        assert process.wait(timeout=300) == -signal.SIGKILL
        process.stdout.close()
        loaded = load_signature(tmp_path / str(number) / "target.zarr.zip")
        assert any(loaded.dataset.equals(s.dataset) for s in (one, other, *whole))


# What is no signature.


def test_a_missing_file_is_told(tmp_path):
    assert told(tmp_path / "no.zarr.zip") == f"signature {tmp_path / 'no.zarr.zip'}: no such file."
    assert told(tmp_path) == f"signature {tmp_path}: no such file."


def test_an_empty_file_and_a_file_that_is_no_archive_are_told(tmp_path):
    for name, content in (("empty.zarr.zip", b""), ("text.zarr.zip", b"not an archive"), ("picture.png", b"\x89PNG")):
        (tmp_path / name).write_bytes(content)
        assert (
            told(tmp_path / name) == f"signature {tmp_path / name}: not a readable .zarr.zip (File is not a zip file)."
        )


def test_an_archive_of_something_else_is_told(tmp_path):
    path = tmp_path / "s.zarr.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert told(path).startswith(f"signature {path}: not a readable .zarr.zip (")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", "{")
    assert told(path).startswith(f"signature {path}: not a readable .zarr.zip (")


def test_a_store_of_something_else_is_told(make_dataset, tmp_path):
    from localize.signature.storage import save

    path = tmp_path / "s.zarr.zip"
    save(make_dataset(["a"]).drop_vars("group"), path)
    assert told(path) == f"{path}: signature: no coordinate 'group' along the paragraphs."
    save(make_dataset(["a"]).rename(nll="loudness"), path)
    assert told(path).startswith(f"{path}: signature: unknown variable 'loudness'; register it first.")


def test_half_a_file_is_told(make, tmp_path):
    path = tmp_path / "s.zarr.zip"
    make(["a", "b"]).save(path)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.7, 0.95, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        assert told(path).startswith(f"signature {path}: not a readable .zarr.zip (")


def test_a_flipped_byte_is_told_or_does_not_matter(make, tmp_path):
    path, signature = tmp_path / "s.zarr.zip", make(["a", "b"])
    signature.save(path)
    whole, refused, harmless = path.read_bytes(), 0, 0
    positions = np.random.default_rng(0).choice(len(whole), 60, replace=False)
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            loaded = load_signature(path)
        except SignatureError as error:
            refused += len(str(error).splitlines())
        else:
            # Dates and system numbers in the archive's own tables: nothing of the signature.
            same_to_the_bit(loaded, signature)
            harmless += 1
    assert refused >= 40
    assert refused + harmless == 60  # one line each
