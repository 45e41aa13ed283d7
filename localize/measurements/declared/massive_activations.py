"""What the sizes of activations declare."""

from localize.measurements.cost import Workload
from localize.measurements.declaration import Measurement, Variable, always

MASSIVE = "Sun et al. 2024 (arXiv 2402.17762)"
SPARSE = "Hoyer 2004"
OF_LAYER = ("paragraph", "layer")


def passes(work: Workload) -> float:
    """A forward pass, and one of the untrained twin."""
    return 2.0 if work.options["untrained"] else 1.0


MEASUREMENT = Measurement(
    "massive_activations", words="massive activations and sparsity", place=17, passes=passes, alone=always, alone_if="always",
    variables=(
        Variable(
            "largest_activation", OF_LAYER, "float", "activation units", "largest activation",
            "largest absolute activation of the residual stream that leaves a layer", MASSIVE, low=0,
        ),
        Variable(
            "activation_ratio", OF_LAYER, "float", "ratio", "largest over median activation",
            "largest absolute activation of the residual stream that leaves a layer, over the median one there", MASSIVE, low=0,
        ),
        Variable(
            "activation_ratio_untrained", OF_LAYER, "float", "ratio", "largest over median activation, random weights",
            "the same in a model of the same shape with random weights", MASSIVE, low=0, role="null", of="activation_ratio",
        ),
        Variable(
            "largest_position", OF_LAYER, "integer", "position", "position of the largest activation",
            "where the largest activation of a layer is", MASSIVE, low=0, role="set-up",
        ),
        Variable(
            "largest_dimension", OF_LAYER, "integer", "dimension", "dimension of the largest activation",
            "in which dimension of the stream the largest activation of a layer is", MASSIVE, low=0, role="set-up",
        ),
        Variable(
            "stream_sparsity", OF_LAYER, "float", "sparsity", "sparsity of the stream",
            "Hoyer sparsity of the residual stream that leaves a layer, mean over the positions that predict the continuation", SPARSE,
            low=0, high=1,
        ),
        Variable(
            "stream_sparsity_untrained", OF_LAYER, "float", "sparsity", "sparsity of the stream, random weights",
            "the same in a model of the same shape with random weights", SPARSE, low=0, high=1, role="null", of="stream_sparsity",
        ),
        Variable(
            "mlp_sparsity", OF_LAYER, "float", "sparsity", "sparsity of the MLP",
            "Hoyer sparsity of a layer's MLP activations, mean over the positions that predict the continuation", SPARSE, low=0, high=1,
        ),
        Variable(
            "mlp_sparsity_untrained", OF_LAYER, "float", "sparsity", "sparsity of the MLP, random weights",
            "the same in a model of the same shape with random weights", SPARSE, low=0, high=1, role="null", of="mlp_sparsity",
        ),
    ),
)  # fmt: skip
