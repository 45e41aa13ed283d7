"""The hash of code follows what a number depends on, and nothing else: by edits of a copy of the package."""

import shutil

import pytest

import localize as lz
from localize import code
from localize.measurements import MEASUREMENTS

ASKED = [name for name, measurement in MEASUREMENTS.items() if measurement.asked]


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """`edit(file, old, new)`: the measurements whose code is another after that, in a copy of the package."""
    house = shutil.copytree(
        code.HOUSE, tmp_path / "localize", ignore=shutil.ignore_patterns("__pycache__", "data", "*.js")
    )
    monkeypatch.setattr(code, "HOUSE", house)

    def hashes():
        code.code_hash.cache_clear()
        code._read.cache_clear()
        return {name: code.code_of(getattr(lz, name)) for name in ASKED}

    def edited(file, old, new):
        before, text = hashes(), (house / file).read_text(encoding="utf-8")
        assert old in text
        (house / file).write_text(text.replace(old, new), encoding="utf-8")
        return sorted(name for name, found in hashes().items() if found != before[name])

    yield edited
    monkeypatch.undo()
    hashes()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("analysis/causal.py", "removal agrees", "removal says so"),
        ("measurements/declared/ablate.py", "exact match, ablated", "exact match without the head"),
        ("measurements/declared/recall.py", "MEASUREMENT = Measurement(", "MORE = 1\nMEASUREMENT = Measurement("),
        ("signature/signature.py", "SCHEMA_VERSION = 3", "SCHEMA_VERSION = 4"),
        ("signature/schema.py", "SLACK = 1e-5", "SLACK = 1e-4"),
        ("errors.py", "for the beginning of a message", "for its first words"),
        ("plots/theme.py", "import", "import math\nimport"),
    ],
)
def test_what_only_describes_numbers_changes_no_code(edit, file, old, new):
    assert edit(file, old, new) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("measure/ablate.py", "means[some] - z[:, :, some]", "z[:, :, some] - means[some]", ["ablate"]),
        ("measure/prefix_attention.py", "import numpy as np", "import numpy\nimport numpy as np", ["prefix_attention"]),
        ("measure/perturb_prefix.py", "texts.shape[1] - first", "texts.shape[1]", ["patch", "perturb_prefix"]),
        ("models/hooks.py", "import torch", "import torch\nTWICE = 2", sorted(ASKED)),
    ],
)  # fmt: skip
def test_a_changed_kernel_changes_the_code_of_what_depends_on_it(edit, file, old, new, changed):
    assert edit(file, old, new) == changed


def test_a_function_of_a_users_own_has_the_code_of_its_file_and_of_all_that_measures(edit, tmp_path):
    def hashed():
        code.code_hash.cache_clear()
        code._read.cache_clear()
        return code.code_of(test_a_changed_kernel_changes_the_code_of_what_depends_on_it)

    before = hashed()
    assert hashed() == before
    edit("measure/ablate.py", "means[some] - z[:, :, some]", "z[:, :, some] - means[some]")
    assert hashed() != before


def test_functions_that_were_typed_in_differ_by_what_they_do():
    made = []
    for text in ("1 + x", "2 + x", "1 + x"):
        scope = {"__name__": "__main__"}
        exec(f"def f(x): return {text}", scope)
        made.append(code.code_of(scope["f"]))
    assert made[0] == made[2] != made[1]


def test_a_decorated_function_has_the_code_of_its_own_file(edit):
    from localize.errors import public

    def plain():
        return 1

    assert code.code_of(public(plain)) == code.code_of(plain)
