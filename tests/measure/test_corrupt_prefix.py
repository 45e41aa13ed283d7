"""More and more prefix tokens replaced together, against decoded runs and a loop of plain passes."""

from itertools import product

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import ORDERS
from localize.measure.corrupt_prefix import corrupt_prefix, tokens_to_break
from localize.measure.orders import effect_order, numbers_up_to, random_ranks
from localize.measure.replace_rarest import rarest_first, tie_order
from localize.measure.substitutes import uniform_replacements
from localize.models.hooks import HookedModel
from localize.signature.signature import MemorizationSignature

pytestmark = pytest.mark.gpt2_is_slow("hooked")


PREFIX, CONTINUATION = 24, 16
EXACT = 1e-10
NUMBERS = (1, 3, 8, 24)
VARIABLES = ("corrupted_exact_match", "corrupted_nll", "tokens_to_break")


@pytest.fixture
def paragraphs(tokens):
    """Four rows of 40 tokens: longer than the local window."""
    return lz.load_paragraphs(
        tokens[:4, : PREFIX + CONTINUATION], prefix_length=PREFIX, continuation_length=CONTINUATION
    )


@pytest.fixture
def counts():
    return torch.from_numpy(np.random.default_rng(0).zipf(1.4, 97).clip(max=10**6))


def perturbation_of(model, paragraphs, lost=None, risen=None, kinds=("uniform",), continuation="own"):
    """What `perturb_prefix` emits of three draws, with effects made by hand: those of all kinds, draws and positions."""
    shape = (len(paragraphs), len(kinds), 3, PREFIX)
    rng = np.random.default_rng(1)
    lost = rng.integers(0, 9, shape).astype(float) if lost is None else lost
    risen = rng.gamma(2.0, size=shape) if risen is None else risen
    dims, how = ("paragraph", "kind", "draw", "prefix_position"), {"continuation": continuation}
    variables = {
        "unperturbed_exact_match": ("paragraph", np.full(len(paragraphs), CONTINUATION), how),
        "unperturbed_nll": ("paragraph", np.full(len(paragraphs), 0.5), how),
        "perturbed_exact_match": (dims, CONTINUATION - lost, how),
        "perturbed_nll": (dims, 0.5 + risen, how),
    }
    return MemorizationSignature(lz.recall(model, paragraphs).dataset.assign(variables).assign_coords(kind=list(kinds)))


def numbers(signature):
    return np.concatenate([signature[name].values.reshape(len(signature), -1) for name in VARIABLES], axis=1)


def plain_recall(model, row):
    """Exact match and mean NLL of one row's continuation, from all logits."""
    logits, wanted = model(row[None, :-1])[0, PREFIX - 1 :], row[PREFIX:]
    right = (logits.argmax(-1) == wanted).tolist()
    nll = -logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0].mean()
    return right.index(False) if False in right else CONTINUATION, nll.item()


def decoded_match(model, prefix, wanted):
    """Decode greedily, every token by a whole forward pass, and count what is right before the first error."""
    row = prefix[None]
    for _ in range(len(wanted)):
        row = torch.cat([row, model(row)[:, -1].argmax(-1, keepdim=True)], dim=1)
    right = (row[0, len(prefix) :] == wanted).tolist()
    return right.index(False) if False in right else len(right)


def positions_in_order(order, paragraphs, counts, perturbation, row, draw, seed):
    """The positions of one prefix, the first to be replaced first."""
    if order == "first":
        return list(range(PREFIX))
    if order == "last":
        return list(reversed(range(PREFIX)))
    if order == "random":
        return np.argsort(random_ranks([paragraphs.hashes[row]], np.array([draw]), PREFIX, seed)[0]).tolist()
    if order == "rarest":
        ties = tie_order(paragraphs.hashes[row], PREFIX, seed)
        frequency = counts[paragraphs.prefixes[row]].tolist()
        return sorted(range(PREFIX), key=lambda at: (frequency[at], ties[at]))
    dataset = perturbation.dataset.isel(paragraph=row, kind=0)
    left, nll = (dataset[f"perturbed_{name}"].mean("draw").values for name in ("exact_match", "nll"))
    return sorted(range(PREFIX), key=lambda at: (left[at], -nll[at]))


# The numbers


