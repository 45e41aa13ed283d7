"""The command line: `localize run`, `localize show`, `localize report`, `localize figures`, `localize edit`, `localize train`,
`localize sweep`, `localize scan`."""

import sys

from localize.cli import edit, figures, report, run, scan, sweep, train  # noqa: F401  (each adds its commands)
from localize.cli.app import app
from localize.errors import LocalizeError


def main() -> None:
    """Run the command line: what a user's input causes is told in one line, with exit code 2."""
    try:
        app(standalone_mode=True)
    except LocalizeError as error:
        sys.stderr.write(f"localize: {' '.join(str(error).splitlines())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("localize: interrupted\n")
        sys.exit(130)
