"""The activations of a forward pass by TransformerLens's names, and the functions that read or replace them."""

from collections.abc import Callable, Mapping

from torch import Tensor

Hook = Callable[[Tensor, str], Tensor | None]
"""Called with an activation and its name; what it returns, unless None, takes the activation's place."""

Site = Callable[[str, Tensor], Tensor]
"""What an activation becomes under the hooks of a forward pass, given its name."""

BLOCK_SITES = (
    "hook_resid_pre",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_attn_scores",
    "attn.hook_pattern",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_pre",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
)
"""Activations of one block, in the order they are computed; names as in TransformerLens."""

STREAM_SITES = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
"""Those of them that hold all that goes on: a forward pass can resume there."""


def calling(hooks: Mapping[str, Hook]) -> Site:
    """A function that calls the hook of an activation, if there is one, and gives what takes the activation's place."""

    def site(name: str, value: Tensor) -> Tensor:
        replaced = hooks[name](value, name) if name in hooks else None
        return value if replaced is None else replaced

    return site
