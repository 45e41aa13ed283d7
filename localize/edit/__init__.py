"""Changing a few weights of a model: which ones."""
