"""Colours behind text: one hue each, light where little, and letters dark or light enough to be read on them."""

import numpy as np
from jaxtyping import Float

HUES = {
    "effect": ("#FFF7EC", "#FDBB84", "#B3410B"),
    "loss": ("#F4F8FD", "#9ECAE1", "#08519C"),
    "attention": ("#F8F6FB", "#BCBDDC", "#54278F"),
}
"""From nothing over half to most; lightness falls all the way, so that any colour vision and a grey print tell them apart."""

DARK, LIGHT = "#000000", "#FFFFFF"
"""One of them has a contrast of at least 4.58 on any colour."""


def shade(hue: str, share: float) -> tuple[str, str]:
    """Colour of a share of the scale, in [0, 1], and the letters' colour on it; contrast at least 4.5 (WCAG AA)."""
    stops = np.array([_rgb(colour) for colour in HUES[hue]], dtype=float)
    at = float(np.clip(share, 0, 1)) * (len(stops) - 1)
    low = min(int(at), len(stops) - 2)
    mixed = stops[low] + (at - low) * (stops[low + 1] - stops[low])
    colour = "#" + "".join(f"{round(part):02X}" for part in mixed)
    return colour, max((DARK, LIGHT), key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21, as WCAG 2 defines it."""
    low, high = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))))
    return (high + 0.05) / (low + 0.05)


def _rgb(colour: str) -> Float[np.ndarray, " 3"]:
    return np.array([float(int(colour[i : i + 2], 16)) for i in (1, 3, 5)])


def _luminance(rgb: Float[np.ndarray, " 3"]) -> float:
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))
