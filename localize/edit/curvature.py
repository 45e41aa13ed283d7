"""An edit that names no text: what general text does not need of some weight matrices is taken out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from localize.axes import MLP_COMPONENTS
from localize.edit.masks import choose_weights
from localize.edit.weight_edit import WeightEdit
from localize.errors import InputError, LocalizeError, caller
from localize.measure.curvature_factors import Factors, curvature_factors
from localize.measure.inputs import reads_inputs
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


@reads_inputs("general")
def curvature_edit(
    model: HookedModel,
    general: Paragraphs,
    rho: float = 0.97,
    *,
    layers: int | Sequence[int] | None = None,
    components: str | Sequence[str] = MLP_COMPONENTS,
    random: bool = False,
    seed: int = 0,
    batch_size: int = 16,
) -> WeightEdit:
    """Drop the parts of weight matrices that general text has the least curvature in: recital of single texts lies there.

    A matrix is taken apart in the eigenbases of its two K-FAC factors, A of what it receives and G of what is asked of it. The
    curvature of a part is the product of its two eigenvalues. Parts with the largest products are kept until they hold a share `rho`
    of the sum of all; the others are dropped. No forget set is asked for: all that lies in no general text's way goes.

    Args:
        model: A hooked model; it stays as it is.
        general: Text of the kind that the model should go on predicting, none of it known by heart; whole rows are read.
        rho: Share of the curvature that is kept, in (0, 1).
        layers: Whose matrices; None for the upper half of the layers.
        components: Which matrices of a layer.
        random: As the null, drop as many parts of each matrix at random, whatever their curvature.
        seed: Of the tokens drawn for G, and of random parts.
        batch_size: Rows a backward pass.

    Returns:
        What changed. `call["dropped"]` tells, for each (layer, component), how many of its parts were dropped, of how many, and the
        share of the weights' squared norm that went with them.

    Raises:
        LocalizeError: If `rho` is out of range, a layer or component is, or nothing is dropped.
        InputError: If the text does not fit the model, or the model recites most of it.

    Source:
        Merullo et al. 2025 (arXiv 2510.24256).
    """
    if not 0 < rho <= 1:
        raise LocalizeError(f"{caller()}: rho={rho} must lie above 0 and be at most 1, where nothing is dropped.")
    _check_general(model, general)
    layers = range(model.n_layers // 2, model.n_layers) if layers is None else layers
    mask = choose_weights(model, layers=layers, components=components)
    factors = curvature_factors(model, general, list(mask.shapes), seed=seed, batch_size=batch_size)
    generator = torch.Generator().manual_seed(seed) if random else None
    before, after, dropped = {}, {}, []
    for cell in mask.shapes:
        weight = model.weight(*cell).detach()
        lost, gone = without_flat_parts(weight, factors[cell], rho, generator)
        before[cell], after[cell] = weight.flatten().clone(), (weight - lost.to(weight)).flatten()
        share = float(lost.square().sum() / weight.to(lost).square().sum())
        dropped.append([*cell, int(gone.sum()), gone.numel(), share])
    call: Mapping[str, Any] = {
        "measurement": "curvature_edit", "rho": rho, "layers": [int(layer) for layer in sorted({layer for layer, _ in mask.shapes})],
        "random": random, "seed": seed, "batch_size": batch_size, "masked": len(mask), "of": mask.total, "dropped": dropped,
        "general": [digest.hex() for digest in general.hashes], "forget": [], "keep": [],
    }  # fmt: skip
    return WeightEdit.of(mask, before, after, call)


def _check_general(model: HookedModel, general: Paragraphs) -> None:
    """Raise an `InputError` if most of the text is known by heart: what its recital needs would be kept."""
    recited = int((recall_of(model, general).exact_match == general.continuation_length).sum())
    if 2 * recited > len(general):
        raise InputError(
            f"{caller()}: {recited} of {len(general)} paragraphs of {general.source} are recited by {model.name}: it is no general text, "
            "and what their recital needs would be kept."
        )


def without_flat_parts(
    weight: Float[Tensor, "input output"], factors: Factors, rho: float, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "input output"], Bool[Tensor, "input output"]]:
    """What is taken off a matrix, and which parts that are, by eigenvectors of A and of G in ascending order of eigenvalues.

    Args:
        weight: The matrix W; its map is y = x W.
        factors: Of the matrix.
        rho: Share of the curvature that stays.
        generator: Draws as many parts instead; None for those of the least curvature.
    """
    (of_input, a), (of_output, g) = (torch.linalg.eigh(factor) for factor in factors)
    curvature = of_input.clamp(min=0)[:, None] * of_output.clamp(min=0)[None]  # (input, output)
    gone = smallest_parts(curvature, rho)
    if generator is not None:
        drawn = torch.randperm(gone.numel(), generator=generator)[: int(gone.sum())]
        gone = torch.zeros(gone.numel(), dtype=torch.bool).index_fill(0, drawn, True).view(gone.shape).to(weight.device)
    parts = a.T @ weight.to(a) @ g  # W = a parts g^T
    return a @ (parts * gone) @ g.T, gone


def smallest_parts(curvature: Float[Tensor, "input output"], rho: float) -> Bool[Tensor, "input output"]:
    """The parts that are not needed to hold a share of the sum, the largest taken first.

    >>> smallest_parts(torch.tensor([[6.0, 1.0], [2.0, 1.0]]), 0.8)
    tensor([[False,  True],
            [False,  True]])
    """
    ordered, order = curvature.flatten().double().sort(descending=True, stable=True)
    held = ordered.cumsum(0) - ordered  # by those before
    total = ordered.sum()
    gone = torch.zeros(curvature.numel(), dtype=torch.bool, device=curvature.device)
    if rho < 1:  # at 1 parts of no curvature at all stay too
        gone[order[held >= rho * total]] = True  # the share is held by those before
    return gone.view(curvature.shape)
