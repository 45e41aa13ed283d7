"""Where every head looks: one forward pass, of which only what concerns the prefix is kept."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import QUERIES
from localize.measure.attention import distance, entropy, kendall, rarest_mass, spearman
from localize.models.hooks import HookedModel
from localize.models.key_values import visible_keys

LAST_PREFIX, CONTINUATION = range(len(QUERIES))


class Looks(NamedTuple):
    """What is kept of a batch's attention, from each of `QUERIES`; that of the continuation is a mean over its tokens.

    Attributes:
        attention: To each prefix token.
        entropy: Nats, over all keys.
        distance: Tokens, over all keys.
    """

    attention: Float[Tensor, "query paragraph layer head prefix_position"]
    entropy: Float[Tensor, "query paragraph layer head"]
    distance: Float[Tensor, "query paragraph layer head"]


@torch.no_grad()
def look(
    model: HookedModel, tokens: Int[Tensor, "paragraph position"], prefix_length: int
) -> tuple[Looks, Float[Tensor, "paragraph continuation_position d_model"]]:
    """One forward pass: where every head looks, and the final states that predict the continuation.

    The last token is not fed: nothing is predicted after it. A continuation of one token has no attention of its own: nan.
    """
    names = {f"blocks.{layer}.attn.hook_pattern": layer for layer in range(model.n_layers)}
    precise = torch.promote_types(model.dtype, torch.float32)
    shape = (len(QUERIES), len(tokens), model.n_layers, model.n_heads)
    looks = Looks(
        *(torch.empty(*shape, *last, dtype=precise, device=model.device) for last in ((prefix_length,), (), ()))
    )

    def on_pattern(pattern: Tensor, name: str) -> None:
        late = pattern[:, :, prefix_length - 1 :].to(precise)
        if pattern.dtype != precise:
            late = late / late.sum(-1, keepdim=True)  # rounded to half precision a row no longer sums to 1
        for into, values in zip(looks, (late[..., :prefix_length], entropy(late), distance(late)), strict=True):
            into[LAST_PREFIX, :, names[name]] = values[:, :, 0]
            into[CONTINUATION, :, names[name]] = values[:, :, 1:].mean(2)

    read = slice(prefix_length - 1, None)
    return looks, model.final_states(tokens[:, :-1], hooks=dict.fromkeys(names, on_pattern), read=read)


class View(NamedTuple):
    """The prefix tokens on which one query's attention is scored, in the layers that see the same.

    Attributes:
        query: Who looks, an index into `QUERIES`.
        layers: Global ones, or those of one window.
        keys: Positions of the prefix tokens that are seen; the last one is not scored on itself.
        share: How much of the query's tokens sees each of them: 1 if all do.
    """

    query: int
    layers: list[int]
    keys: Int[Tensor, " key"]
    share: Float[Tensor, " key"]

    def attention(self, looks: Looks) -> Float[Tensor, "paragraph layer head key"]:
        """To the keys of the view, averaged over all of the query's tokens."""
        return looks.attention[self.query][:, self.layers].index_select(-1, self.keys)

    def compared(self, looks: Looks) -> Float[Tensor, "paragraph layer head key"]:
        """Each key's attention from those of the query's tokens that see it: what is ranked."""
        attention = self.attention(looks)
        return attention / self.share.to(attention.dtype)

    def scores(
        self, looks: Looks, counts: Int[Tensor, "paragraph rarity key"], rarest: int
    ) -> Float[Tensor, "score paragraph layer head rarity"]:
        """Spearman's rho and Kendall's tau-b of attention with rarity, and attention on the rarest, for each of some rarities.

        Correlated is each key's attention from those tokens that see it; for the mass, which is a share of all attention, a
        token that does not see a key pays it none.
        """
        attention = self.attention(looks)
        rows, where_seen = attention.flatten(1, 2), self.compared(looks).flatten(1, 2)
        found = spearman(where_seen, -counts), kendall(where_seen, -counts), rarest_mass(rows, counts, rarest)
        return torch.stack([values.to(rows.dtype) for values in found]).unflatten(2, attention.shape[1:3])


def views(model: HookedModel, prefix_length: int, length: int) -> list[View]:
    """What each query sees of the prefix, layers that see alike together; a query that sees none of it has no view."""
    fed, alike = length - 1, dict[int, list[int]]()
    for layer in range(model.n_layers):
        alike.setdefault(min(model.window(layer) or fed, fed), []).append(layer)
    found = []
    for window, layers in alike.items():
        seen = visible_keys(length - prefix_length, fed, window, model.device).double()
        last, others = seen[:1, : prefix_length - 1], seen[1:, :prefix_length]
        for query, share in ((LAST_PREFIX, last.mean(0)), (CONTINUATION, others.mean(0))):
            keys = (share > 0).nonzero()[:, 0]
            if len(keys):
                found.append(View(query, layers, keys, share[keys]))
    return found
