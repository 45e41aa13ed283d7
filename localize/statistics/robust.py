"""A difference of two groups as a coefficient of a weighted regression, and by how much each cluster pulls it."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

ROUNDING = 1e-12
"""Of values between -1 and 1: a residual that is smaller is none."""

FULL = 1e-6
"""A cluster whose leverage is nearer to 1 than this decides alone on a term, and says nothing of the error."""


class Fitted(NamedTuple):
    """What a regression finds, per cell.

    Attributes:
        difference: Of group a from the other, at equal terms.
        means: Of a and of the other, half of what the terms leave unlike taken from each.
        pulls: By how much each cluster pulls the difference.
        mean_pulls: The two means.
    """

    difference: Float[np.ndarray, " cell"]
    means: tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]
    pulls: Float[np.ndarray, "cluster cell"]
    mean_pulls: tuple[Float[np.ndarray, "cluster cell"], Float[np.ndarray, "cluster cell"]]


@dataclass(frozen=True, eq=False)
class GroupRegression:
    """Weighted least squares of values on a group beside other terms, with all that does not depend on the values.

    Attributes:
        a: The rows of one group; all others are of the other.
        others: The other terms, the constant among them, at right angles as they are weighted.
        weights: Of each row; those of each group sum to 1.
        cluster: Of each row, numbered from 0 without a gap.
    """

    a: Bool[np.ndarray, " row"]
    others: Float[np.ndarray, "row other"]
    weights: Float[np.ndarray, " row"]
    cluster: Int[np.ndarray, " row"]

    @cached_property
    def terms(self) -> Float[np.ndarray, "row term"]:
        """The group, then the others: X below."""
        return np.concatenate([self.a[:, None].astype(float), self.others], axis=1)

    @cached_property
    def weighted(self) -> Float[np.ndarray, "row term"]:
        """Terms times weights."""
        return self.terms * self.weights[:, None]

    @cached_property
    def inverse(self) -> Float[np.ndarray, "term term"]:
        """(X'WX)^-1."""
        return np.linalg.pinv(self.weighted.T @ self.terms, hermitian=True)

    @cached_property
    def clusters_in(self) -> tuple[Bool[np.ndarray, " cluster"], Bool[np.ndarray, " cluster"]]:
        """The clusters that have a row in a, and in the other group."""
        one, other = (np.bincount(self.cluster[g], minlength=self._count) > 0 for g in (self.a, ~self.a))
        return one, other

    @property
    def _count(self) -> int:
        return int(self.cluster.max()) + 1

    def fitted(self, y: Float[np.ndarray, "row cell"]) -> Fitted:
        """Of values about between -1 and 1."""
        slopes = self.inverse @ (self.weighted.T @ y)
        residual = y - self.terms @ slopes
        residual[np.abs(residual) <= ROUNDING] = 0.0
        each = np.stack([self._summed(w[:, None] * residual) for w in self.weighted.T], axis=1)  # X_c'W r_c
        pulls = np.einsum("ct,ctk->ck", self._made_up, each)
        unlike = np.where(self.a, self.weights, -self.weights) @ (self.others @ slopes[1:])
        sides = [(self._mean(y, g), half * unlike) for g, half in ((self.a, -0.5), (~self.a, 0.5))]
        (one, pulls_one), (other, pulls_other) = ((mean + moved, own) for (mean, own), moved in sides)
        return Fitted(slopes[0], (one, other), pulls, (pulls_one, pulls_other))

    def expected_skewness(self, pulls: Float[np.ndarray, "cluster cell"]) -> Float[np.ndarray, " cell"]:
        """Skewness of the difference, were the residuals of both groups as skewed as they are together.

        In few clusters the pulls themselves hardly show it. With s the standard deviation that a cluster's pull would have if rows
        were independent, its sign the group's: that of all pulls / s, times that of a sum of terms s as skewed as 1.
        """
        sign = np.sign(np.bincount(self.cluster, weights=self._of_row, minlength=self._count))
        share = sign * np.sqrt(self.expected_squares)
        there = share != 0
        even = pulls[there] / share[there, None]
        return skewness(even) * np.sqrt(there.sum()) * skewness(share[:, None])

    @cached_property
    def expected_squares(self) -> Float[np.ndarray, " cluster"]:
        """The variance that a cluster's pull would have, were all rows independent with a variance of 1."""
        return np.bincount(self.cluster, weights=self._of_row**2, minlength=self._count)

    @cached_property
    def _of_row(self) -> Float[np.ndarray, " row"]:
        """What a row's value counts in the difference."""
        return self.weighted @ self.inverse[0]

    @cached_property
    def _made_up(self) -> Float[np.ndarray, "cluster term"]:
        """What makes a cluster's X_c'W r_c its pull on the difference, made up for its leverage (CR2).

        With rows X times the root of their weights, H = X (X'X)^-1 X' and residuals r: the pull is e1' (X'X)^-1 X_c' (1 - H_cc)^-1/2
        r_c. H_cc = U U' with U = X_c (X'X)^-1/2, so that (1 - U U')^-1/2 = 1 + U f(U'U) U' with f(l) = ((1 - l)^-1/2 - 1) / l: all
        of it is as large as the number of terms, not of rows.
        """
        size = self.terms.shape[1]
        outer = (self.weighted[:, :, None] * self.terms[:, None, :]).reshape(len(self.a), -1)  # (row, term x term)
        squares = self._summed(outer).reshape(-1, size, size)  # X_c'X_c
        lengths, turned = np.linalg.eigh(self.inverse)
        root = (turned * np.sqrt(lengths.clip(min=0))) @ turned.T  # (X'X)^-1/2
        leverage, along = np.linalg.eigh(root @ squares @ root)  # of U'U: (cluster, term), (cluster, term, term)
        leverage = leverage.clip(0, 1)
        free = np.sqrt(np.where(leverage < 1 - FULL, 1 - leverage, np.inf))
        factor = np.where(leverage > FULL, (1 / free - 1) / np.maximum(leverage, FULL), 0.5)
        group = (squares @ self.inverse[0]) @ root  # e1' (X'X)^-1 X_c'U
        turned_group = (along.swapaxes(1, 2) @ group[:, :, None])[:, :, 0] * factor
        return self.inverse[0] + (along @ turned_group[:, :, None])[:, :, 0] @ root

    def _mean(
        self, y: Float[np.ndarray, "row cell"], group: Bool[np.ndarray, " row"]
    ) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, "cluster cell"]]:
        """Weighted mean of a group, and by how much each cluster pulls it, made up for its own weight."""
        weights = np.where(group, self.weights, 0.0)
        mean = weights @ y
        own = np.bincount(self.cluster, weights=weights, minlength=self._count)
        pulls = self._summed(weights[:, None] * (y - mean))
        return mean, pulls / np.sqrt(np.where(own < 1 - FULL, 1 - own, 1.0))[:, None]

    def _summed(self, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "cluster column"]:
        """Sums over the rows of each cluster."""
        return self._of_cluster @ values

    @cached_property
    def _of_cluster(self):
        """A matrix of zeros and ones, (cluster, row)."""
        from scipy.sparse import csr_array

        rows = len(self.cluster)
        return csr_array((np.ones(rows), (self.cluster, np.arange(rows))), shape=(self._count, rows))


def skewness(pulls: Float[np.ndarray, "cluster cell"]) -> Float[np.ndarray, " cell"]:
    """Of the sum of so many independent pulls: |sum u^3| / (sum u^2)^1.5."""
    squares = (pulls**2).sum(0)
    return np.abs((pulls**3).sum(0)) / np.where(squares > 0, squares, 1.0) ** 1.5
