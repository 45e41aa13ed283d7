"""The house has floors, and imports go down. Read from the code itself, not from what the documents say."""

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

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
    {"localizers", "truths"},
    {"bench"},
    {"edit", "plots"},
    {"report", "sweep"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=-1) for room in rooms}
"""Errors lie under the ground floor, because everything raises them."""
BY_NAME = {"localize", "localize.signature.signature"}
"""The only modules in which a string names a module that they must not import."""
NAMING = {"analysis", "edit", "measure", "models", "paragraphs", "plots", "scan", "statistics", "theory"}
"""Rooms whose errors begin with the public function that was called."""
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


def home_in(modules, name):
    """The module that an imported name lives in: the longest beginning of it that is one."""
    parts = name.split(".")
    ends = range(len(parts), 0, -1)
    return next((found for end in ends if (found := ".".join(parts[:end])) in modules), None)


def imports_between(modules):
    """What each module imports of the others, inside functions too; what only a type checker reads is left out."""
    names = {module for module, _ in modules}
    graph = {
        module: {home_in(names, name) for _, name in imports_of_the_house(tree)} - {module} for module, tree in modules
    }
    assert None not in set().union(*graph.values()), "an import of the house was not found"
    return graph


def reached(graph, start):
    """What a module imports, and what that imports, and so on."""
    seen, ahead = set(), [start]
    while ahead:
        new = graph[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def circles(graph):
    """The modules that come back to themselves, each with those that it shares the circle with."""
    ahead = {module: reached(graph, module) for module in graph}
    return {
        tuple(sorted(other for other in ahead[module] if module in ahead[other]))
        for module in graph
        if module in ahead[module]
    }


def test_no_modules_import_each_other_not_even_inside_functions():
    assert circles(imports_between(trees())) == set()


def test_the_finder_of_circles_finds_long_and_lazy_ones_and_no_others():
    code = {
        "localize.models.a": "from localize.models.b import x",
        "localize.models.b": "def f():\n    from localize.models import c",
        "localize.models.c": "import localize.models.a",
        "localize.models.d": "from localize.models.a import x\nfrom localize.models.e import y",
        "localize.models.e": "if TYPE_CHECKING:\n    from localize.models.d import x",
    }
    graph = imports_between([(module, ast.parse(text)) for module, text in code.items()])
    assert graph["localize.models.d"] == {"localize.models.a", "localize.models.e"}
    assert circles(graph) == {("localize.models.a", "localize.models.b", "localize.models.c")}


def modules_named(module, tree):
    """Line and text of each string that names a module, or something in one, that this one must not import."""
    names = {each for each, _ in trees()}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        if not re.fullmatch(r"localize\.[a-z_]+(\.[a-z_]+)+", node.value):
            continue
        home = home_in(names, node.value)
        if home is None or home.count(".") < 2:
            continue
        room, own = room_of(home), module.split(".")[1:2]
        if not own or (room != own[0] and FLOOR_OF[room] >= FLOOR_OF[own[0]]):
            yield node.lineno, node.value


def test_a_module_of_a_higher_floor_is_named_in_two_files_only():
    assert {module for module, tree in trees() if list(modules_named(module, tree))} == BY_NAME


@pytest.mark.parametrize(
    ("module", "code", "count"),
    [
        ("localize.models.hooks", "x = 'localize.measure.recall'", 1),
        ("localize.models.hooks", "def f():\n    return 'localize.measure.recall.recall'", 1),
        ("localize.models.hooks", "x = 'localize.models.load'", 0),
        ("localize.models.hooks", "x = 'localize.statistics.bootstrap'", 0),
        ("localize.scan.scan", "x = 'localize.train.loop'", 1),
        ("localize.models.hooks", "'Not localize.measure.recall, which is above.'", 0),
        ("localize.models.hooks", "x = 'localize.nosuch.room'", 0),
        ("localize.cli.edit", "x = 'localize.edit.unlearn'", 0),
        ("localize", "x = 'localize.measure', 'localize.edit.unlearn'", 1),
    ],
)
def test_the_reader_of_strings_sees_what_names_a_module_above(module, code, count):
    assert len(list(modules_named(module, ast.parse(code)))) == count


def test_every_module_that_is_named_in_a_string_is_there_and_has_what_is_asked_of_it():
    from localize.signature.signature import Delegate, MemorizationSignature

    delegates = [value for value in vars(MemorizationSignature).values() if isinstance(value, Delegate)]
    for delegate in delegates:
        assert callable(getattr(import_module(delegate.home), delegate.function)), vars(delegate)
    for name, home in localize._HOME.items():
        assert hasattr(import_module(home), name), name
    named = {module: {text for _, text in modules_named(module, tree)} for module, tree in trees() if module in BY_NAME}
    assert named["localize.signature.signature"] == {delegate.home for delegate in delegates}
    assert named["localize"] <= set(localize._HOME.values())


def test_a_type_checker_reads_each_public_name_where_it_is_taken_from():
    tree = dict(trees())["localize"]
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    read = {name.name: node.module for node in block.body for name in node.names}
    assert len(read) > 40
    assert read.keys() <= set(localize.__all__)
    for name, module in read.items():
        value = getattr(localize, name)
        if isinstance(value, ModuleType):  # a room, which is called as its function of the same name is
            assert module == "localize" or room_of(module) == name, name
        else:
            assert localize._HOME.get(name, f"localize.measure.{name}") == module, name
            assert getattr(import_module(module), name) is value, name


def test_no_two_classes_have_one_name():
    names = Counter(node.name for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def named_in_errors(function):
    """The name by which errors tell a function, as its decorators have it; None if they do not."""
    tree = dict(trees())[function.__module__]
    defined = next(node for node in tree.body if getattr(node, "name", "") == function.__name__)
    for decorator in defined.decorator_list:
        words = ast.unparse(decorator)
        if words == "public" or words.startswith("reads_inputs("):
            return function.__name__
        if words.startswith("public("):
            return ast.literal_eval(decorator.args[0])
    return None


def test_errors_name_what_the_user_called():
    from localize import plots, statistics, theory

    called = {name: getattr(localize, name) for name in localize.__all__}
    called |= {name: getattr(statistics, name) for name in statistics.__all__}
    called |= {f"plots.{name}": getattr(plots, name) for name in plots.__all__}
    called |= {f"theory.{name}": getattr(theory, name) for name in theory.__all__}
    called = {
        name: value
        for name, value in called.items()
        if inspect.isroutine(value) and room_of(value.__module__) in NAMING
    }
    assert len(called) > 50
    known = {value: {name for name, other in called.items() if other is value} for value in called.values()}
    assert {
        name: found for name, value in called.items() if (found := named_in_errors(value)) not in known[value]
    } == {}


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
