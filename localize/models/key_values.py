"""What attention keeps of the tokens already read, and which of them a query sees."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass
class KeyValues:
    """Keys and values of the tokens already read, one pair of `(batch, head, position, d_head)` tensors per layer."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens already read."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def first(self, positions: int) -> "KeyValues":
        """What was known after the first tokens; a view."""
        return KeyValues([(k[:, :, :positions], v[:, :, :positions]) for k, v in self.layers])

    def rows(self, index: Tensor | slice) -> "KeyValues":
        """The given rows of the batch; a row may be taken several times."""
        return KeyValues([(k[index], v[index]) for k, v in self.layers])

    def appended(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with new ones behind them, which are kept; a batch of one is read by every new row."""
        if layer == len(self.layers):
            self.layers.append((k, v))
        else:
            known_k, known_v = (known.expand(len(k), -1, -1, -1) for known in self.layers[layer])
            self.layers[layer] = torch.cat([known_k, k], dim=2), torch.cat([known_v, v], dim=2)
        return self.layers[layer]


def visible_keys(
    queries: int, keys: int, window: int | None, device: torch.device | None = None
) -> Bool[Tensor, "query key"]:
    """Which keys each of the last queries sees: itself and those before it, at most `window` in all."""
    query = torch.arange(keys - queries, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None, :]
    seen = key <= query
    return seen if window is None else seen & (query - key < window)
