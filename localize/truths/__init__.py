"""Truths: models in which it is known where a text is kept, because it was put there."""
