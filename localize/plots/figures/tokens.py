"""One paragraph as text: which tokens matter, what is said instead when they change, which heads look at them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.effects import one_kind
from localize.analysis.rendering import template
from localize.errors import caller, public
from localize.plots.colouring import (
    Colouring,
    Looking,
    attention_colourings,
    continuation_colourings,
    looking_heads,
    prefix_colourings,
)
from localize.plots.paragraph import UNKNOWN, loss_variable, measured_tokens, row_of
from localize.plots.token_text import LINE, SEEN, token_texts
from localize.storage import replacing

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature


@dataclass(frozen=True)
class TokenView:
    """A paragraph's tokens as HTML: shown by itself in Jupyter, saved as one page that needs no network.

    Attributes:
        html: The view, with its own style, to put into another page.
    """

    html: str

    def _repr_html_(self) -> str:
        return self.html

    @property
    def page(self) -> str:
        """A whole HTML document."""
        return template("localize.plots", "tokens_page.html").render(view=self.html)

    def save(self, path: str | Path) -> None:
        """Write the page; a killed save leaves the old file or the new one."""
        with replacing(Path(path)) as beside:
            beside.write_text(self.page, encoding="utf-8")


@public("plots.tokens")
def tokens(
    signature: "MemorizationSignature",
    paragraph: int | str = 0,
    *,
    tokenizer: Any = None,
    kind: str | None = None,
    query: str = "last_prefix",
    heads: int = 8,
) -> TokenView:
    """One paragraph, token by token: what each token of the prefix does, and what becomes of the continuation.

    Buttons choose what colours the prefix (lost exact match or NLL rise when the token is replaced, mean over draws;
    the attention of a head) and the continuation (NLL; how often a replacement makes the token wrong). The most
    changed position is outlined; below stands the perturbed copy, the tokens marked that differ, and the heads that
    look most at that position. Every number is in a tooltip and in a table. These are one paragraph's numbers:
    there is no interval, and position and heads are picked on what is shown. No JavaScript, nothing is fetched.

    Args:
        signature: Holds recall, and as far as they are to be seen `localize.perturb_prefix` and `localize.prefix_attention`.
        paragraph: Its number or id.
        tokenizer: Of transformers or tokenizers, or a model with one; None shows token ids.
        kind: Of replacement; None is the first measured.
        query: Who looks: "last_prefix" or "continuation".
        heads: How many of the heads that look most at the most changed position to show.

    Returns:
        A view with `_repr_html_`, `html`, `page` and `save(path)`.

    Raises:
        LocalizeError: If there is no such paragraph, kind or query, `heads` is below 1, or the tokenizer
            cannot decode.
    """
    signature.one_model(caller())
    dataset = signature.dataset
    row = row_of(dataset, paragraph)
    ids = measured_tokens(dataset, row, loss_variable(dataset))
    prefix = int(dataset.attrs["paragraphs"]["prefix_length"])
    found = prefix_colourings(dataset, row, kind)
    changed = None
    if _has_copy(dataset):
        changed = int(one_kind(dataset, kind)["copy_position"].values[row])
    elif found:
        changed = int(np.nanargmax(found[0].values))
    looking = looking_heads(dataset, row, prefix - 1 if changed is None else changed, query, heads)
    parts = (found + attention_colourings(looking, query), continuation_colourings(dataset, row, kind))
    texts = token_texts([int(token) for token in ids], tokenizer)
    content = {
        **_about(dataset, row, ids, tokenizer),
        "sections": [
            _section("prefix", "Prefix", parts[0], ids[:prefix], texts[:prefix], 0, changed),
            _section("continuation", "Continuation", parts[1], ids[prefix:], texts[prefix:], prefix, None),
        ],
        "changed": changed,
        "copy": _copy(dataset, row, kind, ids, tokenizer) if _has_copy(dataset) else None,
        "grid": _grid(looking, texts[:prefix], changed, query),
    }
    key = hashlib.sha256(repr(content).encode()).hexdigest()[:12]
    return TokenView(template("localize.plots", "tokens.html").render(content, key=f"localize-{key}"))


def _has_copy(dataset: "xr.Dataset") -> bool:
    return {"copy_position", "copy_tokens"} <= {str(name) for name in dataset.data_vars}


def _about(dataset: "xr.Dataset", row: int, ids: np.ndarray, tokenizer: Any) -> dict[str, Any]:
    """Which paragraph, of which model, and what the reader should know of its tokens."""
    which = dataset[loss_variable(dataset)].attrs.get("continuation", "")
    notes = []
    if tokenizer is None:
        notes.append("Token ids are shown; tokenizer=model.tokenizer shows words.")
    if (ids == UNKNOWN).any():
        notes.append(
            f"Of the model's own continuation the signature holds {int((ids != UNKNOWN).sum())} tokens of {len(ids)}, "
            "prefix included; the others are dots, and unmarked in the copy. perturb_prefix keeps them all."
        )
    return {
        "name": str(dataset["paragraph"].values[row]),
        "group": str(dataset["group"].values[row]).replace("_", " "),
        "model": str(dataset.attrs["model"]["name"]),
        "exact_match": int(dataset["exact_match"].values[row]),
        "length": dataset.sizes["continuation_position"],
        "which": {"own": "the model's own", "true": "the true text"}.get(which, which),
        "notes": notes,
        "ids": tokenizer is None,
    }


def pieces(text: str) -> list[dict[str, Any]]:
    """A token's text cut at the marks for white space, which are shown paler, a line ending after "⏎"."""
    parts = [part for part in re.split(f"([{''.join(SEEN.values())}])", text) if part]
    return [{"text": part, "mark": part in SEEN.values(), "ends": part == LINE} for part in parts]


