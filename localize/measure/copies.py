"""Perturbed copies: what the model says after the change that does most, and how that differs from the continuation."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.measure.batches import in_batches
from localize.measure.differences import edit_distance, longest_run, tokens_wrong
from localize.models.hooks import HookedModel


def most_changed(
    exact_match: Float[np.ndarray, "*row choice"], nll: Float[np.ndarray, "*row choice"]
) -> Int[np.ndarray, "*row"]:
    """Which of some changes leaves least: the lowest exact match, among equals the highest NLL; nan is never chosen."""
    lowest = exact_match == np.nanmin(exact_match, axis=-1, keepdims=True)
    return np.where(lowest, nll, -np.inf).argmax(-1)


def perturbed_copies(
    model: HookedModel,
    tokens: Int[Tensor, "paragraph position"],
    exact_match: Float[np.ndarray, "paragraph kind draw prefix_position"],
    nll: Float[np.ndarray, "paragraph kind draw prefix_position"],
    replacements: Int[np.ndarray, "paragraph kind draw prefix_position"],
    span: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """What the model says after the most harmful change of each kind, and how that differs from the continuation.

    Args:
        model: A hooked model.
        tokens: Prefixes and continuations.
        exact_match: What each change leaves, nan where there is none.
        nll: The NLL after it.
        replacements: What it puts in place.
        span: How many tokens are replaced together.
        batch_size: Rows decoded together.

    Returns:
        The variables `copy_...`; their schema says what each is.
    """
    paragraphs, kinds, _, prefix_length = replacements.shape
    position = most_changed(exact_match.mean(2), nll.mean(2))
    at = position[:, :, None, None]
    draw = most_changed(*(np.take_along_axis(values, at, axis=3)[..., 0] for values in (exact_match, nll)))
    put = np.take_along_axis(replacements, draw[:, :, None, None], axis=2)[:, :, 0]
    offset = np.arange(prefix_length) - position[..., None]
    copies = np.repeat(tokens.numpy()[:, None], kinds, axis=1)
    copies[..., :prefix_length] = np.where((offset >= 0) & (offset < span), put, copies[..., :prefix_length])
    rows = copies.reshape(paragraphs * kinds, -1)

    def work(some: slice) -> None:
        prefixes = torch.from_numpy(rows[some, :prefix_length]).to(model.device)
        rows[some, prefix_length:] = model.continue_greedily(prefixes, rows.shape[1] - prefix_length).cpu().numpy()

    in_batches(work, len(rows), batch_size, what="perturbed copies", unit="copy")
    said = rows[:, prefix_length:]
    wanted = np.repeat(tokens.numpy()[:, prefix_length:], kinds, axis=0)
    differences = {
        "copy_exact_match": (said == wanted).cumprod(1).sum(1),
        "copy_tokens_wrong": tokens_wrong(said, wanted),
        "copy_edit_distance": edit_distance(said, wanted),
        "copy_longest_run": longest_run(said, wanted),
    }
    shaped = {name: values.reshape(paragraphs, kinds) for name, values in differences.items()}
    return {"copy_position": position, "copy_tokens": rows.reshape(copies.shape), **shaped}
