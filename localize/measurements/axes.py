"""The axes that several measurements share."""

from localize.axes import QUERIES, SITES
from localize.measurements.declaration import Axis

COMMON = (
    Axis("training_arm", "arm"),
    Axis("training_run", "run"),
    Axis("training_seed", "seed of the training", counted="seed {}"),
    Axis("training_step", "training step", counted="step {}"),
    Axis("paragraph", "paragraph"),
    Axis("position", "position in the paragraph (tokens)", counted="position {}", averaged=True),
    Axis("prefix_position", "position in the prefix (tokens)", counted="position {}", averaged=True),
    Axis("continuation_position", "position in the paragraph (tokens)", counted="position {}", averaged=True),
    Axis("layer", "layer", counted="layer {}", chosen_by="layers"),
    Axis("component", "component", summed=True),
    Axis("attention_component", "component", summed=True),
    Axis("head", "head", counted="head {}", chosen_by="heads"),
    Axis("set", "set of paragraphs"),
    Axis("site", "activation", labels=SITES, chosen_by="sites"),
    Axis("query", "looking from", labels=QUERIES),
)
