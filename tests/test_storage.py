"""A file is replaced whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from localize.storage import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_beside_takes_the_place(tmp_path):
    path = tmp_path / "result.zarr.zip"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
        assert beside.parent == path.parent
        assert beside.name.endswith(".result.zarr.zip")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["result.zarr.zip"]


def test_folders_on_the_way_are_made(tmp_path):
    with replacing(tmp_path / "a" / "b" / "new.txt") as beside:
        beside.write_text("new")
    assert (tmp_path / "a" / "b" / "new.txt").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def break_off():
        with replacing(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(error):
        break_off()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.txt"]


def test_what_breaks_off_before_there_was_a_file_leaves_none(tmp_path):
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "result.txt"):
        raise ValueError("no")
    assert names(tmp_path) == []


def test_a_move_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def refuse(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match="not yours"), replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.txt"]


def test_the_writer_may_remove_the_file_it_was_given_before_it_fails(tmp_path):
    def remove_and_fail():
        with replacing(tmp_path / "result.txt") as beside:
            beside.unlink()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        remove_and_fail()
    assert names(tmp_path) == []


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "result.txt"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert path.read_text() == "one"  # who ends last
    assert names(tmp_path) == ["result.txt"]


def test_the_file_can_be_read_by_others(tmp_path):
    with replacing(tmp_path / "result.txt") as beside:
        beside.write_text("new")
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == 0o644


def test_a_path_without_a_folder_is_in_the_present_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing(Path("result.txt")) as beside:
        beside.write_text("new")
    assert names(tmp_path) == ["result.txt"]
