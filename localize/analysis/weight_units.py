"""Whether gradients by weights stand in one unit: GPT-2 scales its attention scores outside of the weights, GPT-Neo does not.

Where scores are multiplied by a scale outside of W_Q, the gradient of W_Q is that of the same function with the scale inside, times
the scale; and with it every share. `localize.gradients(attention_scale="in_W_Q")` gives those of the scale inside, in every family.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from localize.axes import IN_W_Q
from localize.measurements import REGISTRY

if TYPE_CHECKING:
    import xarray as xr


def is_by_weights(variable: str) -> bool:
    """Whether a variable is a gradient by weights, or a share of one."""
    return REGISTRY[variable].unit == "nats per weight unit" or variable.endswith("gradient_share")


def scale_outside(dataset: "xr.Dataset") -> float:
    """What scores are multiplied by outside of the weights that the gradients of a signature are by."""
    model = dataset.attrs["model"]
    inside = any(call.get("attention_scale") == IN_W_Q for call in dataset.attrs["calls"])
    return 1.0 if inside or model["family"] != "gpt2" else (model["d_model"] / model["heads"]) ** -0.5


def unlike_units(datasets: Iterable["xr.Dataset"], variables: Collection[str] | None = None) -> str:
    """That gradients beside each other are by weights of other units, in words; nothing where they are not.

    Args:
        datasets: Of several signatures.
        variables: Those that are shown; None for all that they hold.
    """
    scales = set()
    for dataset in datasets:
        held = map(str, dataset.data_vars)
        if any(is_by_weights(name) for name in held if variables is None or name in variables):
            scales.add(scale_outside(dataset))
    if len(scales) < 2:
        return ""
    return (
        "gradients by W_Q are in other units from model to model, so that shares do not compare; with "
        f"gradients(attention_scale={IN_W_Q!r}) they do"
    )
