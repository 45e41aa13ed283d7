"""What gradients by activations declare."""

from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Measurement, Variable, always
from localize.measurements.sources import PAPER


def passes(work: Workload) -> float:
    """A backward pass."""
    return BACKWARD


MEASUREMENT = Measurement(
    "activation_gradients", words="activation gradients", place=14, alone=always, alone_if="always", passes=passes,
    variables=(
        Variable(
            "activation_gradient", ("paragraph", "layer", "site", "head", "position"), "float", "nats per activation unit",
            "gradient norm",
            "L2 norm of the gradient of the chosen tokens' mean NLL by one head's activation at one position",
            PAPER + ", section 4, there q k v", low=0,
        ),
        Variable(
            "residual_gradient", ("paragraph", "layer", "position"), "float", "nats per activation unit", "gradient norm",
            "L2 norm of the gradient of the chosen tokens' mean NLL by the residual stream that enters a layer, at one position",
            "localize", low=0,
        ),
    ),
)  # fmt: skip
