"""What the README shows runs: each block in its order, on small things that are named here; what cannot is listed with its reason."""

import contextlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import localize as lz
from localize import cli

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^(?:<!-- ci: (?P<ci>\w+) -->\n)?```(?P<language>python|toml|bash)\n(?P<text>.*?)^```$", re.M | re.S
)
BLOCKS = list(BLOCK.finditer(README))

INSTEAD = {
    'source = "EleutherAI/gpt-neo-125M"': "source = 'gpt-neo-125M'",  # a folder of two checkpoints
    "EleutherAI/gpt-neo-125M": str(ROOT / "data" / "model"),
    "lz.load_paragraphs()": "lz.load_paragraphs().spaced(12)",
    "MODEL PARAGRAPHS.csv --general TEXT.csv": f"{ROOT / 'data' / 'model'} pile.csv --general general.csv",
    "--repeats 5": "--repeats 1",
    "--fraction 0.001": "--fraction 0.01",
    "forget=10": "forget=2",
    "keep, mask)  # or rewrite": "keep, mask, steps=2)  # or rewrite",
    "lz.relearn(model, sets.forget)": "lz.relearn(model, sets.forget, steps=1)",
    "never_trained, sets.keep[:10]": "never_trained, sets.keep[:4], steps=1",
    "lz.balanced_subnet(model, sets.forget, keep)": "lz.balanced_subnet(model, sets.forget, keep, steps=1)",
    "signature.distinguish()": "signature.distinguish(permutations=5, repeats=1, resamples=100)",
    'metrics=("first_changed", "continuation"))': 'metrics=("first_changed", "continuation"), sites=["v"], streams=["resid"])',
    "draws=4)": "draws=1)",
}
"""What is put in the place of what: models, files and sizes that are here."""

OPTIONS = {
    "run": "--measure gradients",
    "edit": "--sample 12 --forget 2 --steps 1 --relearn 1 --no-controls",
}
"""What is added to a command, so that it takes no time."""

NOT_HERE = {
    "s3://": "an object store and a scheduler",
    "localize train": "minutes; tests/train trains",
    " dose": "what the training before it leaves; tests/cli/test_train.py trains less, and tells and draws it",
    "capacity.zarr": "minutes; tests/sweep/test_trainings.py trains less",
    "pip install": "the network",
    "dask_jobqueue": "a cluster; it is compiled",
}
"""What is not run, by what it is known by, and what it would need."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the README's files are: made of 12 of the embedded paragraphs."""
    place = tmp_path_factory.mktemp("readme")
    rows = lz.load_paragraphs().spaced(12)
    pd.DataFrame({"text": rows.texts, "id": rows.ids}).to_csv(place / "pile.csv", index=False)
    unseen = lz.unseen_paragraphs(lz.load_model())
    pd.DataFrame({"text": unseen.texts[:4]}).to_csv(place / "general.csv", index=False)
    pd.DataFrame({"text": rows.texts}).to_json(place / "corpus.jsonl", orient="records", lines=True)
    np.save(place / "rows.npy", rows.tokens.numpy())
    changed = rows.tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 100
    torch.save(rows.tokens[:4], place / "mem_toks.pt")
    torch.save(changed[:4], place / "perturbed_mem_toks.pt")
    for step in (1000, 2000):
        shutil.copytree(ROOT / "data" / "model", place / "gpt-neo-125M" / f"step{step}")
    return place


class Reader:
    """Somebody who does what the README says, from the first block on."""

    def __init__(self, folder):
        self.folder, self.names, self.done = folder, {}, 0

    def read_to(self, number):
        while self.done <= number:
            self.done += 1
            with contextlib.chdir(self.folder):
                self.do(BLOCKS[self.done - 1])

    def do(self, block):
        text = block["text"]
        for written, instead in INSTEAD.items():
            text = text.replace(written, instead)
        if block["ci"] or (block["language"] != "bash" and any(known in text for known in NOT_HERE)):
            return
        if block["language"] == "toml":
            (self.folder / "grid.toml").write_text(text, encoding="utf-8")
        elif block["language"] == "bash":
            for line in text.splitlines():
                self.call(line)
        else:
            if "signature.causal_check()" in text:  # of all that `localize run` measures
                self.names["signature"] = everything(self.names["model"], self.names["paragraphs"])
            exec(compile(text, "README.md", "exec"), self.names)

    def call(self, line):
        if any(known in line for known in NOT_HERE):
            return
        name, command, *rest = shlex.split(line, comments=True)
        assert name == "localize"
        argv, sys.argv = sys.argv, [name, command, *rest, *OPTIONS.get(command, "").split()]
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.argv = argv
        assert not code, f"{line}: {code}"


def everything(model, paragraphs):
    copies = lz.perturb_prefix(model, paragraphs, draws=2)
    patches = lz.patch(model, paragraphs, copies, sites=["v"], streams=["resid"])
    heads = lz.rare_token_heads(model, paragraphs, null_draws=2, untrained=False)
    stored = lz.stored_units(model, paragraphs)
    stored |= lz.locality(model, paragraphs, scores=stored, reference=paragraphs)
    return stored | lz.gradients(model, paragraphs) | heads | lz.ablate(model, paragraphs) | copies | patches


@pytest.fixture(scope="module")
def reader(folder):
    return Reader(folder)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_after_those_before_it(number, reader, capfd):
    reader.read_to(number)
    assert reader.done == number + 1


def test_every_python_block_is_python_and_its_public_names_are_there():
    for block in BLOCKS:
        if block["language"] == "python":
            compile(block["text"], "README.md", "exec")
            for name in re.findall(r"\blz\.(?:plots\.)?\w+", block["text"]):
                at = lz
                for part in name.split(".")[1:]:
                    at = getattr(at, part)


def test_what_is_put_in_the_place_of_something_stands_in_the_readme():
    texts = "".join(block["text"] for block in BLOCKS)
    assert [written for written in (*INSTEAD, *NOT_HERE) if written not in texts] == []


def test_blocks_that_ci_runs_are_those_that_its_script_asks_for():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {block["ci"] for block in BLOCKS if block["ci"]} == set(re.findall(r"\$\(readme (\w+)\)", script))
