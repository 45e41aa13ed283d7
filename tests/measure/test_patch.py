"""Patching against passes that recompute everything with the other run's activation put in by a hook."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.axes import DIRECTIONS, PATCH_METRICS, SITES, STREAMS
from localize.measure.pairs import paired
from localize.measure.patch import patch, patch_hooks
from localize.measure.patch_effects import PatchPlan, RunPair, random_put, scored_tokens
from localize.measure.patch_runs import Patching, patched_nll, patched_places, two_runs
from localize.models.hooks import HookedModel

pytestmark = pytest.mark.gpt2_is_slow("hooked")


PREFIX, CONTINUATION = 24, 16
LENGTH = PREFIX + CONTINUATION
EXACT = 1e-10
POSITIONS, TARGETS = (3, 20, 0, 23), (24, 30, 39, -1)
"""Where the copies differ, farther than the local window from the end and nearer; and what they go on differently with."""

STREAM_HOOKS = {"attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out", "resid": "hook_resid_pre"}


def loaded(rows):
    return lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)


@pytest.fixture
def paragraphs(tokens):
    """Four rows of 40 tokens: longer than the local window."""
    return loaded(tokens[:4, :LENGTH])


@pytest.fixture
def copies(paragraphs):
    """Each with one prefix token replaced, and another continuation from its target on."""
    rows = paragraphs.tokens.clone()
    for row, (position, target) in enumerate(zip(POSITIONS, TARGETS, strict=True)):
        rows[row, position] = (rows[row, position] + 5) % 97
        if target >= 0:
            rows[row, target::2] = (rows[row, target::2] + 1) % 97
    return loaded(rows)


def name_of(part, layer):
    return f"blocks.{layer}.attn.hook_{part}" if part in SITES else f"blocks.{layer}.{STREAM_HOOKS[part]}"


def texts(paragraphs, row):
    """The clean and the corrupted run's tokens, fed but for the last."""
    clean = paragraphs.tokens[row].clone()
    corrupted = clean.clone()
    corrupted[POSITIONS[row]] = (clean[POSITIONS[row]] + 5) % 97
    return clean, corrupted


def judged(model, tokens, clean, target, hooks=None, rows=1):
    """NLL of the clean token at the target and mean NLL of the clean continuation, from all logits, of so many equal rows."""
    logits = model(tokens[None, :-1].repeat(rows, 1), hooks=hooks)
    nll = -logits.log_softmax(-1)[:, torch.arange(LENGTH - 1), clean[1:]]
    first = nll[:, target - 1] if target >= 0 else torch.full((rows,), torch.nan, dtype=nll.dtype)
    return torch.stack([first, nll[:, PREFIX - 1 :].mean(1)], dim=1).numpy()


def runs_of(paragraphs, row, direction):
    """The text whose run is patched, and the other one."""
    clean, corrupted = texts(paragraphs, row)
    return (corrupted, clean) if direction == "denoising" else (clean, corrupted)


def by_hooks(model, paragraphs, row, direction, part, layer, patches):
    """Change of both metrics by each patch, a head (or None) and its positions: whole forward passes, an activation put into each row."""
    base, other = runs_of(paragraphs, row, direction)
    name = name_of(part, layer)
    theirs = model.run_with_cache(other[None, :-1], [name])[1][name]

    def put(value, _):
        value = value.clone()
        for patched, (head, positions) in enumerate(patches):
            for position in positions:
                if part in SITES:
                    value[patched, position, head] = theirs[0, position, head]
                else:
                    value[patched, position] = theirs[0, position]
        return value

    clean = texts(paragraphs, row)[0]
    after = judged(model, base, clean, TARGETS[row], {name: put}, rows=len(patches))
    return after - judged(model, base, clean, TARGETS[row])


def cells(model, sites=SITES, streams=STREAMS):
    """Every part and layer, and its heads."""
    for layer in range(model.n_layers):
        yield from ((part, layer, range(4)) for part in sites)
        yield from ((part, layer, [None]) for part in streams)


