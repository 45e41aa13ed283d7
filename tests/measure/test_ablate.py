"""Ablation of heads against passes that recompute everything with the head's output replaced by a hook."""

import numpy as np
import pytest
import torch

import localize as lz
from localize.measure.ablate import ablate, ablation_hooks, head_means
from localize.measure.reference_text import GENERAL_ROWS, general_text
from localize.models.hooks import HookedModel
from localize.paragraphs.synthetic import synthetic_paragraphs
from localize.paragraphs.unseen import UNSEEN_FROM

PREFIX, CONTINUATION = 24, 16
EXACT = 1e-12
VARIABLES = ("ablated_exact_match", "ablated_nll")


@pytest.fixture
def paragraphs(tokens):
    """Four rows of 40 tokens: longer than the local window."""
    return lz.load_paragraphs(
        tokens[:4, : PREFIX + CONTINUATION], prefix_length=PREFIX, continuation_length=CONTINUATION
    )


def z_name(layer):
    return f"blocks.{layer}.attn.hook_z"


def plain_means(model, rows):
    """Every head's mean output, one row at a time: `(layer, head, d_head)`."""
    names = [z_name(layer) for layer in range(model.n_layers)]
    caches = [model.run_with_cache(row[None], names)[1] for row in rows]
    return torch.stack([torch.cat([cache[name][0] for cache in caches]).mean(0) for name in names])


def plain_recall(model, row, hooks):
    """Exact match and mean NLL of one row's continuation, from all logits."""
    logits = model(row[None, :-1], hooks=hooks)[0, PREFIX - 1 :]
    wanted = row[PREFIX:]
    right = (logits.argmax(-1) == wanted).tolist()
    nll = -logits.log_softmax(-1)[torch.arange(CONTINUATION), wanted].mean()
    return right.index(False) if False in right else CONTINUATION, float(nll)


def by_hooks(model, tokens, to):
    """Exact match and NLL `(paragraph, layer, head)` by a whole forward pass for each row and head."""
    means = plain_means(model, tokens[:, :-1]) if to == "mean" else torch.zeros(model.n_layers, 4, 8).double()
    out = np.empty((2, len(tokens), model.n_layers, 4))
    for layer in range(model.n_layers):
        for head in range(4):

            def replace(z, name, layer=layer, head=head):
                return torch.cat(
                    [z[:, :, :head], means[layer, head].expand_as(z[:, :, :1]), z[:, :, head + 1 :]], dim=2
                )

            for row in range(len(tokens)):
                out[:, row, layer, head] = plain_recall(model, tokens[row], {z_name(layer): replace})
    return out


def numbers(signature):
    return np.stack([signature[name].values for name in VARIABLES])


@torch.no_grad()
@pytest.mark.parametrize("to", ["mean", "zero"])
@pytest.mark.parametrize("continuation", ["own", "true"])
def test_every_heads_ablation_equals_a_pass_with_its_output_replaced_by_a_hook(hooked, paragraphs, to, continuation):
    signature = ablate(hooked, paragraphs, to=to, continuation=continuation)
    tokens = (paragraphs.with_own_continuation(hooked) if continuation == "own" else paragraphs).tokens
    expected = by_hooks(hooked, tokens, to)
    assert np.array_equal(numbers(signature)[0], expected[0])
    assert np.allclose(numbers(signature)[1], expected[1], rtol=EXACT, atol=0)
    if continuation == "own":
        assert 0 < expected[0].mean() < CONTINUATION, "else exact match would test little"
    before = np.array([plain_recall(hooked, row, {}) for row in tokens]).T
    assert np.array_equal(signature["unperturbed_exact_match"], before[0])
    assert np.allclose(signature["unperturbed_nll"], before[1], rtol=EXACT, atol=0)
    assert {signature[n].attrs["continuation"] for n in (*VARIABLES, "unperturbed_nll")} == {continuation}
    assert signature["nll"].attrs["continuation"] == "true"


