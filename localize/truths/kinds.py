"""The kinds of planted truths, and the file that makes a folder one."""

ROUTE, LAYER, INJ, HEADS = KINDS = ("route", "layer", "inj", "heads")
RECORD = "truth.json"
