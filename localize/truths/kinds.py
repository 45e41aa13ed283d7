"""The kinds of planted truths, and of the units that hold them."""

ROUTE, LAYER, INJ, HEADS = KINDS = ("route", "layer", "inj", "heads")
MLP_PART, HEADS_PART = "mlp", "heads"