@torch.no_grad()
@pytest.mark.parametrize("to", ["mean", "zero"])
def test_the_numbers_do_not_depend_on_the_batch_size(hooked, paragraphs, to):
    whole = numbers(ablate(hooked, paragraphs, to=to))
    for batch_size in (1, 2, 3, 5, 7, 12, 1000):
        assert np.allclose(numbers(ablate(hooked, paragraphs, to=to, batch_size=batch_size)), whole, rtol=EXACT, atol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 9])
def test_no_more_rows_than_the_batch_size_are_in_flight_and_no_fewer_than_fit(neo, paragraphs, batch_size, monkeypatch):
    rows, resume = [], HookedModel.resume

    def counted(model, resid, **options):
        rows.append(len(resid))
        return resume(model, resid, **options)

    monkeypatch.setattr(HookedModel, "resume", counted)
    ablate(neo, paragraphs, batch_size=batch_size)
    assert max(rows) == {1: 1, 3: 3, 4: 4, 9: 8}[batch_size]
    assert sum(rows) == 4 * 4 * 4


def test_where_memory_runs_out_smaller_batches_give_the_same_and_say_so_once(neo, paragraphs, monkeypatch):
    whole, resume = numbers(ablate(neo, paragraphs)), HookedModel.resume

    def narrow(model, resid, **options):
        if len(resid) > 8:
            raise torch.OutOfMemoryError
        return resume(model, resid, **options)

    monkeypatch.setattr(HookedModel, "resume", narrow)
    with pytest.warns(UserWarning, match="^ablation: out of memory; going on in batches of 2.$"):
        less = numbers(ablate(neo, paragraphs, batch_size=16))
    assert np.allclose(less, whole, rtol=EXACT, atol=0)


def test_own_continuations_are_matched_whole_before_and_recall_is_attached(hooked, paragraphs):
    signature = ablate(hooked, paragraphs)
    assert (signature["unperturbed_exact_match"] == CONTINUATION).all()
    assert signature["ablated_nll"].dims == ("paragraph", "layer", "head")
    assert signature["ablated_nll"].dtype == signature["ablated_exact_match"].dtype == np.float64
    joined = lz.recall(hooked, paragraphs) | lz.perturb_prefix(hooked, paragraphs) | signature
    assert {"perturbed_nll", "ablated_nll", "exact_match"} <= set(joined.variables)
    call = signature.dataset.attrs["calls"][0]
    layers, heads = list(range(hooked.n_layers)), [0, 1, 2, 3]
    told = {"measurement": "ablate", "layers": layers, "heads": heads, "to": "mean", "continuation": "own"}
    assert told | {"batch_size": 64} == {name: call[name] for name in (*told, "batch_size")}


@torch.no_grad()
def test_chosen_layers_and_heads_are_ablated_and_all_others_are_nan(hooked, paragraphs):
    whole = numbers(ablate(hooked, paragraphs))
    signature = ablate(hooked, paragraphs, layers=[2, 0, 2], heads=[3, 1, 3])
    some, call = numbers(signature), signature.dataset.attrs["calls"][0]
    assert (call["layers"], call["heads"]) == ([0, 2], [1, 3]), "each once"
    chosen = np.ix_(range(2), range(4), [0, 2], [1, 3])
    assert np.allclose(some[chosen], whole[chosen], rtol=EXACT, atol=0)
    some[chosen] = np.nan
    assert np.isnan(some).all()


@torch.no_grad()
def test_zero_ablation_of_a_paragraph_does_not_depend_on_its_company(hooked, paragraphs):
    whole = numbers(ablate(hooked, paragraphs, to="zero"))
    alone = numbers(ablate(hooked, paragraphs[[2]], to="zero"))
    assert np.allclose(alone[:, 0], whole[:, 2], rtol=EXACT, atol=0)


def test_ablation_leaves_the_model_as_it_was(hooked, paragraphs):
    before, asked = hooked.weights_hash(), [p.requires_grad for p in hooked.hf.parameters()]
    logits = hooked(paragraphs.tokens)
    for to in ("mean", "zero"):
        ablate(hooked, paragraphs, to=to)
    hooked(paragraphs.tokens, hooks=ablation_hooks(hooked, [(0, 1), (2, 3)]))
    assert hooked.weights_hash() == before
    assert [p.requires_grad for p in hooked.hf.parameters()] == asked
    assert all(p.grad is None for p in hooked.hf.parameters())
    assert torch.equal(hooked(paragraphs.tokens), logits)
    assert torch.is_grad_enabled()


