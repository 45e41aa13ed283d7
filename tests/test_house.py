"""The house has floors, and imports go down. Read from the code itself, not from what the documents say."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import localize

HOUSE = Path(localize.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
FLOORS = [
    {"errors"},
    {"axes", "keyed", "storage", "resources", "threads", "code"},
    {"claims", "statistics", "theory", "measurements"},
    {"signature", "models"},
    {"analysis", "paragraphs"},
    {"measure"},
    {"train", "scan"},
    {"localizers"},
    {"edit", "plots"},
    {"report", "sweep"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=-1) for room in rooms}
"""Errors lie under the ground floor, because everything raises them."""
SLOW = ("torch", "transformers", "transformer_lens", "xarray", "plotly", "pandas", "scipy", "datasets", "zarr")


def room_of(module):
    """The file or folder directly under localize/ that a module belongs to: `localize.models.hooks` is in `models`."""
    return module.split(".")[1]


def module_of(path):
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def runtime_nodes(node):
    """Every node of a tree, inside functions too, but not what stands under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if (
            isinstance(node, ast.If)
            and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
            and child in node.body
        ):
            continue
        yield from runtime_nodes(child)


def imported_modules(tree):
    """Line and full name of what a file imports: `from a import b` as `a.b`."""
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full, not relative"
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def imports_of_the_house(tree):
    """Line and module of each import from localize itself; a public name stands for the module that it lives in."""
    for line, name in imported_modules(tree):
        parts = name.split(".")
        if parts[0] != "localize" or name == "localize.__version__":
            continue
        assert len(parts) > 1, f"line {line}: `import localize` hides which floor is meant"
        home = localize.home_of(parts[1]) if len(parts) == 2 else None
        yield line, name if home in (None, "localize") else home


def upward_imports(module, tree):
    """What a file imports that it must not: the same floor's other rooms, and every floor above."""
    own = room_of(module)
    for line, name in imports_of_the_house(tree):
        room = room_of(name)
        assert room in FLOOR_OF, f"{module}, line {line}: {room} has no floor; FLOORS in this test lists them"
        if room != own and FLOOR_OF[room] >= FLOOR_OF[own]:
            yield f"{module}, line {line}: {own} (floor {FLOOR_OF[own]}) imports {name} (floor {FLOOR_OF[room]})"


@cache
def trees():
    """Module and syntax tree of every file of the house."""
    return [(module_of(path), ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def test_every_file_stands_on_a_floor():
    rooms = {room_of(module) for module, _ in trees() if module != "localize"}
    assert rooms <= FLOOR_OF.keys()
    assert len(rooms) > 10, "the files were not found"


def test_a_file_imports_only_from_floors_below_its_own():
    assert [found for module, tree in trees() if module != "localize" for found in upward_imports(module, tree)] == []


@pytest.mark.parametrize(
    ("module", "code", "count"),
    [
        ("localize.models.hooks", "from localize.models.bridge import x\nfrom localize.errors import y", 0),
        ("localize.models.hooks", "from localize.measure.recall import x", 1),
        ("localize.models.hooks", "def f():\n    import localize.measure.recall", 1),
        ("localize.models.hooks", "from localize.signature import x", 1),
        ("localize.models.hooks", "from localize import load_paragraphs", 1),
        ("localize.models.hooks", "from localize import load_model, __version__", 0),
        (
            "localize.models.hooks",
            "if TYPE_CHECKING:\n    from localize.cli import x\nelse:\n    from localize.axes import y",
            0,
        ),
        ("localize.models.hooks", "if TYPE_CHECKING:\n    pass\nelse:\n    from localize.cli import x", 1),
        ("localize.errors", "from localize.axes import x", 1),
        ("localize.cli", "from localize import plots, gradients", 0),
    ],
)
def test_the_reader_of_imports_sees_what_goes_up(module, code, count):
    assert len(list(upward_imports(module, ast.parse(code)))) == count


def test_nothing_is_pickled():
    for module, tree in trees():
        for line, name in imported_modules(tree):
            assert name.split(".")[0] not in ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"), (
                f"{module}, line {line}"
            )


@pytest.mark.parametrize(
    ("option", "value"), [("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)]
)
def test_no_file_is_trusted(option, value):
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == option:
                assert isinstance(node.value, ast.Constant), (
                    f"{module}, line {node.value.lineno}: {option} is not a constant"
                )
                assert node.value.value is not value, f"{module}, line {node.value.lineno}: {option}={value}"


def test_torch_load_always_says_weights_only():
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only" in [keyword.arg for keyword in node.keywords], f"{module}, line {node.lineno}"


def test_the_library_does_not_print():
    for module, tree in trees():
        calls = [
            n.lineno
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
        ]
        assert calls == [], module


def test_importing_localize_imports_nothing_slow():
    code = f"import localize, sys; dir(localize); print(sorted(set({SLOW!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there():
    assert sorted(localize.__all__) == localize.__all__
    assert len(localize.__all__) > 50
    for name in localize.__all__:
        assert getattr(localize, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError) as error:
        localize.nosuch  # noqa: B018
    assert str(error.value) == "module 'localize' has no attribute 'nosuch'"


def test_the_readmes_picture_of_the_house_names_every_folder():
    readme = HOUSE.parent / "README.md"
    if not readme.is_file():
        pytest.skip("no README.md yet")
    folders = {path.parent.name for path in HOUSE.glob("*/__init__.py")}
    assert [folder for folder in sorted(folders) if f"{folder}/" not in readme.read_text(encoding="utf-8")] == []


def test_what_is_told_to_be_installed_is_this_package():
    import tomllib

    from localize.errors import how_to_install

    project = tomllib.loads((HOUSE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in ("figures", "cluster"):
        assert how_to_install(extra) == f'pip install "{project["name"]}[{extra}]"'
        assert extra in project["optional-dependencies"]
    told = [path.name for path in FILES if "pip install" in path.read_text(encoding="utf-8")]
    assert told == ["errors.py"], "installation hints are made in one place"
