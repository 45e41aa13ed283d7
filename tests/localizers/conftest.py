"""Paragraphs to locate, others to tell them apart from, and a localizer made by hand."""

import pytest
import torch

import localize as lz
from localize.localizers import registry

PREFIX, LENGTH = 24, 40


@pytest.fixture
def rows():
    """Seven unlike paragraphs of 24 + 16 random tokens."""
    tokens = torch.randint(0, 97, (7, LENGTH), generator=torch.Generator().manual_seed(5))
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.fixture
def toy():
    """`toy(function, name="toy", ...)`: a localizer of that function."""

    def make(function, name="toy", **options):
        return lz.localizers.Localizer(name, function, "nothing", "this test", **options)

    return make


@pytest.fixture
def nothing_registered(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_OF_USERS", {})


@pytest.fixture
def refusal():
    """`refusal(call, *arguments, **options)`: the one line of an error."""

    def told(call, *arguments, error=lz.LocalizeError, **options):
        with pytest.raises(error) as caught:
            call(*arguments, **options)
        return str(caught.value)

    return told
