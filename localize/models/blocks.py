"""The wiring of one transformer block: what attention and the MLP read from the residual stream and write to it.

The linear maps, layer norms and activation functions are the Hugging Face model's own modules.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from localize.models.activations import Hook, Site
from localize.models.key_values import KeyValues, visible_keys

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


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
    at = f"blocks.{layer}"
    resid = site(f"{at}.hook_resid_pre", resid)
    out = _attention(model, layer, model.blocks[layer].ln_1(resid), site, hooks, cache, asked)
    return site(f"{at}.hook_resid_mid", resid[:, asked] + site(f"{at}.hook_attn_out", out))


def add_mlp(
    model: "HookedModel", layer: int, resid: Float[Tensor, "batch position d_model"], site: Site
) -> Float[Tensor, "batch position d_model"]:
    """The stream after the MLP has written to it."""
    at, block = f"blocks.{layer}", model.blocks[layer]
    pre = site(f"{at}.mlp.hook_pre", block.mlp.c_fc(block.ln_2(resid)))
    post = site(f"{at}.mlp.hook_post", block.mlp.act(pre))
    return site(f"{at}.hook_resid_post", resid + site(f"{at}.hook_mlp_out", block.mlp.c_proj(post)))


def _attention(
    model: "HookedModel",
    layer: int,
    x: Float[Tensor, "batch position d_model"],
    site: Site,
    hooks: Mapping[str, Hook],
    cache: KeyValues | None,
    asked: slice,
) -> Float[Tensor, "batch asked d_model"]:
    """What attention adds at the positions asked for; keys and values are computed for all."""
    at = f"blocks.{layer}.attn"
    attn = model.blocks[layer].attn
    if model.family == "gpt-neo":
        attn = attn.attention
        qkv, project, scale = (attn.q_proj(x[:, asked]), attn.k_proj(x), attn.v_proj(x)), attn.out_proj, 1.0
    else:
        q, k, v = attn.c_attn(x).chunk(3, dim=-1)
        qkv, project, scale = (q[:, asked], k, v), attn.c_proj, attn.scaling
    q, k, v = (
        site(f"{at}.hook_{name}", part.unflatten(-1, (model.n_heads, model.d_head))).transpose(1, 2)
        for name, part in zip("qkv", qkv, strict=True)
    )
    if cache is not None:
        k, v = cache.appended(layer, k, v)
    window, names = model.window(layer), (f"{at}.hook_attn_scores", f"{at}.hook_pattern")
    seen = visible_keys(x.shape[1], k.shape[2], window, x.device)[asked]
    if x.device.type == "cpu" and not any(name in hooks for name in names):
        # Fused, and equal up to rounding. Not on a GPU, where a fused kernel may round float32 to TF32 on its way.
        causal = window is None and q.shape[2] == k.shape[2]
        z = scaled_dot_product_attention(q, k, v, attn_mask=None if causal else seen, is_causal=causal, scale=scale)
    else:
        # Half precision overflows in the scores: GPT-Neo does not divide by sqrt(d_head).
        precise = torch.promote_types(model.dtype, torch.float32)
        scores = (q.to(precise) * scale) @ k.to(precise).transpose(-1, -2)
        scores = site(names[0], scores.masked_fill(~seen, torch.finfo(precise).min))
        z = site(names[1], scores.softmax(dim=-1).to(v.dtype)) @ v
    z = site(f"{at}.hook_z", z.transpose(1, 2))
    return project(z.flatten(-2))
