"""All weights of a model in parts: the heads and components of each block, embeddings, biases and layer norms, none left out."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, MLP_COMPONENTS, OUTSIDE
from localize.errors import ModelError, caller
from localize.models.hooks import HookedModel
from localize.models.parameters import input_output_view, linear_modules, split_heads


def part_sums(model: HookedModel, values: Mapping[str, Tensor]) -> Float[np.ndarray, " part"]:
    """The sum of one number per weight over the weights of each part.

    Args:
        model: Whose weights these are.
        values: By the parameters' names, of their shapes.

    Returns:
        Layer by layer the heads of W_Q W_K W_V W_O and then W_in and W_out; behind all layers the parts outside, nan where the model has
        none. `arrays_of_parts` divides them up.

    Raises:
        ModelError: If a parameter belongs to no part.
    """
    names = {id(weight): name for name, weight in model.hf.named_parameters()}
    found, left = [], dict(values)
    for block in model.blocks:
        linear = linear_modules(block, model.family)
        for component in COMPONENTS:
            module, third = linear[component]
            name = names[id(module.weight)]
            left.pop(name, None)  # GPT-2's c_attn comes three times
            matrix = input_output_view(values[name], component, third, model.family)  # (input, output)
            if component in ATTENTION_COMPONENTS:
                found.append(split_heads(matrix, component, model.n_heads).sum((-1, -2), dtype=torch.float64))
            else:
                found.append(matrix.sum(dtype=torch.float64)[None])
    found += _outside(model, names, left)
    return torch.cat([one.cpu() for one in found]).numpy()


def _outside(model: HookedModel, names: Mapping[int, str], left: Mapping[str, Tensor]) -> list[Float[Tensor, " 1"]]:
    """The sums of what is no component of a block."""
    body, unembedding = model.hf.transformer, model.hf.lm_head.weight
    tied = body.wte.weight is unembedding
    part_of = {id(body.wte.weight): "W_E + W_U" if tied else "W_E", id(body.wpe.weight): "W_pos"}
    part_of |= {} if tied else {id(unembedding): "W_U"}
    norms = (norm for norm in model.hf.modules() if isinstance(norm, nn.LayerNorm))
    part_of |= {id(weight): "layer_norms" for norm in norms for weight in norm.parameters(recurse=False)}
    by_name = {name: part_of.get(key, "biases") for key, name in names.items()}
    sums: dict[str, Tensor] = {}
    for name, values in left.items():
        part = by_name[name]
        if part == "biases" and values.ndim != 1:
            raise ModelError(f"{caller()}: {model.name} has the weight {name}, which belongs to no component.")
        summed = values.sum(dtype=torch.float64)[None]
        sums[part] = sums[part] + summed if part in sums else summed
    return [sums.get(part, torch.full((1,), torch.nan, dtype=torch.float64)) for part in OUTSIDE]


def arrays_of_parts(
    values: Float[np.ndarray, "*of part"], n_layers: int, n_heads: int
) -> tuple[
    Float[np.ndarray, "*of layer component"],
    Float[np.ndarray, "*of layer attention_component head"],
    Float[np.ndarray, "*of outside"],
]:
    """What `part_sums` gave, of each component, of each head, and of what lies outside."""
    of, attention = values.shape[:-1], len(ATTENTION_COMPONENTS)
    blocks = values[..., : -len(OUTSIDE)].reshape(*of, n_layers, attention * n_heads + len(MLP_COMPONENTS))
    heads = blocks[..., : attention * n_heads].reshape(*of, n_layers, attention, n_heads)
    components = np.concatenate([heads.sum(-1), blocks[..., attention * n_heads :]], axis=-1)
    return components, heads, values[..., -len(OUTSIDE) :]
