"""Ctrl-C is told in one line, and so is what a terminal cannot spell spelled otherwise: no command ends for want of a sign."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from localize.cli.words import PLAIN, spell_for_terminal

START = "import sys; from localize.cli import main; sys.argv = ['localize', *sys.argv[1:]]; print('begun', flush=True); main()"


@pytest.fixture
def command():
    """Start Python on a code and its arguments; what is left of it at the end of the test is killed."""
    with ExitStack() as stack:

        def start(code, *arguments, **environment):
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env={**os.environ, "PYTHONPATH": os.getcwd(), **environment}, errors="replace",
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


# Ctrl-C.


@pytest.mark.parametrize("after", [0.02, 0.1, 0.3, 1.0, 2.5, 5.0])
def test_whenever_it_comes_an_interruption_is_one_line_and_exit_code_130(command, tmp_path, after):
    process = command(START, "run", "--out", tmp_path / "out")
    assert process.stdout.readline() == "begun\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    told = stderr.rstrip("\n").rsplit("\n", 1)[-1].rsplit("\r", 1)[-1].removeprefix("\x1b[A")
    kept = f"what is finished is kept in {tmp_path / 'out'}; the same command goes on"
    assert told in {f"localize: interrupted; {why}" for why in ("nothing was finished yet", kept)}
    assert "Traceback" not in stderr


def test_an_interruption_that_python_drops_in_a_finalizer_ends_the_command_all_the_same(command):
    code = """
import time, localize.cli.app
from localize.cli import bench, edit, figures, report, run, scan, sweep, train
class Held:
    def __del__(self):
        print("begun", flush=True)
        time.sleep(60)
def app():
    Held()
    time.sleep(60)
localize.cli.app.app = app
localize.cli.main()
"""
    process = command(code)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "localize: interrupted; nothing was finished yet\n")


def test_an_interruption_that_an_import_swallows_ends_the_command_before_it_begins(command):
    code = """
import time, localize.cli.words
spelled = localize.cli.words.spell_for_terminal
def swallowed():
    try:
        print("begun", flush=True)
        time.sleep(60)
    except BaseException:
        spelled()
localize.cli.words.spell_for_terminal = swallowed
from localize.cli import main
import sys
sys.argv = ["localize", "--help"]
main()
"""
    process = command(code)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (130, "", "localize: interrupted; nothing was finished yet\n")


@pytest.mark.parametrize("name", ["run", "edit", "scan", "sweep", "train", "report", "figures"])
def test_every_command_tells_of_its_interruption(localize, checkpoint, good, tmp_path, name, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    where = {
        "run": "localize.load_model", "edit": "localize.load_model", "scan": "localize.load_model",
        "sweep": "localize.sweep.run.run_sweep", "train": "localize.train.run.train_recipe",
        "report": "localize.report.page.write_report", "figures": "localize.report.folder.read_results",
    }  # fmt: skip
    monkeypatch.setattr(where[name], stopped)
    (tmp_path / "grid.toml").write_text('[[measure]]\nmeasurement = "recall"\n')
    given = {
        "run": (checkpoint, good), "edit": (checkpoint, good), "scan": (checkpoint, good), "sweep": (tmp_path / "grid.toml",), "train": (),
        "report": (tmp_path,), "figures": (tmp_path,),
    }  # fmt: skip
    code, _, stderr = localize(name, *given[name], "--out", tmp_path / "out.html")
    assert (code, stderr.splitlines()[-1]) == (130, "localize: interrupted; nothing was finished yet")


def test_an_interrupted_sweep_tells_what_is_kept(localize, checkpoint, good, tmp_path, monkeypatch):
    grid = f"""
        [[model]]
        source = "{checkpoint}"
        [[paragraphs]]
        source = "{good}"
        prefix = 16
        continuation = 16
        [[measure]]
        measurement = "prefix_attention"
    """
    (tmp_path / "grid.toml").write_text(grid)
    command = ("sweep", tmp_path / "grid.toml", "--out", tmp_path / "sweep.zarr")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("localize.sweep.bench.Bench.measure", stopped)
        code, _, stderr = localize(*command)
    kept = f"localize: interrupted; what is finished is kept in {tmp_path / 'sweep.zarr'}; the same command goes on"
    assert (code, stderr.splitlines()[-1]) == (130, kept)
    assert localize(*command)[0] == 0


def test_a_run_interrupted_while_it_prints_has_lost_nothing(localize, checkpoint, good, tmp_path, monkeypatch):
    lengths = ("--prefix", "16", "--continuation", "16")
    command = ("run", checkpoint, good, *lengths, "--measure", "prefix_attention", "--out", tmp_path / "out")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("localize.cli.run.print_summary", stopped)
        code, _, stderr = localize(*command)
    assert code == 130
    assert (
        stderr == f"localize: interrupted; what is finished is kept in {tmp_path / 'out'}; the same command goes on\n"
    )
    code, stdout, _ = localize(*command)
    assert code == 0
    assert "holds 1 of these; to do: nothing." in stdout


# Signs.


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "utf-8"])
def test_what_is_measured_is_printed_whatever_the_output_can_hold(command, checkpoint, good, tmp_path, encoding):
    lengths = ("--prefix", "16", "--continuation", "16")
    process = command(
        START,
        "run",
        checkpoint,
        good,
        *lengths,
        "--measure",
        "replacement",
        "--out",
        tmp_path / "out",
        PYTHONIOENCODING=encoding,
    )
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Wrote" in stdout
    shown = command(START, "show", tmp_path / "out", PYTHONIOENCODING=encoding)
    stdout, stderr = shown.communicate(timeout=120)
    assert shown.returncode == 0, stderr
    assert "Recall" in stdout


def test_signs_that_a_terminal_lacks_are_spelled_as_a_reader_takes_them(command):
    code = (
        "import sys; from localize.cli.words import spell_for_terminal; spell_for_terminal(); "
        "print('−0.5 [−1, 1] 4 × 8 é ≤ 文 …'); print('−', file=sys.stderr)"
    )
    stdout, stderr = command(code, PYTHONIOENCODING="ascii").communicate()
    assert stdout == "-0.5 [-1, 1] 4 x 8 e <= ? ...\n"
    assert stderr == "-\n"
    stdout, _ = command(code, PYTHONIOENCODING="utf-8").communicate()
    assert stdout == "−0.5 [−1, 1] 4 × 8 é ≤ 文 …\n"


def test_every_sign_that_commands_and_reports_print_has_a_spelling():
    spell_for_terminal()
    assert all(sign.encode("ascii", "localize.plain").decode() == plain for sign, plain in PLAIN.items())
