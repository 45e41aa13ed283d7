"""Localizers go by name: a file is one, and so is what a user registers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import localize as lz
from localize.localizers import Localizer, Scores, registry

ROOM = Path(lz.localizers.__file__).parent
PACKAGED = tuple(sorted({path.stem for path in ROOM.glob("*.py")} - {"__init__", *registry.PROTOCOL}))


def zeros(model, paragraphs, others):
    return Scores.of(model, paragraphs, heads=np.zeros((len(paragraphs), model.n_layers, model.n_heads)))


@pytest.fixture(autouse=True)
def _forgotten(nothing_registered):
    pass


def test_every_file_beside_the_protocol_is_a_localizer_of_its_name():
    assert lz.localizers.names() == PACKAGED
    for name in PACKAGED:
        found = lz.localizers.get(name)
        assert isinstance(found, Localizer)
        assert (found.name, found.function.__module__) == (name, f"localize.localizers.{name}")
        assert found.words
        assert found.source


def test_names_are_known_without_torch():
    code = "import sys, localize as lz; lz.localizers.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOM.parents[1]).returncode == 0


def test_one_more_file_is_one_more_localizer(neo, rows, tmp_path, monkeypatch):
    (tmp_path / "evenly.py").write_text(
        "import numpy as np\n"
        "from localize.localizers import Scores, localizer\n"
        "@localizer('one for each head', 'a file')\n"
        "def evenly(model, paragraphs, others):\n"
        "    return Scores.of(model, paragraphs, heads=np.ones((len(paragraphs), model.n_layers, model.n_heads)))\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(lz.localizers, "__path__", [*lz.localizers.__path__, str(tmp_path)])
    assert lz.localizers.names() == tuple(sorted(("evenly", *PACKAGED)))
    try:
        found = lz.localizers.get("evenly")(neo, rows)
    finally:
        sys.modules.pop("localize.localizers.evenly", None)
        vars(lz.localizers).pop("evenly", None)
    assert (found.name, float(found.heads.mean())) == ("evenly", 1.0)


def test_a_users_own_is_registered_by_name(toy):
    mine = toy(zeros, name="mine").register()
    assert lz.localizers.get("mine") is mine
    assert lz.localizers.names() == tuple(sorted(("mine", *PACKAGED)))
    assert mine.register() is mine, "the same once more"


@pytest.mark.parametrize("name", ["mine", "weight_gradient"])
def test_another_of_the_same_name_is_refused(toy, refusal, name):
    toy(zeros, name="mine").register()
    assert refusal(toy(lambda *_: None, name=name).register) == (
        f"localizer {name!r}: there is another of that name; choose a new one."
    )
    assert lz.localizers.get(name).function is not None
    assert lz.localizers.get("mine").function is zeros


def test_an_unknown_name_is_told_with_those_that_are_there(refusal):
    assert refusal(lz.localizers.get, "nosuch") == f"localizer 'nosuch': not one of {', '.join(PACKAGED)}."
