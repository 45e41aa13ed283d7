"""Losses and their gradients by the final states, against autograd through whole logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from localize.measure import scoring
from localize.measure.loss import kl_gradient, nll_gradient
from localize.measure.scoring import score


@pytest.fixture(params=[1, 5, 1000])
def pieces(request, monkeypatch):
    """Logits a row, five rows and all rows at a time."""
    monkeypatch.setattr(scoring, "FEWEST_ROWS", request.param)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", {"cpu": 1})


@pytest.fixture
def states(hooked):
    generator = torch.Generator().manual_seed(3)
    return 2 * torch.randn(3, 7, hooked.d_model, generator=generator, dtype=torch.float64)


@pytest.fixture
def targets():
    return torch.randint(97, (3, 7), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def weights():
    return torch.rand(3, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.usefixtures("pieces")
def test_the_nll_and_its_gradient_are_autograds(hooked, states, targets, weights):
    matched, nll, pull = nll_gradient(hooked, states, targets, weights)
    asked = states.clone().requires_grad_()
    logits = hooked.hf.lm_head(asked)
    expected = cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    (expected * weights).sum().backward()
    assert torch.equal(matched, (logits.argmax(-1) == targets).cumprod(-1).sum(-1))
    assert torch.allclose(nll, expected, rtol=1e-12)
    assert torch.allclose(pull, asked.grad, rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("pieces")
def test_the_score_alone_is_the_same(hooked, states, targets, weights):
    matched, nll, _ = nll_gradient(hooked, states, targets, weights)
    alone = score(hooked, states, targets)
    assert torch.equal(matched, alone[0])
    assert torch.allclose(nll, alone[1], rtol=1e-12)


@pytest.mark.usefixtures("pieces")
def test_the_divergence_and_its_gradient_are_autograds(hooked, states, targets, weights):
    reference = states + 0.3 * states.flip(0)
    _, divergence, pull = kl_gradient(hooked, states, reference, targets, weights)
    asked = states.clone().requires_grad_()
    logs = hooked.hf.lm_head(asked).log_softmax(-1)
    before = hooked.hf.lm_head(reference).log_softmax(-1).detach()
    expected = kl_div(logs, before, reduction="none", log_target=True).sum(-1)
    (expected * weights).sum().backward()
    assert float(expected.detach().min()) > 1e-3
    assert torch.allclose(divergence, expected, rtol=1e-10)
    assert torch.allclose(pull, asked.grad, rtol=1e-9, atol=1e-12)


def test_a_model_does_not_diverge_from_itself_and_nothing_pulls_on_it(hooked, states, targets, weights):
    _, divergence, pull = kl_gradient(hooked, states, states, targets, weights)
    assert float(divergence.abs().max()) == 0
    assert float(pull.abs().max()) == 0


def test_half_precision_is_scored_in_single(make_model, states, targets, weights):
    model = make_model("gpt2", dtype=torch.bfloat16)
    _, nll, pull = nll_gradient(model, states.bfloat16(), targets, weights.float())
    assert (nll.dtype, pull.dtype) == (torch.float32, torch.bfloat16)