@torch.no_grad()
@pytest.mark.parametrize("continuation", ["own", "true"])
def test_numbers_are_those_of_plain_passes_over_the_changed_text(hooked, paragraphs, counts, continuation):
    perturbation = perturbation_of(hooked, paragraphs, continuation=continuation)
    signature = corrupt_prefix(
        hooked, paragraphs, numbers=NUMBERS, perturbation=perturbation, counts=counts, continuation=continuation,
        seed=4, batch_size=3,
    )  # fmt: skip
    assert signature["corrupted_nll"].dims == ("paragraph", "order", "corruption_draw", "tokens_replaced")
    assert signature["order"].values.tolist() == list(ORDERS)
    assert signature["tokens_replaced"].values.tolist() == list(NUMBERS)
    texts = (paragraphs.with_own_continuation(hooked) if continuation == "own" else paragraphs).tokens
    drawn = torch.from_numpy(
        uniform_replacements(paragraphs, np.arange(97), 5, 4)
    )  # the perturbation used the first three
    for row, (column, order), draw in product(range(4), enumerate(ORDERS), range(2)):
        places = positions_in_order(order, paragraphs, counts, perturbation, row, 3 + draw, 4)
        broken = []
        for index, number in enumerate(NUMBERS):
            changed = texts[row].clone()
            changed[places[:number]] = drawn[row, 3 + draw, places[:number]]
            matched, nll = plain_recall(hooked, changed)
            at = (row, column, draw, index)
            assert signature["corrupted_exact_match"].values[at] == matched
            assert signature["corrupted_nll"].values[at] == pytest.approx(nll, rel=EXACT)
            if matched < signature["unperturbed_exact_match"].values[row] / 2:
                broken.append(number)
        least = signature["tokens_to_break"].values[row, column, draw]
        assert least == min(broken) if broken else np.isnan(least)
    before = [plain_recall(hooked, row) for row in texts]
    assert signature["unperturbed_exact_match"].values.tolist() == [matched for matched, _ in before]
    np.testing.assert_allclose(signature["unperturbed_nll"], [nll for _, nll in before], rtol=EXACT)
    assert {signature[name].attrs["continuation"] for name in (*VARIABLES, "unperturbed_nll")} == {continuation}


@torch.no_grad()
def test_exact_match_is_that_of_a_decoded_run(hooked, paragraphs):
    signature = corrupt_prefix(hooked, paragraphs, orders=("random", "last"), draws=1, numbers=(1, 2, 6), seed=3)
    own = paragraphs.with_own_continuation(hooked).tokens
    drawn = torch.from_numpy(uniform_replacements(paragraphs, np.arange(97), 1, 3))[:, 0]
    for row in range(4):
        for column, order in enumerate(("random", "last")):
            places = positions_in_order(order, paragraphs, None, None, row, 0, 3)
            for index, number in enumerate((1, 2, 6)):
                prefix = own[row, :PREFIX].clone()
                prefix[places[:number]] = drawn[row, places[:number]]
                matched = signature["corrupted_exact_match"].values[row, column, 0, index]
                assert matched == decoded_match(hooked, prefix, own[row, PREFIX:])


def test_as_many_tokens_as_the_prefix_has_are_all_of_it_in_every_order(hooked, paragraphs, counts):
    signature = corrupt_prefix(hooked, paragraphs, counts=counts, draws=3, seed=2)
    whole = signature["corrupted_nll"].sel(tokens_replaced=PREFIX)
    for order in ("rarest", "first", "last"):
        np.testing.assert_allclose(whole.sel(order=order), whole.sel(order="random"), rtol=EXACT)
    own = paragraphs.with_own_continuation(hooked).tokens
    with torch.no_grad():
        for row, draw in np.ndindex(4, 3):
            prefix = torch.from_numpy(uniform_replacements(paragraphs, np.arange(97), 3, 2))[row, draw]
            _, nll = plain_recall(hooked, torch.cat([prefix, own[row, PREFIX:]]))
            assert whole.sel(order="first").values[row, draw] == pytest.approx(nll, rel=EXACT)


@torch.no_grad()
def test_where_no_head_writes_only_the_last_prefix_token_matters(hooked, paragraphs):
    for layer in range(hooked.n_layers):
        hooked.weight(layer, "W_O").zero_()
    signature = corrupt_prefix(hooked, paragraphs, orders=("first", "last"))
    rise = signature["corrupted_nll"] - signature["unperturbed_nll"]
    unchanged = rise.sel(order="first", tokens_replaced=slice(None, PREFIX - 1))
    np.testing.assert_allclose(unchanged, 0, atol=1e-12)
    assert (abs(rise.sel(order="last")) > 1e-6).all()
    broken = signature["tokens_to_break"].sel(order="first")
    assert ((broken == PREFIX) | broken.isnull()).all() and (broken == PREFIX).any()


