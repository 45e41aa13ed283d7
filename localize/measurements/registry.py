"""All measurements, axes and variables that are known: the house's own, one file each, and those that users register."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any

from localize.errors import LocalizeError
from localize.measurements import declared
from localize.measurements.axes import COMMON
from localize.measurements.declaration import LENGTHS, Axis, Measurement, Variable

_AXES: dict[str, Axis] = {}
_MEASUREMENTS: dict[str, Measurement] = {}
_VARIABLES: dict[str, Variable] = {}
_ALONE: dict[str, Variable] = {}

AXES: Mapping[str, Axis] = MappingProxyType(_AXES)
"""Every axis by name. Two axes of tokens in one dataset have different lengths, hence different names."""
MEASUREMENTS: Mapping[str, Measurement] = MappingProxyType(_MEASUREMENTS)
"""Every measurement by name, in the order of their places."""
REGISTRY: Mapping[str, Variable] = MappingProxyType(_VARIABLES)
"""Every variable by name, in the order of their measurements."""


def register(declared: Any) -> Any:
    """Make something known to the suite: a `Measurement` with its axes and variables, a `Variable`, a kind of figure, a row of the
    summary, a localizer.

    A measurement then works as the house's own: in grids and `localize.run_sweep`, reports, `compare`, figures (each variable gets
    one by its axes, with its null), `distinguish`, and saved files, which are read where it is registered. Registered again, as in
    a notebook's cell, it takes the place of the earlier one.

    Args:
        declared: A `Measurement` or a `Variable`; or what has a method `register` of its own.

    Returns:
        The same.

    Raises:
        LocalizeError: If something else has the name already, or it cannot be registered.
    """
    if isinstance(declared, Measurement):
        return add(declared)
    if isinstance(declared, Variable):
        return add_variable(declared)
    if not hasattr(declared, "register"):
        raise LocalizeError(
            f"register: {declared!r} is a {type(declared).__name__}; a Measurement, a Variable or what has a method `register` is needed."
        )
    declared.register()
    return declared


def add(measurement: Measurement) -> Measurement:
    """Make a measurement known; what had its name before, if it is not one of the house's, is known no longer.

    Raises:
        LocalizeError: If the house, or another measurement, has its name or that of one of its axes or variables; or a variable has
            an axis, null or range of no meaning.
    """
    if _MEASUREMENTS.get(measurement.name) == measurement:
        return measurement
    if measurement.name in HOUSE:
        raise LocalizeError(
            f"register: a measurement {measurement.name!r} with another definition is registered already."
        )
    before = _MEASUREMENTS.pop(measurement.name, None)
    try:
        _in_order()
        for declared in (*measurement.axes, *measurement.variables):
            _check_free(declared)
        for variable in measurement.variables:
            _check(variable, measurement)
        _MEASUREMENTS[measurement.name] = measurement
    except LocalizeError:
        if before is not None:
            _MEASUREMENTS[measurement.name] = before
        raise
    finally:
        _in_order()
    return measurement


def add_variable(variable: Variable) -> Variable:
    """Make a variable known that no measurement declares.

    Raises:
        LocalizeError: If another has its name, or it has an axis, null or range of no meaning.
    """
    if _VARIABLES.get(variable.name) != variable:
        _check_free(variable)
        _check(variable, None)
        _ALONE[variable.name] = variable
        _in_order()
    return variable


def remove(name: str) -> None:
    """Forget what a user registered: a measurement, with its axes and variables, or a variable.

    Raises:
        LocalizeError: If there is no such, or it is the house's.
    """
    if name in HOUSE or (_MEASUREMENTS.pop(name, None) is None and _ALONE.pop(name, None) is None):
        raise LocalizeError(f"remove: {name!r} is nothing that was registered.")
    _in_order()


def _in_order() -> None:
    """Measurements by their places, and the axes and variables of each."""
    ordered = sorted(_MEASUREMENTS.values(), key=lambda one: (one.place is None, one.place))
    axes = [*COMMON, *(axis for one in ordered for axis in one.axes)]
    variables = [*(variable for one in ordered for variable in one.variables), *_ALONE.values()]
    for held in (_MEASUREMENTS, _AXES, _VARIABLES):
        held.clear()
    _MEASUREMENTS.update((one.name, one) for one in ordered)
    _AXES.update((axis.name, axis) for axis in axes)
    _VARIABLES.update((variable.name, variable) for variable in variables)


def _check_free(declared: Axis | Variable) -> None:
    """Refuse a name that stands for something else already."""
    old = (_AXES if isinstance(declared, Axis) else _VARIABLES).get(declared.name)
    if old is not None:
        what = "an axis" if isinstance(declared, Axis) else "a variable"
        raise LocalizeError(f"register: {what} {declared.name!r} with another definition is registered already.")


def _check(variable: Variable, measurement: Measurement | None) -> None:
    """Refuse a variable that does not fit what else is declared."""
    own = ((), ()) if measurement is None else (measurement.axes, measurement.variables)
    axes, known = ({*held, *(one.name for one in more)} for held, more in zip((_AXES, _VARIABLES), own, strict=True))
    if unknown := [dim for dim in variable.dims if dim not in axes]:
        raise LocalizeError(
            f"register: unknown axis {unknown[0]!r} of {variable.name!r}; there are {', '.join(sorted(axes))}."
        )
    if isinstance(variable.high, str) and variable.high not in LENGTHS:
        raise LocalizeError(
            f"register: high={variable.high!r} of {variable.name!r} is not one of {', '.join(LENGTHS)}; it is one of them, a number "
            "or None."
        )
    if (variable.role == "null") != (variable.of is not None):
        raise LocalizeError(
            f"register: {variable.name!r} has role={variable.role!r} and of={variable.of!r}; a null, and nothing else, is of a variable."
        )
    for what, name in (("of", variable.of), ("before", variable.before)):
        if name is not None and name not in known:
            raise LocalizeError(f"register: {what}={name!r} of {variable.name!r} is no variable that is registered.")


def measurement_named(name: str) -> Measurement | None:
    """The measurement that a run or a grid asks for, by its name or a former one; None where there is none."""
    for measurement in MEASUREMENTS.values():
        if measurement.asked and name in (measurement.name, *measurement.formerly):
            return measurement
    return None


def asked_names() -> tuple[str, ...]:
    """Names of the measurements that a run or a grid can ask for."""
    return tuple(name for name, measurement in MEASUREMENTS.items() if measurement.asked)


def nulls_of(variable: str) -> tuple[str, ...]:
    """Names of the variables that say what this one is when there is nothing."""
    return tuple(name for name, other in REGISTRY.items() if other.of == variable)


def measurement_of(variable: str) -> Measurement:
    """The measurement that declares a variable."""
    return next(one for one in MEASUREMENTS.values() if any(other.name == variable for other in one.variables))


for _file in iter_modules(declared.__path__):
    _declared: Measurement = import_module(f"{declared.__name__}.{_file.name}").MEASUREMENT
    _MEASUREMENTS[_declared.name] = _declared
_in_order()
HOUSE = frozenset(_MEASUREMENTS)
"""Those that the suite brings; nothing else gets their names."""
