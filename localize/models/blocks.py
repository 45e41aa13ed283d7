"""The wiring of one transformer block: what attention and the MLP read from the residual stream and write to it.

The linear maps, layer norms and activation functions are the Hugging Face model's own modules.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from localize.models.activations import Hook, Site
from localize.models.key_values import KeyValues, visible_keys

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


class Wiring(NamedTuple):
    """All that the forward pass of a block reads: modules of the Hugging Face model, and numbers.

    The functions below read nothing else, and the hash of a model covers every field: what changes a number changes the hash.

    Attributes:
        ln_1: The norm before attention.
        qkv: The linear maps to queries, keys and values; one to all three in GPT-2.
        project: The linear map from the heads to the stream.
        ln_2: The norm before the MLP.
        c_fc: The MLP's first linear map.
        act: Its activation function.
        c_proj: Its second linear map.
        n_heads: How many parts queries, keys and values are divided into.
        scale: What products of queries and keys are multiplied by.
        window: How many tokens a query sees, itself among them; None for all.
    """

    ln_1: Any
    qkv: tuple[Any, ...]
    project: Any
    ln_2: Any
    c_fc: Any
    act: Any
    c_proj: Any
    n_heads: int
    scale: float
    window: int | None

    @property
    def linear_maps(self) -> tuple[Any, ...]:
        """The modules that hold the components."""
        return (*self.qkv, self.project, self.c_fc, self.c_proj)

    @property
    def modules(self) -> tuple[Any, ...]:
        """Every module that is called."""
        return (self.ln_1, self.ln_2, self.act, *self.linear_maps)


def wiring(model: "HookedModel", layer: int) -> Wiring:
    """What the forward pass of a layer reads, as it is now."""
    block = model.blocks[layer]
    attn, mlp = block.attn, block.mlp
    if model.family == "gpt-neo":
        attn = attn.attention
        maps = (attn.q_proj, attn.k_proj, attn.v_proj), attn.out_proj
    else:
        maps = (attn.c_attn,), attn.c_proj
    scale, window = attention_scale(model, layer), model.window(layer)
    return Wiring(block.ln_1, *maps, block.ln_2, mlp.c_fc, mlp.act, mlp.c_proj, model.n_heads, scale, window)


def add_attention(
    model: "HookedModel",
    layer: int,
    resid: Float[Tensor, "batch position d_model"],
    site: Site,
    hooks: Mapping[str, Hook],
    cache: KeyValues | None,
    asked: slice,
) -> Float[Tensor, "batch asked d_model"]:
    """The stream at the positions asked for, after attention has written to it."""
    at, reads = f"blocks.{layer}", wiring(model, layer)
    resid = site(f"{at}.hook_resid_pre", resid)
    out = _attention(reads, layer, reads.ln_1(resid), site, hooks, cache, asked)
    return site(f"{at}.hook_resid_mid", resid[:, asked] + site(f"{at}.hook_attn_out", out))


def add_mlp(
    model: "HookedModel", layer: int, resid: Float[Tensor, "batch position d_model"], site: Site
) -> Float[Tensor, "batch position d_model"]:
    """The stream after the MLP has written to it."""
    at, reads = f"blocks.{layer}", wiring(model, layer)
    pre = site(f"{at}.mlp.hook_pre", reads.c_fc(reads.ln_2(resid)))
    post = site(f"{at}.mlp.hook_post", reads.act(pre))
    return site(f"{at}.hook_resid_post", resid + site(f"{at}.hook_mlp_out", reads.c_proj(post)))


def _attention(
    reads: Wiring,
    layer: int,
    x: Float[Tensor, "batch position d_model"],
    site: Site,
    hooks: Mapping[str, Hook],
    cache: KeyValues | None,
    asked: slice,
) -> Float[Tensor, "batch asked d_model"]:
    """What attention adds at the positions asked for; keys and values are computed for all."""
    at, scale = f"blocks.{layer}.attn", reads.scale
    if len(reads.qkv) == 3:
        of_query, of_key, of_value = reads.qkv
        qkv = of_query(x[:, asked]), of_key(x), of_value(x)
    else:
        q, k, v = reads.qkv[0](x).chunk(3, dim=-1)
        qkv = q[:, asked], k, v
    q, k, v = (
        site(f"{at}.hook_{name}", part.unflatten(-1, (reads.n_heads, -1))).transpose(1, 2)
        for name, part in zip("qkv", qkv, strict=True)
    )
    past = cache.of_layer(layer) if cache is not None else 0
    seen = visible_keys(x.shape[1], past + x.shape[1], reads.window, x.device)[asked]
    names = (f"{at}.hook_attn_scores", f"{at}.hook_pattern")
    hooked = any(name in hooks for name in names)
    shared = cache.shared(layer) if cache is not None and not hooked else None
    if shared is not None:
        z = after_shared_past(q, k, v, *shared, seen, scale)
    else:
        if cache is not None:
            k, v = cache.appended(layer, k, v)
        if x.device.type == "cpu" and not hooked:
            # Fused, and equal up to rounding. Not on a GPU, where a fused kernel may round float32 to TF32 on its way.
            causal = reads.window is None and q.shape[2] == k.shape[2]
            z = scaled_dot_product_attention(q, k, v, attn_mask=None if causal else seen, is_causal=causal, scale=scale)
        else:
            # Half precision overflows in the scores: GPT-Neo does not divide by sqrt(d_head).
            precise = torch.promote_types(q.dtype, torch.float32)
            scores = (q.to(precise) * scale) @ k.to(precise).transpose(-1, -2)
            scores = site(names[0], scores.masked_fill(~seen, torch.finfo(precise).min))
            z = site(names[1], scores.softmax(dim=-1).to(v.dtype)) @ v
    z = site(f"{at}.hook_z", z.transpose(1, 2))
    return reads.project(z.flatten(-2))


def attention_scale(model: "HookedModel", layer: int) -> float:
    """What a layer's products of queries and keys are multiplied by."""
    return 1.0 if model.family == "gpt-neo" else model.blocks[layer].attn.scaling


def after_shared_past(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
    past_k: Float[Tensor, "1 head past d_head"],
    past_v: Float[Tensor, "1 head past d_head"],
    seen: Bool[Tensor, "query past_and_key"],
    scale: float,
) -> Float[Tensor, "batch head query d_head"]:
    """What heads read where all rows follow the same tokens: one product with those tokens' keys, and one with their values.

    Copying them behind every row would cost more than the attention itself, where the rows' own tokens are few.
    """
    batch, heads, queries, d_head = q.shape
    past, precise = past_k.shape[2], torch.promote_types(q.dtype, torch.float32)
    q, k = (q.to(precise) * scale).transpose(0, 1), k.to(precise).transpose(0, 1)  # (head, batch, position, d_head)
    together = q.reshape(heads, batch * queries, d_head) @ past_k[0].to(precise).transpose(-1, -2)
    scores = torch.cat([together.view(heads, batch, queries, past), q @ k.transpose(-1, -2)], dim=-1)
    pattern = scores.masked_fill(~seen, torch.finfo(precise).min).softmax(-1).to(v.dtype)
    z = pattern[..., :past].reshape(heads, batch * queries, past) @ past_v[0]
    z = z.view(heads, batch, queries, d_head) + pattern[..., past:] @ v.transpose(0, 1)
    return z.transpose(0, 1)