@torch.no_grad()
def test_a_model_in_float32_gives_float32(make_model, family, paragraphs):
    rough, precise = (make_model(family, dtype=dtype) for dtype in (torch.float32, torch.float64))
    signature = ablate(rough, paragraphs, continuation="true")
    assert signature["ablated_nll"].dtype == np.float32
    expected = ablate(precise, paragraphs, continuation="true")["ablated_nll"]
    assert np.allclose(signature["ablated_nll"], expected, rtol=1e-4)


# Known answers


PERIOD = 12


def reciting_by_one_head(make_model, family, layer, head):
    """A model that is zero but for one head, which looks one period back for the next token: it recites any verse of 12."""
    model = make_model(family, **{"hidden_size" if family == "gpt-neo" else "n_embd": 64})
    for name, p in model.hf.named_parameters():
        p.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    place = torch.arange(PERIOD)
    model.hf.transformer.wte.weight[place, place] = 1
    position = torch.arange(model.n_ctx)
    model.hf.transformer.wpe.weight[position, PERIOD + position % PERIOD] = 1
    model.weight(layer, "W_Q", head)[PERIOD + place, (place + 1) % PERIOD] = 2
    model.weight(layer, "W_K", head)[PERIOD + place, place] = 2
    model.weight(layer, "W_V", head)[place, place] = 1
    model.weight(layer, "W_O", head)[place, place] = 1
    return model


@pytest.fixture
def verses():
    """Four verses of twelve different tokens, each said again and again."""
    order = torch.randn(4, PERIOD, generator=torch.Generator().manual_seed(0)).argsort(-1)
    rows = order.repeat(1, 4)[:, : PREFIX + CONTINUATION]
    return lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)


@torch.no_grad()
@pytest.mark.parametrize("to", ["mean", "zero"])
@pytest.mark.parametrize(("layer", "head"), [(0, 3), (1, 0), (2, 2)])
def test_where_one_head_carries_the_recital_all_is_lost_there_and_nothing_elsewhere(
    make_model, family, verses, to, layer, head
):
    model = reciting_by_one_head(make_model, family, layer, head)
    signature = ablate(model, verses, to=to)
    assert (signature["exact_match"] == CONTINUATION).all()
    expected = np.full((4, model.n_layers, 4), CONTINUATION)
    expected[:, layer, head] = 0
    assert np.array_equal(signature["ablated_exact_match"], expected)
    rise = signature["ablated_nll"].values - signature["unperturbed_nll"].values[:, None, None]
    assert (rise[:, layer, head] > 1).all()
    rise[:, layer, head] = 0
    assert np.abs(rise).max() < EXACT


@torch.no_grad()
@pytest.mark.parametrize("to", ["mean", "zero"])
def test_heads_that_write_nothing_change_nothing(hooked, paragraphs, to):
    for layer in range(hooked.n_layers):
        for head in (0, 2, 3):
            hooked.weight(layer, "W_O", head).zero_()
    signature = ablate(hooked, paragraphs, to=to)
    rise = np.abs(signature["ablated_nll"].values - signature["unperturbed_nll"].values[:, None, None])
    assert rise[:, :, [0, 2, 3]].max() < EXACT
    assert (signature["ablated_exact_match"].values[:, :, [0, 2, 3]] == CONTINUATION).all()
    assert rise[:, :, 1].min() > 1e-6


@torch.no_grad()
def test_the_mean_of_a_head_whose_output_is_constant_is_its_output(hooked, paragraphs):
    hooked.weight(1, "W_V", 2).zero_()  # what remains is its value bias, in GPT-2
    tokens = paragraphs.with_own_continuation(hooked).tokens
    constant = head_means(hooked, tokens)[1, 2]
    mean, zero = (ablate(hooked, paragraphs, to=to) for to in ("mean", "zero"))
    before = mean["unperturbed_nll"].values
    assert np.allclose(mean["ablated_nll"].values[:, 1, 2], before, rtol=EXACT, atol=0)
    assert (mean["ablated_exact_match"].values[:, 1, 2] == CONTINUATION).all()
    if hooked.family == "gpt2":
        assert np.abs(zero["ablated_nll"].values[:, 1, 2] - before).min() > 1e-6
        assert torch.allclose(constant, hooked.blocks[1].attn.c_attn.bias[64 + 16 : 64 + 24], rtol=EXACT)
    else:
        assert torch.equal(constant, torch.zeros(8, dtype=torch.float64))


