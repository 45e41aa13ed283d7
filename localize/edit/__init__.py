"""Changing a few weights of a model: which ones, how, and what else moves."""
