"""Noise on weights, against models whose weights are changed one by one, and its control."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

import localize as lz
from localize.axes import COMPONENTS, RANDOM
from localize.edit import noise as module
from localize.edit.noise import drawn_noise, halved, largest_places, noise, noised, random_places
from localize.keyed import keyed_integer
from localize.measure import scoring

PREFIX, LENGTH = 20, 30
GROUPS = ["memorized"] * 5 + ["partial"] * 2 + ["not_memorized"] * 4
SIZES = {
    "gpt-neo": {"hidden_size": 16, "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gpt2": {"n_embd": 16, "n_layer": 2},
}
ONE = {"fractions": 0.02, "strengths": 1.5, "draws": 1}
FEW = {"fractions": (0.002, 0.02), "strengths": (0.0, 1.5), "draws": 2}


@pytest.fixture
def model(make_model, family):
    """2 layers x 4 heads, d_model 16: few enough weights for loops over all of them."""
    return make_model(family, **SIZES[family])


@pytest.fixture
def neo(make_model):
    return make_model("gpt-neo", **SIZES["gpt-neo"])


@pytest.fixture
def paragraphs():
    rows = torch.randint(97, (len(GROUPS), LENGTH), generator=torch.Generator().manual_seed(1))
    rows[1, :-1] = rows[0, :-1]  # near-duplicates: four clusters are memorized
    return lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX).with_groups(GROUPS)


def stored_at(model, layer, component, row, column):
    """The parameter that holds a weight, and its place there, counted by hand from how each family stores it."""
    block, width = model.blocks[layer], model.d_model
    if model.family == "gpt2":
        third = ("W_Q", "W_K", "W_V").index(component) if component in ("W_Q", "W_K", "W_V") else 0
        held = {"W_O": block.attn.c_proj, "W_in": block.mlp.c_fc, "W_out": block.mlp.c_proj}
        return held.get(component, block.attn.c_attn).weight, (row, third * width + column)
    attention = block.attn.attention
    held = {
        "W_Q": attention.q_proj, "W_K": attention.k_proj, "W_V": attention.v_proj, "W_O": attention.out_proj,
        "W_in": block.mlp.c_fc, "W_out": block.mlp.c_proj,
    }  # fmt: skip
    return held[component].weight, (column, row)


def by_hand(model, tokens):
    """Exact match and mean NLL of each row's continuation from one whole pass."""
    with torch.no_grad():
        logits = model.copied()(tokens)[:, PREFIX - 1 : -1]
    matched, nll = [], []
    for row, targets in zip(logits, tokens[:, PREFIX:], strict=True):
        right = 0
        while right < len(targets) and int(row[right].argmax()) == int(targets[right]):
            right += 1
        matched.append(right)
        nll.append(float(-log_softmax(row, -1)[range(len(targets)), targets].mean()))
    return np.array(matched), np.array(nll)


def sorted_weights(model, tokens):
    """All block weights from the largest |gradient| of the rows' mean NLL down, as (layer, component, row, column)."""
    copy, ranked = model.copied(), []
    cross_entropy(copy(tokens)[:, PREFIX - 1 : -1].flatten(0, 1), tokens[:, PREFIX:].flatten()).backward()
    size = {parameter: parameter.grad.abs().tolist() for parameter in copy.hf.parameters()}
    for layer in range(model.n_layers):
        for component in COMPONENTS:
            rows, columns = model.weight(layer, component).shape
            for row in range(rows):
                for column in range(columns):
                    parameter, (first, second) = stored_at(copy, layer, component, row, column)
                    ranked.append((-size[parameter][first][second], layer, component, row, column))
    return [place for _, *place in sorted(ranked, key=lambda found: found[0])]


