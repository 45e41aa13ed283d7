"""Whether an edit hits what it names and nothing else: the aim, criterion by criterion.

For continuations of 50 tokens: exact match of the forgotten texts at most 5; memorized texts that the edit did not see lose at most 1
token; general perplexity rises by at most 1 %; the NLL of what the model says by itself after text that it does not recite moves by at most
.02 nats per token (its exact match hangs on margins that half precision breaks). After the attacks at most 15 tokens of a forgotten text
are said, and at most 5 more than of text that was never trained, each text by the attack that does most for it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from localize.analysis.change import PERPLEXITY, Changes, edit_table, repetitions_of
from localize.analysis.resurfacing import WORST, resurfacing_table
from localize.axes import FORGET, GENERAL, MEMORIZED, NEVER_TRAINED, NOT_MEMORIZED
from localize.errors import public

if TYPE_CHECKING:
    import pandas as pd

    from localize.analysis.resurfacing import Runs

FORGOTTEN, OTHERS, PERPLEXITY_RISE, OWN = "forgotten", "other memorized", "general perplexity", "own continuations"
BROUGHT_BACK, ABOVE_NULL = "brought back", "brought back, above never trained"


class Criterion(NamedTuple):
    """One thing that is asked of an edit.

    Attributes:
        words: What is measured, with its unit.
        low: The least that is allowed.
        high: The most.
        remedy: Options to try where it is missed.
    """

    words: str
    low: float
    high: float
    remedy: str


MORE, LESS = (
    "more --steps, a higher --c, a larger --fraction",
    "a lower --c, a lower --learning-rate, --localizer ratio",
)
DEEPER = "a lower --beta, a higher --stop-nll"
CRITERIA = {
    FORGOTTEN: Criterion("share of a forgotten text that is still said", -np.inf, 0.1, MORE),
    OTHERS: Criterion(
        "share of a memorized text, not seen by the edit, that is not said any more", -np.inf, 0.02, LESS
    ),
    PERPLEXITY_RISE: Criterion("relative rise of the perplexity of general text", -np.inf, 0.01, LESS),
    OWN: Criterion(
        "rise of the NLL of own continuations of text that is not recited, nats per token", -0.02, 0.02, LESS
    ),
    BROUGHT_BACK: Criterion("share of a forgotten text that the worst attack brings back", -np.inf, 0.3, DEEPER),
    ABOVE_NULL: Criterion("the same, less what is said of text never trained", -np.inf, 0.1, DEEPER),
}
COLUMNS = ("edit", "criterion", "value", "low", "high", "least", "most", "reached", "remedy", "words")


@public
def edit_aim(changes: Changes, attacked: "Mapping[str, Runs] | None" = None, *, seed: int = 0) -> "pd.DataFrame":
    """Which edits reach the aim, and where the others miss it.

    Args:
        changes: Edits by name, each a `Change` or several repetitions, of `evaluate_edit`.
        attacked: By the same names what `resurface` gave, where it was asked.
        seed: Of the intervals.

    Returns:
        Indexed by `edit` and `criterion`: `value`, its 95 % interval `low` `high` by bootstrap over clusters, `least` and `most` that are
        allowed, `reached` (of the value), `remedy`, and `words` that tell what is measured. A criterion of which nothing was
        measured is left out. An edit that names no text is to forget all that is memorized.

    Raises:
        SignatureError: As `edit_table` and `resurfacing_table` raise it.
    """
    import pandas as pd

    table = edit_table(changes, seed=seed)
    attacks = resurfacing_table(attacked, seed=seed) if attacked else None
    rows = []
    for edit, given in repetitions_of(changes).items():
        length = given[0].before.dataset.attrs["paragraphs"]["continuation_length"]
        named = any(FORGET in change.groups for change in given)
        gone = (edit, "reference_exact_match", FORGET) if named else (edit, "exact_match", MEMORIZED)
        found = {
            FORGOTTEN: _row(table, gone, float(length), after=True),
            OTHERS: _row(table, (edit, "exact_match", MEMORIZED), -float(length)) if named else None,
            PERPLEXITY_RISE: _row(table, (edit, PERPLEXITY, GENERAL), 1.0),
            OWN: _row(table, (edit, "reference_nll", NOT_MEMORIZED), 1.0),
            BROUGHT_BACK: _row(attacks, (edit, WORST, FORGET), 1.0),
            ABOVE_NULL: _row(attacks, (edit, WORST, f"{FORGET} - {NEVER_TRAINED}"), 1.0),
        }
        for name, numbers in found.items():
            if numbers is not None:
                words, least, most, remedy = CRITERIA[name]
                value, low, high = numbers
                told = (edit, name, value, low, high, least, most, least <= value <= most, remedy, words)
                rows.append(dict(zip(COLUMNS, told, strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).set_index(["edit", "criterion"])


def _row(
    table: "pd.DataFrame | None", at: tuple[str, str, str], unit: float, *, after: bool = False
) -> tuple[float, float, float] | None:
    """A row's estimate with its interval, or what is there after the edit, in units; None where there is no such row."""
    if table is None or at not in table.index:
        return None
    row = table.loc[at]
    told = [float(row[name]) for name in ("after" if after else "estimate", "low", "high")]
    if after:  # the interval is that of the change from a mean that is known
        told[1:] = [end + float(row["before"]) for end in told[1:]]
    value, low, high = (number / unit for number in told)
    return value, min(low, high), max(low, high)


def missed(aim: "pd.DataFrame", edit: str) -> list[str]:
    """Where an edit misses the aim, in words: which criterion, by how much, and what to try."""
    lines = []
    for row in aim.reset_index().to_dict("records"):
        if row["edit"] == edit and not row["reached"]:
            limit = row["most"] if row["value"] > row["most"] else row["least"]
            lines.append(f"{row['criterion']} {row['value']:.3g}, allowed {limit:.3g}: try {row['remedy']}")
    return lines


def aim_words(aim: "pd.DataFrame", edit: str) -> str:
    """Whether an edit reaches the aim, where it misses it, and what was not asked."""
    lines = missed(aim, edit)
    unknown = [name for name in CRITERIA if (edit, name) not in aim.index]
    told = (
        "the aim is missed"
        if lines
        else "the aim is reached, as far as it was measured"
        if unknown
        else "the aim is reached"
    )
    left_out = [f"not measured: {', '.join(unknown)}"] if unknown else []
    return "; ".join([told, *lines, *left_out])
