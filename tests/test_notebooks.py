import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

import localize as lz

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: int(path.stem.split("-")[0]))
NULL = re.compile(r"\*\*If nothing (were|was) ")
ABSOLUTE = re.compile(r"""(?<![\w.:/<])(/(home|work|tmp|root|Users|mnt|data|usr)/|[A-Za-z]:\\)""")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem.split("-")[0])
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def sources(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def public_names(tree: ast.AST) -> Iterator[tuple[object, str]]:
    """What is asked of `lz` and of `lz.plots`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lz":
            yield lz, node.attr
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "lz.plots":
            yield lz.plots, node.attr


def test_the_notebooks_are_numbered_in_order():
    assert [path.stem.split("-")[0] for path in NOTEBOOKS] == [str(number) for number in range(1, 13)]


def test_a_notebook_is_valid_and_stored_without_output(notebook: nbformat.NotebookNode):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_a_notebook_tells_what_would_be_seen_if_nothing_were_there(notebook: nbformat.NotebookNode):
    assert any(NULL.search(text) for text in sources(notebook, "markdown"))


def test_a_notebook_begins_with_one_title_and_has_words_before_its_code(notebook: nbformat.NotebookNode):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    titles = [line for text in sources(notebook, "markdown") for line in text.splitlines() if line.startswith("# ")]
    assert len(titles) == 1


def test_a_notebook_uses_public_names_only(notebook: nbformat.NotebookNode):
    trees = [ast.parse(code) for code in sources(notebook, "code")]
    asked = [pair for tree in trees for pair in public_names(tree)]
    assert asked
    unknown = [f"{home.__name__}.{name}" for home, name in asked if name not in home.__all__]  # type: ignore[attr-defined]
    assert unknown == []
    for tree in trees:
        for node in ast.walk(tree):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in imported if name.startswith("localize.")]
            assert not (isinstance(node, ast.Attribute) and node.attr.startswith("_"))


def test_what_a_notebook_says_of_the_library_in_its_text_is_there(notebook: nbformat.NotebookNode):
    for text in sources(notebook, "markdown"):
        for home, name in re.findall(r"`(lz(?:\.plots)?)\.(\w+)", text):
            assert name in (lz.plots if home == "lz.plots" else lz).__all__, f"{home}.{name}"


def test_a_notebook_holds_no_absolute_path(notebook: nbformat.NotebookNode):
    for cell in notebook.cells:
        assert not ABSOLUTE.search(cell.source), cell.source
