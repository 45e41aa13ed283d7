"""What is measured: one declaration each, from which every list of measurements, axes and variables follows. Without torch."""

from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.registry import (
    AXES,
    MEASUREMENTS,
    REGISTRY,
    asked_names,
    measurement_named,
    measurement_of,
    nulls_of,
    register,
)

__all__ = [
    "AXES",
    "MEASUREMENTS",
    "REGISTRY",
    "Axis",
    "Measurement",
    "Variable",
    "asked_names",
    "measurement_named",
    "measurement_of",
    "nulls_of",
    "register",
]