def with_noise(model, chosen, strength, draw, seed=0):
    """A copy of the model, each chosen weight changed alone."""
    copy, fields, spreads = model.copied(), {}, {}
    for layer, component, row, column in chosen:
        matrix = model.weight(layer, component)
        if (layer, component) not in fields:
            key = keyed_integer(2**32, "weight noise", seed, draw, layer, component)
            fields[layer, component] = np.random.default_rng(key).standard_normal(matrix.numel(), np.float32)
            mean = sum(matrix.flatten().tolist()) / matrix.numel()
            spreads[layer, component] = math.sqrt(
                sum((w - mean) ** 2 for w in matrix.flatten().tolist()) / matrix.numel()
            )
        normal = float(fields[layer, component][row * matrix.shape[1] + column])
        parameter, at = stored_at(copy, layer, component, row, column)
        with torch.no_grad():
            parameter[at] += strength * spreads[layer, component] * normal
    return copy


def test_each_half_is_measured_under_the_noised_weights_that_the_other_half_chose(model, paragraphs):
    own = paragraphs.with_own_continuation(model)
    found = noise(model, paragraphs, **FEW)
    total = sum(model.weight(layer, name).numel() for layer in range(model.n_layers) for name in COMPONENTS)
    counts = [round(0.002 * total), round(0.02 * total)]
    assert found["noised_nll"].dims == ("paragraph", "chosen_by", "weights_noised", "strength", "noise_draw")
    assert found.dataset["weights_noised"].values.tolist() == counts
    for group in ("memorized", "not_memorized"):
        members = np.array(GROUPS) == group
        half = halved(paragraphs.clusters, members, 0)
        for choosing in (False, True):
            ranked = sorted_weights(model, own.tokens[members & (half == choosing)])
            for k, draw in ((0, 1), (1, 0)):
                matched, nll = by_hand(with_noise(model, ranked[: counts[k]], 1.5, draw), own.tokens)
                here = {"chosen_by": group, "weights_noised": counts[k], "strength": 1.5, "noise_draw": draw}
                measured = half != choosing
                assert found["noised_exact_match"].sel(here).values[measured].tolist() == matched[measured].tolist()
                np.testing.assert_allclose(
                    found["noised_nll"].sel(here).values[measured], nll[measured], rtol=0, atol=1e-12
                )


def test_the_control_is_the_same_noise_on_as_many_random_weights_of_each_matrix(model, paragraphs):
    own = paragraphs.with_own_continuation(model)
    found = noise(model, paragraphs, **FEW)
    counts, members = found.dataset["weights_noised"].values, np.array(GROUPS) == "memorized"
    half = halved(paragraphs.clusters, members, 0)
    for choosing, draw in ((False, 0), (True, 1)):
        ranked = sorted_weights(model, own.tokens[members & (half == choosing)])[: counts[1]]
        chosen = []
        for layer in range(model.n_layers):
            for component in COMPONENTS:
                matrix = model.weight(layer, component)
                key = keyed_integer(2**32, "random weights", 0, draw, layer, component)
                order = np.random.default_rng(key).permutation(matrix.numel())
                size = sum(place[:2] == [layer, component] for place in ranked)
                chosen += [(layer, component, *divmod(int(place), matrix.shape[1])) for place in order[:size]]
        matched, nll = by_hand(with_noise(model, chosen, 1.5, draw), own.tokens)
        here, measured = (
            {"chosen_by": RANDOM, "weights_noised": counts[1], "strength": 1.5, "noise_draw": draw},
            half != choosing,
        )
        assert found["noised_exact_match"].sel(here).values[measured].tolist() == matched[measured].tolist()
        np.testing.assert_allclose(found["noised_nll"].sel(here).values[measured], nll[measured], rtol=0, atol=1e-12)


def test_noise_of_strength_0_is_the_unnoised_model(model, paragraphs):
    found = noise(model, paragraphs, **FEW)
    still = found.dataset.sel(strength=0.0)
    for name, before in (("noised_exact_match", "unperturbed_exact_match"), ("noised_nll", "unperturbed_nll")):
        values = still[name].values
        np.testing.assert_allclose(
            values, np.broadcast_to(found[before].values[:, None, None, None], values.shape), atol=1e-13
        )
    assert (found["unperturbed_exact_match"] == LENGTH - PREFIX).all()  # the own continuation is all said
    assert (found["noised_nll"].sel(strength=1.5) != still["noised_nll"]).all()


