"""What a model says of paragraphs before anything is changed: what every change of prefix or model is held against."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

from localize.measure.continuation import continued
from localize.measure.scoring import Recall, finite_recall, recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs


class Before(NamedTuple):
    """Paragraphs with the continuation asked for, and what the unchanged model makes of it.

    Attributes:
        tokens: Prefixes and continuations `(paragraph, position)`; see `continued`.
        recall: Of the paragraphs, as every measurement attaches it.
        unperturbed: The same of `tokens`.
    """

    tokens: Int[Tensor, "paragraph position"]
    recall: Recall
    unperturbed: Recall

    @classmethod
    def measured(
        cls, model: HookedModel, paragraphs: Paragraphs, continuation: str, *, batch_size: int = 64
    ) -> "Before":
        """Say it, and measure both.

        Args:
            model: A hooked model, not changed yet.
            paragraphs: The paragraphs.
            continuation: "own" or "true"; see `continued`.
            batch_size: Rows a forward pass over `tokens`.

        Raises:
            LocalizeError: If `continuation` is neither, or an NLL is not finite.
            InputError: If the paragraphs do not fit the model, or hold only own continuations where true ones are asked for.
        """
        tokens = continued(model, paragraphs, continuation)
        recall = recall_of(model, paragraphs)
        return cls(tokens, recall, finite_recall(model, paragraphs, tokens, batch_size=batch_size))

    @property
    def dtype(self) -> np.dtype:
        """Of NLLs: what is measured after the change is kept in the same."""
        return self.unperturbed.token_nll.dtype

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The variables per paragraph, in tokens and in nats per token."""
        return {
            "unperturbed_exact_match": self.unperturbed.exact_match,
            "unperturbed_nll": self.unperturbed.token_nll.mean(1),
        }

    @property
    def token_arrays(self) -> dict[str, np.ndarray]:
        """The variables per token: NLL in nats, and the tokens themselves."""
        return {"unperturbed_token_nll": self.unperturbed.token_nll, "unperturbed_tokens": self.tokens.numpy()}
