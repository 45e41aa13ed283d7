"""Localizers: how strongly each MLP unit and attention head, or each weight, stores a paragraph. Every file is one, but for three.

A file's name is its localizer's, and the file makes it: a `Localizer` of that name. Nowhere else is it told that it exists.
"""

from localize.localizers.localizer import Localizer, localizer
from localize.localizers.registry import DEFAULT, get, names
from localize.localizers.scores import Scores, WeightScores

__all__ = ["DEFAULT", "Localizer", "Scores", "WeightScores", "get", "localizer", "names"]
