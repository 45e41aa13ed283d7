"""Paragraphs to locate, others to tell them apart from, and a localizer made by hand."""

import pytest
import torch

import localize as lz
from localize.localizers import registry
from tests.conftest import LENGTH, PREFIX


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


@pytest.fixture
def one_unit(make_model):
    """A model, paragraphs whose continuation repeats a token, other texts without it, and the (layer, unit) that alone says it.

    The unit is at work after that token only, and writes what the unembedding reads as the token; all else writes next to nothing.
    """
    model, token, place = make_model("gpt2", tie_word_embeddings=False), 5, (1, 7)
    body = model.hf.transformer
    mlp, norm = body.h[1].mlp, body.h[1].ln_2
    with torch.no_grad():
        body.wpe.weight.zero_()
        for block in model.blocks:
            for module in (block.attn.c_proj, block.mlp.c_proj):
                module.weight.mul_(1e-4)
                module.bias.zero_()
        read = norm(body.wte.weight)
        way = read[token] - read.mean(0)
        along = read @ way
        next_best = along[torch.arange(97) != token].max()
        scale = 7 / (along[token] - next_best)
        mlp.c_fc.weight[:, place[1]] = scale * way
        mlp.c_fc.bias[place[1]] = 4 - scale * along[token]  # 4 after the token, -3 at most after any other
        mlp.c_proj.weight[place[1]] = model.hf.lm_head.weight[token]
    tokens = torch.randint(6, 97, (12, LENGTH), generator=torch.Generator().manual_seed(2))
    own = tokens[:4].clone()
    own[:, PREFIX - 1 :] = token
    given = {"prefix_length": PREFIX, "continuation_length": LENGTH - PREFIX}
    return model, lz.load_paragraphs(own, **given), lz.load_paragraphs(tokens[4:], **given), place
