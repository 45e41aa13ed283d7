"""The paper's rare-token statistic: attention summed per rank of token frequency over a set of paragraphs.

It is confounded, and is here to be compared with: few paragraphs have the high ranks, so that less is summed there, and a head
that looks at all tokens alike already correlates strongly with the rank. `rare_token_score` ranks each paragraph by itself.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from localize.axes import CORRELATIONS
from localize.measure.attention import dense_ranks, rank_correlations, sum_by_rank


@dataclass(frozen=True, eq=False)
class RankSums:
    """Attention from the last prefix token, summed per rank and group as batches come; groups in the order they appear.

    Attributes:
        layers: Of the model.
        heads: Of each layer.
        ranks: How many there can be: earlier prefix tokens.
        attention: Per group, float64 `(layer, head, rank)`.
        tokens: Per group how many tokens have each rank, float64 `(layer, rank)`: but for a factor, what a head sums to that
            looks at all it sees alike.
    """

    layers: int
    heads: int
    ranks: int
    attention: dict[str, Float[Tensor, "layer head rank"]] = field(default_factory=dict)
    tokens: dict[str, Float[Tensor, "layer rank"]] = field(default_factory=dict)

    def add(
        self,
        layers: list[int],
        attention: Float[Tensor, "paragraph layer head key"],
        counts: Int[Tensor, "paragraph key"],
        groups: Shaped[np.ndarray, " paragraph"],
    ) -> None:
        """Add a batch's attention in layers that see the same keys; ranks are among these, equal counts sharing one."""
        attention, rank, keys = attention.double().cpu(), dense_ranks(counts).cpu(), counts.shape[1]
        for name in dict.fromkeys(groups.tolist()):
            if name not in self.attention:
                self.attention[name] = torch.zeros(self.layers, self.heads, self.ranks, dtype=torch.float64)
                self.tokens[name] = torch.zeros(self.layers, self.ranks, dtype=torch.float64)
            members = torch.from_numpy(groups == name)
            summed = sum_by_rank(attention[members].flatten(1, 2), rank[members])
            self.attention[name][layers, :, :keys] += summed.unflatten(0, (len(layers), self.heads))
            self.tokens[name][layers, :keys] += torch.bincount(rank[members].flatten(), minlength=keys)

    def correlations(
        self,
    ) -> tuple[
        tuple[str, ...], Float[np.ndarray, "set correlation layer head"], Float[np.ndarray, "set correlation layer"]
    ]:
        """The groups and, with the rank, the correlations of each head's sums and of even attention's.

        Negative means: rarer tokens get more, as in the paper.
        """
        names = tuple(self.attention)
        found = np.full((len(names), len(CORRELATIONS), self.layers, self.heads), np.nan)
        uniform = found[..., 0].copy()
        for row, name in enumerate(names):
            for layer, (attention, tokens) in enumerate(zip(self.attention[name], self.tokens[name], strict=True)):
                ranks = int(tokens.count_nonzero())  # the first ones: none is left out
                if ranks:  # a window of one token shows none
                    found[row, :, layer] = rank_correlations(attention[:, :ranks])
                    uniform[row, :, layer] = rank_correlations(tokens[None, :ranks])[:, 0]
        return names, found, uniform
