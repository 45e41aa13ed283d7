"""The paragraphs of a page: their tokens, what these are coloured by, their heads and their perturbed copies, as compact JSON."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Real

from localize.analysis.causal import removal_effects
from localize.analysis.choice import head_name, head_scores, mean_measured
from localize.analysis.effects import one_kind
from localize.analysis.layer_share import layer_sums
from localize.axes import MLP_COMPONENTS, QUERIES
from localize.errors import called_as
from localize.plots.colouring import (
    Colouring,
    Looking,
    attention_colourings,
    continuation_colourings,
    looking_heads,
    loss_variable,
    prefix_colourings,
)
from localize.plots.figures.heads import best_heads
from localize.plots.figures.tokens import COPY_NUMBERS
from localize.plots.paragraph import measured_tokens
from localize.plots.shades import HUES, shade
from localize.plots.theme import group_style
from localize.plots.token_text import token_texts
from localize.report.literal import LONGEST_ID, cut, link_name, readable
from localize.report.packed import packed_floats, packed_integers, packed_shares
from localize.report.sample import sampled

if TYPE_CHECKING:
    import xarray as xr

    from localize.analysis.change import Change
    from localize.signature.signature import MemorizationSignature

TOP = 5
"""Heads and weights told of each paragraph."""

LOOKING, ALWAYS = 6, 2
"""Heads whose attention can be seen: those that look most at the most changed position, and of all paragraphs those with the
highest rare-token scores over their null."""

SHADES = 33
"""Steps of a colour scale."""

LONGEST_TEXT = 4000
"""Characters of a paragraph's text that the list can be searched by."""


@dataclass(frozen=True)
class Sampling:
    """What is shown of how many.

    Attributes:
        most: Paragraphs to show at most.
        seed: Of the draw, where there are more.
    """

    most: int
    seed: int


def palettes() -> dict[str, list[tuple[str, str]]]:
    """Colour behind the letters and of them, for each hue from nothing to most."""
    return {hue: [shade(hue, step / (SHADES - 1)) for step in range(SHADES)] for hue in HUES}


@called_as("report")
def paragraph_content(
    signature: "MemorizationSignature", tokenizer: Any, asked: Sampling, edited: "Change | None" = None
) -> dict[str, Any]:
    """All that the page shows of single paragraphs.

    Args:
        signature: Of the run; of an edit, what was measured before it.
        tokenizer: Of the model, or None to show token ids.
        asked: How many paragraphs, and the seed by which they are drawn if there are more.
        edited: The edit whose numbers stand beside those before it.
    """
    whole = signature.dataset
    rows = sampled(whole["group"].values, asked.most, asked.seed)
    dataset = whole.isel(paragraph=rows).load()
    names = signature.groups
    content = {
        "count": len(rows),
        "of": len(signature),
        "prefix": int(dataset.attrs["paragraphs"]["prefix_length"]),
        "continuation": int(dataset.attrs["paragraphs"]["continuation_length"]),
        "groups": [_group(name, names, whole) for name in names],
        **_listed(dataset, names),
        **_tokens(dataset, tokenizer),
        "colourings": _colourings(dataset),
        "attention": _attention(dataset),
        "heads": _heads(dataset),
        "after": None,
    }
    if edited is not None:
        content["after"] = _after(edited, rows)
        content["colourings"] += _after_colourings(edited, rows)
    return content


def _group(name: str, names: tuple[str, ...], dataset: "xr.Dataset") -> dict[str, Any]:
    colour, symbol = group_style(name, names)
    words = cut(readable(name.replace("_", " ")), 48)
    return {"words": words, "colour": colour, "symbol": symbol, "of": int((dataset["group"].values == name).sum())}


def _listed(dataset: "xr.Dataset", names: tuple[str, ...]) -> dict[str, Any]:
    """What the list shows, sorts and filters by."""
    ids = [str(name) for name in dataset["paragraph"].values]
    texts = [str(text) for text in dataset["text"].values] if "text" in dataset.coords else [""] * len(ids)
    return {
        "ids": [cut(readable(name), LONGEST_ID) for name in ids],
        "links": [link_name(name) for name in ids],
        "group": [names.index(str(name)) for name in dataset["group"].values],
        "cluster": dataset["cluster"].values.tolist(),
        "duplicates": _counts(dataset["duplicates"].values) if "duplicates" in dataset.coords else None,
        "exactMatch": dataset["exact_match"].values.tolist(),
        "nll": [float(f"{value:.5g}") for value in dataset["nll"].values],
        "texts": [cut(readable(text), LONGEST_TEXT) for text in texts],
    }


