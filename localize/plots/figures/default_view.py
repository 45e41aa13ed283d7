"""What a default figure shows of a variable: whose numbers, along which axes, and what is averaged, chosen or beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from localize.axes import ordered_groups
from localize.measurements import AXES, REGISTRY, nulls_of
from localize.plots.groups import Group, groups_of
from localize.plots.theme import axis_words, component_words, group_style, plain
from localize.signature.schema import range_of
from localize.statistics import Interval

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

MOST_PANELS, MOST_MAPS = 6, 4
"""So many labels of other axes are drawn side by side: of curves, and of heat maps with their nulls."""

COMPONENTS = ("component", "attention_component")
WEIGHTS = (*COMPONENTS, "embedding", "bias")
"""Axes whose labels are matrices and vectors of weights."""

Values = Float[np.ndarray, "whose panel *cell"]


@dataclass(frozen=True, eq=False)
class Part(Group):
    """What has one number a cell and is no group of paragraphs: a set of them, a term of an objective."""

    @property
    def label(self) -> str:
        """Its name alone: of how many paragraphs it is the variable does not tell."""
        return self.words


@dataclass(frozen=True)
class Axes:
    """What becomes of each axis of a variable.

    Attributes:
        whose: "paragraph", or the axis whose labels have a colour each; "" where there is none.
        main: Those drawn along: two of a heat map, one of a curve or of points, none of a number per paragraph.
        aside: Those of which each label has a panel.
        averaged: Those averaged over.
        labels: What is kept of every axis that is neither averaged nor chosen from.
        chosen: One label of each of the others.
    """

    whose: str
    main: tuple[str, ...]
    aside: tuple[str, ...]
    averaged: tuple[str, ...]
    labels: dict[str, np.ndarray]
    chosen: dict[str, Any]

    @classmethod
    def of(cls, array: "xr.DataArray", most_panels: int, most_maps: int) -> "Axes":
        """Layers and heads are drawn along before positions, positions before other numbers, numbers before names."""
        labels = {str(dim): _measured_labels(array, str(dim)) for dim in array.dims}
        alone = [dim for dim, kept in labels.items() if len(kept) == 1 and dim != "paragraph"]
        dims = [dim for dim in labels if dim not in alone and not AXES[dim].draws]
        whose = next((dim for dim in ("paragraph", "set") if dim in dims), "")
        dims = [dim for dim in dims if dim != whose]
        main = _main(dims, labels)
        dims = [dim for dim in dims if dim not in main]
        averaged = [
            dim for dim in labels if dim not in alone and (AXES[dim].draws or (dim in dims and AXES[dim].averaged))
        ]
        aside = [dim for dim in dims if dim not in averaged]
        if not whose and aside:
            whose = aside.pop(0)
        chosen = {dim: labels[dim][0] for dim in alone}
        while aside and np.prod([len(labels[dim]) for dim in aside]) > (most_panels if len(main) < 2 else most_maps):
            first = aside.pop(0)
            chosen[first] = labels[first][0]
        return cls(whose, main, tuple(aside), tuple(averaged), labels, chosen)

    def reduced(self, array: "xr.DataArray") -> Values:
        """The numbers drawn of the variable, or of its null: an axis that only a null has is averaged or its first label chosen."""
        import xarray as xr

        array = array.astype(np.float64)
        for dim in [str(dim) for dim in array.dims]:
            if dim in self.averaged or (dim not in self.labels and AXES[dim].draws):
                array = array.mean(dim)
            elif dim in self.chosen:
                array = array.sel({dim: self.chosen[dim]})
            elif dim not in self.labels:
                array = array.isel({dim: 0})
            elif dim != "paragraph":
                array = array.sel({dim: self.labels[dim]})
        order = (self.whose, *self.aside, *self.main) if self.whose else (*self.aside, *self.main)
        sizes = [len(self.labels[dim]) for dim in order]
        whole = xr.DataArray(np.zeros(sizes), dims=order)
        array = (array.drop_vars(list(array.coords)) + whole).transpose(*order)
        panels = int(np.prod([len(self.labels[dim]) for dim in self.aside]))
        return array.values.reshape(-1 if self.whose else 1, panels, *(len(self.labels[dim]) for dim in self.main))

    def chosen_of_null(self, array: "xr.DataArray") -> str:
        """Which labels `reduced` chooses of the axes that only the null has: "mismatched"."""
        own = [str(dim) for dim in array.dims if dim not in self.labels and not AXES[str(dim)].draws]
        return ", ".join(label_words(dim, array[dim].values.tolist()[0]) for dim in own)

    def panel_words(self) -> list[str]:
        """The labels that have a panel each, in words."""
        words = [""]
        for dim in self.aside:
            words = [", ".join(filter(None, (w, label_words(dim, label)))) for w in words for label in self.labels[dim]]
        return words

    def told(self) -> str:
        """What is averaged and what was chosen: "mean over positions; activation: q"."""
        means = [f"mean over {AXES[dim].name.replace('_', ' ')}s" for dim in self.averaged]
        chosen = [f"{short_words(dim)}: {label_words(dim, label)}" for dim, label in self.chosen.items()]
        return "; ".join((*means, *chosen))


def _main(dims: Sequence[str], labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The axes to draw along."""
    positions = [dim for dim in dims if AXES[dim].averaged]
    numbers = [dim for dim in dims if labels[dim].dtype.kind in "iuf" and dim not in ("layer", "head")]
    if "layer" in dims:
        return ("layer", *(["head"] if "head" in dims else positions[:1]))
    for among in (positions, numbers, dims):
        if among:
            return (among[-1],)
    return ()