def found(signature, what, row, direction, part, layer, head):
    """The numbers of one patch by metric, and by position where there are such."""
    place, axis = ("head", "site") if part in SITES else ("stream", "stream")
    array = signature[f"{place}_patch_{what}"].isel(paragraph=row).sel({"direction": direction, axis: part})
    array = array.isel(layer=layer) if head is None else array.isel(layer=layer, head=head)
    return array.values


def true(model, paragraphs, copies, **options):
    return patch(model, paragraphs, copies, continuation="true", metrics=PATCH_METRICS, **options)


def same(a, b):
    return np.allclose(a, b, rtol=0, atol=EXACT, equal_nan=True)


# Exact effects


@torch.no_grad()
@pytest.mark.parametrize("at", ["changed", "all"])
def test_every_patch_equals_a_pass_that_recomputes_everything_with_a_hook(hooked, paragraphs, copies, at):
    signature = true(hooked, paragraphs, copies, at=at, null=False, estimate=False)
    moved = []
    for row, position in enumerate(POSITIONS):
        positions = [position] if at == "changed" else range(LENGTH - 1)
        for direction in DIRECTIONS:
            for part, layer, heads in cells(hooked):
                patches = [(head, positions) for head in heads]
                expected = by_hooks(hooked, paragraphs, row, direction, part, layer, patches)
                for head, change in zip(heads, expected, strict=True):
                    effect = found(signature, "effect", row, direction, part, layer, head)
                    assert same(effect, change), (row, direction, part, layer, head)
                    moved.append(np.nanmax(np.abs(effect)))
    assert np.median(moved) > 1e-4, "else little is tested"


@torch.no_grad()
def test_each_position_patched_equals_a_pass_with_a_hook_there_and_others_are_zero(hooked, paragraphs, copies):
    row = 1
    places = [POSITIONS[row], POSITIONS[row] + 1, 25, 29, 30, 33, LENGTH - 2]
    signature = true(hooked, paragraphs[[row]], copies[[row]], at="each", null=True, estimate=False)
    assert not {"head_patch_effect", "head_patch_null", "stream_patch_estimate_map"} & set(signature.variables)
    for direction in DIRECTIONS:
        for part, layer, heads in cells(hooked):
            patches = [(head, [position]) for head in heads for position in places]
            expected = by_hooks(hooked, paragraphs, row, direction, part, layer, patches)
            for head, changes in zip(heads, expected.reshape(len(heads), len(places), 2), strict=True):
                effect = found(signature, "map", 0, direction, part, layer, head)
                assert effect.shape == (2, LENGTH)
                assert same(effect[:, places], changes.T), (direction, part, layer, head)
                assert not effect[1, : POSITIONS[row]].any() and not effect[1, LENGTH - 1 :].any()
                assert not effect[0, : POSITIONS[row]].any() and not effect[0, TARGETS[row] :].any()


@torch.no_grad()
@pytest.mark.parametrize("at", ["changed", "all", "each"])
def test_one_metric_alone_gives_what_it_gives_beside_the_other(hooked, paragraphs, copies, at):
    some = {"sites": ("k", "z"), "streams": "mlp_out", "layers": [0, 2], "at": at}
    paragraphs, copies = paragraphs[[1, 3]], copies[[1, 3]]
    both = true(hooked, paragraphs, copies, **some)
    for metric in PATCH_METRICS:
        one = patch(hooked, paragraphs, copies, continuation="true", metrics=metric, **some)
        assert one["metric"].values.tolist() == [metric]
        assert set(one.variables) == set(both.variables)
        for name in both.variables:
            expected = both[name].sel(metric=[metric]) if "metric" in both[name].dims else both[name]
            assert same(one[name], expected), name


@torch.no_grad()
def test_the_baselines_are_the_two_runs_nll(hooked, paragraphs, copies):
    signature = true(hooked, paragraphs, copies)
    for row in range(4):
        clean, corrupted = texts(paragraphs, row)
        assert same(signature["clean_nll"][row], judged(hooked, clean, clean, TARGETS[row])[0])
        assert same(signature["corrupted_run_nll"][row], judged(hooked, corrupted, clean, TARGETS[row])[0])
    assert signature["patch_position"].values.tolist() == list(POSITIONS)
    assert signature["patch_target"].values.tolist() == list(TARGETS)