def test_the_weights_are_those_that_top_weights_chooses_for_the_half(model, paragraphs):
    own = paragraphs.with_own_continuation(model)
    rows = np.flatnonzero(np.array(GROUPS) == "memorized")
    half = halved(paragraphs.clusters, np.array(GROUPS) == "memorized", 0)[rows]
    cells = [(layer, component) for layer in range(model.n_layers) for component in ("W_V", "W_out")]
    total = sum(model.weight(*cell).numel() for cell in cells)
    counts = [round(0.001 * total), round(0.01 * total)]
    found = largest_places(model, own[rows], half, cells, counts, 2)
    for choosing in (False, True):
        for fraction, places in zip((0.001, 0.01), found[choosing], strict=True):
            mask = lz.top_weights(model, own[rows[half == choosing]], fraction, components=("W_V", "W_out"))
            assert sum(len(chosen) for chosen in places.values()) == len(mask)
            for cell, chosen in mask.indices.items():
                assert places.get(cell, np.array([])).tolist() == chosen.tolist()


def test_fewer_weights_are_a_part_of_more_with_the_same_noise_on_each(neo, paragraphs):
    half = np.arange(len(GROUPS)) % 2 == 0
    cells = [(layer, component) for layer in range(neo.n_layers) for component in COMPONENTS]
    by_gradient = largest_places(neo, paragraphs, half, cells, [3, 40, 700], 4)[True]
    spread = dict.fromkeys(cells, 1.0)
    for chosen in (by_gradient, random_places(neo, by_gradient, 0, 0)):
        assert [sum(map(len, places.values())) for places in chosen] == [3, 40, 700]
        added = drawn_noise(neo, chosen, spread, seed=0, draw=0)
        of = [
            {
                (cell, int(at)): float(value)
                for cell in places
                for at, value in zip(places[cell], values[cell], strict=True)
            }
            for places, values in zip(chosen, added, strict=True)
        ]
        assert of[0].items() <= of[1].items() <= of[2].items()
        assert [len(part) for part in of] == [3, 40, 700]  # none is there twice


def test_the_noise_is_normal_and_another_one_for_each_draw_and_matrix(neo):
    cells = [(0, "W_in"), (1, "W_in")]
    places = {cell: np.arange(neo.weight(*cell).numel()) for cell in cells}
    spread = {(0, "W_in"): 1.0, (1, "W_in"): 3.0}
    (first,), (second,) = (drawn_noise(neo, [places], spread, 0, draw) for draw in (0, 1))
    size = len(places[0, "W_in"])
    for cell, values in first.items():
        assert abs(values.mean()) < 4 * spread[cell] / math.sqrt(size)
        assert values.std() == pytest.approx(spread[cell], rel=4 / math.sqrt(2 * size))
    for one, other in ((first[0, "W_in"], second[0, "W_in"]), (first[0, "W_in"], first[1, "W_in"])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(size)


def test_random_weights_are_others_for_each_draw_and_lie_anywhere(neo):
    like = [{(1, "W_out"): np.arange(40)}]
    size = neo.weight(1, "W_out").numel()
    drawn = [random_places(neo, like, 0, draw)[0][1, "W_out"] for draw in range(60)]
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())
    counts = np.bincount(np.concatenate(drawn) * 8 // size, minlength=8)
    assert np.abs(counts - 300).max() < 4 * math.sqrt(300)


@pytest.mark.parametrize("component", ["W_Q", "W_K", "W_V", "W_O"])
def test_noise_on_one_heads_weights_changes_that_head_alone(model, component):
    heads = model.copied()
    matrix = torch.zeros(model.weight(1, component).shape)
    matrix[4:8] = 1  # d_head is 4: head 1, whose rows W_O divides into; the others divide their columns
    matrix = matrix if component == "W_O" else matrix.T
    places = {(1, component): np.flatnonzero(matrix.flatten().numpy())}
    added = {(1, component): np.ones(len(places[1, component]))}
    with noised(model, places, added, 0.5):
        for layer in range(model.n_layers):
            for name in ("W_Q", "W_K", "W_V", "W_O"):
                for head in range(model.n_heads):
                    moved = model.weight(layer, name, head) - heads.weight(layer, name, head)
                    wanted = 0.5 if (layer, name, head) == (1, component, 1) else 0.0
                    torch.testing.assert_close(moved, torch.full_like(moved, wanted), rtol=0, atol=1e-14)
    assert model.weights_hash() == heads.weights_hash()


def test_each_half_has_half_of_the_groups_clusters_and_no_cluster_is_divided():
    clusters = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 7])
    members = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=bool)
    for seed in range(8):
        half = halved(clusters, members, seed)
        assert len(set(clusters[half & members])) == len(set(clusters[~half & members])) == 2
        assert not set(clusters[half]) & set(clusters[~half])
        assert len(set(clusters[half])) == len(set(clusters[~half]))
    assert len({tuple(halved(clusters, members, seed)) for seed in range(8)}) > 2


