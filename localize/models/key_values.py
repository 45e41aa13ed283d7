"""What attention keeps of the tokens already read, and which of them a query sees."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass
class KeyValues:
    """Keys and values of the tokens already read, one pair of `(batch, head, position, d_head)` tensors per layer."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    read_only: bool = False
    """Whether forward passes leave it as it is: many rows can then follow the same tokens, without a copy for each."""

    @property
    def length(self) -> int:
        """Tokens already read."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def of_layer(self, layer: int) -> int:
        """Tokens already read by one layer: during a forward pass the lower ones are ahead."""
        return self.layers[layer][0].shape[2] if layer < len(self.layers) else 0

    def first(self, positions: int) -> "KeyValues":
        """What was known after the first tokens; a view."""
        return KeyValues([(k[:, :, :positions], v[:, :, :positions]) for k, v in self.layers], self.read_only)

    def rows(self, index: Tensor | slice) -> "KeyValues":
        """The given rows of the batch; a row may be taken several times."""
        return KeyValues([(k[index], v[index]) for k, v in self.layers], self.read_only)

    def appended(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with new ones behind them; a batch of one is read by every new row. Kept, unless read-only."""
        if layer < len(self.layers):
            known_k, known_v = (known.expand(len(k), -1, -1, -1) for known in self.layers[layer])
            k, v = torch.cat([known_k, k], dim=2), torch.cat([known_v, v], dim=2)
        if not self.read_only:
            self.layers[layer : layer + 1] = [(k, v)]
        return k, v

    def shared(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """A layer's keys and values where one row of them is read, and only read, by all new rows; else None."""
        if self.read_only and layer < len(self.layers) and len(self.layers[layer][0]) == 1:
            return self.layers[layer]
        return None


def visible_keys(
    queries: int, keys: int, window: int | None, device: torch.device | None = None
) -> Bool[Tensor, "query key"]:
    """Which keys each of the last queries sees: itself and those before it, at most `window` in all."""
    query = torch.arange(keys - queries, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None, :]
    seen = key <= query
    return seen if window is None else seen & (query - key < window)