# The text that means are over


@torch.no_grad()
def test_a_paragraphs_number_depends_on_its_company_only_where_that_is_the_reference(hooked, paragraphs, tokens):
    """And by how much: printed."""
    reference = lz.load_paragraphs(tokens[4:], prefix_length=PREFIX, continuation_length=CONTINUATION)
    alone, beside = (
        ablate(hooked, paragraphs[[1, 2]], reference=reference),
        ablate(hooked, paragraphs, reference=reference),
    )
    assert np.allclose(numbers(alone), numbers(beside)[:, [1, 2]], rtol=EXACT, atol=0)
    rises = [
        (signature["ablated_nll"] - signature["unperturbed_nll"]).values
        for signature in (ablate(hooked, paragraphs[[1, 2]]), ablate(hooked, paragraphs))
    ]
    ratio = rises[0].mean(0) / rises[1][[1, 2]].mean(0)
    print(f"own set, 2 paragraphs alone against beside 2 others: rise x {ratio.min():.2f} to {ratio.max():.2f} by head")
    assert np.abs(ratio - 1).max() > 0.01


@torch.no_grad()
def test_the_mean_is_over_the_reference_all_but_its_last_tokens_each_cluster_alike(hooked, paragraphs, tokens):
    rows = torch.cat([tokens[4:5], tokens[4:], tokens[4:5]])
    rows[3, -1] = (rows[3, -1] + 1) % 97  # three near-duplicates, and one other
    reference = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=60 - PREFIX)
    signature = ablate(hooked, paragraphs, reference=reference)
    means = (plain_means(hooked, tokens[4:5, :-1]) + plain_means(hooked, tokens[5:, :-1])) / 2
    own = paragraphs.with_own_continuation(hooked).tokens
    for layer, head in ((0, 1), (hooked.n_layers - 1, 3)):
        hooks = ablation_hooks(hooked, [(layer, head)], means)
        expected = [plain_recall(hooked, row, hooks)[1] for row in own]
        assert np.allclose(signature["ablated_nll"].values[:, layer, head], expected, rtol=1e-10, atol=0)


@torch.no_grad()
def test_without_a_reference_it_is_general_text_of_the_models_own_tokenizer(make_model, tokenizer):
    model = make_model("gpt-neo", tokenizer, vocab_size=len(tokenizer))
    rows = torch.randint(97, (3, 40), generator=torch.Generator().manual_seed(1))
    paragraphs = lz.load_paragraphs(rows, prefix_length=PREFIX, continuation_length=CONTINUATION)
    text = general_text(model, 39)
    assert text.tokens.shape == (GENERAL_ROWS, 39) and float(text.weights.sum()) == pytest.approx(1)
    first = tokenizer(next(synthetic_paragraphs(1, seed=0, start=UNSEEN_FROM)).text)["input_ids"]
    assert text.tokens.flatten()[: len(first)].tolist() == first
    signature = ablate(model, paragraphs)
    hooks = ablation_hooks(model, [(1, 2)], head_means(model, text.tokens))
    own = paragraphs.with_own_continuation(model).tokens
    expected = [plain_recall(model, row, hooks)[1] for row in own]
    assert np.allclose(signature["ablated_nll"].values[:, 1, 2], expected, rtol=1e-9, atol=0)
    assert np.allclose(numbers(ablate(model, paragraphs[[2]]))[:, 0], numbers(signature)[:, 2], rtol=1e-9)


