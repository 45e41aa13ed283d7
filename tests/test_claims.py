"""A folder of results tells whose they are; one rule says who may go on in it, who is refused, and what is replaced."""

import json

import pytest

from localize.claims import COMMAND_FILE, Command
from localize.errors import InputError, LocalizeError
from localize.storage import only_writer

ASKED = {"seed": 0, "weights_hash": "ab" * 32}


@pytest.fixture
def command(tmp_path):
    """`command(name="run", overwrite=False)`: a command that writes `*.result` into one folder."""
    return lambda name="run", overwrite=False: Command(
        name, tmp_path / "out", f"localize {name}", ("*.result",), overwrite
    )


def told(command):
    return json.loads((command.folder / COMMAND_FILE).read_text(encoding="utf-8"))


def work(command, asked=ASKED, name="a.result", error=None):
    """Claim the folder, write one result, end with an error where one is given; whether results were there to go on from."""
    with command.claimed(asked) as claim:
        (command.folder / name).write_text("1")
        if error is not None:
            raise error
    return claim.kept


def test_what_is_asked_for_stands_there_before_the_work_begins_and_how_it_ended_after(command):
    with command().claimed(ASKED) as claim:
        before = told(command())
        (command().folder / "a.result").write_text("1")
    after = told(command())
    assert not claim.kept
    assert (before["kind"], before["command"], before["status"], before["asked"]) == (
        "run",
        "localize run",
        "running",
        ASKED,
    )
    assert "ended" not in before
    assert after["status"] == "finished"
    assert after["seconds"] >= 0


def test_the_same_goes_on_and_all_its_commands_are_told(command):
    work(command())
    longer = Command("run", command().folder, "localize run --measure noise", ("*.result",))
    assert work(longer, name="b.result")
    assert told(longer)["commands"] == ["localize run", "localize run --measure noise"]
    assert sorted(path.name for path in longer.folder.iterdir()) == ["a.result", "b.result", COMMAND_FILE]


@pytest.mark.parametrize("later", [ASKED | {"seed": 1}, ASKED | {"draws": 2}, {"seed": 0}])
def test_another_question_is_refused_with_what_differs_and_replaces_only_when_asked_to(command, later):
    work(command())
    (command().folder / "mine.txt").write_text("mine")
    key = next(key for key in {**later, **ASKED} if later.get(key) != ASKED.get(key))
    values = [
        json.dumps(x) if len(json.dumps(x)) <= 60 else json.dumps(x)[:57] + "..."
        for x in (ASKED.get(key), later.get(key))
    ]
    with pytest.raises(LocalizeError) as refused:
        work(command(), later)
    assert str(refused.value) == (
        f"run {command().folder}: holds results of localize run with {key} = {values[0]}, and {values[1]} is asked for; choose another "
        "--out, or --overwrite replaces it."
    )
    assert told(command())["asked"] == ASKED
    assert not work(command(overwrite=True), later, name="b.result")
    assert sorted(path.name for path in command().folder.iterdir()) == ["b.result", COMMAND_FILE, "mine.txt"]


def test_what_is_known_early_is_refused_early(command):
    work(command())
    command().check({"seed": 0})
    with pytest.raises(
        LocalizeError, match=r"^run .*: holds results of localize run with seed = 0, and 1 is asked for;"
    ):
        command().check({"seed": 1})


def test_another_commands_folder_or_a_strangers_is_refused_even_if_it_may_be_replaced(command):
    work(command())
    with pytest.raises(LocalizeError) as refused:
        work(command("edit", overwrite=True))
    folder = command().folder
    assert (
        str(refused.value)
        == f"edit {folder}: holds the results of localize run; localize edit needs a folder of its own."
    )
    (folder / COMMAND_FILE).unlink()
    with pytest.raises(LocalizeError) as refused:
        work(command(overwrite=True))
    assert str(refused.value) == (
        f"run {folder}: holds 'a.result', which is nothing of its own; a new folder, or one that localize run wrote, is needed."
    )
    assert [path.name for path in folder.iterdir()] == ["a.result"]


def test_results_of_earlier_versions_do_not_say_what_they_are_of_and_are_replaced_only_when_asked_to(command):
    folder = command().folder
    folder.mkdir()
    (folder / "a.result").write_text("old")
    (folder / COMMAND_FILE).write_text('{"command": "localize run --out here"}')
    with pytest.raises(
        LocalizeError, match=r"^run .*: holds results of localize run that do not say what was asked for, as earlier"
    ):
        work(command())
    assert not work(command(overwrite=True), name="b.result")
    assert not (folder / "a.result").exists()


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [(KeyboardInterrupt(), "interrupted", None), (LocalizeError("no luck."), "failed", "LocalizeError: no luck.")],
)
def test_a_failure_keeps_what_was_finished_and_says_so(command, error, status, why):
    with pytest.raises(type(error)) as raised:
        work(command(), error=error)
    assert (told(command())["status"], told(command()).get("error")) == (status, why)
    assert (command().folder / "a.result").is_file()
    notes = getattr(raised.value, "__notes__", [])
    kept = [f"what is finished is kept in {command().folder}; the same command goes on"]
    assert notes == (kept if status == "interrupted" else [])
    assert work(command(), name="b.result")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LocalizeError("no luck.")])
def test_where_nothing_was_finished_nothing_is_left(command, error):
    with pytest.raises(type(error)), command().claimed(ASKED):
        raise error
    assert list(command().folder.parent.iterdir()) == []


def test_two_processes_do_not_write_to_one_folder(command):
    with only_writer(command().folder, "run"), pytest.raises(LocalizeError, match=r"another process is writing to it"):
        work(command())
    assert not work(command())
    assert [path.name for path in command().folder.parent.iterdir()] == ["out"]  # no lock is left


def test_what_is_made_whole_appears_at_once_with_its_record(command):
    mine = command("train")
    with mine.made_whole(ASKED) as beside:
        (beside / "a.result").write_text("1")
        assert not mine.folder.exists()
    assert sorted(path.name for path in mine.folder.iterdir()) == ["a.result", COMMAND_FILE]
    assert mine.holds(ASKED)
    assert not mine.holds(ASKED | {"seed": 1})
    again = command("train", overwrite=True)
    with again.made_whole(ASKED | {"seed": 1}) as beside:
        (beside / "b.result").write_text("1")
    assert sorted(path.name for path in mine.folder.iterdir()) == ["b.result", COMMAND_FILE]


def test_a_url_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    for folder in ("s3://bucket/run", "gs://b", "memory://x/y"):
        with pytest.raises(InputError) as refused:
            Command("run", Path(folder), "localize run", ()).check({})
        assert str(refused.value) == (
            f"--out {folder}: is a URL; a path of this machine is needed (only a sweep's store can be a URL)."
        )
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_no_record(command):
    with pytest.raises(ValueError, match="not JSON compliant"):
        work(command(), {"seed": float("nan")})