def test_the_fewest_that_leave_less_than_half_break_the_recital():
    matched = np.array([[8, 4, 3, 5, 0], [16, 16, 16, 9, 8], [0, 0, 0, 0, 0], [7, 16, 0, 0, 0], [1, 1, 1, 1, 1]])
    before, tried = np.array([8, 16, 0, 16, 2]), [1, 2, 4, 8, 24]
    found = tokens_to_break(matched[:, None, None].astype(float), before, tried)[:, 0, 0]
    np.testing.assert_array_equal(found, [4, np.nan, np.nan, 1, np.nan])


def test_batches_order_and_company_do_not_matter(hooked, paragraphs, counts):
    perturbation = perturbation_of(hooked, paragraphs)
    options = {"counts": counts, "numbers": NUMBERS, "draws": 3}
    whole = numbers(corrupt_prefix(hooked, paragraphs, perturbation=perturbation, **options))
    for batch_size in (1, 2, 7, 1000):
        again = corrupt_prefix(hooked, paragraphs, perturbation=perturbation, batch_size=batch_size, **options)
        np.testing.assert_allclose(numbers(again), whole, rtol=EXACT)
    part = perturbation_of(
        hooked, paragraphs[[2, 0]],
        *(perturbation.dataset[name].values[[2, 0]] * sign + shift
          for name, sign, shift in (("perturbed_exact_match", -1, CONTINUATION), ("perturbed_nll", 1, -0.5))),
    )  # fmt: skip
    alone = corrupt_prefix(hooked, paragraphs[[2, 0]], perturbation=part, **options)
    np.testing.assert_allclose(numbers(alone), whole[[2, 0]], rtol=EXACT)
    some = corrupt_prefix(hooked, paragraphs, orders=("last", "random"), numbers=[24, 3, 3], draws=2)
    more = corrupt_prefix(hooked, paragraphs, draws=4)
    np.testing.assert_allclose(
        some["corrupted_nll"],
        more["corrupted_nll"].sel(order=["random", "last"], tokens_replaced=[3, 24])[:, :, :2],
        rtol=EXACT,
    )
    other = corrupt_prefix(hooked, paragraphs, draws=2, seed=1)
    assert not np.isclose(other["corrupted_nll"], more["corrupted_nll"][:, :, :2]).any(axis=(0, 2, 3)).all()


def test_no_more_rows_than_the_batch_size_are_in_flight_and_the_unchanged_beginning_is_read_once(
    neo, paragraphs, monkeypatch
):
    fed, final_states = [], HookedModel.final_states

    def counted(model, tokens, **options):
        fed.append(tuple(tokens.shape))
        return final_states(model, tokens, **options)

    monkeypatch.setattr(HookedModel, "final_states", counted)
    corrupt_prefix(neo, paragraphs, orders="last", draws=9, numbers=(1, 4, 24), continuation="true", batch_size=30)
    whole = PREFIX + CONTINUATION - 1
    assert fed[:2] == [(4, whole), (4, whole)]  # recall, and before the change
    for at, rows in ((2, 30), (6, 6)):
        assert fed[at : at + 4] == [(rows, 23), (rows, whole - 23), (rows, whole - 20), (rows, whole)]
    assert len(fed) == 10


def test_a_batch_that_does_not_fit_into_memory_is_halved_down_to_one_draw(neo, paragraphs, monkeypatch):
    whole, final_states = corrupt_prefix(neo, paragraphs[[0]], orders="random", draws=8), HookedModel.final_states

    def scarce(model, tokens, **options):
        if len(tokens) > 2:
            raise torch.OutOfMemoryError
        return final_states(model, tokens, **options)

    monkeypatch.setattr(HookedModel, "final_states", scarce)
    with pytest.warns(UserWarning, match=r"^prefix corruption: out of memory"):
        again = corrupt_prefix(neo, paragraphs[[0]], orders="random", draws=8)
    np.testing.assert_allclose(numbers(again), numbers(whole), rtol=EXACT)


# The orders


def test_every_draw_has_a_permutation_of_its_own(paragraphs):
    draws = np.arange(300)
    ranks = random_ranks([paragraphs.hashes[0]] * 300, draws, PREFIX, 0)
    assert (np.sort(ranks, axis=1) == np.arange(PREFIX)).all()
    assert len({tuple(row) for row in ranks}) == 300
    taken_first = np.bincount(ranks.argmin(1), minlength=PREFIX)
    assert (np.abs(taken_first - 300 / PREFIX) < 5 * np.sqrt(300 / PREFIX)).all()
    assert np.array_equal(random_ranks([paragraphs.hashes[0]], np.array([7]), PREFIX, 0)[0], ranks[7])
    for row, seed in ((1, 0), (0, 1)):
        other = random_ranks([paragraphs.hashes[row]], np.array([7]), PREFIX, seed)
        assert not np.array_equal(other[0], ranks[7])


