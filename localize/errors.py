"""The errors that a user of the suite can cause, each told in one line."""

DISTRIBUTION = "localize-memorization"
"""What the package index calls this package: there "localize" is another one."""


class LocalizeError(ValueError):
    """Something given to the suite cannot be used; the message says what, where and what is allowed."""


class InputError(LocalizeError):
    """A file or table of paragraphs, tokens or counts cannot be read as one."""


class ModelError(LocalizeError):
    """A model cannot be loaded, or has no such layer, head or component."""


class SignatureError(LocalizeError):
    """A signature is damaged, does not fit its schema, or does not join with another."""


def first_line(error: BaseException) -> str:
    """What a library's error says in its first line, or its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def how_to_install(extra: str) -> str:
    """The command that installs an extra of this package."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'