def test_the_provenance_names_the_reference_and_parts_over_another_do_not_join(
    neo, paragraphs, tokens, make_model, tokenizer
):
    reference = lz.load_paragraphs(tokens[4:], prefix_length=PREFIX, continuation_length=CONTINUATION)
    own, given, zero = (
        ablate(neo, paragraphs, [0], **options) for options in ({}, {"reference": reference}, {"to": "zero"})
    )
    told = [signature.dataset.attrs["calls"][0]["reference"] for signature in (own, given, zero)]
    assert told == [f"the paragraphs measured, {paragraphs.data_hash[:16]}", f"Tensor, {reference.data_hash[:16]}", ""]
    with pytest.raises(lz.SignatureError, match="reference='the paragraphs measured"):
        own | ablate(neo, paragraphs, [1], reference=reference)
    model = make_model("gpt-neo", tokenizer, vocab_size=len(tokenizer))
    assert ablate(model, paragraphs, 0, 0).dataset.attrs["calls"][0]["reference"].startswith("general text, ")


def test_general_text_that_the_model_cannot_read_is_not_taken(make_model, tokenizer, neo):
    assert general_text(neo, 10) is None, "no tokenizer"
    assert general_text(make_model("gpt-neo", tokenizer), 10) is None, "tokens beyond its vocabulary of 97"


def test_a_reference_that_does_not_fit_is_refused(neo, paragraphs):
    long = lz.load_paragraphs(torch.zeros(1, 129, dtype=torch.long), prefix_length=100, continuation_length=29)
    with pytest.raises(lz.InputError, match=r"^Tensor: 100 \+ 29 tokens exceed the context"):
        ablate(neo, paragraphs, reference=long)


# Means


@torch.no_grad()
def test_head_means_of_weighted_rows_count_each_as_often_as_it_weighs(hooked, tokens):
    weighted = head_means(hooked, tokens[:3], weights=torch.tensor([2.0, 1.0, 0.0]), batch_size=2)
    assert torch.allclose(weighted, head_means(hooked, tokens[[0, 0, 1]]), rtol=0, atol=EXACT)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_head_means_are_the_plain_mean_over_all_rows_and_positions(hooked, tokens, batch_size):
    means = head_means(hooked, tokens, batch_size=batch_size)
    assert means.shape == (hooked.n_layers, 4, 8)
    assert torch.allclose(means, plain_means(hooked, tokens), rtol=0, atol=EXACT)
    assert means.abs().min() > 1e-6


@torch.no_grad()
def test_a_batch_of_which_the_mean_was_taken_half_way_counts_once(neo, tokens, monkeypatch):
    expected, final_states, failed = head_means(neo, tokens), HookedModel.final_states, []

    def narrow(model, rows, **options):
        states = final_states(model, rows, **options)
        if len(rows) > 3:
            failed.append(len(rows))
            raise torch.OutOfMemoryError
        return states

    monkeypatch.setattr(HookedModel, "final_states", narrow)
    with pytest.warns(UserWarning, match="^head means: out of memory; going on in batches of 3.$"):
        means = head_means(neo, tokens)
    assert failed == [6]
    assert torch.allclose(means, expected, rtol=0, atol=EXACT)


def test_no_tokens_have_no_mean(neo):
    with pytest.raises(lz.LocalizeError) as caught:
        head_means(neo, torch.zeros(0, 7, dtype=torch.long))
    assert str(caught.value) == "head_means: tokens of shape (0, 7) have no mean; at least one is needed."


# Several heads together


@torch.no_grad()
def test_heads_ablated_together_to_zero_equal_a_model_without_their_W_O(hooked, tokens):
    heads = [(0, 1), (2, 0), (0, 3)]
    hooks = ablation_hooks(hooked, heads)
    assert set(hooks) == {z_name(0), z_name(2)}
    ablated, plain = hooked(tokens, hooks=hooks), hooked(tokens)
    for layer, head in heads:
        hooked.weight(layer, "W_O", head).zero_()
    assert torch.allclose(ablated, hooked(tokens), rtol=EXACT, atol=EXACT)
    assert (ablated - plain).abs().max() > 1e-3


