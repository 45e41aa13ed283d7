"""One variable of many cells of a sweep as one labelled array: an axis for what the grid varies, or the variable's own axis filled."""

import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.errors import LocalizeError, SignatureError
from localize.measurements import AXES

if TYPE_CHECKING:
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

Part = tuple[Mapping[str, Any], "xr.DataArray"]
"""What a cell is, by model, paragraph set and options, and what it holds of the variable."""


def filled_by(option: str, dims: Collection[Hashable]) -> str | None:
    """The axis, of these, whose labels an option chooses: cells that chose different ones fill it, and need no axis of their own."""
    return next((name for name, axis in AXES.items() if axis.chosen_by == option and name in dims), None)


def over_grid(parts: Sequence[Part]) -> "xr.DataArray":
    """All parts in one array; lazy where they are.

    What differs between the parts is an axis in front, labelled with its values, unless it chooses labels of an axis that the
    variable has (`filled_by`) and no two parts choose the same one. An axis that would be called as one of the variable's own is called
    `.._option`. Labels of other axes that a part lacks hold nan. Attributes that differ are left out: the axes tell them.
    """
    if len(parts) == 1:
        return parts[0][1]
    varied = [key for key in parts[0][0] if len({label(place[key]) for place, _ in parts}) > 1]
    filled = [key for key in varied if _fills_an_axis(key, parts)]
    own = parts[0][1].dims
    axes = {key: f"{key}_option" if key in own else key for key in varied if key not in filled}
    bare = [
        ({axis: label(place[key]) for key, axis in axes.items()}, _numbered(array.reset_coords(drop=True)))
        for place, array in parts
    ]
    joined = _stacked(bare, list(axes.values()))
    order = {dim: list(dict.fromkeys(at for _, array in bare for at in array[dim].values.tolist()))
             for dim in bare[0][1].dims if dim in joined.indexes}  # fmt: skip
    moved = {dim: labels for dim, labels in order.items() if joined[dim].values.tolist() != labels}
    return joined.reindex(moved).assign_attrs(_shared([array.attrs for _, array in parts]))


def one_signature(where: str, parts: "Iterable[tuple[str, MemorizationSignature]]") -> "MemorizationSignature":
    """Measurements in one signature.

    Args:
        where: What an error begins with.
        parts: Their names and what they measured, recall first.

    Raises:
        LocalizeError: If they do not join; it names some that do.
    """
    (first, joined), *others = parts
    fit, refused = [first], ""
    for name, part in others:
        try:
            joined = joined | part
        except SignatureError as error:
            refused = refused or f"{name!r} does not join those before it ({str(error).rstrip('.')})"
        else:
            fit.append(name)
    if refused:
        raise LocalizeError(f"{where}: {refused}; choose some that do, such as measures={fit[1:]}.")
    return joined


def label(value: Any) -> Any:
    """A value of an option as the label of an axis."""
    if value is None:
        return "default"
    return "+".join(map(str, value)) if isinstance(value, list) else value


def _fills_an_axis(key: str, parts: Sequence[Part]) -> bool:
    """Whether the parts chose different labels of an axis that the variable has: then no two of them measured the same cell."""
    dim = filled_by(key, parts[0][1].dims)
    if dim is None or any(dim not in array.dims or place[key] is None for place, array in parts):
        return False
    for (one, array), (other, beside) in combinations(parts, 2):
        differ = [at for at in one if label(one[at]) != label(other[at])]
        if differ != [key]:
            continue
        along, along_other = (side[dim].values.tolist() for side in (array, beside))
        if set(_listed(one[key])) & set(_listed(other[key])) or (
            along != along_other and set(along) & set(along_other)
        ):
            return False
    return True


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _numbered(array: "xr.DataArray") -> "xr.DataArray":
    """With a number for each place along an axis that has no labels: parts may be of different lengths there."""
    return array.assign_coords({dim: np.arange(array.sizes[dim]) for dim in array.dims if dim not in array.indexes})


def _stacked(parts: Sequence[Part], axes: Sequence[str]) -> "xr.DataArray":
    """A new axis for each of these, in order; parts that differ in none of them fill one another."""
    import xarray as xr

    if not axes:
        return reduce(lambda one, other: one.combine_first(other), [array for _, array in parts])
    axis, *rest = axes
    labels = list(dict.fromkeys(place[axis] for place, _ in parts))
    stacked = [_stacked([part for part in parts if part[0][axis] == at], rest) for at in labels]
    joined = xr.concat(stacked, axis, join="outer", coords="minimal", compat="override", combine_attrs="drop")
    return joined.assign_coords({axis: np.array(_of_one_kind(labels))})


def _of_one_kind(labels: Sequence[Any]) -> list[Any]:
    """Labels as they are; as text where some are text and some are not, which have no order."""
    return [str(at) for at in labels] if len({isinstance(at, str) for at in labels}) > 1 else list(labels)


def _shared(attrs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The attributes that all have alike, and of the options that they tell those that all have alike."""
    first = attrs[0]
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in attrs)}
    told = [json.loads(other["options"]) for other in attrs if "options" in other]
    if len(told) == len(attrs) and "options" not in shared:
        alike = {key: value for key, value in told[0].items() if all(key in o and o[key] == value for o in told)}
        shared["options"] = json.dumps(alike)
    return shared
