"""What rows of attention look at: ranks and rank correlations, mass on the rarest tokens, entropy, distance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def average_ranks(values: Float[Tensor, "*row item"] | Int[Tensor, "*row item"]) -> Float[Tensor, "*row item"]:
    """0-based ranks along the last axis, ties given the mean of their ranks, as float32 (exact for fewer than 2^23 items)."""
    smaller, upto = _standing(values)
    return ((smaller + upto - 1).float() / 2).masked_fill(values != values, torch.nan)


def unit_ranks(values: Float[Tensor, "*row item"] | Int[Tensor, "*row item"]) -> Float[Tensor, "*row item"]:
    """Ranks along the last axis, centred and scaled to length 1, in float64: the product of two is Spearman's rho; nan where constant."""
    ranks = average_ranks(values).double() - (values.shape[-1] - 1) / 2
    return ranks / ranks.square().sum(-1, keepdim=True).sqrt()


def dense_ranks(values: Int[Tensor, "*row item"]) -> Int[Tensor, "*row item"]:
    """0-based ranks along the last axis: how many different values are smaller. Equal values share a rank; none is left out."""
    ordered, order = values.sort(-1)
    rises = torch.zeros_like(order)
    rises[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return torch.empty_like(order).scatter_(-1, order, rises.cumsum(-1))


def _standing(
    values: Float[Tensor, "*row item"] | Int[Tensor, "*row item"],
) -> tuple[Int[Tensor, "*row item"], Int[Tensor, "*row item"]]:
    """How many items of its row are smaller than each item, and how many are not larger, itself among them."""
    ordered, values = values.sort(-1).values, values.contiguous()
    return torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)


def pearson(x: Float[Tensor, "*#row a item"], y: Float[Tensor, "*#row b item"]) -> Float[Tensor, "*out a b"]:
    """Pearson's correlation of every x with every y along the last axis, in float64; nan where either is constant."""
    return _cosines(*(_centred(side.double()) for side in (x, y)))


def _centred(values: Float[Tensor, "*row item"]) -> Float[Tensor, "*row item"]:
    """Each row less its mean; exactly 0 where all are equal, although their mean may be rounded."""
    constant = (values == values[..., :1]).all(-1, keepdim=True)
    return (values - values.mean(-1, keepdim=True)).masked_fill(constant, 0)


def spearman(
    x: Float[Tensor, "*#row a item"] | Int[Tensor, "*#row a item"],
    y: Float[Tensor, "*#row b item"] | Int[Tensor, "*#row b item"],
) -> Float[Tensor, "*out a b"]:
    """Spearman's rho of every x with every y along the last axis, in float64; nan where either is constant.

    Leading axes broadcast, as those of a matrix product.
    """
    middle = (x.shape[-1] - 1) / 2
    return _cosines(average_ranks(x) - middle, average_ranks(y) - middle)


def _cosines(x: Float[Tensor, "*#row a item"], y: Float[Tensor, "*#row b item"]) -> Float[Tensor, "*out a b"]:
    return _normalized(x @ y.mT, x.square().sum(-1), y.square().sum(-1))


def _normalized(
    products: Float[Tensor, "*out a b"], x: Float[Tensor, "*#row a"], y: Float[Tensor, "*#row b"]
) -> Float[Tensor, "*out a b"]:
    """Products over the root of both sides' squared sizes, in float64; nan where either is zero."""
    return products.double() / (x.double()[..., :, None] * y.double()[..., None, :]).sqrt()


def kendall(
    x: Float[Tensor, "*#row a item"] | Int[Tensor, "*#row a item"],
    y: Float[Tensor, "*#row b item"] | Int[Tensor, "*#row b item"],
) -> Float[Tensor, "*out a b"]:
    """Kendall's tau-b of every x with every y along the last axis, in float64; nan where either is constant.

    Leading axes broadcast, as those of a matrix product. Pairs are compared one item with all later ones at a time, so that
    beside the result no more memory is needed than for x and y.

    Source:
        Kendall 1945, "The treatment of ties in ranking problems": the cosine between the signs of all pairs' differences.
    """
    x_signs, y_signs = _later_signs(x, 0), _later_signs(y, 0)
    agreement, x_untied, y_untied = x_signs @ y_signs.mT, x_signs.abs().sum(-1), y_signs.abs().sum(-1)
    for item in range(1, x.shape[-1]):
        x_signs, y_signs = _later_signs(x, item), _later_signs(y, item)
        agreement += x_signs @ y_signs.mT
        x_untied += x_signs.abs().sum(-1)
        y_untied += y_signs.abs().sum(-1)
    return _normalized(agreement, x_untied, y_untied)


def _later_signs(
    values: Float[Tensor, "*row item"] | Int[Tensor, "*row item"], item: int
) -> Float[Tensor, "*row later"]:
    """Whether each later item is larger (1), equal (0) or smaller (-1); float32, exact in sums of fewer than 2^24 pairs."""
    return (values[..., item + 1 :] - values[..., item, None]).sign().float()


def rarest_mass(
    attention: Float[Tensor, "*#row a key"], counts: Int[Tensor, "*#row b key"], rarest: int
) -> Float[Tensor, "*out a b"]:
    """Attention of every row that goes to the rarest keys, by every one of several counts.

    Where several keys tie for the last places they share them: of m such keys for r places, r / m of each one's attention
    counts.

    Args:
        attention: Attention to each key, at least 0.
        counts: Occurrences of each key's token in a corpus, or anything that orders keys alike.
        rarest: How many keys make up the rarest; all of them, if there are fewer.

    Returns:
        In [0, 1] where the attention sums to at most 1. Leading axes broadcast, as those of a matrix product.
    """
    rarer, upto = _standing(counts)
    share = ((rarest - rarer).to(attention.dtype) / (upto - rarer)).clamp(0, 1)
    return attention @ share.mT


def entropy(attention: Float[Tensor, "*row key"]) -> Float[Tensor, "*row"]:
    """Entropy of each row, in nats: 0 if one key gets everything, log n if n keys get the same. Unseen keys add nothing."""
    return torch.special.entr(attention).sum(-1)


def distance(attention: Float[Tensor, "*row query key"]) -> Float[Tensor, "*row query"]:
    """How many tokens back each query looks, on the average of its attention; 0 is itself. The last query is the last key."""
    queries, keys = attention.shape[-2:]
    place = torch.arange(keys, device=attention.device)
    back = place[keys - queries :, None] - place
    return torch.einsum("...qk,qk->...q", attention, back.to(attention.dtype))


def sum_by_rank(
    attention: Float[Tensor, "paragraph row key"], ranks: Int[Tensor, "paragraph key"]
) -> Float[Tensor, "row key"]:
    """Attention summed over the keys of each rank, in all paragraphs together; entry r is of rank r, 0 where none has it."""
    sums = attention.new_zeros(attention.shape[1:])
    return sums.index_add_(1, ranks.flatten(), attention.transpose(0, 1).flatten(1))


def rank_correlations(sums: Float[Tensor, "row rank"]) -> Float[Tensor, "correlation row"]:
    """Pearson's, Spearman's and Kendall's correlation of each row with the rank, 0-based; nan where a row is constant.

    Source:
        Stoehr et al. 2024, section 5.
    """
    ranks = torch.arange(sums.shape[-1], device=sums.device, dtype=sums.dtype)[None]
    return torch.stack([correlate(sums, ranks)[:, 0] for correlate in (pearson, spearman, kendall)])
