"""Which group loses more when prefix tokens are replaced, and whether it still does among what was said as surely before.

Text that is said with less confidence loses its exact match to almost any change, and memorized text is said with more. So each
loss stands twice: plain, and matched on confidence, between 0 and 1: of a paragraph the mean probability of its continuation's
tokens before the change, of a token its own. Confidence is matched on the logit scale; see `localize.statistics.matched_difference`.

What is lost: *exact match*, over all positions, and without the first, which the paper never replaces; at least 0 for each
replacement, because against the true continuation, which is not all matched before, a replacement can also gain. *NLL rise*, of
either sign. *Tokens made wrong*: of the continuation's tokens before the first error, all of them if the continuation is the model's
own, the share of replacements after which each is wrong. There the groups overlap most, and a loss does not end at the first error.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.effects import PERTURB, effect_of, one_kind
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Basis, Null, Row, difference_name, main_pair, row_of, rows_of, side
from localize.axes import MEMORIZED, NOT_MEMORIZED
from localize.errors import SignatureError, caller, public
from localize.signature.schema import range_of
from localize.statistics import UNBOUNDED, ZERO_TO_ONE, Matched, Range

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

CONFIDENCE = "confidence before the change"
LOST = "lost exact match"
LATER = "lost exact match, first position left out"
RISE = "NLL rise"
WRONG = "share of tokens made wrong"
OF_PARAGRAPH, OF_TOKEN = "confidence", "each token's confidence"
"""What is matched on."""

MATCHED = f"{{}}, matched on {OF_PARAGRAPH}"
BY_TOKEN = f"{{}}, matched on {OF_TOKEN}"

HARDER = "{a} is harder to corrupt than {b}"
EASIER = "{a} is easier to corrupt than {b}"
ALIKE = "no difference that can be told from chance"
STILL = "at like confidence too, {}"
OTHERWISE = "at like confidence, {}"
NO_LONGER = "at like confidence no difference that can be told from chance: confidence may be all there is to it"
NO_SUPPORT = "not known: no common support, no paragraphs of the two groups are alike in confidence"
UNEVEN = "not comparable: before the change not all paragraphs match alike, and who matches less has less to lose"
UNKNOWN = "not known: too few clusters, or too few alike in confidence"

NEEDED = ("perturbed_exact_match", "unperturbed_exact_match", "perturbed_nll", "unperturbed_nll")
TOKENS_NEEDED = ("unperturbed_token_nll", "perturbed_token_error")

MOST_CERTAIN = 1 - 1e-6
"""Probabilities nearer to 0 or 1 are one."""


@public
def matched_drop(
    signature: "MemorizationSignature",
    a: str = MEMORIZED,
    b: str = NOT_MEMORIZED,
    *,
    kind: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> "pd.DataFrame":
    """Whether one group is harder to corrupt than another, or only surer to begin with.

    Args:
        signature: What was measured.
        a: The one group.
        b: The group subtracted from it.
        kind: Of replacement; None takes the first that was measured.
        seed: Seed of bootstrap and permutation.
        resamples: Draws of each.

    Returns:
        Rows for a, b and a - b, indexed by `quantity` and `group`: confidence before the change (mean probability of the
        continuation's tokens); then each loss (lost exact match, also without the first position, which the paper never
        changes; NLL rise; share of tokens made wrong), plain and matched on confidence: of the paragraph, for tokens on each
        token's own. Columns as in `summary`; of the plain difference the null is permuted labels, of the matched one labels
        permuted among clusters alike in confidence. And `confidence`, the mean of what is compared (of the difference, what
        is left of it after matching; the estimate is adjusted for that); `support`, the share of the group that has
        counterparts in the other (of the difference, the smaller one), and `n`, `clusters` and `effective_clusters` of
        them, as they are weighted; `verdict`, in words. nan where the groups have no common support.

        The lost exact match is at least 0 for each replacement. Measured on true continuations, which are not all matched
        before, only tokens before the first error count as made wrong, and lost exact match gets no verdict. Where whole clusters
        are not alike in confidence, though tokens are, there is no `p_value`, and the interval alone gives the verdict. Fewer
        than 30 effective clusters warn.

    Raises:
        SignatureError: If a group, the kind or a measurement is not there.
    """
    from localize.analysis.tables import table_of

    draws = Draws(seed, resamples)
    a, b = signature.known_group(a), signature.known_group(b)
    if a == b:
        raise SignatureError(f"{caller()}: a={a!r} and b={b!r} are one group; two are compared.")
    require(signature, dict.fromkeys((*NEEDED, *TOKENS_NEEDED), PERTURB))
    dataset = one_kind(signature.dataset, kind)
    dataset = dataset.isel(paragraph=np.flatnonzero(np.isin(dataset["group"].values, [a, b])))
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in (a, b)})
    confidence, losses = token_confidence(dataset), losses_of(dataset)
    surety = confidence.mean(1)
    rows = plain_rows(CONFIDENCE, surety, surety, group, clusters, (a, b), ZERO_TO_ONE, draws)
    for one in rows:
        one["verdict"] = ""
    uneven = np.ptp(dataset["unperturbed_exact_match"].values) > 0
    for quantity, values in losses.items():
        about = values, surety, group, clusters, (a, b), UNBOUNDED if quantity == RISE else exact_match_lost(dataset)
        plain = plain_rows(quantity, *about, draws)
        matched = matched_rows(MATCHED.format(quantity), *about, draws, OF_PARAGRAPH)
        told = plain + with_verdict(matched, plain[-1], a, b)
        if uneven and quantity != RISE:  # who has matched nothing has nothing to lose
            told = [one | {"verdict": UNEVEN if one["verdict"] else ""} for one in told]
        rows += told
    rows += token_rows(dataset, (a, b), draws)
    return table_of(rows, ("quantity", "group"), ("confidence", "support", "verdict"))


def token_rows(dataset: "xr.Dataset", pair: tuple[str, str], draws: Draws) -> list[Row]:
    """The share of tokens made wrong in two groups, plain and matched on each token's own confidence."""
    dataset = dataset.isel(paragraph=np.flatnonzero(np.isin(dataset["group"].values, pair)))
    confidence, wrong = token_confidence(dataset), tokens_made_wrong(dataset)
    group, clusters, known = dataset["group"].values, dataset["cluster"].values, ~np.isnan(wrong)
    plain = plain_rows(
        WRONG, _mean(wrong), _mean(np.where(known, confidence, np.nan)), group, clusters, pair, ZERO_TO_ONE, draws
    )
    paragraph = np.nonzero(known)[0]
    of_token = wrong[known], confidence[known], group[paragraph], clusters[paragraph]
    matched = matched_rows(BY_TOKEN.format(WRONG), *of_token, pair, ZERO_TO_ONE, draws, OF_TOKEN, paragraph)
    return plain + with_verdict(matched, plain[-1], *pair)