def test_the_batch_size_does_not_matter_and_reaches_every_pass(model, paragraphs, monkeypatch):
    seen, real = [], module.measure_recall
    for place in (scoring, module):
        monkeypatch.setattr(
            place, "measure_recall", lambda *args, **named: seen.append(named["batch_size"]) or real(*args, **named)
        )
    one, other = (noise(model, paragraphs, batch_size=size, **ONE) for size in (3, 64))
    assert (one["noised_exact_match"] == other["noised_exact_match"]).all()
    np.testing.assert_allclose(one["noised_nll"], other["noised_nll"], rtol=0, atol=1e-12)
    # Recall, which is the same for all measurements; then before, and three choices in two halves.
    assert seen == [64, *[3] * 7, 64, *[64] * 7]


def test_a_number_does_not_depend_on_what_else_is_asked_for(neo, paragraphs):
    all_of_it = noise(neo, paragraphs, **FEW)
    count = int(all_of_it.dataset["weights_noised"].values[0])
    alone = noise(neo, paragraphs, fractions=0.002, strengths=1.5, draws=1)
    assert alone.dataset.sizes["weights_noised"] == alone.dataset.sizes["strength"] == 1
    part = all_of_it.dataset.sel(weights_noised=[count], strength=[1.5], noise_draw=[0])
    np.testing.assert_array_equal(alone["noised_nll"], part["noised_nll"])
    by_one = noise(neo, paragraphs, chosen_by="not_memorized", fractions=0.002, strengths=1.5, draws=1)
    assert by_one.dataset["chosen_by"].values.tolist() == ["not_memorized"]
    np.testing.assert_array_equal(by_one["noised_nll"][:, 0], part["noised_nll"].sel(chosen_by="not_memorized"))


