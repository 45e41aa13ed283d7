"""Which group loses more when prefix tokens are replaced, and whether it still does among what was said as surely before.

Text that is said with less confidence loses its exact match to almost any change, and memorized text is said with more. So each
loss stands twice: plain, and matched on confidence, between 0 and 1: of a paragraph the mean probability of its continuation's
tokens before the change, of a token its own. Confidence is matched on the logit scale; see `localize.statistics.matched_difference`.

What is lost: *NLL rise*, of either sign, which leads, because it does not saturate. *Tokens made wrong*: of the continuation's tokens
before the first error, all of them if the continuation is the model's own, the share of replacements after which each is wrong.
There the groups overlap most, and a loss does not end at the first error. *Exact match*, over all positions, and without the first,
which the paper never replaces; at least 0 for each replacement, because against the true continuation, which is not all matched
before, a replacement can also gain. It counts nothing after the first error: a group whose text breaks early loses nearly all of it
whatever happens after, so that it can say the opposite of the NLL rise.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from localize.analysis.alike import Alike, matched_rows
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.effects import PERTURB, effect_of, one_kind
from localize.analysis.measured import require
from localize.analysis.rows import NO_NULL, Row, difference_name, main_pair, rows_of
from localize.analysis.sentences import Wording, decision, sentence
from localize.axes import MEMORIZED, NOT_MEMORIZED
from localize.errors import SignatureError, caller, public
from localize.signature.schema import range_of
from localize.statistics import UNBOUNDED, ZERO_TO_ONE, Range

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

TOO_FEW = "not known: too few clusters"
NO_SUPPORT = "not known: no common support, nothing of the two groups is alike in confidence"
MAY_BE_ALL = ": confidence may be all there is to it"
UNEVEN = "not comparable: before the change not all paragraphs match alike, and who matches less has less to lose"
PLAIN = Wording(
    "{a} is easier to corrupt than {b}",
    "{a} is harder to corrupt than {b}",
    "no significant difference between {a} and {b}",
    TOO_FEW,
)
AT_LIKE = Wording(
    "at like confidence {a} is easier to corrupt than {b}",
    "at like confidence {a} is harder to corrupt than {b}",
    "at like confidence no significant difference between {a} and {b}{why}",
    "{unknown}",
)
SATURATES = "; exact match counts nothing after the first error and saturates, and the NLL rise, which does not, {says}"

NEEDED = ("perturbed_exact_match", "unperturbed_exact_match", "perturbed_nll", "unperturbed_nll")
TOKENS_NEEDED = ("unperturbed_token_nll", "perturbed_token_error")


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
        continuation's tokens); then each loss (NLL rise; share of tokens made wrong; lost exact match, also without the first
        position, which the paper never changes), plain and matched on confidence: of the paragraph, for tokens on each token's
        own. Columns as in `summary`; of the plain difference the null is permuted labels, of the matched one Student's t of
        its cluster-robust error. And `confidence`, the mean of what is compared (of the difference, what is left of it after
        matching; the estimate is adjusted for that); `support`, the share of the group that has counterparts in the other (of
        the difference, the smaller one), and `n`, `clusters` and `effective_clusters` of them, as they are weighted;
        `verdict`, in words. nan where the groups have no common support.

        The lost exact match is at least 0 for each replacement; its verdict says whether the NLL rise, which does not saturate,
        says the same. Measured on true continuations, which are not all matched before, only tokens before the first error count
        as made wrong, and lost exact match gets no verdict. Fewer than 30 effective clusters warn.

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
    confidence = token_confidence(dataset)
    rows = plain_rows(CONFIDENCE, confidence.mean(1), confidence.mean(1), group, clusters, (a, b), ZERO_TO_ONE, draws)
    for one in rows:
        one["verdict"] = ""
    uneven = bool(np.ptp(dataset["unperturbed_exact_match"].values) > 0)
    rise = paragraph_rows(dataset, RISE, (a, b), draws)
    rows += rise + _if_even(token_rows(dataset, (a, b), draws), uneven)
    for quantity in (LOST, LATER):
        rows += _if_even(beside_rise(paragraph_rows(dataset, quantity, (a, b), draws), rise), uneven)
    return table_of(rows, ("quantity", "group"), ("confidence", "support", "verdict"))


def _if_even(rows: list[Row], uneven: bool) -> list[Row]:
    """The rows; who has matched nothing has nothing to lose."""
    return [one | {"verdict": UNEVEN if uneven and one["verdict"] else one["verdict"]} for one in rows]


def paragraph_rows(dataset: "xr.Dataset", quantity: str, pair: tuple[str, str], draws: Draws) -> list[Row]:
    """What paragraphs of two groups lose, plain and matched on their confidence."""
    dataset = dataset.isel(paragraph=np.flatnonzero(np.isin(dataset["group"].values, pair)))
    values, confidence = losses_of(dataset)[quantity], token_confidence(dataset).mean(1)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    possible = UNBOUNDED if quantity == RISE else exact_match_lost(dataset)
    plain = plain_rows(quantity, values, confidence, group, clusters, pair, possible, draws)
    alike = Alike.in_confidence(confidence, OF_PARAGRAPH)
    matched = matched_rows(MATCHED.format(quantity), values, group, clusters, pair, possible, alike)
    return plain + with_verdict(matched, plain[-1], *pair)


def beside_rise(rows: list[Row], rise: list[Row]) -> list[Row]:
    """Rows of lost exact match, whose verdicts say whether the NLL rise says the same; plain beside plain, matched beside matched."""
    for one, other in zip(rows, rise, strict=True):
        if one["verdict"] and None not in (decision(one), decision(other)):
            agree = decision(one) == decision(other)
            one["verdict"] += SATURATES.format(says="says the same" if agree else "does not say the same")
    return rows


def token_rows(dataset: "xr.Dataset", pair: tuple[str, str], draws: Draws) -> list[Row]:
    """The share of tokens made wrong in two groups, plain and matched on each token's own confidence."""
    dataset = dataset.isel(paragraph=np.flatnonzero(np.isin(dataset["group"].values, pair)))
    confidence, wrong = token_confidence(dataset), tokens_made_wrong(dataset)
    group, clusters, known = dataset["group"].values, dataset["cluster"].values, ~np.isnan(wrong)
    plain = plain_rows(
        WRONG, _mean(wrong), _mean(np.where(known, confidence, np.nan)), group, clusters, pair, ZERO_TO_ONE, draws
    )
    paragraph = np.nonzero(known)[0]
    alike = Alike.in_confidence(confidence[known], OF_TOKEN)
    of_token = wrong[known], group[paragraph], clusters[paragraph]
    matched = matched_rows(BY_TOKEN.format(WRONG), *of_token, pair, ZERO_TO_ONE, alike, paragraph)
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
    drop = effect_of(dataset, "exact_match")
    lost = {LOST: _mean(drop), LATER: _mean(drop[..., 1:])}
    return {RISE: _mean(effect_of(dataset, "nll"))} | lost if "perturbed_nll" in dataset else lost


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
    rows[-1]["verdict"] = sentence(rows[-1], PLAIN, a=pair[0], b=pair[1])
    return rows


