"""What all commands belong to."""

import typer

app = typer.Typer(
    help="Where does a language model keep the paragraphs it can recite, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
