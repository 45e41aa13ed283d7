"""The command line: `localize run`, `localize show`, `localize report`, `localize figures`, `localize edit`, `localize train`,
`localize sweep`, `localize scan`, `localize bench`."""

import _thread
import signal
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Run the command line: what a user's input causes is told in one line, with exit code 2; Ctrl-C likewise, with 130."""
    pressed = _noted_interrupts()
    try:
        # Inside, so that Ctrl-C during the first seconds, which go to imports, is no traceback.
        from localize.errors import LocalizeError

        try:
            from localize.measurements.plugins import load_plugins

            load_plugins()  # first: commands list what there is to measure
            from localize.cli import bench, edit, figures, report, run, scan, sweep, train  # noqa: F401  (each adds its commands)
            from localize.cli.app import app
            from localize.cli.words import spell_for_terminal

            spell_for_terminal()
            if pressed:  # and a library that was being imported went on as if nothing had been
                raise KeyboardInterrupt
            app()
        except LocalizeError as error:
            sys.stderr.write(f"localize: {' '.join(str(error).splitlines())}\n")
            sys.exit(2)
    except BaseException as stop:
        # typer makes a silent exit of Ctrl-C, and a library that it meets while it is imported makes an ImportError of it
        error: BaseException | None = stop
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__cause__ or error.__context__
        if error is None and not pressed:
            raise
        told = getattr(error, "__notes__", ["nothing was finished yet"])[-1]
        sys.stderr.write(f"localize: interrupted; {told}\n")
        sys.exit(130)


def _noted_interrupts() -> list[int]:
    """A list that fills when Ctrl-C is pressed, whatever becomes of the KeyboardInterrupt on its way.

    Where nothing can be raised, in a finalizer or a callback of the garbage collector, Python drops it and the command
    would go on: it is raised again a moment later.
    """
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody else, or nobody, is to be told
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, note)
            sys.unraisablehook = _raised_again
    return pressed


def _raised_again(dropped: "sys.UnraisableHookArgs") -> None:
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, _interrupt_main).start()
    else:
        sys.__unraisablehook__(dropped)


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # which also wakes the thread from a system call
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
