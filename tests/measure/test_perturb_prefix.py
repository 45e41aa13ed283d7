"""Prefix perturbation against decoded runs and against a plain rerun without a cache."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import KINDS
from localize.measure import perturb_prefix
from localize.measure.copies import most_changed
from localize.measure.perturb_prefix import perturbed_recall
from localize.measure.scoring import measure_recall

pytestmark = pytest.mark.gpt2_is_slow("hooked")


PREFIX, CONTINUATION = 24, 16


@pytest.fixture
def paragraphs(tokens):
    return lz.load_paragraphs(tokens[:4], prefix_length=PREFIX, continuation_length=CONTINUATION)


def decoded(model, prefixes, length):
    """Decode greedily, every token by a whole forward pass."""
    for _ in range(length):
        prefixes = torch.cat([prefixes, model(prefixes)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return prefixes


def match(said, wanted):
    """Count what is right before the first error."""
    right = (said == wanted).tolist()
    return right.index(False) if False in right else len(right)


def changed_rows(signature, tokens, kind, draw, position, span=1):
    """The paragraphs with the tokens from one position on replaced, and which of them can be."""
    put = torch.tensor(signature["replacement"].sel(kind=kind).values[:, draw, position : position + span])
    changed = tokens.clone()
    changed[:, position : position + span] = put
    return changed, (put >= 0).all(1)


@torch.no_grad()
@pytest.mark.parametrize("continuation", ["own", "true"])
def test_perturbed_exact_match_is_that_of_a_decoded_run_at_every_position(hooked, paragraphs, continuation):
    signature = lz.perturb_prefix(hooked, paragraphs, draws=2, continuation=continuation, seed=3)
    tokens = paragraphs.with_own_continuation(hooked).tokens if continuation == "own" else paragraphs.tokens
    matched = signature["perturbed_exact_match"].sel(kind="uniform").values
    cells = [(draw, position) for draw in range(2) for position in range(PREFIX)]
    changed = torch.cat([changed_rows(signature, tokens, "uniform", *cell)[0] for cell in cells])
    said = decoded(hooked, changed[:, :PREFIX], CONTINUATION).view(len(cells), len(paragraphs), -1)
    for (draw, position), of_cell in zip(cells, said, strict=True):
        for row in range(len(paragraphs)):
            assert matched[row, draw, position] == match(of_cell[row, PREFIX:], tokens[row, PREFIX:])


@pytest.mark.parametrize("span", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_every_kind_and_span_is_that_of_a_rerun_without_cache(hooked, paragraphs, span):
    signature = lz.perturb_prefix(hooked, paragraphs, kinds=KINDS, draws=2, span=span, seed=1, batch_size=5)
    own = paragraphs.with_own_continuation(hooked).tokens
    for kind in KINDS:
        part = signature.dataset.sel(kind=kind)
        wrong, count = np.zeros((len(paragraphs), CONTINUATION)), 0
        for draw in range(2):
            for position in range(PREFIX - span + 1):
                changed, there = changed_rows(signature, own, kind, draw, position, span)
                there = there.numpy()
                changed[changed < 0] = 0
                plain = measure_recall(hooked, changed, PREFIX)
                nll, matched = (part[f"perturbed_{what}"].values[:, draw, position] for what in ("nll", "exact_match"))
                assert np.allclose(nll[there], plain.token_nll.mean(1)[there], rtol=1e-10, atol=0)
                assert np.array_equal(matched[there], plain.exact_match[there])
                assert np.isnan(nll[~there]).all() and np.isnan(matched[~there]).all()
                assert there.all() == (kind != "second_choice" or position > 0)
                with torch.no_grad():
                    said = hooked(changed[:, :-1])[:, PREFIX - 1 :].argmax(-1)
                wrong += ((said != own[:, PREFIX:]).numpy()) * there[:, None]
                count += there.all()
        assert np.isnan(part["perturbed_nll"].values[:, :, PREFIX - span + 1 :]).all()
        assert np.allclose(part["perturbed_token_error"].values, wrong / count)


def test_it_is_the_same_however_many_positions_are_fed_together(hooked, tokens, monkeypatch):
    replacements = torch.randint(97, (3, PREFIX), generator=torch.Generator().manual_seed(1))
    found = []
    for tokens_at_once in (1, 150, 10**6):
        monkeypatch.setattr(perturb_prefix, "TOKENS_AT_ONCE", {"cpu": tokens_at_once})
        found.append(perturbed_recall(hooked, tokens, replacements, paragraph=torch.tensor([0, 2, 2]), span=2))
    for other in found[1:]:
        assert torch.equal(found[0].exact_match, other.exact_match)
        assert torch.allclose(found[0].nll, other.nll, rtol=1e-12)
        assert torch.equal(found[0].wrong, other.wrong)


def test_own_continuations_are_matched_whole_before_the_change(hooked, paragraphs):
    signature = lz.perturb_prefix(hooked, paragraphs)
    assert (signature["unperturbed_exact_match"] == CONTINUATION).all()
    assert (signature["perturbed_exact_match"] <= CONTINUATION).all()
    assert {signature[name].attrs["continuation"] for name in ("perturbed_nll", "unperturbed_nll")} == {"own"}
    assert signature["nll"].attrs["continuation"] == "true"
    assert np.allclose(signature["unperturbed_token_nll"].mean("continuation_position"), signature["unperturbed_nll"])
    assert np.array_equal(signature["unperturbed_tokens"], paragraphs.with_own_continuation(hooked).tokens)


@torch.no_grad()
@pytest.mark.parametrize("span", [1, 2])
def test_the_copy_is_what_is_said_after_the_most_harmful_change(hooked, paragraphs, span):
    signature = lz.perturb_prefix(hooked, paragraphs, kinds=("neutral", "uniform"), draws=3, span=span)
    own = paragraphs.with_own_continuation(hooked).tokens
    for kind in ("neutral", "uniform"):
        part = signature.dataset.sel(kind=kind)
        matched, nll = part["perturbed_exact_match"].values, part["perturbed_nll"].values
        for row in range(len(paragraphs)):
            places = range(PREFIX - span + 1)
            at = min(places, key=lambda p, r=row: (matched[r, :, p].sum(), -nll[r, :, p].mean()))
            draw = min(range(3), key=lambda d, r=row, at=at: (matched[r, d, at], -nll[r, d, at]))
            prefix = own[row, :PREFIX].clone()
            prefix[at : at + span] = torch.tensor(part["replacement"].values[row, draw, at : at + span])
            said = decoded(hooked, prefix[None], CONTINUATION)[0]
            assert part["copy_position"].values[row] == at
            assert np.array_equal(part["copy_tokens"].values[row], said.numpy())
            assert part["copy_exact_match"].values[row] == match(said[PREFIX:], own[row, PREFIX:])
            assert part["copy_exact_match"].values[row] == matched[row, draw, at]
            assert part["copy_tokens_wrong"].values[row] == (said != own[row])[PREFIX:].sum()
            assert 0 < part["copy_edit_distance"].values[row] <= part["copy_tokens_wrong"].values[row]
            assert part["copy_longest_run"].values[row] < CONTINUATION


def test_the_copy_can_be_asked_for_further_back(neo, paragraphs):
    everywhere, early = lz.perturb_prefix(neo, paragraphs), lz.perturb_prefix(neo, paragraphs, copy_positions=range(5))
    assert (early["copy_position"] < 5).all() and not (everywhere["copy_position"] < 5).all()
    assert early["perturbed_nll"].equals(everywhere["perturbed_nll"])
    matched, nll = (early[f"perturbed_{what}"].values[:, 0, :, :5].mean(1) for what in ("exact_match", "nll"))
    assert np.array_equal(early["copy_position"].values[:, 0], most_changed(matched, nll))


def test_the_most_changed_is_not_the_earliest_but_by_nll_among_equals_and_never_nan():
    exact, nll = np.array([[3.0, 0.0, 0.0, np.nan, 0.0]]), np.array([[9.0, 1.0, 2.0, np.nan, 1.5]])
    assert most_changed(exact, nll).tolist() == [2]


def test_draws_do_not_depend_on_batches_order_or_company(neo, paragraphs):
    options = {"kinds": ("uniform", "second_choice"), "draws": 2}
    whole = lz.perturb_prefix(neo, paragraphs, batch_size=64, **options)
    pieces = [lz.perturb_prefix(neo, paragraphs[[row]], batch_size=1, **options) for row in (2, 0)]
    for row, piece in zip((2, 0), pieces, strict=True):
        for name in ("replacement", "copy_tokens"):
            assert np.array_equal(whole[name].values[row], piece[name].values[0])
        for name in ("perturbed_nll", "perturbed_token_error"):
            assert np.allclose(whole[name].values[row], piece[name].values[0], rtol=1e-10, equal_nan=True)
    more = lz.perturb_prefix(neo, paragraphs, draws=3)
    assert np.array_equal(more["replacement"].values[:, 0, :2], whole["replacement"].values[:, 0])
    assert not np.array_equal(lz.perturb_prefix(neo, paragraphs, seed=1)["replacement"], whole["replacement"][:, :1])


@pytest.mark.filterwarnings("ignore:prefix perturbation. out of memory")
def test_a_batch_that_runs_out_of_memory_is_halved_down_to_one_draw_of_one_paragraph(neo, paragraphs, monkeypatch):
    whole, fed = lz.perturb_prefix(neo, paragraphs, draws=3), []

    def short_of_memory(model, tokens, replacements, **options):
        fed.append(len(replacements))
        if len(replacements) > 1:
            raise torch.OutOfMemoryError
        return perturbed_recall(model, tokens, replacements, **options)

    monkeypatch.setattr(perturb_prefix, "perturbed_recall", short_of_memory)
    halved = lz.perturb_prefix(neo, paragraphs, draws=3)
    assert fed == [12, 6, 3] + [1] * 12
    assert np.allclose(halved["perturbed_nll"], whole["perturbed_nll"], rtol=1e-10, atol=0)
    assert np.array_equal(halved["perturbed_exact_match"], whole["perturbed_exact_match"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "perturb_prefix: draws=0, span=1 and batch_size=64 must be whole numbers of at least 1."),
        ({"span": 0}, "perturb_prefix: draws=2, span=0 and batch_size=64 must be whole numbers of at least 1."),
        ({"batch_size": 0}, "perturb_prefix: draws=2, span=1 and batch_size=0 must be whole numbers of at least 1."),
        ({"span": 25}, "perturb_prefix: span=25 must be at most 24, the prefix length of Tensor."),
        (
            {"kinds": ("uniform", "rare")},
            "perturb_prefix: kinds=('uniform', 'rare') must be one or several of "
            "uniform, frequency, second_choice, neutral.",
        ),
        (
            {"kinds": ()},
            "perturb_prefix: kinds=() must be one or several of uniform, frequency, second_choice, neutral.",
        ),
        (
            {"kinds": "neutral", "draws": 97},
            "perturb_prefix: draws=97 must be at most 96 for neutral, which gives each draw another token.",
        ),
        (
            {"counts": np.ones(5, dtype=int)},
            "perturb_prefix: counts has 5 entries; the vocabulary of small gpt-neo has 97.",
        ),
        (
            {"copy_positions": [3, 24]},
            "perturb_prefix: copy_positions=[3, 24] must be whole numbers in 0..23, the prefix of Tensor.",
        ),
        (
            {"copy_positions": []},
            "perturb_prefix: copy_positions=[] must be whole numbers in 0..23, the prefix of Tensor.",
        ),
        (
            {"copy_positions": [23], "span": 2},
            "perturb_prefix: Tensor: nothing can be replaced at copy_positions=[23]: no span of 2 starts there, "
            "or nothing predicts the first token.",
        ),
        ({"continuation": "mine"}, "perturb_prefix: continuation='mine' is not one of true, own."),
    ],
)
def test_what_cannot_be_asked_for_is_told_in_one_line(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        lz.perturb_prefix(neo, paragraphs, **options)
    assert str(caught.value) == message


def test_a_prefix_of_one_token_has_no_second_choice(neo, tokens):
    short = lz.load_paragraphs(tokens, prefix_length=1, continuation_length=5)
    with pytest.raises(lz.InputError) as caught:
        lz.perturb_prefix(neo, short, kinds="second_choice")
    assert str(caught.value) == (
        "perturb_prefix: Tensor: a prefix of 1 token has no second choice; nothing predicts the first token."
    )
    assert lz.perturb_prefix(neo, short)["perturbed_nll"].shape == (6, 1, 2, 1)


def test_true_continuations_cannot_be_asked_of_paragraphs_that_hold_own_ones_only(neo, tokens):
    own = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION, continuation="own")
    with pytest.raises(lz.InputError) as caught:
        lz.perturb_prefix(neo, own, continuation="true")
    assert (
        str(caught.value)
        == "perturb_prefix: Tensor hold own continuations only; continuation='true' needs the true text."
    )


def test_the_three_measurements_join(neo, paragraphs):
    signature = (
        lz.gradients(neo, paragraphs) | lz.rare_token_heads(neo, paragraphs) | lz.perturb_prefix(neo, paragraphs)
    )
    assert {"gradient_max", "rare_token_score", "perturbed_nll", "exact_match"} <= set(signature.variables)
    assert [call["measurement"] for call in signature.dataset.attrs["calls"]] == [
        "gradients",
        "rare_token_heads",
        "perturb_prefix",
    ]
