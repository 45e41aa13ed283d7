"""What the tokens of a paragraph can be coloured by: numbers, scale, unit, and what nothing would look like."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.analysis.choice import head_name
from localize.analysis.effects import one_kind
from localize.errors import LocalizeError, caller
from localize.measurements import REGISTRY
from localize.plots.figures.perturbation import KIND_WORDS
from localize.plots.paragraph import loss_variable
from localize.plots.shades import shade

if TYPE_CHECKING:
    import xarray as xr

STEPS = 5
"""Swatches of a legend."""


@dataclass(frozen=True, eq=False)
class Colouring:
    """One number for each token of the prefix, or of the continuation.

    Attributes:
        words: What is coloured by, for the button.
        unit: Of the numbers.
        hue: Which colours: "effect", "loss" or "attention".
        values: nan where nothing was measured.
        spread: Lowest and highest over draws, or None.
        beside: What nothing would look like, or what it is held against, in words.
    """

    words: str
    unit: str
    hue: str
    values: Float[np.ndarray, " token"]
    spread: Float[np.ndarray, "2 token"] | None = None
    beside: str = ""

    @property
    def most(self) -> float:
        """The value with the darkest colour; 0 has the lightest, and what is below 0 too."""
        known = self.values[np.isfinite(self.values)]
        return float(max(known.max(), 0.0)) if known.size else 0.0

    def colours(self, value: float) -> tuple[str, str] | None:
        """Behind and of the letters; None where nothing was measured."""
        return shade(self.hue, value / self.most if self.most > 0 else 0.0) if np.isfinite(value) else None

    def told(self, token: int) -> str:
        """ "lost exact match 31.0 tokens (draws 12.0 to 50.0)"."""
        value = self.values[token]
        if not np.isfinite(value):
            return f"{self.words}: not measured"
        spread = ""
        if self.spread is not None and self.spread[0, token] < self.spread[1, token]:
            spread = f" (draws {_number(self.spread[0, token])} to {_number(self.spread[1, token])})"
        return f"{self.words} {_number(value)} {self.unit}{spread}"

    @property
    def swatches(self) -> list[tuple[str, str, str]]:
        """Colour, letters' colour and number of each step of the legend."""
        numbers = np.linspace(0, self.most, STEPS) if self.most > 0 else np.zeros(1)
        return [(*shade(self.hue, float(n) / self.most if self.most else 0.0), _number(float(n))) for n in numbers]


def _number(value: float) -> str:
    """Three digits, never as a power of ten for what tokens and nats come to."""
    return f"{value:.3g}" if 0.001 <= abs(value) < 1e6 else f"{value:.3f}".replace("-0.000", "0").replace("0.000", "0")


def prefix_colourings(dataset: "xr.Dataset", row: int, kind: str | None) -> list[Colouring]:
    """What replacing each prefix token does to the paragraph: lost exact match and NLL rise."""
    if "perturbed_exact_match" not in dataset:
        return []
    dataset = one_kind(dataset, kind)
    word = str(dataset["kind"].item())
    put = "" if word == "uniform" else f", {KIND_WORDS.get(word, word)} put"
    found = []
    for name, words, sign in (("exact_match", "lost exact match", -1), ("nll", "NLL rise", 1)):
        after = dataset[f"perturbed_{name}"].isel(paragraph=row).transpose("draw", "prefix_position").values
        change = sign * (after.astype(np.float64) - float(dataset[f"unperturbed_{name}"].values[row]))
        mean, low, high = _over_draws(change)
        even = _number(float(np.nanmean(mean))) if np.isfinite(mean).any() else "unknown"
        unit = REGISTRY[f"perturbed_{name}"].unit
        null = f"null: positions permuted, {even} {unit} at each"
        found.append(Colouring(words + put, unit, "effect", mean, np.stack([low, high]), null))
    return found


def _over_draws(
    change: Float[np.ndarray, "draw token"],
) -> tuple[Float[np.ndarray, " token"], Float[np.ndarray, " token"], Float[np.ndarray, " token"]]:
    """Mean, lowest and highest; nan where no draw put anything."""
    known = np.isfinite(change)
    none, count = ~known.any(0), np.maximum(known.sum(0), 1)
    mean = np.where(none, np.nan, np.where(known, change, 0).sum(0) / count)
    low, high = np.where(known, change, np.inf).min(0), np.where(known, change, -np.inf).max(0)
    return mean, np.where(none, np.nan, low), np.where(none, np.nan, high)


def continuation_colourings(dataset: "xr.Dataset", row: int, kind: str | None) -> list[Colouring]:
    """How surely each continuation token is said, and how often a replaced prefix token makes it wrong."""
    name = loss_variable(dataset)
    nll = dataset[name].values[row].astype(np.float64)
    found = [Colouring("NLL", REGISTRY[name].unit, "loss", nll, beside=f"mean {_number(float(nll.mean()))}")]
    if "perturbed_token_error" in dataset:
        error = one_kind(dataset, kind)["perturbed_token_error"].isel(paragraph=row).values.astype(np.float64)
        null = "none is wrong before" if dataset["perturbed_token_error"].attrs.get("continuation") == "own" else ""
        found.append(Colouring("made wrong by a replacement", "of the replacements", "loss", error, beside=null))
    return found


@dataclass(frozen=True, eq=False)
class Looking:
    """The heads that look most at one prefix token.

    Attributes:
        names: "L1.H2", first the one that looks most.
        attention: Of each, to every prefix token.
    """

    names: list[str]
    attention: Float[np.ndarray, "head prefix_position"]


def looking_heads(dataset: "xr.Dataset", row: int, position: int, query: str, top: int) -> Looking | None:
    """The heads with most attention to a position, None where attention was not measured.

    Raises:
        LocalizeError: If this query was not measured, or `top` is below 1.
    """
    if top < 1:
        raise LocalizeError(f"{caller()}: heads={top} must be at least 1.")
    if "prefix_attention" not in dataset:
        return None
    queries = [str(name) for name in dataset["query"].values]
    if query not in queries:
        raise LocalizeError(f"{caller()}: query={query!r} is not one of {', '.join(queries)}.")
    attention = dataset["prefix_attention"].isel(paragraph=row).sel(query=query)
    values = attention.transpose("layer", "head", "prefix_position").values.astype(np.float64)
    order: Any = np.argsort(-values[:, :, position], axis=None, kind="stable")[:top]
    layers, heads = np.unravel_index(order, values.shape[:2])
    names = [head_name(dataset, (int(a), int(b))) for a, b in zip(layers, heads, strict=True)]
    return Looking(names, values[layers, heads])


def attention_colourings(looking: Looking | None, query: str) -> list[Colouring]:
    """The attention of each of these heads to the prefix tokens."""
    if looking is None:
        return []
    null = f"null: even attention, {_number(1 / looking.attention.shape[1])}"
    words = {"last_prefix": "from the last prefix token", "continuation": "from the continuation"}.get(query, query)
    return [
        Colouring(f"attention of {name}", f"of its attention {words}", "attention", values, beside=null)
        for name, values in zip(looking.names, looking.attention, strict=True)
    ]
