import math

import pytest
import torch

from localize.errors import ModelError
from localize.models.activations import BLOCK_SITES, STREAM_SITES
from localize.models.hooks import HookedModel
from localize.models.key_values import KeyValues, visible_keys

EXACT = 1e-12
FLOAT32 = 1e-5
"""Bound where Hugging Face's GPT-Neo takes part: it computes attention in float32 even in a float64 model."""


def difference(a, b):
    """The largest difference, relative to the largest value."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def seen_by_loops(length, window):
    seen = torch.zeros(length, length, dtype=torch.bool)
    for query in range(length):
        for key in range(length):
            seen[query, key] = key <= query and (window is None or key > query - window)
    return seen


def reference(model, tokens):
    """Logits and each layer's pattern by formula, from the weights alone: no module of transformers, no hook of ours."""
    w = {name.removeprefix("transformer."): value for name, value in model.hf.state_dict().items()}
    config, length, d_head, patterns = model.hf.config, tokens.shape[1], 8, []
    x = w["wte.weight"][tokens] + w["wpe.weight"][:length]
    for layer in range(config.num_hidden_layers):
        p = {name.removeprefix(f"h.{layer}."): value for name, value in w.items() if name.startswith(f"h.{layer}.")}
        normed, heads = layer_norm(x, p["ln_1.weight"], p["ln_1.bias"]), []
        if model.family == "gpt2":
            q, k, v = (normed @ p["attn.c_attn.weight"] + p["attn.c_attn.bias"]).split(32, dim=-1)
            seen, scale = seen_by_loops(length, None), 1 / math.sqrt(d_head)
        else:
            q, k, v = (normed @ p[f"attn.attention.{name}_proj.weight"].T for name in "qkv")
            seen, scale = seen_by_loops(length, 16 if layer % 2 else None), 1.0
        patterns.append(torch.zeros(len(tokens), 4, length, length, dtype=torch.float64))
        for head in range(4):
            part = slice(head * d_head, (head + 1) * d_head)
            scores = torch.einsum("bqd,bkd->bqk", q[..., part], k[..., part]) * scale
            weights = scores.exp() * seen
            patterns[-1][:, head] = weights / weights.sum(-1, keepdim=True)
            heads.append(torch.einsum("bqk,bkd->bqd", patterns[-1][:, head], v[..., part]))
        z = torch.cat(heads, dim=-1)
        if model.family == "gpt2":
            x = x + z @ p["attn.c_proj.weight"] + p["attn.c_proj.bias"]
            post = gelu(layer_norm(x, p["ln_2.weight"], p["ln_2.bias"]) @ p["mlp.c_fc.weight"] + p["mlp.c_fc.bias"])
            x = x + post @ p["mlp.c_proj.weight"] + p["mlp.c_proj.bias"]
        else:
            x = x + z @ p["attn.attention.out_proj.weight"].T + p["attn.attention.out_proj.bias"]
            post = gelu(layer_norm(x, p["ln_2.weight"], p["ln_2.bias"]) @ p["mlp.c_fc.weight"].T + p["mlp.c_fc.bias"])
            x = x + post @ p["mlp.c_proj.weight"].T + p["mlp.c_proj.bias"]
    return layer_norm(x, w["ln_f.weight"], w["ln_f.bias"]) @ w["lm_head.weight"].T, patterns


# The forward pass


@torch.no_grad()
def test_logits_equal_a_forward_pass_by_hand(model, tokens):
    assert tokens.shape[1] > 16, "the local window must be shorter than the text, else it is not tested"
    assert difference(model(tokens), reference(model, tokens)[0]) < EXACT


@torch.no_grad()
def test_the_pattern_equals_the_one_by_hand_in_every_layer(model, tokens):
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    logits, seen = model.run_with_cache(tokens, names)
    expected_logits, expected = reference(model, tokens)
    assert difference(logits, expected_logits) < EXACT
    for name, pattern in zip(names, expected, strict=True):
        assert difference(seen[name], pattern) < EXACT
        assert pattern[:, :, 20:].amax(-1).mean() > 0.3, "an even pattern would test little"


@torch.no_grad()
def test_logits_equal_hugging_faces_own(model, tokens):
    bound = FLOAT32 if model.family == "gpt-neo" else EXACT
    assert difference(model(tokens), model.hf(tokens).logits) < bound


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}])
def test_gpt2s_other_attention_scales_are_kept(make_model, tokens, settings):
    model = make_model("gpt2", **settings)
    assert difference(model(tokens), model.hf(tokens).logits) < EXACT
    assert difference(model(tokens), make_model("gpt2")(tokens)) > 1e-3