@torch.no_grad()
def test_patching_the_whole_stream_gives_the_other_run(hooked, paragraphs, copies):
    for at in ("changed", "all"):
        # What enters the first layer differs at one position only, so that patching there is patching everything.
        signature = true(hooked, paragraphs, copies, at=at, streams="resid", sites=())
        gap = signature["clean_nll"].values - signature["corrupted_run_nll"].values
        effect = signature["stream_patch_effect"].sel(stream="resid").isel(layer=0)
        assert same(effect.sel(direction="denoising"), gap)
        assert same(effect.sel(direction="noising"), -gap)
    every = signature["stream_patch_effect"].sel(stream="resid", direction="noising").values
    assert same(every, np.broadcast_to(-gap[..., None], every.shape)), (
        "at all positions it is everything in every layer"
    )
    assert np.nanmin(np.abs(gap)) > 1e-4


@torch.no_grad()
def test_attention_output_is_what_all_heads_write_together_so_one_heads_model_has_equal_effects(make_model, family):
    heads = {"num_heads" if family == "gpt-neo" else "n_head": 1}
    model = make_model(family, **heads)
    rows = torch.randint(97, (1, LENGTH), generator=torch.Generator().manual_seed(3))
    changed = rows.clone()
    changed[0, 15] = (rows[0, 15] + 1) % 97
    changed[0, 30] = (rows[0, 30] + 1) % 97
    for at in ("changed", "all"):
        signature = patch(model, loaded(rows), loaded(changed), continuation="true", at=at)
        z = signature["head_patch_effect"].sel(site="z").isel(head=0)
        assert same(z, signature["stream_patch_effect"].sel(stream="attn_out"))


# Batches, company, order


@torch.no_grad()
@pytest.mark.parametrize("at", ["changed", "all", "each"])
def test_the_numbers_do_not_depend_on_how_many_tokens_are_carried_on_together(
    hooked, paragraphs, copies, at, monkeypatch
):
    layers = [0, hooked.n_layers - 1] if at == "each" else [0, 1, hooked.n_layers - 1]
    some = {"sites": ("v",), "streams": ("resid", "mlp_out"), "at": at, "layers": layers}
    pair = paragraphs[[1]], copies[[1]]
    whole = true(hooked, *pair, **some)
    for tokens in (1, 400) if at == "each" else (1, 60, 400):
        monkeypatch.setattr("localize.measure.patch.WITHIN_CACHE", {"cpu": tokens})
        less = true(hooked, *pair, **some)
        for name in whole.variables:
            assert same(whole[name], less[name]), (name, tokens)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_no_more_tokens_are_in_flight_than_the_batch_size_allows(neo, paragraphs, copies, batch_size, monkeypatch):
    tokens, resume = [], HookedModel.resume

    def counted(model, resid, **options):
        tokens.append(resid.shape[0] * resid.shape[1])
        return resume(model, resid, **options)

    monkeypatch.setattr(HookedModel, "resume", counted)
    true(neo, paragraphs[[1]], copies[[1]], batch_size=batch_size)
    assert max(tokens) <= min(1024, batch_size * LENGTH)
    assert max(tokens) > min(1024, batch_size * LENGTH) / 2 - 2 * 19


def test_where_memory_runs_out_fewer_tokens_at_once_give_the_same_and_it_is_said_once(
    neo, paragraphs, copies, monkeypatch
):
    whole, resume = true(neo, paragraphs, copies), HookedModel.resume

    def narrow(model, resid, **options):
        if resid.shape[0] * resid.shape[1] > 300:
            raise torch.OutOfMemoryError
        return resume(model, resid, **options)

    monkeypatch.setattr(HookedModel, "resume", narrow)
    monkeypatch.setattr("localize.measure.patch.WITHIN_CACHE", {"cpu": 600})
    with pytest.warns(UserWarning, match="^patching: out of memory") as warned:
        less = true(neo, paragraphs, copies)
    assert {note.filename for note in warned} == {__file__}
    assert [str(w.message) for w in warned] == ["patching: out of memory; going on with 300 tokens at once."]
    for name in whole.variables:
        assert same(whole[name], less[name]), name