def _measured_labels(array: "xr.DataArray", dim: str) -> np.ndarray:
    """Labels of an axis, in order, without those where nothing was measured."""
    there = array.notnull().any([other for other in array.dims if other != dim]).values
    return array[dim].values[there if there.any() and dim != "paragraph" else slice(None)]


def label_words(dim: str, label: Any) -> str:
    """One label of an axis, in words: "layer 3", "W_Q" with a small Q."""
    axis = AXES[dim]
    if dim in WEIGHTS:
        return " + ".join(component_words(part) for part in str(label).split(" + "))
    if isinstance(label, str):
        return plain(label)
    return axis.counted.format(label) if axis.counted else f"{short_words(dim)} {label:,}"


def short_words(dim: str) -> str:
    """An axis in words, without its unit."""
    return axis_words(dim).partition(" (")[0]


@dataclass(frozen=True, eq=False)
class DefaultView:
    """One variable as a figure shows it.

    Attributes:
        name: The variable.
        axes: What becomes of its axes.
        parts: Groups of paragraphs, or what else has a colour each.
        values: Of each paragraph, or of each part.
        null: The same of its null, or None.
        null_name: The variable that is its null, or "".
        null_chosen: Which of several nulls that is, in words.
        dataset: Where they come from.
    """

    name: str
    axes: Axes
    parts: list[Group]
    values: Values
    null: Values | None
    null_name: str
    null_chosen: str
    dataset: "xr.Dataset"

    @classmethod
    def of(cls, signature: "MemorizationSignature", name: str) -> "DefaultView":
        """Choose the axes and reduce the variable and its null to them."""
        dataset = signature.dataset
        null_name = next((null for null in nulls_of(name) if null in dataset), "")
        axes = Axes.of(dataset[name], MOST_PANELS, MOST_MAPS // 2 if null_name else MOST_MAPS)
        parts = groups_of(signature) if axes.whose == "paragraph" else _parts(axes, signature.groups)
        null = axes.reduced(dataset[null_name]) if null_name else None
        which = axes.chosen_of_null(dataset[null_name]) if null_name else ""
        return cls(name, axes, parts, axes.reduced(dataset[name]), null, null_name, which, dataset)

    def mean(self, part: Group, values: Values) -> Float[np.ndarray, "panel *cell"]:
        """Over the paragraphs of a group; of what is none its own numbers."""
        return part.mean(values)

    def interval(self, part: Group, seed: int) -> Interval:
        """Mean over the paragraphs of a group with its 95 % interval; of what is none its own numbers, without one."""
        if self.axes.whose == "paragraph":
            return part.interval(self.values, seed, range_of(self.dataset, self.name))
        own = part.mean(self.values)
        return Interval(own, *np.full((2, *own.shape), np.nan))

    @property
    def signed(self) -> bool:
        """Whether the variable can be negative."""
        low = REGISTRY[self.name].low
        return low is None or low < 0

    @property
    def label(self) -> str:
        """Its label as a title starts."""
        label = REGISTRY[self.name].label
        return label[:1].upper() + label[1:]

    @property
    def null_label(self) -> str:
        """Its null, as a legend tells it."""
        return REGISTRY[self.null_name].label + (f" ({self.null_chosen})" if self.null_chosen else "")

    def title(self) -> str:
        """What is seen: "Gradient norm by layer and component"."""
        numbers = [short_words(dim) for dim in self.axes.main if self.axes.labels[dim].dtype.kind in "iuf"]
        names = ["component" if dim in COMPONENTS else dim.replace("_", " ") for dim in self.axes.aside]
        dims = [*numbers, *names]
        return self.label + (f" by {', '.join(dims[:-1])}{' and ' * (len(dims) > 1)}{dims[-1]}" if dims else "")


def _parts(axes: Axes, groups: tuple[str, ...]) -> list[Group]:
    """One for each label of the axis that has colours: those of the groups for sets of them."""
    names = [str(label) for label in axes.labels[axes.whose]] if axes.whose else ["all"]
    known = tuple(dict.fromkeys((*groups, *names)))
    rows = dict(zip(names, np.eye(len(names), dtype=bool), strict=True))
    ordered = ordered_groups(names) if axes.whose == "set" else names
    return [Part(name, plain(name), *group_style(name, known), rows[name], np.zeros(1, dtype=int)) for name in ordered]