@torch.no_grad()
def test_the_fused_path_equals_the_one_whose_pattern_is_hooked(model, tokens):
    for site in ("attn.hook_pattern", "attn.hook_attn_scores"):
        hooks = {f"blocks.{layer}.{site}": lambda value, name: None for layer in range(model.n_layers)}
        assert difference(model(tokens, hooks=hooks), model(tokens)) < EXACT


def test_the_fused_path_has_the_same_gradients(model, tokens):
    grads = []
    for hooks in (
        {},
        {f"blocks.{layer}.attn.hook_pattern": lambda value, name: None for layer in range(model.n_layers)},
    ):
        model.hf.zero_grad()
        model(tokens, hooks=hooks).square().mean().backward()
        grads.append({name: p.grad.clone() for name, p in model.hf.named_parameters()})
    largest = max(g.abs().max() for g in grads[0].values())
    assert largest > 0
    for name, g in grads[0].items():
        assert (g - grads[1][name]).abs().max() < EXACT * largest, name


@torch.no_grad()
def test_bfloat16_gives_the_same_logits_up_to_its_rounding(make_model, family, tokens):
    precise, rough = make_model(family), make_model(family, dtype=torch.bfloat16)
    fused = rough(tokens)
    hooked = rough(
        tokens, hooks={f"blocks.{layer}.attn.hook_pattern": lambda value, name: None for layer in range(rough.n_layers)}
    )
    assert fused.dtype == hooked.dtype == torch.bfloat16
    for logits in (fused, hooked):
        assert (logits.double() - precise(tokens)).square().mean().sqrt() < 0.1 * precise(tokens).std()


@torch.no_grad()
def test_dropout_is_never_applied_even_in_training_mode(make_model, family, tokens):
    names = (
        ("embd_pdrop", "resid_pdrop", "attn_pdrop")
        if family == "gpt2"
        else ("embed_dropout", "resid_dropout", "attention_dropout")
    )
    model = make_model(family, **dict.fromkeys(names, 0.5))
    quiet = model(tokens)
    model.hf.train()
    assert torch.equal(model(tokens), quiet)
    torch.manual_seed(0)
    assert difference(model.hf(tokens).logits, quiet) > 0.01, "in training mode, Hugging Face's own forward drops"


@torch.no_grad()
def test_padding_on_the_right_changes_nothing_to_its_left(model, tokens):
    padded = torch.cat([tokens, torch.zeros(6, 20, dtype=tokens.dtype)], dim=1)
    assert difference(model(padded)[:, :60], model(tokens)) < EXACT


@torch.no_grad()
def test_a_row_is_the_same_alone_and_in_a_batch(model, tokens):
    assert difference(model(tokens[2:3]), model(tokens)[2:3]) < EXACT


@torch.no_grad()
def test_logits_are_given_only_where_they_are_read(model, tokens):
    every = model(tokens)
    for read in (slice(-1, None), slice(29, 59), slice(None, 5), slice(0, 60, 7)):
        assert difference(model(tokens, read=read), every[:, read]) < EXACT


@torch.no_grad()
def test_the_context_can_be_filled_to_its_last_token(model):
    assert model(torch.zeros(1, 128, dtype=torch.long)).shape == (1, 128, 97)


def test_tokens_past_the_context_are_refused_in_one_line(model):
    with pytest.raises(ModelError) as error:
        model(torch.zeros(1, 129, dtype=torch.long))
    assert str(error.value) == f"129 tokens do not fit the context of small {model.family}, which is 128."


@torch.no_grad()
def test_tokens_already_read_count_towards_the_context(model):
    cache = KeyValues()
    model(torch.zeros(1, 100, dtype=torch.long), cache=cache)
    with pytest.raises(ModelError) as error:
        model(torch.zeros(1, 29, dtype=torch.long), cache=cache)
    assert str(error.value) == f"129 tokens do not fit the context of small {model.family}, which is 128."
    assert cache.length == 100


# Keys and values kept


@torch.no_grad()
@pytest.mark.parametrize("splits", [(1,), (8,), (15,), (16,), (17,), (40,), (59,), (10, 30, 50), tuple(range(1, 60))])
def test_reading_in_parts_equals_reading_at_once(model, tokens, splits):
    cache, logits = KeyValues(), []
    for start, stop in zip((0, *splits), (*splits, 60), strict=True):
        logits.append(model(tokens[:, start:stop], cache=cache))
        assert cache.length == stop
    assert difference(torch.cat(logits, dim=1), model(tokens)) < EXACT


