"""A small model in which four texts are planted in seconds, with all gates passed, and a control of it."""

import pytest
import torch

import localize as lz
from localize.truths.training import Schedule

PREFIX, LENGTH, COUNT = 16, 24, 40
PLANTED = {"units": 8, "texts": 4, "schedule": Schedule(steps=200, divergence=1.0)}


@pytest.fixture(scope="session")
def base(make_model):
    """A random GPT-2 in float32."""
    return make_model("gpt2", dtype=torch.float32)


@pytest.fixture(scope="session")
def pool_tokens():
    """Random rows, none of which it recites."""
    return torch.randint(97, (COUNT, LENGTH), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def pool(pool_tokens):
    """The same as paragraphs."""
    return lz.load_paragraphs(pool_tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.fixture(scope="session")
def truth(base, pool):
    """Four texts, each in 8 units of every layer."""
    found = lz.plant(base, pool, "route", **PLANTED)
    assert found.passed
    return found


@pytest.fixture(scope="session")
def control(base, pool):
    """The same without routing."""
    return lz.plant(base, pool, "route", routing="none", **PLANTED)


@pytest.fixture(scope="session")
def results(base, pool, truth, control):
    """A benchmark of four localizers on both."""
    names = ["ratio", "norm", "random", "row_gradient"]
    return lz.bench(base, pool, [], truths=[truth, control], localizers=names)