@torch.no_grad()
def test_heads_ablated_together_to_their_means_read_them_and_leave_the_others(hooked, tokens):
    means = torch.randn(hooked.n_layers, 4, 8, generator=torch.Generator().manual_seed(0)).double()
    names, seen = [z_name(layer) for layer in range(hooked.n_layers)], {}
    plain = hooked.run_with_cache(tokens, names[:2])[1]
    hooks = ablation_hooks(hooked, [(1, 2), (1, 0)], means)
    hooked(tokens, hooks={name: lambda z, n: seen.update({n: hooks[n](z, n) if n in hooks else z}) for name in names})
    assert torch.equal(seen[z_name(0)], plain[z_name(0)])
    z = seen[z_name(1)]
    assert torch.equal(z[:, :, [0, 2]], means[1, [0, 2]].expand(6, 60, 2, 8))
    assert torch.equal(z[:, :, [1, 3]], plain[z_name(1)][:, :, [1, 3]])


def test_a_hook_that_ablates_leaves_the_activation_it_was_given(neo, tokens):
    z = neo.run_with_cache(tokens, [z_name(1)])[1][z_name(1)].detach()
    before = z.clone()
    ablated = ablation_hooks(neo, [(1, 2)])[z_name(1)](z, z_name(1))
    assert torch.equal(z, before)
    assert ablated is not None and not torch.equal(ablated, before)


@torch.no_grad()
def test_one_head_ablated_by_hooks_equals_its_cell_of_the_sweep(hooked, paragraphs):
    sweep = ablate(hooked, paragraphs)["ablated_nll"].values
    tokens = paragraphs.with_own_continuation(hooked).tokens
    hooks = ablation_hooks(hooked, [(2, 1)], head_means(hooked, tokens[:, :-1]))
    assert np.allclose(sweep[:, 2, 1], [plain_recall(hooked, row, hooks)[1] for row in tokens], rtol=EXACT, atol=0)


def test_no_heads_need_no_hooks(neo):
    assert ablation_hooks(neo, []) == {}


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0, 4]}, "layer=4 must lie in 0..3, the layers of small gpt-neo."),
        ({"layers": [-1]}, "layer=-1 must lie in 0..3, the layers of small gpt-neo."),
        ({"heads": [4, 1]}, "head=4 must lie in 0..3, the heads of small gpt-neo."),
        ({"layers": []}, "ablate: layers=[] and heads=[0, 1, 2, 3] choose no head; None chooses all."),
        ({"to": "median"}, "ablate: to='median' is not one of mean, zero."),
        ({"batch_size": 0}, "ablate: batch_size=0 must be at least 1."),
        ({"continuation": "false"}, "ablate: continuation='false' is not one of true, own."),
    ],
)
def test_what_cannot_be_ablated_is_refused_in_one_line(neo, paragraphs, options, message):
    with pytest.raises(lz.LocalizeError) as caught:
        ablate(neo, paragraphs, **options)
    assert str(caught.value) == message


def test_true_continuations_cannot_be_asked_of_paragraphs_that_hold_own_ones_only(neo, tokens):
    own = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=CONTINUATION, continuation="own")
    with pytest.raises(lz.InputError) as caught:
        ablate(neo, own, continuation="true")
    assert str(caught.value) == "ablate: Tensor hold own continuations only; continuation='true' needs the true text."


@pytest.mark.parametrize(
    ("head", "message"), [((4, 0), "layer=4 must lie in 0..3"), ((0, -1), "head=-1 must lie in 0..3")]
)
def test_hooks_for_a_head_that_is_not_there_are_refused(neo, head, message):
    with pytest.raises(lz.ModelError) as caught:
        ablation_hooks(neo, [(1, 1), head])
    assert str(caught.value) == f"{message}, the {message.split('=')[0]}s of small gpt-neo."


def test_a_single_layer_and_head_may_be_given_as_numbers(neo, tokens):
    paragraphs = lz.load_paragraphs(tokens, prefix_length=24, continuation_length=36)
    one, listed = lz.ablate(neo, paragraphs, 1, 2), lz.ablate(neo, paragraphs, [1], [2])
    assert np.array_equal(one["ablated_nll"], listed["ablated_nll"], equal_nan=True)
    assert np.argwhere(~np.isnan(one["ablated_nll"].values[0])).tolist() == [[1, 2]]