@torch.no_grad()
def test_the_pattern_after_a_cache_covers_all_keys(model, tokens):
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    cache = KeyValues()
    model(tokens[:, :40], cache=cache)
    logits, late = model.run_with_cache(tokens[:, 40:], names, cache=cache)
    whole_logits, whole = model.run_with_cache(tokens, names)
    assert difference(logits, whole_logits[:, 40:]) < EXACT
    for name in names:
        assert late[name].shape == (6, 4, 20, 60)
        assert difference(late[name], whole[name][:, :, 40:]) < EXACT


@torch.no_grad()
def test_the_first_positions_of_a_cache_are_a_cache_of_the_first_tokens(model, tokens):
    cache = KeyValues()
    whole = model(tokens, cache=cache)
    assert difference(model(tokens[:, 25:], cache=cache.first(25)), whole[:, 25:]) < EXACT
    assert cache.length == 60, "going on from its first positions leaves a cache as it was"


@torch.no_grad()
def test_rows_of_a_cache_can_be_taken_several_times(model, tokens):
    cache, rows = KeyValues(), torch.tensor([3, 0, 3, 5])
    model(tokens[:, :30], cache=cache)
    whole = model(tokens)
    assert difference(model(tokens[rows, 30:], cache=cache.rows(rows)), whole[rows, 30:]) < EXACT
    assert difference(model(tokens[1:3, 30:], cache=cache.rows(slice(1, 3))), whole[1:3, 30:]) < EXACT
    assert cache.length == 30


def test_an_empty_cache_has_length_zero():
    assert KeyValues().length == 0


# Greedy continuation


