"""GPT-Neo and GPT-2 models: loading, hooks, and where each weight lies."""

from localize.models.load import load_model

__all__ = ["load_model"]