def test_the_rarest_go_first_and_equally_rare_ones_in_no_order_of_position(paragraphs):
    frequency = np.tile(np.array([5, 1, 9, 1, 1, 7]), (4, 1))
    orders = np.array([rarest_first(frequency, paragraphs.hashes, seed) for seed in range(200)]).reshape(-1, 6)
    assert (orders[:, 3:] == [0, 5, 2]).all()
    assert (np.sort(orders[:, :3], axis=1) == [1, 3, 4]).all()
    first = np.bincount(orders[:, 0], minlength=6)[[1, 3, 4]]
    assert (np.abs(first - 800 / 3) < 5 * np.sqrt(800 * 2 / 9)).all()


def test_effect_goes_from_most_exact_match_lost_and_among_equals_most_nll_gained(neo, paragraphs):
    lost, risen = np.zeros((4, 1, 3, PREFIX)), np.zeros((4, 1, 3, PREFIX))
    lost[:, 0, :, 5] = [1, 2, 9]
    lost[:, 0, :, 9] = 4  # as much on average
    risen[:, 0, 1, 9] = 0.3
    lost[:, 0, 2, 20] = 16  # most, by one draw
    risen[:, 0, :, 2] = 9.0
    lost[:, 0, :, 11] = risen[:, 0, :, 11] = np.nan
    order = effect_order(perturbation_of(neo, paragraphs, lost, risen))
    assert (order[:, :4] == [20, 9, 5, 2]).all()
    assert (order[:, 4:-1] == [at for at in range(PREFIX) if at not in (20, 9, 5, 2, 11)]).all()
    assert (order[:, -1] == 11).all(), "where nothing was put"


def test_effect_is_that_of_uniform_replacements_where_there_are_such(neo, paragraphs):
    lost = np.zeros((4, 2, 3, PREFIX))
    lost[:, 0, :, 3], lost[:, 1, :, 8], lost[:, 1, :, 3] = 9, 6, 1
    for kinds, first in ((("uniform", "neutral"), 3), (("neutral", "uniform"), 8), (("neutral", "frequency"), 3)):
        order = effect_order(perturbation_of(neo, paragraphs, lost, np.zeros_like(lost), kinds))
        assert (order[:, 0] == first).all()


def test_positions_are_chosen_on_other_draws_than_those_that_score_them(neo, paragraphs):
    perturbation = lz.perturb_prefix(neo, paragraphs, draws=2)
    signature = corrupt_prefix(neo, paragraphs, orders=("effect", "first"), numbers=[1], perturbation=perturbation)
    best = effect_order(perturbation)[:, 0]
    more = lz.perturb_prefix(neo, paragraphs, draws=4)
    scored = more["perturbed_nll"].values[np.arange(4), 0, :, best]
    np.testing.assert_allclose(signature["corrupted_nll"].sel(order="effect")[..., 0], scored[:, 2:], rtol=EXACT)
    np.testing.assert_allclose(
        signature["corrupted_nll"].sel(order="first")[..., 0], more["perturbed_nll"].values[:, 0, 2:, 0], rtol=EXACT
    )
    assert signature.dataset.attrs["calls"][0]["first_draw"] == 2


def test_numbers_tried_grow_by_half_and_by_a_third_up_to_the_whole_prefix():
    assert numbers_up_to(50) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 50]
    assert numbers_up_to(24) == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert [numbers_up_to(length) for length in (1, 2, 3, 5)] == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4, 5]]


def test_without_a_word_all_orders_are_tried_that_can_be(neo, paragraphs):
    without = corrupt_prefix(neo, paragraphs, numbers=[1])
    assert without["order"].values.tolist() == ["random", "rarest", "first", "last"]
    given = corrupt_prefix(neo, paragraphs, numbers=[1], perturbation=perturbation_of(neo, paragraphs))
    assert given["order"].values.tolist() == list(ORDERS)
    twice = corrupt_prefix(neo, paragraphs, orders=["last", "first", "last"], numbers=[2, 1, 2])
    assert twice["order"].values.tolist() == ["first", "last"]
    assert twice["tokens_replaced"].values.tolist() == [1, 2]


