"""The kinds of planted truths."""

ROUTE, LAYER, INJ, HEADS = KINDS = ("route", "layer", "inj", "heads")
