"""What all commands belong to."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """Commands whose interruption is told in one line: typer itself makes a silent exit of Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Run one command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            (*_, told) = ("nothing was finished yet", *getattr(error, "__notes__", ()))
            sys.stderr.write(f"localize: interrupted; {told}\n")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=Commands,
    help="Where does a language model keep the paragraphs it can recite, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
