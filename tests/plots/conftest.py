"""Small random signatures, measured by the real functions."""

from dataclasses import replace

import pytest
import torch

import localize as lz
from localize.train.loop import build_model
from localize.train.recipe import Shape

PREFIX, LENGTH, VOCAB = 12, 20, 97


def random_paragraphs(groups, *, hostile_text="<script>alert(1)</script>"):
    tokens = torch.randint(0, VOCAB, (len(groups), LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[1], tokens[3] = tokens[0], tokens[2]  # near-duplicates: fewer clusters than paragraphs
    loaded = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    copies = tuple(index % 3 for index in range(len(groups)))
    return replace(loaded.with_groups(groups), duplicates=copies, texts=(hostile_text,) * len(groups))


def random_model(**shape):
    model = build_model(Shape(window=6, **shape), VOCAB, 0)
    for parameter in model.hf.parameters():
        parameter.data.mul_(3)
    return model


@pytest.fixture(scope="session")
def model():
    return random_model(d_model=16, heads=4, layers=4)


@pytest.fixture(scope="session")
def paragraphs():
    return random_paragraphs(["memorized"] * 8 + ["partial"] * 6 + ["not_memorized"] * 10)


@pytest.fixture(scope="session")
def signature(model, paragraphs):
    return (
        lz.gradients(model, paragraphs) | lz.rare_token_heads(model, paragraphs) | lz.perturb_prefix(model, paragraphs)
    )


@pytest.fixture(scope="session")
def one_draw(model, paragraphs):
    return lz.perturb_prefix(model, paragraphs, draws=1, continuation="true")


@pytest.fixture(scope="session")
def twelve_by_twelve():
    model, paragraphs = (
        random_model(d_model=24, heads=12, layers=12),
        random_paragraphs(["memorized"] * 4 + ["not_memorized"] * 4),
    )
    return lz.gradients(model, paragraphs, sets=False) | lz.rare_token_heads(model, paragraphs, null_draws=2)
