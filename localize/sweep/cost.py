"""About how much a measurement costs, in forward passes of a paragraph; for `--dry-run`, not for results."""

from collections.abc import Mapping
from typing import Any

BACKWARD = 2.0
"""A backward pass costs about two forward ones."""


def forward_passes(
    measurement: str, options: Mapping[str, Any], facts: Mapping[str, Any], prefix: int, continuation: int
) -> float:
    """Forward passes per paragraph, recall and decoding the own continuation included.

    What each measurement saves by resuming at a layer or position is counted with its mean; a backward pass counts as two.
    """
    layers, heads = facts["layers"], facts["heads"]
    decoded = 1.0 if options.get("continuation") == "own" else 0.0
    after_prefix = (prefix / 2 + continuation) / (
        prefix + continuation
    )  # of a pass: what was read before a change is kept
    draws = options.get("draws", 1)
    match measurement:
        case "gradients" | "activation_gradients":
            extra = BACKWARD
        case "heads":
            extra = 1.0 if options["untrained"] else 0.0
        case "ablation":
            extra = _count(options["heads"], heads) * sum(1 - layer / layers for layer in _layers(options, layers))
        case "replacement":
            extra = 2.0 * draws
        case "perturbation":
            extra = _count(options["kinds"], 1) * draws * (prefix * after_prefix + 1)
        case "corruption":
            extra = _count(options["orders"], 2) * draws * _count(options["numbers"], prefix) * after_prefix
        case "patching":
            extra = _patching(options, layers, heads, prefix, continuation)
        case "noise":
            cells = _count(options["fractions"], 1) * _count(options["strengths"], 1)
            extra = 1 + BACKWARD + 2.0 * draws * cells
        case _:
            extra = 0.0
    return 1.0 + decoded + extra


def _count(given: Any, otherwise: int) -> int:
    return otherwise if given is None else len(given) if isinstance(given, list) else 1


def _layers(options: Mapping[str, Any], layers: int) -> list[int]:
    given = options.get("layers")
    return list(range(layers)) if given is None else given if isinstance(given, list) else [given]


def _patching(options: Mapping[str, Any], layers: int, heads: int, prefix: int, continuation: int) -> float:
    """Each site resumed at its layer; the first changed token alone needs no continuation but a token of it."""
    sites = len(options["sites"]) * heads + len(options["streams"])
    share = 0.5 if "continuation" in options["metrics"] else 0.5 / (prefix + continuation) * 10
    runs = len(options["directions"]) * (2 if options["null"] else 1)
    return prefix + runs * sites * len(_layers(options, layers)) * share + 2 * BACKWARD