@torch.no_grad()
def test_greedy_continuation_equals_an_argmax_loop_that_reads_everything_again(model, tokens):
    text = tokens[:, :10]
    for _ in range(30):  # well past the window
        text = torch.cat([text, reference(model, text)[0][:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(model.continue_greedily(tokens[:, :10], 30), text[:, 10:])


@torch.no_grad()
def test_greedy_continuation_equals_hugging_faces_generate(model, tokens):
    prefix, length = tokens[:, :20], 25
    said = model.continue_greedily(prefix, length)
    top = model(torch.cat([prefix, said], dim=1), read=slice(19, -1)).topk(2).values
    assert (top[..., 0] - top[..., 1]).min() > 1e-4, "a near tie would make this a test of rounding"
    generated = model.hf.generate(
        prefix,
        attention_mask=torch.ones_like(prefix),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert torch.equal(said, generated[:, 20:])


def test_a_continuation_may_end_at_the_contexts_end_but_not_past_it(model, tokens):
    prefix = torch.cat([tokens, tokens], dim=1)
    assert model.continue_greedily(prefix, 9).shape == (6, 9), "the last token said is not read"
    with pytest.raises(ModelError) as error:
        model.continue_greedily(prefix, 10)
    assert str(error.value) == f"129 tokens do not fit the context of small {model.family}, which is 128."


def test_a_continuation_of_no_tokens_is_empty(model, tokens):
    said = model.continue_greedily(tokens, 0)
    assert said.shape == (6, 0)
    assert said.dtype == tokens.dtype


def test_a_continuation_leaves_no_graph(model, tokens):
    assert not model.continue_greedily(tokens[:, :5], 2).requires_grad
    assert torch.is_grad_enabled()


# Hooks


@torch.no_grad()
def test_every_hook_fires_once_in_order_with_transformer_lens_shapes(model, tokens):
    per_head, stream, mlp, square = (6, 60, 4, 8), (6, 60, 32), (6, 60, 128), (6, 4, 60, 60)
    shapes = {f"attn.hook_{name}": per_head for name in "qkvz"} | {"mlp.hook_pre": mlp, "mlp.hook_post": mlp}
    shapes |= {"attn.hook_attn_scores": square, "attn.hook_pattern": square}
    fired = []

    def keep(value, name):
        fired.append((name, tuple(value.shape)))

    model(tokens, hooks=dict.fromkeys(model.hook_names, keep))
    assert [name for name, _ in fired] == list(model.hook_names)
    assert len(fired) == 2 + 13 * model.n_layers + 1
    for name, shape in fired:
        if name != "hook_pos_embed":
            assert shape == shapes.get(name.split(".", 2)[-1], stream), name


def test_hook_names_are_those_of_transformer_lens(neo):
    assert neo.hook_names[:3] == ("hook_embed", "hook_pos_embed", "blocks.0.hook_resid_pre")
    assert {f"blocks.3.{site}" for site in BLOCK_SITES} < set(neo.hook_names)
    assert neo.hook_names[-1] == "ln_final.hook_out"


@torch.no_grad()
def test_replacing_an_activation_with_itself_changes_nothing(model, tokens):
    plain = model(tokens)
    for name in model.hook_names:
        assert difference(model(tokens, hooks={name: lambda value, name: value.clone()}), plain) < EXACT, name


@torch.no_grad()
def test_every_activation_that_is_replaced_moves_the_logits(model, tokens):
    plain = model(tokens)
    for name in model.hook_names:
        moved = model(tokens, hooks={name: lambda value, name: value.roll(1, dims=-1)})
        assert difference(moved, plain) > 1e-3, name


@torch.no_grad()
def test_a_hook_is_told_the_name_of_its_activation(model, tokens):
    told = {}
    names = ["blocks.1.attn.hook_z", "hook_embed", "blocks.0.attn.hook_pattern"]
    model(tokens, hooks={n: lambda value, name, n=n: told.update({n: name}) for n in names})
    assert told == {n: n for n in names}


@torch.no_grad()
def test_the_residual_stream_is_the_sum_of_what_is_written_to_it(model, tokens):
    _, seen = model.run_with_cache(tokens, model.hook_names)
    stream = seen["hook_embed"] + seen["hook_pos_embed"]
    for layer in range(model.n_layers):
        at = f"blocks.{layer}"
        assert difference(seen[f"{at}.hook_resid_pre"], stream) < EXACT
        stream = stream + seen[f"{at}.hook_attn_out"]
        assert difference(seen[f"{at}.hook_resid_mid"], stream) < EXACT
        stream = stream + seen[f"{at}.hook_mlp_out"]
        assert difference(seen[f"{at}.hook_resid_post"], stream) < EXACT


@torch.no_grad()
def test_z_is_the_pattern_times_the_values(model, tokens):
    names = [f"blocks.1.attn.hook_{site}" for site in ("pattern", "v", "z")]
    _, seen = model.run_with_cache(tokens, names)
    pattern, v, z = (seen[name] for name in names)
    assert difference(z, torch.einsum("bhqk,bkhd->bqhd", pattern, v)) < EXACT


@torch.no_grad()
def test_scores_are_queries_times_keys_and_the_pattern_is_their_softmax(model, tokens):
    names = [f"blocks.1.attn.hook_{site}" for site in ("q", "k", "attn_scores", "pattern")]
    _, seen = model.run_with_cache(tokens, names)
    q, k, scores, pattern = (seen[name] for name in names)
    products = torch.einsum("bqhd,bkhd->bhqk", q, k) * (1 if model.family == "gpt-neo" else 8**-0.5)
    inside = pattern > 0
    assert difference(scores[inside], products[inside]) < EXACT
    assert difference(scores.softmax(-1), pattern) < EXACT


@torch.no_grad()
@pytest.mark.parametrize("head", range(4))
def test_zeroing_a_heads_z_equals_zeroing_its_rows_of_W_O(model, tokens, head):
    def silence(z, name):
        z = z.clone()
        z[:, :, head] = 0
        return z

    plain, silenced = model(tokens), model(tokens, hooks={"blocks.1.attn.hook_z": silence})
    model.weight(1, "W_O", head).zero_()
    assert difference(silenced, model(tokens)) < EXACT
    assert difference(silenced, plain) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1])
def test_a_replaced_pattern_takes_effect(model, tokens, layer):
    """Every query looks at itself only: z is then v, in a global and in a local layer."""
    name = f"blocks.{layer}.attn.hook_pattern"
    own = torch.eye(60, dtype=torch.float64).expand(6, 4, 60, 60)
    z, v = f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.attn.hook_v"
    seen = {}
    moved = model(
        tokens,
        hooks={name: lambda value, name: own, z: lambda x, n: seen.update({n: x}), v: lambda x, n: seen.update({n: x})},
    )
    assert difference(seen[z], seen[v]) < EXACT
    assert difference(moved, model(tokens)) > 1e-3


@torch.no_grad()
def test_replaced_scores_are_what_the_softmax_sees(model, tokens):
    """A head that is told to look at position 0 alone does."""
    scores, pattern = "blocks.1.attn.hook_attn_scores", "blocks.1.attn.hook_pattern"
    seen = {}

    def first_only(value, name):
        value = value.clone()
        value[..., 0] = 1e6
        return value

    model(tokens, hooks={scores: first_only, pattern: lambda value, name: seen.update({name: value})})
    assert torch.equal(seen[pattern][..., 0], torch.ones(6, 4, 60, dtype=torch.float64))


@torch.no_grad()
def test_pattern_rows_sum_to_one_and_nothing_is_seen_outside_the_window(model, tokens):
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    _, seen = model.run_with_cache(tokens, names)
    for layer, name in enumerate(names):
        local = model.family == "gpt-neo" and layer % 2 == 1
        inside = seen_by_loops(60, 16 if local else None)
        assert (seen[name].sum(-1) - 1).abs().max() < EXACT
        assert (seen[name][:, :, ~inside] == 0).all()
        assert (seen[name][:, :, inside] > 0).all()


def test_local_layers_alternate_with_global_ones(neo, gpt2):
    assert [neo.window(layer) for layer in range(4)] == [None, 16, None, 16]
    assert [gpt2.window(layer) for layer in range(3)] == [None, None, None]


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (60, 60), (1, 60), (7, 30)])
@pytest.mark.parametrize("window", [None, 1, 16, 100])
def test_the_last_queries_see_as_loops_say(queries, keys, window):
    assert torch.equal(visible_keys(queries, keys, window), seen_by_loops(keys, window)[keys - queries :])


