"""The command line: `localize run`, `localize show`, `localize report`, `localize figures`, `localize edit`, `localize train`,
`localize sweep`, `localize scan`."""

import sys


def main() -> None:
    """Run the command line: what a user's input causes is told in one line, with exit code 2; Ctrl-C likewise, with 130."""
    try:
        # Inside, so that Ctrl-C during the first seconds, which go to imports, is no traceback.
        from localize.cli import edit, figures, report, run, scan, sweep, train  # noqa: F401  (each adds its commands)
        from localize.cli.app import app
        from localize.cli.words import spell_for_terminal
        from localize.errors import LocalizeError

        spell_for_terminal()
        try:
            app()
        except LocalizeError as error:
            sys.stderr.write(f"localize: {' '.join(str(error).splitlines())}\n")
            sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer makes a silent exit of Ctrl-C
        error: BaseException | None = stop
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__cause__ or error.__context__
        if error is None:
            raise
        told = getattr(error, "__notes__", ["nothing was finished yet"])[-1]
        sys.stderr.write(f"localize: interrupted; {told}\n")
        sys.exit(130)