def _counts(duplicates: Real[np.ndarray, " paragraph"]) -> list[int | None]:
    """How often each stands in training; None where it is not known."""
    return [None if np.isnan(count) else int(count) for count in duplicates]


def _tokens(dataset: "xr.Dataset", tokenizer: Any) -> dict[str, Any]:
    """Which tokens were measured, those of the perturbed copies, and what each stands for, told once."""
    count, name = dataset.sizes["paragraph"], loss_variable(dataset)
    ids = np.stack([measured_tokens(dataset, row, name) for row in range(count)])
    copies, positions, numbers = None, None, []
    if "copy_tokens" in dataset and "copy_position" in dataset:
        first = one_kind(dataset, None)
        copies = first["copy_tokens"].transpose("paragraph", "position").values.astype(np.int64)
        positions = first["copy_position"].values.tolist()
        numbers = [[words, first[key].values.tolist()] for key, words in COPY_NUMBERS.items() if key in first]
    known = np.unique(ids if copies is None else np.concatenate([ids, copies]))
    texts = token_texts(known.tolist(), tokenizer)
    which = dataset[name].attrs.get("continuation", "")
    return {
        "vocabulary": texts,
        "vocabularyIds": known.tolist(),
        "areIds": tokenizer is None,
        "tokens": packed_integers(np.searchsorted(known, ids)),
        "copies": None if copies is None else packed_integers(np.searchsorted(known, copies)),
        "changed": positions,
        "copyNumbers": numbers,
        "whose": {"own": "the model's own", "true": "the true text"}.get(which, readable(which)),
    }