def test_an_unknown_hook_is_refused_with_the_names_there_are(model, tokens):
    with pytest.raises(ModelError) as error:
        model(tokens, hooks={"blocks.9.hook_q": lambda value, name: None})
    names = "hook_embed, hook_pos_embed, blocks.0.hook_resid_pre, blocks.0.attn.hook_q"
    expected = f"no activation 'blocks.9.hook_q'; the names are {names}, ... (hook_names)."
    assert str(error.value) == expected


def test_hooks_on_hugging_faces_own_modules_still_fire(model, tokens):
    fired = []
    for block in model.blocks:
        block.mlp.c_fc.register_forward_hook(lambda *_: fired.append(1))
    model(tokens)
    assert len(fired) == model.n_layers


# Going on from a known residual stream


def streams(model):
    return [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in STREAM_SITES]


@torch.no_grad()
@pytest.mark.parametrize("read", [slice(None), slice(-1, None), slice(29, 59), slice(0, 60, 7)])
def test_going_on_from_any_residual_stream_equals_the_whole_forward_pass(model, tokens, read):
    whole, seen = model.final_states(tokens)[:, read], model.run_with_cache(tokens, streams(model))[1]
    assert len(seen) == 3 * model.n_layers
    for name, resid in seen.items():
        assert difference(model.resume(resid, at=name, read=read), whole) < EXACT, name


@torch.no_grad()
def test_going_on_from_another_stream_equals_putting_it_there_by_a_hook(model, tokens):
    seen = model.run_with_cache(tokens, streams(model))[1]
    for name, resid in seen.items():
        other = resid.roll(1, dims=0)
        hooked = model.final_states(tokens, hooks={name: lambda value, _, other=other: other}, read=slice(30, None))
        assert difference(model.resume(other, at=name, read=slice(30, None)), hooked) < EXACT, name
        assert difference(hooked, model.final_states(tokens, read=slice(30, None))) > 1e-3


@torch.no_grad()
def test_going_on_calls_the_hooks_that_lie_after_the_start_and_each_takes_effect(model, tokens):
    seen = model.run_with_cache(tokens, streams(model))[1]
    for start, resid in seen.items():
        after = model.hook_names[model.hook_names.index(start) + 1 :]
        fired = []
        model.resume(resid, at=start, hooks=dict.fromkeys(after, lambda value, name, fired=fired: fired.append(name)))
        assert fired == list(after)
        for name in after[::5]:
            hooks = {name: lambda value, _: value.roll(1, dims=-1)}
            expected = model.final_states(tokens, hooks=hooks)
            assert difference(model.resume(resid, at=start, hooks=hooks), expected) < EXACT, (start, name)


@torch.no_grad()
def test_going_on_computes_nothing_that_lies_before_the_start(model, tokens):
    name, fired = "blocks.1.hook_resid_mid", []
    resid = model.run_with_cache(tokens, [name])[1][name]
    for layer, block in enumerate(model.blocks):
        for part in (block.ln_1, block.ln_2):
            part.register_forward_hook(lambda *_, at=(layer, part is block.ln_2): fired.append(at))
    model.resume(resid, at=name)
    assert fired == [(1, True)] + [(layer, mlp) for layer in range(2, model.n_layers) for mlp in (False, True)]


