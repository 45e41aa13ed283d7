"""Paragraphs: their type, readers, near-duplicate clusters, token counts, and a generator of new ones."""

from localize.paragraphs.readers import load_paragraphs

__all__ = ["load_paragraphs"]