def test_where_not_even_one_row_fits_the_error_is_raised(neo, paragraphs, copies, monkeypatch):
    def none(model, resid, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(HookedModel, "resume", none)
    monkeypatch.setattr("localize.measure.patch.WITHIN_CACHE", {"cpu": 2})
    told = "^patching: out of memory; going on with 1 tokens at once.$"
    with pytest.warns(UserWarning, match=told), pytest.raises(torch.OutOfMemoryError):
        true(neo, paragraphs, copies)


@torch.no_grad()
def test_order_and_company_of_paragraphs_do_not_matter(hooked, paragraphs, copies):
    whole, order = true(hooked, paragraphs, copies), [2, 0]
    some = true(hooked, paragraphs[order], copies[order])
    for name in whole.variables:
        assert same(whole[name][order], some[name]), name


@torch.no_grad()
def test_what_is_asked_beside_does_not_matter_and_what_is_not_asked_is_nan(hooked, paragraphs, copies):
    whole = true(hooked, paragraphs, copies)
    part = true(hooked, paragraphs, copies, sites=["v", "q"], streams="mlp_out", layers=[2, 0], directions=["noising"])
    for name, chosen in (
        ("head_patch", {"site": ["q", "v"], "layer": [0, 2]}),
        ("stream_patch", {"stream": ["mlp_out"], "layer": [0, 2]}),
    ):
        for what in ("effect", "null", "estimate"):
            some, every = part[f"{name}_{what}"], whole[f"{name}_{what}"]
            there = dict(chosen, direction=["noising"])
            assert same(some.sel(there), every.sel(there)), (name, what)
            assert np.isfinite(some.sel(there)[:3]).all()
            assert np.isfinite(some.values).sum() == np.isfinite(some.sel(there).values).sum()
    call = part.dataset.attrs["calls"][0]
    assert (call["sites"], call["streams"], call["layers"]) == (["q", "v"], ["mlp_out"], [0, 2])
    assert part["direction"].values.tolist() == list(DIRECTIONS)
    only = true(hooked, paragraphs, copies, streams=(), null=False, estimate=False)
    assert {name for name in only.variables if "_patch_" in name} == {"head_patch_effect"}


# The null


def pair_of(model, paragraphs, copies, row, at, directions=DIRECTIONS, seed=0):
    """What the kernel holds of one pair, and the random activations it puts in instead."""
    plan = PatchPlan((*SITES, *STREAMS), ("continuation",), at, tuple(directions), (0, 2), True, False, seed)
    pairs = paired(paragraphs.tokens, copies.tokens, PREFIX, paragraphs.ids)
    clean, corrupted = texts(paragraphs, row)
    start = POSITIONS[row]
    runs = two_runs(model, torch.stack([clean, corrupted])[:, :-1], start, slice(None))
    base, put = ({n: a[index] for n, a in runs.activations.items()} for index in (plan.bases, plan.others))
    scored = scored_tokens(plan, PREFIX, LENGTH, int(pairs.target[row]), model)
    nll = torch.zeros(2, CONTINUATION, dtype=torch.float64)
    return RunPair(base, put, runs.past, start, scored, clean[PREFIX:], nll), plan


@torch.no_grad()
def test_the_null_moves_each_head_and_position_as_far_as_the_patch_in_a_direction_of_its_own(
    hooked, paragraphs, copies
):
    pair, plan = pair_of(hooked, paragraphs, copies, 1, "all")
    parts = [(layer, part) for layer in plan.layers for part in plan.parts]
    null = random_put(pair, parts, plan, paragraphs.hashes[1])
    assert set(null) == {name_of(part, layer) for layer, part in parts}
    directions = []
    for name, value in null.items():
        change, patch_change = value - pair.base[name], pair.put[name] - pair.base[name]
        lengths, expected = (torch.linalg.vector_norm(v, dim=-1) for v in (change, patch_change))
        assert torch.allclose(lengths, expected, rtol=EXACT, atol=EXACT), name
        unit = (change / lengths[..., None])[lengths > 1e-9]
        directions.append(unit)
        cosine = torch.cosine_similarity(change, patch_change, dim=-1)[lengths > 1e-9]
        assert abs(float(cosine.mean())) < 0.25, name
        flat = unit.flatten(0, -2)
        gram = flat @ flat.T
        gram.fill_diagonal_(0)
        assert float(gram.abs().max()) < 1 - 1e-6, "no direction comes twice"
    assert len(directions) == len(parts)


@torch.no_grad()
def test_the_nulls_effect_is_that_of_putting_those_activations_in_by_a_hook(hooked, paragraphs, copies):
    row = 1
    for at in ("changed", "all"):
        signature = true(hooked, paragraphs, copies, at=at, estimate=False)
        pair, plan = pair_of(hooked, paragraphs, copies, row, at)
        parts = [(layer, part) for layer in plan.layers for part in plan.parts]
        null = random_put(pair, parts, plan, paragraphs.hashes[row])
        for d, direction in enumerate(DIRECTIONS):
            base, clean = runs_of(paragraphs, row, direction)[0], texts(paragraphs, row)[0]
            before = judged(hooked, base, clean, TARGETS[row])
            for layer, part in parts:
                name, head = name_of(part, layer), 2 if part in SITES else None
                count = 1 if at == "changed" else LENGTH - 1 - POSITIONS[row]

                def put(value, _, theirs=null[name][d], head=head, count=count):
                    value = value.clone()
                    where = slice(POSITIONS[row], POSITIONS[row] + count)
                    if head is None:
                        value[0, where] = theirs[:count]
                    else:
                        value[0, where, head] = theirs[:count, head]
                    return value

                expected = judged(hooked, base, clean, TARGETS[row], {name: put}) - before
                assert same(found(signature, "null", row, direction, part, layer, head), expected), (at, part, layer)


@torch.no_grad()
def test_the_seed_and_the_paragraph_choose_the_nulls_directions_and_nothing_else_does(hooked, paragraphs, copies):
    first, again, other = (true(hooked, paragraphs, copies, seed=seed, estimate=False) for seed in (0, 0, 1))
    for name in ("head_patch_null", "stream_patch_null"):
        assert np.array_equal(first[name], again[name], equal_nan=True)
        assert not same(first[name], other[name])
    assert same(first["head_patch_effect"], other["head_patch_effect"])
    pair, plan = pair_of(hooked, paragraphs, copies, 1, "all")
    one, two = (random_put(pair, [(0, "z")], plan, paragraphs.hashes[row]) for row in (1, 2))
    assert not torch.allclose(one[name_of("z", 0)], two[name_of("z", 0)])
    changes = one[name_of("z", 0)] - pair.base[name_of("z", 0)]
    assert not torch.allclose(changes[0].abs(), changes[1].abs()), "each direction of patching has its own"


# Nothing patched


@torch.no_grad()
def test_a_run_patched_with_its_own_activations_does_not_change(hooked, paragraphs, copies):
    pair, plan = pair_of(hooked, paragraphs, copies, 1, "all")
    length = LENGTH - 1 - POSITIONS[1]
    patching = Patching(hooked, pair.base, pair.base, pair.past, length)
    read = slice(PREFIX - 1 - pair.start, None)
    clean = texts(paragraphs, 1)[0]
    expected = [judged(hooked, runs_of(paragraphs, 1, d)[0], clean, -1)[0, 1] for d in DIRECTIONS]
    count = 0
    for _, nll in patched_nll(
        patching, patched_places(hooked, range(hooked.n_layers), plan.parts, 4), 50, read, pair.targets
    ):
        assert nll.shape[0] == 2 and nll.shape[2] == CONTINUATION
        assert np.allclose(nll.mean(-1), np.array(expected)[:, None], rtol=0, atol=EXACT)
        count += nll.shape[1]
    assert count == hooked.n_layers * (4 * 4 + 3)


# Copies


def test_copies_of_a_signature_are_taken_and_the_two_join(hooked, paragraphs):
    perturbed = lz.perturb_prefix(hooked, paragraphs, kinds=("uniform", "neutral"))
    signature = patch(hooked, paragraphs, perturbed, layers=1, sites="z", streams="resid")
    joined = perturbed | signature
    assert {"copy_tokens", "head_patch_effect"} <= set(joined.variables)
    assert np.array_equal(signature["patch_position"], perturbed["copy_position"][:, 0])
    said = perturbed["copy_tokens"].values[:, 0, PREFIX:]
    own = paragraphs.with_own_continuation(hooked).tokens.numpy()[:, PREFIX:]
    expected = [
        PREFIX + int(np.flatnonzero(a != b)[0]) if (a != b).any() else -1 for a, b in zip(said, own, strict=True)
    ]
    assert signature["patch_target"].values.tolist() == expected
    call = signature.dataset.attrs["calls"][0]
    assert (call["copies"]["kind"], call["copies"]["draws"], call["continuation"]) == ("uniform", 2, "own")
    neutral = patch(hooked, paragraphs, perturbed, kind="neutral", layers=1, sites="z", streams="resid")
    assert np.array_equal(neutral["patch_position"], perturbed["copy_position"][:, 1])
    assert neutral.dataset.attrs["calls"][0]["copies"]["kind"] == "neutral"


def test_without_copies_those_of_a_perturbation_with_the_same_seed_are_patched(hooked, paragraphs):
    some = {"layers": 1, "sites": "z", "streams": (), "seed": 3}
    for kind in ("uniform", "neutral"):
        perturbed = lz.perturb_prefix(hooked, paragraphs, kinds=kind, seed=3)
        by_itself, given = patch(hooked, paragraphs, kind=kind, **some), patch(hooked, paragraphs, perturbed, **some)
        for name in given.variables:
            assert np.array_equal(by_itself[name], given[name], equal_nan=True), name


def test_own_continuations_of_paragraphs_and_copies_are_what_the_model_says(hooked, paragraphs, copies):
    signature = patch(hooked, paragraphs, copies, layers=1, sites="z", streams="resid")
    clean, corrupted = (p.with_own_continuation(hooked).tokens.numpy() for p in (paragraphs, copies))
    differs = (clean != corrupted)[:, PREFIX:]
    expected = np.where(differs.any(1), PREFIX + differs.argmax(1), -1)
    assert np.array_equal(signature["patch_target"], expected)
    assert signature["clean_nll"].attrs["continuation"] == "own"


def test_the_reference_pairs_differ_in_one_prefix_token_and_mostly_go_on_differently_at_once(shared_data):
    folder = shared_data / "pile-gpt-neo-125M" / "perturbed"
    clean, corrupted = (lz.load_paragraphs(folder / name) for name in ("mem_toks.pt", "perturbed_mem_toks.pt"))
    assert len(clean) == len(corrupted) == 90
    pairs = paired(clean.tokens, corrupted.tokens, 50, clean.ids)
    assert ((pairs.clean != pairs.corrupted).sum(1) == 1).all()
    assert torch.equal(pairs.clean[:, 50:], pairs.corrupted[:, 50:])
    assert (pairs.target == 50).sum() == 89
    assert (pairs.target >= 50).all()
    assert ((pairs.position >= 0) & (pairs.position < 50)).all()


# Hooks for experiments of one's own


@torch.no_grad()
def test_patch_hooks_put_another_runs_activations_where_they_are_asked_for(hooked, paragraphs):
    clean, corrupted = texts(paragraphs, 1)
    names = [name_of("z", 1), name_of("k", 0), name_of("mlp_out", 2)]
    theirs = hooked.run_with_cache(clean[None], names)[1]
    for positions, heads, some in (([20, 22], [1, 3], names[:2]), (20, 2, names[:2]), (None, None, names)):
        seen = {}
        hooks = patch_hooks({name: theirs[name] for name in some}, positions=positions, heads=heads)

        def keep(value, name, hooks=hooks, seen=seen):
            seen[name] = (value.clone(), hooks[name](value, name), value)
            return seen[name][1]

        hooked(corrupted[None], hooks=dict.fromkeys(hooks, keep))
        for name in some:
            before, patched, given = seen[name]
            assert torch.equal(before, given), "what it was given is left as it was"
            expected = before.clone()
            at = range(LENGTH) if positions is None else [positions] if isinstance(positions, int) else positions
            for position in at:
                for head in [...] if heads is None else [heads] if isinstance(heads, int) else heads:
                    expected[:, position, head] = theirs[name][:, position, head]
            assert torch.equal(patched, expected), name


@torch.no_grad()
def test_patching_everything_by_hooks_gives_the_other_run(hooked, paragraphs):
    clean, corrupted = texts(paragraphs, 1)
    name = name_of("resid", 0)
    hooks = patch_hooks(hooked.run_with_cache(clean[None], [name])[1])
    assert torch.equal(hooked(corrupted[None], hooks=hooks), hooked(clean[None]))
    assert patch_hooks({}) == {}


@pytest.mark.parametrize(
    ("name", "heads", "message"),
    [
        (
            "blocks.1.hook_mlp_out",
            [1],
            "patch_hooks: 'blocks.1.hook_mlp_out' cannot be patched by position and head; those of heads can, hook_q, hook_k, "
            "hook_v, hook_z.",
        ),
        (
            "blocks.1.attn.hook_pattern",
            None,
            "patch_hooks: 'blocks.1.attn.hook_pattern' cannot be patched by position; any activation but patterns can.",
        ),
    ],
)
def test_what_cannot_be_patched_by_hooks_is_refused(name, heads, message):
    with pytest.raises(lz.LocalizeError) as caught:
        patch_hooks({name: torch.zeros(1, 2, 3)}, positions=1, heads=heads)
    assert str(caught.value) == message


@torch.no_grad()
@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (1, {"positions": 40}, "(1, 40, 4, 8) in what is put in, and 40 lies outside it"),
        (1, {"heads": [0, 4]}, "(1, 40, 4, 8) in what is put in, and 4 lies outside it"),
        (2, {}, "(2, 40, 4, 8) in what is put in"),
    ],
)
def test_what_does_not_fit_the_run_is_refused_when_it_is_put_in(neo, paragraphs, rows, options, message):
    name = name_of("z", 1)
    hooks = patch_hooks(neo.run_with_cache(paragraphs.tokens[:rows], [name])[1], **options)
    with pytest.raises(lz.LocalizeError) as caught:
        neo(paragraphs.tokens[:1], hooks=hooks)
    assert str(caught.value) == (
        f"patch_hooks: {name!r} is (1, 40, 4, 8) in this run and {message}; rows, positions and heads must be the same."
    )


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ["q", "w"]}, "patch: sites: 'w' is not one of q, k, v, z."),
        ({"streams": "z"}, "patch: streams: 'z' is not one of attn_out, mlp_out, resid."),
        ({"metrics": ["nll"]}, "patch: metrics: 'nll' is not one of first_changed, continuation."),
        ({"at": "first"}, "patch: at='first' is not one of changed, all, each."),
        ({"directions": "both"}, "patch: directions: 'both' is not one of denoising, noising."),
        ({"layers": [0, 4]}, "layer=4 must lie in 0..3, the layers of small gpt-neo."),
        ({"layers": -1}, "layer=-1 must lie in 0..3, the layers of small gpt-neo."),
        *(
            (empty, "patch: nothing is asked for; at least one site or stream, metric, direction and layer is needed.")
            for empty in ({"sites": (), "streams": ()}, {"metrics": ()}, {"directions": ()}, {"layers": ()})
        ),
        ({"batch_size": 0}, "patch: batch_size=0 must be at least 1."),
        ({"continuation": "false"}, "patch: continuation='false' is not one of true, own."),
        (
            {"kind": "uniform"},
            "patch: kind='uniform' chooses among the copies of a signature; these are Paragraphs(Tensor: 4 x (24 + 16) tokens; "
            "true continuation).",
        ),
    ],
)
def test_what_cannot_be_patched_is_refused_in_one_line(neo, paragraphs, copies, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        patch(neo, paragraphs, copies, **options)
    assert str(caught.value) == message


def test_copies_that_differ_in_no_prefix_token_or_in_several_are_refused(neo, paragraphs, copies):
    rows = copies.tokens.clone()
    rows[2, :PREFIX] = paragraphs.tokens[2, :PREFIX]
    for changed, words in (([], "0 prefix tokens"), ([5, 9], "2 prefix tokens, at positions 5, 9")):
        rows[2, changed] = (paragraphs.tokens[2, changed] + 1) % 97
        with pytest.raises(lz.InputError) as caught:
            patch(neo, paragraphs, loaded(rows), continuation="true")
        expected = f"patch: the copy of paragraph '2' (row 2) differs from it in {words}; exactly one is needed."
        assert str(caught.value) == expected


def test_copies_of_another_shape_are_refused(neo, paragraphs, copies):
    with pytest.raises(lz.InputError) as caught:
        patch(neo, paragraphs, copies[:3])
    assert str(caught.value) == (
        "patch: the copies are Paragraphs(Tensor: 3 x (24 + 16) tokens; true continuation) and the paragraphs "
        "Paragraphs(Tensor: 4 x (24 + 16) tokens; true continuation); one copy of the same prefix and continuation length is "
        "needed for each paragraph."
    )


def test_copies_outside_the_vocabulary_are_refused(neo, paragraphs, copies):
    rows = copies.tokens.clone()
    rows[1, 20] = 97
    with pytest.raises(lz.InputError) as caught:
        patch(neo, paragraphs, loaded(rows), continuation="true")
    assert "paragraph '1' (row 1) has token id 97 at position 20; the vocabulary of small gpt-neo allows 0..96." in str(
        caught.value
    )


def test_a_signature_that_does_not_belong_here_is_refused(make_model, family, paragraphs):
    model, other = make_model(family), make_model(family, seed=1)
    perturbed = lz.perturb_prefix(model, paragraphs)
    here, there = (m.weights_hash()[:12] for m in (other, model))
    ours, fewer = paragraphs.data_hash[:12], paragraphs[:3].data_hash[:12]
    spans = lz.perturb_prefix(model, paragraphs, span=2)
    same = "the same ones, in the same order, are needed."
    for arguments, message in (
        (
            (other, paragraphs, perturbed),
            f"patch: copies is of {model.name} (weights_hash {there}), the model is {model.name} (weights_hash {here}); "
            "they must be the same.",
        ),
        (
            (model, paragraphs[:3], perturbed),
            f"patch: copies is of 4 of Tensor (data_hash {ours}), the paragraphs are 3 of Tensor (data_hash {fewer}); {same}",
        ),
        (
            (model, paragraphs, lz.recall(model, paragraphs)),
            "patch: copies has no 'perturbed_exact_match'; measure it with localize.perturb_prefix(model, paragraphs).",
        ),
        (
            (model, paragraphs, lz.perturb_prefix(model, paragraphs, continuation="true")),
            "patch: copies is of the true continuation, continuation='own' is asked for; they must be the same.",
        ),
        (
            (model, paragraphs, [1, 2]),
            "patch: copies is a list; Paragraphs, or a signature of perturb_prefix, is needed.",
        ),
        (
            (model, paragraphs, spans),
            "patch: copies was made with span=2; span=1 is needed, one token replaced at a time.",
        ),
    ):
        with pytest.raises(lz.InputError) as caught:
            patch(*arguments)
        assert str(caught.value) == message
    labelled = paragraphs.with_groups("aabb")
    part = lz.perturb_prefix(model, labelled).where(group="a")
    with pytest.raises(
        lz.InputError, match=r"^patch: copies is of 2 of Tensor .*; the same ones, in the same order, are needed.$"
    ):
        patch(model, labelled, part)
    with pytest.raises(lz.InputError) as caught:
        patch(model, paragraphs, perturbed, kind="neutral")
    assert str(caught.value) == "patch: kind='neutral' is not one of those copied, uniform."


def test_pairs_that_go_on_alike_have_no_first_changed_token_and_their_mean_is_still_told(neo, paragraphs, copies):
    signature = true(neo, paragraphs[[3]], copies[[3]])
    assert signature["patch_target"].values.tolist() == [-1]
    for name in ("head_patch_effect", "stream_patch_null", "head_patch_estimate", "clean_nll"):
        assert np.isnan(signature[name].sel(metric="first_changed")).all(), name
        assert np.isfinite(signature[name].sel(metric="continuation")).all(), name
    alone = patch(neo, paragraphs[[3]], copies[[3]], continuation="true")
    assert np.isnan(alone["head_patch_effect"]).all() and np.isnan(alone["corrupted_run_nll"]).all()