@torch.no_grad()
def test_going_on_in_the_last_layer_computes_only_what_is_read(model, tokens):
    last, widths = model.n_layers - 1, []
    seen = model.run_with_cache(tokens, streams(model))[1]
    model.blocks[last].mlp.c_fc.register_forward_hook(lambda module, given, out: widths.append(out.shape[1]))
    for site in ("hook_resid_pre", "hook_resid_mid"):
        model.resume(seen[f"blocks.{last}.{site}"], at=f"blocks.{last}.{site}", read=slice(50, None))
    assert widths == [10, 10]


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 8, 30, 59])
def test_going_on_with_a_cache_equals_reading_everything(model, tokens, start):
    known, names = KeyValues(), streams(model)
    model(tokens[:, :start], cache=known)
    whole, seen = model.final_states(tokens), model.run_with_cache(tokens, names)[1]
    for name, resid in seen.items():
        states = model.resume(resid[:, start:], at=name, cache=known)
        assert difference(states, whole[:, start:]) < 1e-10, name
    assert known.length == start and not known.read_only
    assert {k.shape[2] for k, _ in known.layers} == {start}, "the cache is left as it is"


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 8, 30, 59])
def test_one_row_of_a_cache_serves_every_row(model, tokens, start):
    rows = torch.cat([tokens[:1, :start].expand(6, -1), tokens[:, start:]], dim=1)
    known = KeyValues()
    model(rows[:1, :start], cache=known)
    whole, seen = model.final_states(rows), model.run_with_cache(rows, streams(model))[1]
    for name, resid in seen.items():
        for read in (slice(None), slice(-1, None)):
            states = model.resume(resid[:, start:], at=name, cache=known, read=read)
            assert difference(states, whole[:, start:][:, read]) < 1e-10, name
    read_only = KeyValues(known.layers, read_only=True)
    assert difference(model.final_states(rows[:, start:], cache=read_only), whole[:, start:]) < 1e-10
    assert difference(model.final_states(rows[:, start:], cache=KeyValues(known.layers)), whole[:, start:]) < 1e-10


@torch.no_grad()
def test_the_pattern_after_one_row_of_a_cache_can_be_hooked(model, tokens):
    rows = torch.cat([tokens[:1, :30].expand(6, -1), tokens[:, 30:]], dim=1)
    known, name = KeyValues(), "blocks.1.attn.hook_pattern"
    model(rows[:1, :30], cache=known)
    seen = {}
    resid = model.run_with_cache(rows, ["blocks.1.hook_resid_pre"])[1]["blocks.1.hook_resid_pre"]
    hooks = {name: lambda value, at: seen.update({at: value})}
    model.resume(resid[:, 30:], at="blocks.1.hook_resid_pre", hooks=hooks, cache=known)
    assert difference(seen[name], model.run_with_cache(rows, [name])[1][name][:, :, 30:]) < EXACT


def test_gradients_after_one_row_of_a_cache_are_those_of_the_whole_pass(model, tokens):
    rows, name = torch.cat([tokens[:1, :30].expand(6, -1), tokens[:, 30:]], dim=1), "blocks.1.hook_resid_pre"
    known = KeyValues()
    with torch.no_grad():
        model(rows[:1, :30], cache=known)
    logits, seen = model.run_with_cache(rows, [name])
    (expected,) = torch.autograd.grad(logits[:, 30:].square().sum(), seen[name])
    leaf = seen[name][:, 30:].detach().requires_grad_(True)
    states = model.resume(leaf, at=name, cache=known)
    (gradient,) = torch.autograd.grad(model.hf.lm_head(states).square().sum(), leaf)
    assert difference(gradient, expected[:, 30:]) < 1e-10


@torch.no_grad()
def test_a_shared_cache_in_bfloat16_gives_the_same_up_to_its_rounding(make_model, family, tokens):
    precise, rough = make_model(family), make_model(family, dtype=torch.bfloat16)
    rows = torch.cat([tokens[:1, :30].expand(6, -1), tokens[:, 30:]], dim=1)
    known = KeyValues()
    rough(rows[:1, :30], cache=known)
    logits = rough(rows[:, 30:], cache=KeyValues(known.layers, read_only=True))
    assert logits.dtype == torch.bfloat16
    expected = precise(rows)[:, 30:]
    assert (logits.double() - expected).square().mean().sqrt() < 0.1 * expected.std()


def test_going_on_with_a_cache_that_lacks_layers_is_refused(model):
    some = torch.zeros(1, 4, 3, 8, dtype=torch.float64)
    with pytest.raises(ModelError) as error:
        model.resume(
            torch.zeros(1, 5, 32, dtype=torch.float64),
            at="blocks.1.hook_resid_mid",
            cache=KeyValues([(some, some)] * 2),
        )
    assert str(error.value) == (
        f"resume: the cache holds 2 layers; those of all {model.n_layers} are needed, from a forward pass."
    )