def test_what_made_it_is_told(neo, paragraphs, counts):
    signature = corrupt_prefix(neo, paragraphs, counts=counts, numbers=[1, 2], seed=5)
    call = signature.dataset.attrs["calls"][0]
    assert {name: call[name] for name in ("measurement", "orders", "draws", "first_draw", "numbers", "counts", "seed")} == {
        "measurement": "corrupt_prefix", "orders": ["random", "rarest", "first", "last"], "draws": 2, "first_draw": 0,
        "numbers": [1, 2], "counts": "given", "seed": 5,
    }  # fmt: skip
    assert "counts" not in corrupt_prefix(neo, paragraphs, orders="last", numbers=[1]).dataset.attrs["calls"][0]


def test_it_joins_with_the_perturbation_and_is_saved(neo, paragraphs, tmp_path):
    perturbation = lz.perturb_prefix(neo, paragraphs)
    joined = corrupt_prefix(neo, paragraphs, perturbation=perturbation) | perturbation
    joined.save(tmp_path / "joined.zarr.zip")
    again = lz.load_signature(tmp_path / "joined.zarr.zip")
    assert {"corrupted_nll", "perturbed_nll", "tokens_to_break"} <= set(again.variables)
    assert again.dataset.identical(joined.dataset)


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws=0 and batch_size=64 must be whole numbers of at least 1."),
        ({"batch_size": 0}, "draws=2 and batch_size=0 must be whole numbers of at least 1."),
        ({"orders": "rare"}, "order 'rare' is not one of random, rarest, effect, first, last."),
        ({"orders": ("first", "rare")}, "order 'rare' is not one of random, rarest, effect, first, last."),
        ({"orders": ()}, "orders=() is empty; at least one of random, rarest, effect, first, last is needed."),
        ({"numbers": [0, 1]}, "number 0 must be a whole number in 1..24, the tokens of the prefix."),
        ({"numbers": [25]}, "number 25 must be a whole number in 1..24, the tokens of the prefix."),
        ({"numbers": []}, "numbers=[] is empty; at least one in 1..24 is needed."),
        ({"continuation": "false"}, "continuation='false' is not one of true, own."),
        (
            {"orders": ["effect"]},
            "the order 'effect' needs perturbation=localize.perturb_prefix(model, paragraphs), which measures it.",
        ),
        (
            {"counts": torch.ones(90, dtype=torch.long)},
            "counts has 90 entries; the vocabulary of small gpt-neo has 97.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_one_line(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        corrupt_prefix(neo, paragraphs, **options)
    assert str(caught.value) == f"corrupt_prefix: {message}"


def refusal(model, paragraphs, perturbation, **options):
    with pytest.raises(lz.LocalizeError) as caught:
        corrupt_prefix(model, paragraphs, perturbation=perturbation, **options)
    return str(caught.value).removeprefix("corrupt_prefix: ")


def test_a_perturbation_of_something_else_is_refused(neo, make_model, paragraphs):
    assert refusal(neo, paragraphs, lz.recall(neo, paragraphs)) == (
        "perturbation has no 'perturbed_exact_match'; measure it with localize.perturb_prefix(model, paragraphs)."
    )
    other, perturbation = make_model("gpt-neo", seed=1), perturbation_of(neo, paragraphs)
    assert refusal(other, paragraphs, perturbation) == (
        f"perturbation is of small gpt-neo (weights_hash {neo.weights_hash()[:12]}), the model is small gpt-neo "
        f"(weights_hash {other.weights_hash()[:12]}); they must be the same."
    )
    three = paragraphs[:3]
    assert refusal(neo, three, perturbation) == (
        f"perturbation is of 4 of Tensor (data_hash {paragraphs.data_hash[:12]}), the paragraphs are 3 of Tensor "
        f"(data_hash {three.data_hash[:12]}); the same ones, in the same order, are needed."
    )
    part = MemorizationSignature(perturbation.dataset.isel(paragraph=[0, 2]))  # its data_hash is the whole's
    assert refusal(neo, paragraphs, part).startswith("perturbation is of 2 of Tensor")
    assert refusal(neo, paragraphs, perturbation, continuation="true") == (
        "perturbation is of the own continuation, continuation='true' is asked for; they must be the same."
    )


def test_true_continuations_cannot_be_asked_of_paragraphs_that_hold_own_ones_only(neo, tokens):
    own = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION, continuation="own")
    with pytest.raises(lz.InputError) as caught:
        corrupt_prefix(neo, own, continuation="true")
    assert (
        str(caught.value)
        == "corrupt_prefix: Tensor hold own continuations only; continuation='true' needs the true text."
    )
