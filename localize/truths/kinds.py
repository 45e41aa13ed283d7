"""The kinds of truths, and the file that makes a folder one."""

ROUTE, LAYER, INJ, HEADS = KINDS = ("route", "layer", "inj", "heads")
"""Those that `plant` plants."""
SINKS = "sinks"
"""Not planted: made of a training in which each planted text had units of its own."""
RECORD = "truth.json"