@torch.no_grad()
def test_going_on_to_a_stream_gives_that_stream(model, tokens):
    names = streams(model)
    seen = model.run_with_cache(tokens, names)[1]
    for early, start in enumerate(names):
        for stop in names[early + 1 :]:
            if (start.endswith("post") and stop.endswith("pre")) and model._half("at", start) == model._half(
                "to", stop
            ):
                continue
            for read in (slice(None), slice(50, None)):
                assert difference(model.resume(seen[start], at=start, to=stop, read=read), seen[stop][:, read]) < EXACT


@pytest.mark.parametrize(
    ("to", "hook", "message"),
    [
        (
            "blocks.1.hook_resid_mid",
            None,
            "to='blocks.1.hook_resid_mid' does not lie after at='blocks.1.hook_resid_mid'.",
        ),
        (
            "blocks.0.hook_resid_post",
            None,
            "to='blocks.0.hook_resid_post' does not lie after at='blocks.1.hook_resid_mid'.",
        ),
        (
            "blocks.2.hook_resid_mid",
            "blocks.2.hook_mlp_out",
            "a hook of 'blocks.2.hook_mlp_out' is never called when stopping before 'blocks.2.hook_resid_mid'.",
        ),
        (
            "blocks.2.hook_resid_mid",
            "blocks.2.hook_resid_mid",
            "a hook of 'blocks.2.hook_resid_mid' is never called when stopping before 'blocks.2.hook_resid_mid'.",
        ),
    ],
)
def test_going_on_to_where_it_does_not_lead_is_refused(model, to, hook, message):
    hooks = {} if hook is None else {hook: lambda value, name: None}
    with pytest.raises(ModelError) as error:
        model.resume(torch.zeros(1, 5, 32, dtype=torch.float64), at="blocks.1.hook_resid_mid", to=to, hooks=hooks)
    assert str(error.value) == f"resume: {message}"


def test_going_on_to_what_is_no_residual_stream_is_refused(model):
    with pytest.raises(ModelError) as error:
        model.resume(
            torch.zeros(1, 5, 32, dtype=torch.float64), at="blocks.1.hook_resid_mid", to="blocks.2.hook_mlp_out"
        )
    assert str(error.value) == (
        f"resume: to='blocks.2.hook_mlp_out' is no residual stream; those are blocks.0 .. blocks.{model.n_layers - 1}, "
        "each with hook_resid_pre, hook_resid_mid, hook_resid_post."
    )


def test_a_stream_gone_on_from_receives_the_gradient(model, tokens):
    name = "blocks.1.hook_resid_mid"
    logits, seen = model.run_with_cache(tokens, [name])
    (expected,) = torch.autograd.grad(logits.square().mean(), seen[name])
    leaf = seen[name].detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.hf.lm_head(model.resume(leaf, at=name)).square().mean(), leaf)
    assert difference(gradient, expected) < EXACT


@pytest.mark.parametrize(
    "at", ["blocks.1.attn.hook_z", "blocks.9.hook_resid_mid", "hook_embed", "blocks.1.hook_mlp_out"]
)
def test_going_on_from_what_is_no_residual_stream_is_refused(model, at):
    with pytest.raises(ModelError) as error:
        model.resume(torch.zeros(1, 5, 32, dtype=torch.float64), at=at)
    assert str(error.value) == (
        f"resume: at={at!r} is no residual stream; those are blocks.0 .. blocks.{model.n_layers - 1}, "
        "each with hook_resid_pre, hook_resid_mid, hook_resid_post."
    )


@pytest.mark.parametrize("early", ["blocks.1.hook_resid_mid", "blocks.1.attn.hook_z", "hook_embed"])
def test_a_hook_that_going_on_would_never_call_is_refused(model, early):
    with pytest.raises(ModelError) as error:
        model.resume(
            torch.zeros(1, 5, 32, dtype=torch.float64),
            at="blocks.1.hook_resid_mid",
            hooks=dict.fromkeys(["ln_final.hook_out", early], lambda value, name: None),
        )
    assert str(error.value) == (
        f"resume: a hook of {early!r} is never called when starting after 'blocks.1.hook_resid_mid'."
    )


def test_an_unknown_hook_is_refused_when_going_on_too(model):
    with pytest.raises(ModelError) as error:
        model.resume(
            torch.zeros(1, 5, 32, dtype=torch.float64),
            at="blocks.1.hook_resid_mid",
            hooks={"blocks.2.hook_q": lambda value, name: None},
        )
    names = "hook_embed, hook_pos_embed, blocks.0.hook_resid_pre, blocks.0.attn.hook_q"
    assert str(error.value) == f"no activation 'blocks.2.hook_q'; the names are {names}, ... (hook_names)."