def token_confidence(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph continuation_position"]:
    """The probability of each token of the continuation before the change."""
    nll = dataset["unperturbed_token_nll"].transpose("paragraph", "continuation_position")
    return np.exp(-nll.values.astype(float))


def exact_match_lost(dataset: "xr.Dataset") -> Range:
    """Where the exact match that is lost can lie: at least 0 for each replacement, at most all of it."""
    return range_of(dataset, "unperturbed_exact_match")


def losses_of(dataset: "xr.Dataset") -> dict[str, Float[np.ndarray, " paragraph"]]:
    """What each paragraph loses, draws and positions averaged."""
    drop, rise = effect_of(dataset, "exact_match"), effect_of(dataset, "nll")
    return {LOST: _mean(drop), LATER: _mean(drop[..., 1:]), RISE: _mean(rise)}


def tokens_made_wrong(dataset: "xr.Dataset") -> Float[np.ndarray, "paragraph continuation_position"]:
    """How often each token of the continuation comes out wrong; nan for those from the first error before the change on."""
    wrong = dataset["perturbed_token_error"].transpose("paragraph", "continuation_position").values.astype(float)
    right = np.arange(wrong.shape[1]) < dataset["unperturbed_exact_match"].values[:, None]
    return np.where(right, wrong, np.nan)


def _mean(values: Float[np.ndarray, "paragraph ..."]) -> Float[np.ndarray, " paragraph"]:
    """Mean of what each paragraph has; nan where it has nothing."""
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    there = ~np.isnan(flat)
    count = there.sum(1)
    return np.where(count > 0, np.where(there, flat, 0.0).sum(1) / np.maximum(count, 1), np.nan)


def plain_rows(
    quantity: str,
    values: Float[np.ndarray, " paragraph"],
    confidence: Float[np.ndarray, " paragraph"],
    group: Shaped[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    pair: tuple[str, str],
    possible: Range,
    draws: Draws,
) -> list[Row]:
    """A row per group and one for their difference, as they are, with the confidence of each and what it says in words."""
    rows = rows_of(quantity, values, group, clusters, draws, lambda _: NO_NULL, possible, pair=pair)
    sure = {name: float(_mean(confidence[None, (group == name) & ~np.isnan(values)])[0]) for name in pair}
    sure[difference_name(*pair)] = sure[pair[0]] - sure[pair[1]]
    for one in rows:
        one |= {"confidence": sure[one["group"]], "support": 1.0, "verdict": ""}
    rows[-1]["verdict"] = _plain_words(_side(rows[-1])).format(a=pair[0], b=pair[1])
    return rows


def matched_rows(
    quantity: str,
    values: Float[np.ndarray, " row"],
    confidence: Float[np.ndarray, " row"],
    group: Shaped[np.ndarray, " row"],
    clusters: Int[np.ndarray, " row"],
    pair: tuple[str, str],
    possible: Range,
    draws: Draws,
    matched_on: str,
    paragraph: Int[np.ndarray, " row"] | None = None,
) -> list[Row]:
    """A row per group and one for their difference, on the common support: what has a counterpart as confident.

    Args:
        quantity: Its name in the table.
        values: One number per paragraph, or per token.
        confidence: What they are matched on, between 0 and 1.
        group: The group of each.
        clusters: The near-duplicate cluster of each.
        pair: The groups compared.
        possible: Where the values can lie at all.
        draws: Of bootstrap and permutation.
        matched_on: What `confidence` is, in words.
        paragraph: Which paragraph each token is of.
    """
    masks = group == pair[0], group == pair[1]
    found = None
    if all((mask & ~np.isnan(values)).any() for mask in masks):
        found = draws.matched(values, _logit(confidence), *masks, clusters).within(possible)
    paragraph = np.arange(len(values)) if paragraph is None else paragraph
    about = {"quantity": quantity, "verdict": ""}
    names, nothing = (*pair, difference_name(*pair)), {"confidence": np.nan, "support": 0.0}
    if found is None or found.strata == 0:
        return [about | {"group": name} | nothing | row_of(matched_on=matched_on) for name in names]
    sides = [_support(found, mask & ~np.isnan(values), confidence, clusters, paragraph) for mask in masks]
    (one, own_one), (other, own_other) = sides
    used = (found.weights > 0) & (masks[0] | masks[1])
    effective = min(one.effective_clusters, other.effective_clusters)
    both = Basis(one.n + other.n, len(np.unique(clusters[used])), effective)
    own = {
        "confidence": own_one["confidence"] - own_other["confidence"],
        "support": min(own_one["support"], own_other["support"]),
    }
    null = Null.dealt(0.0, found.null_low, found.null_high, found.p_value)
    told = (
        (found.mean_a, NO_NULL, one, own_one), (found.mean_b, NO_NULL, other, own_other), (found.difference, null, both, own),
    )  # fmt: skip
    return [
        about | {"group": name} | columns | row_of(interval, against, basis, matched_on=matched_on)
        for name, (interval, against, basis, columns) in zip(names, told, strict=True)
    ]


def _support(
    found: Matched,
    inside: Bool[np.ndarray, " row"],
    confidence: Float[np.ndarray, " row"],
    clusters: Int[np.ndarray, " row"],
    paragraph: Int[np.ndarray, " row"],
) -> tuple[Basis, dict[str, float]]:
    """How much of a group has a counterpart: in paragraphs, in effective clusters as they are weighted, as a share of its rows."""
    used = inside & (found.weights > 0)
    weights = found.weights[used]
    of_cluster = np.bincount(np.unique(clusters[used], return_inverse=True)[1], weights=weights)
    effective = float(of_cluster.sum() ** 2 / (of_cluster**2).sum())
    basis = Basis(len(np.unique(paragraph[used])), len(of_cluster), effective)
    return basis, {"confidence": float(weights @ confidence[used]), "support": float(used.sum() / inside.sum())}


def _logit(confidence: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    inside = confidence.clip(1 - MOST_CERTAIN, MOST_CERTAIN)
    return np.log(inside) - np.log1p(-inside)


def with_verdict(rows: list[Row], plain: Row, a: str, b: str) -> list[Row]:
    """The rows, the last of which says what its difference tells beside the plain one."""
    last, before = rows[-1], _side(plain)
    after = _side(last)
    if np.isnan(last["estimate"]):
        words = NO_SUPPORT
    elif after is None:
        words = UNKNOWN
    elif after == 0:
        words = NO_LONGER if before else OTHERWISE.format(ALIKE)
    else:
        words = (STILL if after == before else OTHERWISE).format(_plain_words(after))
    last["verdict"] = words.format(a=a, b=b)
    return rows


def _plain_words(which: int | None) -> str:
    return {None: UNKNOWN, 0: ALIKE, -1: HARDER, 1: EASIER}[which]


def _side(row: Row) -> int | None:
    return side(row["low"], row["high"], row["p_value"])


def lost_exact_match_rows(dataset: "xr.Dataset", draws: Draws) -> list[Row]:
    """The lost exact match of every group, first position left out; and of the main pair the tokens made wrong at like confidence.

    By token, because whole paragraphs of the two groups are seldom alike in confidence.
    """
    dataset = one_kind(dataset, None)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    drop = _mean(effect_of(dataset, "exact_match")[..., 1:])
    rows = rows_of(LATER, drop, group, clusters, draws, lambda _: NO_NULL, exact_match_lost(dataset))
    return rows + _matched_tokens(dataset, draws)


def _matched_tokens(dataset: "xr.Dataset", draws: Draws) -> list[Row]:
    """Of the main pair the tokens made wrong at like confidence; nothing where there is no such pair, or it was not measured."""
    pair = main_pair(tuple(np.unique(dataset["group"].values).tolist()))
    if pair is None or not set(TOKENS_NEEDED) <= {str(name) for name in dataset.data_vars}:
        return []
    return token_rows(dataset, pair, draws)[-3:]


def matching_note(dataset: "xr.Dataset") -> str | None:
    """What the matched comparison of the summary says, in a sentence; None where there is none."""
    rows = _matched_tokens(one_kind(dataset, None), Draws(0))
    if not rows:
        return None
    shares = " and ".join(f"{100 * one['support']:.0f} % of the tokens of {one['group']}" for one in rows[:2])
    told = f"; {shares} have a counterpart as confident" if rows[0]["support"] else ""
    words = f"Tokens that a replaced prefix token makes wrong: {rows[-1]['verdict']}{told}."
    return words.replace("not_memorized", "not memorized")