def _section(
    name: str,
    title: str,
    colourings: list[Colouring],
    ids: np.ndarray,
    texts: list[str],
    first: int,
    changed: int | None,
) -> dict[str, Any]:
    """One part of the paragraph: its tokens, with the colours of every way to colour them."""
    spans = []
    for place, (token, text) in enumerate(zip(ids, texts, strict=True)):
        colours = [colouring.colours(colouring.values[place]) for colouring in colourings]
        style = "".join(f"--b{n}:{c[0]};--f{n}:{c[1]};" for n, c in enumerate(colours) if c is not None)
        where = f"token {first + place}, {text if token >= 0 else 'not in the signature'}"
        where += f", id {token}" if token >= 0 and text != str(token) else ""
        told = [colouring.told(place) for colouring in colourings]
        spans.append(
            {
                "position": first + place,
                "pieces": pieces(text),
                "style": style,
                "told": "; ".join([where, *told]),
                "numbers": [_cell(colouring.values[place]) for colouring in colourings],
                "changed": changed == first + place,
            }
        )
    return {"name": name, "title": title, "colourings": colourings, "spans": spans}


def _cell(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "·"


def _copy(dataset: "xr.Dataset", row: int, kind: str | None, ids: np.ndarray, tokenizer: Any) -> dict[str, Any]:
    """The perturbed copy: the replaced token, and the tokens of the continuation that are not what they were."""
    dataset, prefix = one_kind(dataset, kind), int(dataset.attrs["paragraphs"]["prefix_length"])
    copied = dataset["copy_tokens"].transpose("paragraph", "position").values[row]
    texts = token_texts([int(token) for token in copied], tokenizer)
    spans = [
        {
            "pieces": pieces(text),
            "replaced": place < prefix and copied[place] != ids[place],
            "differs": place >= prefix and ids[place] != UNKNOWN and copied[place] != ids[place],
            "told": f"token {place}, {text}"
            + (f", was {was}" if (was := _was(ids, place, tokenizer)) and copied[place] != ids[place] else ""),
        }
        for place, text in enumerate(texts)
    ]
    numbers = [(words, int(dataset[name].values[row])) for name, words in COPY_NUMBERS.items() if name in dataset]
    return {"prefix": spans[:prefix], "continuation": spans[prefix:], "numbers": numbers}


COPY_NUMBERS = {
    "copy_exact_match": "exact match",
    "copy_tokens_wrong": "tokens wrong",
    "copy_edit_distance": "edit distance",
    "copy_longest_run": "longest verbatim run",
}
"""What is told of the copy, in tokens."""


def _was(ids: np.ndarray, place: int, tokenizer: Any) -> str:
    """The token that stood there before, if it is known."""
    return token_texts([int(ids[place])], tokenizer)[0] if ids[place] != UNKNOWN else ""


def _grid(looking: Looking | None, texts: list[str], changed: int | None, query: str) -> dict[str, Any] | None:
    """Heads by prefix tokens, shaded on one scale."""
    if looking is None:
        return None
    even = f"null: even attention, {1 / len(texts):.3f}"
    whole = Colouring("attention", "of its attention", "attention", looking.attention.ravel(), beside=even)
    rows = []
    for name, values in zip(looking.names, looking.attention, strict=True):
        cells = []
        for place, value in enumerate(values):
            colour = whole.colours(float(value))
            told = f"{name} pays {value:.3f} of its attention to token {place}, {texts[place]}"
            style = f"background:{colour[0]};color:{colour[1]}" if colour else ""
            cells.append({"style": style, "told": told, "number": _cell(value), "changed": place == changed})
        rows.append({"name": name, "cells": cells})
    who = {"last_prefix": "the last prefix token", "continuation": "the continuation's tokens"}.get(query, query)
    columns = [{"text": text, "changed": place == changed} for place, text in enumerate(texts)]
    return {"rows": rows, "columns": columns, "who": who, "legend": whole}
