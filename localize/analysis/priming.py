"""What a new text raises elsewhere, by how unexpected its words were, beside words that were as likely there.

- *Rank correlation with log p*: within a paragraph, Spearman's rho of its tokens' priming and the log probability that they had in their
  place before. Null: the same of the matched tokens' priming.
- *Priming of tokens* by that probability: mean over the paragraph's tokens. Null: the matched tokens'.
- *Priming of the least expected token*, and *the text's NLL*, with none of the changes put back, the largest, or as many at random. The
  null of the priming is the matched token's; of the NLL that of the model as it was.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, Row, beside
from localize.axes import ordered_groups
from localize.errors import public
from localize.statistics import MINUS_ONE_TO_ONE, UNBOUNDED, Range

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

CORRELATION, LEAST_EXPECTED, NLL = (
    "rank correlation with log p",
    "priming of the least expected token",
    "NLL of the text",
)
BINS = (-np.inf, -3.0, -2.0, -1.0, 0.0)
"""Ends of ranges of log10 p; the paper's threshold is the first."""


@public
def priming_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """How far a text's words are raised behind unrelated prefixes, beside matched words, and what putting changes back does.

    Args:
        signature: With `priming`.
        seed: Of bootstrap and sign flips.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity`, `reset` and `group`, columns as in `summary` and `difference`, `difference_low`, `difference_high`: the
        number less its null, paragraph by paragraph. See `localize.analysis.priming`. Priming is in decades, NLL in nats per token.

    Raises:
        SignatureError: If priming was not measured.
    """
    from localize.analysis.tables import table_of

    group, clusters = (signature.dataset[name].values for name in ("group", "cluster"))
    measured(signature)
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    return table_of(priming_rows(signature, Draws(seed, resamples)), ("quantity", "reset", "group"), DIFFERENCE)


def measured(signature: "MemorizationSignature") -> None:
    """Raise a `SignatureError` unless priming was measured, of one model."""
    require(signature, {"priming": "localize.priming(model, paragraphs)"})


def priming_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """All quantities of all groups, each beside its null."""
    dataset, rows = signature.dataset, list[Row]()
    group, clusters = dataset["group"].values, dataset["cluster"].values
    own, matched = (dataset[name].values.astype(float) for name in ("priming", "priming_matched"))
    log_p, resets = log_p_before(dataset), dataset["reset"].values.tolist()
    told: list[tuple[str, str, np.ndarray, np.ndarray, Range]] = [
        (CORRELATION, resets[0], _within(own[:, 0], log_p), _within(matched[:, 0], log_p), MINUS_ONE_TO_ONE)
    ]
    for name, inside in by_log_p(log_p).items():
        told.append((name, resets[0], _mean(own[:, 0], inside), _mean(matched[:, 0], inside), UNBOUNDED))
    raised, aside = least_expected(dataset)
    for at, reset in enumerate(resets):
        told.append((LEAST_EXPECTED, reset, raised[:, at], aside[:, at], UNBOUNDED))
        after, before = dataset["primed_nll"].values[:, at].astype(float), dataset["nll"].values.astype(float)
        told.append((NLL, reset, after, before, Range(0, np.inf)))
    for name in ordered_groups(group.tolist()):
        chosen = group == name
        for quantity, reset, values, null, possible in told:
            about = {"quantity": quantity, "reset": reset, "group": name}
            rows.append(about | beside(values[chosen], null[chosen], clusters[chosen], possible, draws))
    return rows


def log_p_before(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph continuation_position"]:
    """log10 of the probability that each token had in its place before."""
    return -dataset["token_nll"].values.astype(float) / np.log(10)


def by_log_p(log_p: Float[np.ndarray, "paragraph continuation_position"]) -> dict[str, np.ndarray]:
    """Which tokens lie in each range of log10 p, by the name of their quantity."""
    found = {}
    for low, high in pairwise(BINS):
        name = f"priming, log10 p {'below' if np.isinf(low) else f'{low:g} to'} {high:g}"
        found[name] = (log_p >= low) & ((log_p < high) | (high == 0))
    return found


def least_expected(
    dataset: "xr.Dataset",
) -> tuple[Float[np.ndarray, "paragraph reset"], Float[np.ndarray, "paragraph reset"]]:
    """Priming of each paragraph's least expected token, and of the one matched with it."""
    least = log_p_before(dataset).argmin(1)[:, None, None]
    own, matched = (
        np.take_along_axis(dataset[name].values.astype(float), least, axis=2)[:, :, 0]
        for name in ("priming", "priming_matched")
    )
    return own, matched


def _within(
    values: Float[np.ndarray, "paragraph continuation_position"],
    log_p: Float[np.ndarray, "paragraph continuation_position"],
) -> Float[np.ndarray, " paragraph"]:
    """Spearman's rho inside each paragraph; nan where either is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(of, axis=1) for of in (values, log_p)]
    centred = [of - of.mean(1, keepdims=True) for of in ranks]
    sizes = np.sqrt(np.prod([(of**2).sum(1) for of in centred], axis=0))
    product = (centred[0] * centred[1]).sum(1)
    return np.divide(product, sizes, out=np.full(len(values), np.nan), where=sizes > 0)


def _mean(
    values: Float[np.ndarray, "paragraph continuation_position"], inside: np.ndarray
) -> Float[np.ndarray, " paragraph"]:
    """The mean over some tokens of each paragraph; nan where it has none."""
    count = inside.sum(1)
    return np.divide((values * inside).sum(1), count, out=np.full(len(values), np.nan), where=count > 0)