def test_a_seed_gives_the_same_bits_and_another_seed_others(neo, paragraphs):
    one, again, other = (noise(neo, paragraphs, seed=seed, **ONE)["noised_nll"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.9


def test_the_seed_is_in_the_noise_and_in_the_random_weights(neo):
    like, spread = [{(1, "W_V"): np.arange(40)}], {(1, "W_V"): 1.0}
    one, other = (drawn_noise(neo, like, spread, seed, draw=0)[0][1, "W_V"] for seed in (0, 1))
    assert (one != other).all()
    one, other = (random_places(neo, like, seed, draw=0)[0][1, "W_V"] for seed in (0, 1))
    assert set(one.tolist()) != set(other.tolist())


def test_the_seed_is_in_the_halves(neo, paragraphs, monkeypatch):
    seen, real = [], module.largest_places
    monkeypatch.setattr(module, "largest_places", lambda *args: seen.append(args[2]) or real(*args))
    members = np.array(GROUPS) == "memorized"
    for seed in range(4):
        noise(neo, paragraphs, chosen_by="memorized", seed=seed, **ONE)
    assert [half.tolist() for half in seen] == [
        halved(paragraphs.clusters, members, seed)[members].tolist() for seed in range(4)
    ]
    assert len({tuple(half) for half in seen}) > 1


def test_fractions_that_are_the_same_count_are_measured_once(neo, paragraphs):
    found = noise(neo, paragraphs, fractions=(1e-9, 1e-2, 1e-8), strengths=[2.0, 1.0, 2.0], draws=1, components="W_V")
    assert found.dataset["weights_noised"].values.tolist() == [1, round(1e-2 * 2 * 16 * 16)]
    assert found.dataset["strength"].values.tolist() == [1.0, 2.0]


def test_only_the_components_asked_for_are_noised(neo, paragraphs, monkeypatch):
    seen, real = set(), module.noised
    monkeypatch.setattr(
        module, "noised", lambda model, places, *rest: seen.update(places) or real(model, places, *rest)
    )
    noise(neo, paragraphs, fractions=1.0, strengths=0.1, draws=1, components=("W_out", "W_K"))
    assert seen == {(layer, component) for layer in range(2) for component in ("W_K", "W_out")}


def test_the_true_continuation_is_measured_and_chooses_where_it_is_asked_for(neo, paragraphs):
    true = noise(neo, paragraphs, continuation="true", **FEW)
    own = noise(neo, paragraphs.with_own_continuation(neo), continuation="true", **FEW)
    np.testing.assert_allclose(true["noised_nll"], own["noised_nll"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(true["unperturbed_nll"], true["nll"], rtol=0, atol=1e-12)
    assert true["noised_nll"].attrs["continuation"] == "true"
    members = np.array(GROUPS) == "memorized"
    half = halved(paragraphs.clusters, members, 0)
    count = int(true.dataset["weights_noised"].values[0])
    chosen = sorted_weights(neo, paragraphs.tokens[members & half])[:count]
    _, nll = by_hand(with_noise(neo, chosen, 1.5, 0), paragraphs.tokens)
    here = {"chosen_by": "memorized", "weights_noised": count, "strength": 1.5, "noise_draw": 0}
    np.testing.assert_allclose(true["noised_nll"].sel(here).values[~half], nll[~half], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_weights_come_back_to_the_bit(make_model, family, paragraphs, dtype):
    model = make_model(family, dtype=dtype, **SIZES[family])
    before = model.weights_hash()
    noise(model, paragraphs, fractions=(0.01, 1.0), strengths=7.0, draws=1)
    assert model.weights_hash() == before
    assert all(parameter.grad is None for parameter in model.hf.parameters())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_the_weights_come_back_after_an_interrupt(neo, paragraphs, monkeypatch, error):
    before, calls, real = neo.weights_hash(), [], module.measure_recall

    def interrupted(model, *args, **options):
        calls.append(model.weights_hash())
        if len(calls) == 4:
            raise error
        return real(model, *args, **options)

    for place in (scoring, module):
        monkeypatch.setattr(place, "measure_recall", interrupted)
    with pytest.raises(error):
        noise(neo, paragraphs, strengths=2.0)
    assert calls[:2] == [before] * 2  # recall, and what stands before the noise
    assert before not in calls[2:]
    assert neo.weights_hash() == before


def test_the_weights_come_back_if_the_noise_cannot_be_added(neo):
    before, places = neo.weights_hash(), {(0, "W_V"): np.arange(5), (1, "W_O"): np.arange(5)}
    with pytest.raises(KeyError), noised(neo, places, {(0, "W_V"): np.ones(5)}, 1.0):
        pass
    assert neo.weights_hash() == before


def test_losses_that_are_no_number_are_recorded_as_nan(neo, paragraphs):
    found = noise(neo, paragraphs, fractions=1.0, strengths=(1e6, 1e200), draws=1)
    assert np.isfinite(found["noised_nll"].sel(strength=1e6)).all()
    assert np.isnan(found["noised_nll"].sel(strength=1e200)).all()
    assert np.isnan(found["noised_exact_match"].sel(strength=1e200)).all()


def test_memorized_and_not_memorized_choose_by_default_else_all_groups_of_two_clusters(neo, paragraphs):
    found = noise(neo, paragraphs, **ONE)
    assert found.dataset["chosen_by"].values.tolist() == ["memorized", "not_memorized", RANDOM]
    named = paragraphs.with_groups(["b"] * 2 + ["a"] * 5 + ["c"] * 4)  # the two of b are near-duplicates
    assert noise(neo, named, **ONE).dataset["chosen_by"].values.tolist() == ["a", "c", RANDOM]
    chosen = noise(neo, paragraphs, chosen_by=[RANDOM, "partial", RANDOM], **ONE)
    assert chosen.dataset["chosen_by"].values.tolist() == [RANDOM, "partial"]


def test_it_says_what_was_done_and_joins(neo, paragraphs, tmp_path):
    found = noise(neo, paragraphs, **FEW)
    (call,) = found.dataset.attrs["calls"]
    told = {"measurement": "noise", "fractions": [0.002, 0.02], "strengths": [0.0, 1.5], "draws": 2, "seed": 0}
    told |= {"chosen_by": ["memorized", "not_memorized", RANDOM], "components": list(COMPONENTS), "continuation": "own"}
    assert {name: call[name] for name in told} == told
    found.save(tmp_path / "noise.zarr.zip")
    joined = lz.recall(neo, paragraphs) | lz.load_signature(tmp_path / "noise.zarr.zip")
    np.testing.assert_array_equal(joined["noised_nll"], found["noised_nll"])
    np.testing.assert_array_equal(joined["unperturbed_nll"], found["unperturbed_nll"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "noise: draws=0 and batch_size=64 must be whole numbers of at least 1."),
        ({"batch_size": 0}, "noise: draws=3 and batch_size=0 must be whole numbers of at least 1."),
        ({"fractions": 0.0}, "noise: fraction=0.0 is not one that lies above 0 and is at most 1."),
        ({"fractions": (0.5, 1.01)}, "noise: fraction=1.01 is not one that lies above 0 and is at most 1."),
        ({"fractions": ()}, "noise: no fraction is given; at least one that lies above 0 and is at most 1 is needed."),
        ({"strengths": -0.5}, "noise: strength=-0.5 is not one that is finite and at least 0."),
        ({"strengths": (1.0, math.nan)}, "noise: strength=nan is not one that is finite and at least 0."),
        ({"strengths": math.inf}, "noise: strength=inf is not one that is finite and at least 0."),
        ({"strengths": []}, "noise: no strength is given; at least one that is finite and at least 0 is needed."),
        ({"components": "W_Z"}, "noise: components=['W_Z'] must be some of W_Q, W_K, W_V, W_O, W_in, W_out."),
        ({"components": ()}, "noise: components=[] must be some of W_Q, W_K, W_V, W_O, W_in, W_out."),
        ({"continuation": "none"}, "noise: continuation='none' is not one of true, own."),
        (
            {"chosen_by": "forget"},
            "noise: chosen_by='forget' is none of the groups; there are (clusters): memorized (4), partial (2), not_memorized (4).",
        ),
        (
            {"chosen_by": (RANDOM,)},
            "noise: chosen_by=('random',) gives no group with two clusters to choose the weights; there are (clusters): "
            "memorized (4), partial (2), not_memorized (4).",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        noise(neo, paragraphs, **options)
    assert str(caught.value) == message


def test_groups_that_cannot_be_halved_or_told_from_the_control_are_refused(neo, paragraphs):
    alone = paragraphs.with_groups(["one"] * 2 + ["all"] * 9)
    for options, groups, message in (
        (
            {"chosen_by": "one"},
            alone,
            "noise: group 'one' is one cluster of near-duplicates; two are needed, as one half chooses the weights that the "
            "other is measured under.",
        ),
        (
            {},
            alone[:2],
            "noise: chosen_by=None gives no group with two clusters to choose the weights; there are (clusters): one (1).",
        ),
        (
            {},
            paragraphs.with_groups(["random"] * len(GROUPS)),
            "noise: a group is named 'random', which stands for the control; give it another name.",
        ),
    ):
        with pytest.raises(lz.LocalizeError) as caught:
            noise(neo, groups, **options)
        assert str(caught.value) == message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_numbers(model, paragraphs):
    here = noise(model, paragraphs, **FEW)
    model.hf.to("cuda")
    there = noise(model, paragraphs, **FEW)
    np.testing.assert_allclose(here["noised_nll"], there["noised_nll"], rtol=0, atol=1e-10)