def _colourings(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """What prefix and continuation can be coloured by, the same for all paragraphs."""
    count = dataset.sizes["paragraph"]
    found = []
    for part, of in (("prefix", prefix_colourings), ("continuation", continuation_colourings)):
        each = [of(dataset, row, None) for row in range(count)]
        found += [_packed(part, list(same)) for same in zip(*each, strict=True)]
    return found


def _packed(part: str, each: list[Colouring]) -> dict[str, Any]:
    """One way to colour, of all paragraphs."""
    one = each[0]
    spread = None
    if one.spread is not None:
        spread = packed_floats(np.stack([c.spread for c in each if c.spread is not None]))
    return {
        "part": part, "words": one.words, "unit": one.unit, "hue": one.hue, "beside": [c.beside for c in each],
        "values": packed_floats(np.stack([c.values for c in each])), "spread": spread,
    }  # fmt: skip


def _attention(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """The attention of a few heads of each paragraph to its prefix: those that look most at its most changed position first."""
    if "prefix_attention" not in dataset:
        return []
    queries = [str(name) for name in dataset["query"].values if str(name) in QUERIES]
    return [_of_query(dataset, query) for query in queries]


def _of_query(dataset: "xr.Dataset", query: str) -> dict[str, Any]:
    each = (
        dataset["prefix_attention"].sel(query=query).transpose("paragraph", "layer", "head", "prefix_position").values
    )
    always, changed = _always(dataset, query), _looked_at(dataset)
    names, values = [], []
    for row, attention in enumerate(each):
        looking = looking_heads(dataset, row, int(changed[row]), query, LOOKING)
        assert looking is not None
        there = dict(zip(looking.names, looking.attention, strict=True))
        there |= {head_name(dataset, at): attention[at] for at in always}
        names.append(list(there))
        values.append(np.stack(list(there.values())))
    heads = max(len(row) for row in names)
    padded = np.stack([np.pad(v, ((0, heads - len(v)), (0, 0)), constant_values=np.nan) for v in values])
    one = attention_colourings(Looking(["{}"], values[0][:1].astype(np.float64)), query)[0]
    return {
        "part": "prefix", "words": one.words, "unit": one.unit, "hue": one.hue, "beside": one.beside, "query": query,
        "always": [head_name(dataset, at) for at in always], "names": names, "values": packed_shares(padded),
    }  # fmt: skip


def _always(dataset: "xr.Dataset", query: str) -> list[tuple[int, int]]:
    """The heads that stand out over all paragraphs, where rare-token scores were measured."""
    if "rare_token_score" not in dataset:
        return []
    score, null = head_scores(dataset, query)
    return best_heads(mean_measured(score - null), ALWAYS)


def _looked_at(dataset: "xr.Dataset") -> Int[np.ndarray, " paragraph"]:
    """The most changed position of each paragraph, or the last of the prefix where none was changed."""
    if "copy_position" in dataset:
        return one_kind(dataset, None)["copy_position"].values.astype(np.int64)
    return np.full(dataset.sizes["paragraph"], dataset.sizes["prefix_position"] - 1)


def _heads(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """The strongest heads of each paragraph by every measure that names heads, each number beside what nothing looks like."""
    found = []
    if "rare_token_score" in dataset:
        score, null = head_scores(dataset, QUERIES[0])
        rows = [[_named(dataset, at, s, n) for at in best_heads(s - n, TOP)] for s, n in zip(score, null, strict=True)]
        heads = ["head", "score", "null"]
        caption = "Rare-token scores furthest over their null (the same attention, other paragraphs' rarity)"
        found.append({"caption": caption, "columns": heads, "rows": rows})
    if "head_gradient_max" in dataset and "gradient_max" in dataset:
        found.append(_gradient_shares(dataset))
    if "ablated_nll" in dataset:
        rise = removal_effects(dataset)[0]
        others = mean_measured(rise.reshape(len(rise), -1).T)
        rows = [
            [_named(dataset, at, r, np.full_like(r, mean)) for at in best_heads(r, TOP)]
            for r, mean in zip(rise, others, strict=True)
        ]
        heads = ["head", "NLL rise (nats per token)", "mean of all heads"]
        found.append({"caption": "Costs most when removed", "columns": heads, "rows": rows})
    return found


def _named(dataset: "xr.Dataset", at: tuple[int, int], value: np.ndarray, null: np.ndarray) -> list[str | float | None]:
    return [head_name(dataset, at), _short(value[at]), _short(null[at])]


def _gradient_shares(dataset: "xr.Dataset") -> dict[str, Any]:
    """The cells with most of the gradient; even would be one share for each cell."""
    parts: Any = dataset["attention_component"].values
    heads = dataset["head_gradient_max"].transpose("paragraph", "layer", "head", "attention_component").values
    mlp = (
        dataset["gradient_max"].sel(component=list(MLP_COMPONENTS)).transpose("paragraph", "layer", "component").values
    )
    layers = dataset["layer"].values
    names = [
        f"{head_name(dataset, (layer, head))}, {part}"
        for layer in range(len(layers))
        for head in range(heads.shape[2])
        for part in parts
    ] + [f"layer {layer}, {part}" for layer in layers for part in MLP_COMPONENTS]
    cells: Float[np.ndarray, "paragraph cell"] = np.concatenate(
        [heads.reshape(len(heads), -1), mlp.reshape(len(mlp), -1)], 1
    )
    shares = cells / layer_sums(dataset).sum(1, keepdims=True)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :TOP]
    rows = [
        [[names[cell], _short(100 * share[cell]), _short(100 / len(names))] for cell in best]
        for share, best in zip(shares, order, strict=True)
    ]
    caption = "Most of the gradient (max |g|, share of the sum over all cells)"
    return {"caption": caption, "columns": ["weights", "share (%)", "even"], "rows": rows}


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _after(edited: "Change", rows: Int[np.ndarray, " chosen"]) -> dict[str, Any]:
    """Recall after an edit, to stand beside recall before it."""
    after = edited.after.dataset
    return {
        "exactMatch": after["exact_match"].values[rows].tolist(),
        "nll": [_short(float(value)) for value in after["nll"].values[rows]],
    }


def _after_colourings(edited: "Change", rows: Int[np.ndarray, " chosen"]) -> list[dict[str, Any]]:
    """The NLL of each continuation token after an edit, and how much it rose."""
    before, after = (side["token_nll"].values[rows].astype(np.float64) for side in (edited.before, edited.after))
    unit = edited.after["token_nll"].attrs["unit"]
    made = []
    for words, hue, values in (
        ("NLL after the edit", "loss", after),
        ("NLL rise by the edit", "effect", after - before),
    ):
        beside = [f"mean {row.mean():.3g}" for row in values]
        whole = [Colouring(words, unit, hue, row, None, told) for row, told in zip(values, beside, strict=True)]
        made.append(_packed("continuation", whole))
    return made
