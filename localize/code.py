"""Which of this package's code a number depends on, as a hash: what was measured by other code is measured again."""

import ast
import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parent

DESCRIBES = ("measurements", "signature", "errors")
"""Rooms that say what numbers are, check and hold them, and make none."""


def code_of(function: Callable[..., Any]) -> str:
    """SHA-256 of the code that what a function gives depends on.

    Args:
        function: Of this package; or of somebody else, whose file counts (or the function alone, where it has none, as in a
            notebook), and all of the package that measures.
    """
    if function.__module__.split(".")[0] == HOUSE.name:
        return code_hash(function.__module__)
    measures = sorted(path.stem for path in (HOUSE / "measure").glob("*.py"))
    parts = [_source(function), *(code_hash(f"{HOUSE.name}.measure.{name}") for name in measures)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def origin(function: Callable[..., Any]) -> tuple[str, str]:
    """Where a function is written: what is registered again with a function of the same place, as by a notebook's cell run again,
    takes the place of the earlier one."""
    return function.__module__, function.__qualname__


def _source(function: Callable[..., Any]) -> str:
    """The file that a function stands in, or the function itself, as text; what it does, where nobody has kept its text."""
    written = inspect.unwrap(function)
    file = Path(written.__code__.co_filename)
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        return inspect.getsource(written)  # of a notebook's cell
    except (OSError, TypeError):
        code = written.__code__
        return repr((code.co_code, code.co_consts, code.co_names))


@cache
def code_hash(module: str) -> str:
    """SHA-256 of a module and of every module of this package that it imports, directly or not, but for those that describe.

    Comments, docstrings and layout do not count: they change no number.

    Args:
        module: Its full name, "localize.measure.gradients".
    """
    waiting, seen = [module], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen and name.split(".")[1] not in DESCRIBES:
            seen.add(name)
            waiting += _read(name)[1]
    return hashlib.sha256("".join(f"{name} {_read(name)[0]}\n" for name in sorted(seen)).encode()).hexdigest()


@cache
def _read(module: str) -> tuple[str, list[str]]:
    """SHA-256 of a module's syntax without docstrings, and the modules of this package that it imports."""
    path = HOUSE.parent / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), _imported(tree)


def _imported(tree: ast.Module) -> list[str]:
    """The modules of this package that a file imports, inside functions too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            continue
        found += [home for name in names if (home := _home(name)) is not None]
    return found


def _home(name: str) -> str | None:
    """The module that an imported name of this package lives in: `localize.models.hooks.HookedModel` in `localize.models.hooks`."""
    parts = name.split(".")
    if parts[0] != "localize" or len(parts) == 1:
        return None
    public = import_module(parts[0]).home_of(parts[1])
    if public not in (None, parts[0]):
        return public
    for count in range(len(parts), 1, -1):
        place = HOUSE.parent / Path(*parts[:count])
        if place.is_dir() or place.with_suffix(".py").is_file():
            return ".".join(parts[:count])
    return None
