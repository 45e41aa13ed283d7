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
            app(standalone_mode=True)
        except LocalizeError as error:
            sys.stderr.write(f"localize: {' '.join(str(error).splitlines())}\n")
            sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("localize: interrupted; nothing was begun\n")
        sys.exit(130)