# Gradients of activations


def test_an_activations_gradient_is_the_slope_of_the_loss_along_it(model, tokens):
    name = "blocks.1.attn.hook_z"
    logits, seen = model.run_with_cache(tokens, [name])
    (gradient,) = torch.autograd.grad(logits.square().mean(), seen[name])
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        up, down = (
            model(tokens, hooks={name: lambda z, _, s=s: z + s * direction}).square().mean() for s in (1e-5, -1e-5)
        )
    assert (gradient * direction).sum().item() == pytest.approx((up - down).item() / 2e-5, rel=1e-6)


def test_the_pattern_has_a_gradient_in_both_families(model, tokens):
    name = "blocks.1.attn.hook_pattern"
    logits, seen = model.run_with_cache(tokens, [name])
    (gradient,) = torch.autograd.grad(logits.square().mean(), seen[name])
    assert gradient.shape == (6, 4, 60, 60)
    assert gradient.abs().max() > 0


def test_a_leaf_put_in_an_activations_place_receives_the_gradient_while_weights_are_frozen(model, tokens):
    _, seen = model.run_with_cache(tokens, ["blocks.1.hook_mlp_out"])
    leaf = seen["blocks.1.hook_mlp_out"].detach().requires_grad_(True)
    with model.frozen():
        model(tokens, hooks={"blocks.1.hook_mlp_out": lambda value, name: leaf}).square().mean().backward()
    assert leaf.grad.abs().max() > 0
    assert all(p.grad is None for p in model.hf.parameters())


def test_frozen_restores_what_asked_for_a_gradient_and_only_that(model):
    still = model.hf.transformer.wpe.weight.requires_grad_(False)
    with model.frozen():
        assert not any(p.requires_grad for p in model.hf.parameters())
    assert [p for p in model.hf.parameters() if not p.requires_grad] == [still]


def test_frozen_restores_after_an_error(model):
    with pytest.raises(KeyError), model.frozen():
        raise KeyError
    assert all(p.requires_grad for p in model.hf.parameters())


# What a model says of itself


def test_the_hash_follows_from_the_weights_alone(make_model, model):
    same = HookedModel(make_model(model.family).hf, name="another name")
    assert same.weights_hash() == model.weights_hash()
    assert len(model.weights_hash()) == 64
    assert make_model(model.family, seed=1).weights_hash() != model.weights_hash()


@torch.no_grad()
def test_the_hash_changes_with_any_one_weight(model):
    hashes = {model.weights_hash()}
    parameters = list(model.hf.parameters())
    for p in parameters:
        before = p.view(-1)[-1].clone()
        p.view(-1)[-1] += 1e-9
        hashes.add(model.weights_hash())
        p.view(-1)[-1] = before
    assert len(hashes) == 1 + len(parameters)
    assert model.weights_hash() in hashes


@torch.no_grad()
def test_the_hash_tells_where_in_a_tensor_a_weight_stands(model):
    bias, hashes = model.hf.transformer.ln_f.bias, set()
    for place in range(3):
        bias.zero_()
        bias[place] = 1.0
        hashes.add(model.weights_hash())
    assert len(hashes) == 3


def test_the_hash_tells_precisions_apart(make_model, family):
    assert make_model(family).weights_hash() != make_model(family, dtype=torch.float32).weights_hash()


def test_a_model_tells_its_shape(neo, gpt2):
    assert repr(neo) == (
        "HookedModel(small gpt-neo: gpt-neo, 4 layers x 4 heads, d_model 32, vocab 97, context 128, float64 on cpu)"
    )
    assert (
        repr(gpt2)
        == "HookedModel(small gpt2: gpt2, 3 layers x 4 heads, d_model 32, vocab 97, context 128, float64 on cpu)"
    )
    assert (neo.d_head, neo.d_mlp, neo.n_ctx, gpt2.d_head, gpt2.d_mlp, gpt2.n_ctx) == (8, 128, 128, 8, 128, 128)


def test_a_model_of_another_kind_is_refused(neo):
    with pytest.raises(ModelError) as error:
        HookedModel(neo.hf.transformer, name="headless")
    assert str(error.value) == (
        "headless is a GPTNeoModel (model_type='gpt_neo'); GPTNeoForCausalLM and GPT2LMHeadModel (gpt_neo, gpt2) can be localized."
    )