def with_verdict(rows: list[Row], plain: Row, a: str, b: str) -> list[Row]:
    """The rows, the last of which says what its difference tells beside the plain one."""
    last = rows[-1]
    unknown = NO_SUPPORT if np.isnan(last["estimate"]) else TOO_FEW
    last["verdict"] = sentence(last, AT_LIKE, a=a, b=b, why=MAY_BE_ALL if decision(plain) else "", unknown=unknown)
    return rows


def corruption_rows(dataset: "xr.Dataset", draws: Draws) -> list[Row]:
    """NLL rise and lost exact match of every group, first position of the latter left out; and of the main pair at like confidence.

    The NLL rise comes first, because it does not saturate. At like confidence by token, because whole paragraphs of the two groups
    are seldom alike in it.
    """
    dataset = one_kind(dataset, None)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    losses, rows = losses_of(dataset), []
    for quantity, possible in ((RISE, UNBOUNDED), (LATER, exact_match_lost(dataset))):
        if quantity in losses:
            rows += rows_of(quantity, losses[quantity], group, clusters, draws, lambda _: NO_NULL, possible)
    return rows + _matched_tokens(dataset, draws)


def _matched_tokens(dataset: "xr.Dataset", draws: Draws) -> list[Row]:
    """Of the main pair the tokens made wrong at like confidence; nothing where there is no such pair, or it was not measured."""
    pair = main_pair(tuple(np.unique(dataset["group"].values).tolist()))
    if pair is None or not set(TOKENS_NEEDED) <= {str(name) for name in dataset.data_vars}:
        return []
    return token_rows(dataset, pair, draws)[-3:]


def matching_note(dataset: "xr.Dataset") -> str | None:
    """What the matched comparison of the summary says, in a sentence; None where there is none."""
    dataset = one_kind(dataset, None)
    rows = _matched_tokens(dataset, Draws(0))
    if not rows:
        return None
    shares = " and ".join(f"{100 * one['support']:.0f} % of the tokens of {one['group']}" for one in rows[:2])
    told = f"; {shares} have a counterpart as confident" if rows[0]["support"] else ""
    words = f"Tokens that a replaced prefix token makes wrong: {rows[-1]['verdict']}{told}.{_disagreement(dataset)}"
    return words.replace("not_memorized", "not memorized")


def _disagreement(dataset: "xr.Dataset") -> str:
    """A sentence where lost exact match and NLL rise say the opposite of the main pair."""
    pair, losses = main_pair(tuple(np.unique(dataset["group"].values).tolist())), losses_of(dataset)
    if pair is None or RISE not in losses:
        return ""
    about = dataset["group"].values, dataset["cluster"].values, Draws(0), lambda _: NO_NULL
    rise, lost = (
        rows_of(name, losses[name], *about, possible, pair=pair)[-1]
        for name, possible in ((RISE, UNBOUNDED), (LATER, exact_match_lost(dataset)))
    )
    if not decision(rise) or decision(rise) == decision(lost):
        return ""
    told = f"By NLL rise {sentence(rise, PLAIN, a=pair[0], b=pair[1], unit='nats')}, by lost exact match"
    return (
        f" {told} {sentence(lost, PLAIN, a=pair[0], b=pair[1], unit='tokens')}: exact match counts nothing after the first "
        "error and saturates; the NLL rise leads."
    )
