"""What loss change allocation declares."""

from localize.axes import EXPOSURES, OUTSIDE
from localize.measurements.declaration import Axis, Measurement, Variable

SOURCE = "Lan et al. 2019 (arXiv 1909.01440), section 2"
NATS = "nats per token"
LABEL, NULL_LABEL = "loss change", "loss change, held-out text"
OF_HELD_OUT = "the same of the held-out set, at the same steps"
BLOCKS, HEADS = ("layer", "component"), ("layer", "attention_component", "head")

MEASUREMENT = Measurement(
    "loss_change", words="loss change allocation", place=2, asked=False,
    axes=(
        Axis("exposure", "steps by what they show", labels=EXPOSURES),
        Axis("outside", "weights outside of the components", labels=OUTSIDE),
    ),
    variables=(
        Variable(
            "loss_change", ("set", "exposure", *BLOCKS), "float", NATS, LABEL,
            "what the steps so far changed in a set's mean NLL by moving a component's weights; negative where it was lowered", SOURCE,
        ),
        Variable(
            "loss_change_null", ("set", "exposure", *BLOCKS), "float", NATS, NULL_LABEL, OF_HELD_OUT, "localize",
            role="null", of="loss_change",
        ),
        Variable(
            "head_loss_change", ("set", "exposure", *HEADS), "float", NATS, LABEL,
            "what the steps so far changed in a set's mean NLL by moving one head's weights", SOURCE,
        ),
        Variable(
            "head_loss_change_null", ("set", "exposure", *HEADS), "float", NATS, NULL_LABEL, OF_HELD_OUT, "localize",
            role="null", of="head_loss_change",
        ),
        Variable(
            "outside_loss_change", ("set", "exposure", "outside"), "float", NATS, LABEL,
            "what the steps so far changed in a set's mean NLL by moving embeddings, biases or layer norms; nan for what the model "
            "does not have", SOURCE,
        ),
        Variable(
            "outside_loss_change_null", ("set", "exposure", "outside"), "float", NATS, NULL_LABEL, OF_HELD_OUT, "localize",
            role="null", of="outside_loss_change",
        ),
        Variable(
            "set_nll_change", ("set",), "float", NATS, "change of the NLL",
            "a set's mean NLL less that before the first step, which all parts of its loss change sum to but for an error", "localize",
        ),
    ),
)  # fmt: skip
