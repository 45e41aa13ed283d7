"""How much of a paragraph's gradient lies in the lower half of the layers."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.axes import MLP_COMPONENTS

if TYPE_CHECKING:
    import xarray as xr

LOW_LAYERS = "sensitivity: low-layer share of the gradient"


def low_layer_share(dataset: "xr.Dataset", of: str = "") -> Float[np.ndarray, "paragraph *set"]:
    """Share of the lower half of the layers in the sum over cells of max |gradient|, per paragraph; nan where there is none.

    Args:
        dataset: Of a signature.
        of: "" for the whole continuation, "token_" for sets of its tokens, "own_" for the model's own.
    """
    layers = layer_sums(dataset, of)
    return layers[..., : layers.shape[-1] // 2].sum(-1) / layers.sum(-1)


def layer_sums(dataset: "xr.Dataset", of: str = "") -> Float[np.ndarray, "paragraph *set layer"]:
    """max |gradient| summed over a layer's cells: every head of the attention components, and the two of the MLP."""
    heads = dataset[f"{of}head_gradient_max"].sum(["attention_component", "head"], skipna=False)
    mlp = dataset[f"{of}gradient_max"].sel(component=list(MLP_COMPONENTS)).sum("component", skipna=False)
    return (heads + mlp).transpose("paragraph", ..., "layer").values.astype(float)
