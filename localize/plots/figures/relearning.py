"""How fast what was forgotten comes back when it is taught again, beside what was never known."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from localize.errors import LocalizeError, called_as, caller, public
from localize.plots.groups import Group, continuation_words, groups_of, require
from localize.plots.kinds import BANDS, EditFigureKind, EditsAsked
from localize.plots.series import Series
from localize.plots.sheet import TITLE, Box, Sheet
from localize.plots.theme import LONGEST_NAME, axis_words, plain, variable_words
from localize.signature.schema import range_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

QUANTITIES = {"relearned_exact_match": "exact match", "relearned_nll": "NLL"}
LEFT, STEP, WIDE, HEIGHT, UNDER = 44, 354, 292, 190, 40


@public("plots.relearning")
def relearning(runs: Mapping[str, "MemorizationSignature"], *, seed: int = 0) -> "go.Figure":
    """Exact match and NLL against the steps of training on the paragraphs taught, a line per run and group.

    Means over a group's paragraphs with 95 % bands by bootstrap over clusters. The first step is before any training. What is only
    hidden comes back in fewer steps than what was never known.

    Args:
        runs: Names, as the legend shows them, to what `localize.relearn` gave; the group is named too where a run has several.
        seed: Of the bootstrap.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        LocalizeError: If there is no run, or one lacks the relearning.
    """
    if not runs:
        raise LocalizeError(f"{caller()}: runs is empty; at least one signature from localize.relearn is needed.")
    for run, signature in runs.items():
        with called_as(f"{caller()}, run {run!r}"):
            require(signature, tuple(QUANTITIES), "localize.relearn(model, taught)")
    lines = [(run, group) for run, signature in runs.items() for group in groups_of(signature)]
    sheet = Sheet()
    for column, (name, words) in enumerate(QUANTITIES.items()):
        box = Box(LEFT + column * STEP, TITLE, WIDE, HEIGHT)
        y = {"title": {"text": variable_words(name, words)}, "rangemode": "tozero"}
        title = f"{words[0].upper()}{words[1:]}, {_continuation(runs, name)}"
        panel = sheet.panel(box, title, x={"title": {"text": axis_words("step")}, "nticks": 6}, y=y)
        for number, (run, group) in enumerate(lines):
            values = runs[run][name].transpose("paragraph", "step")
            possible = range_of(runs[run].dataset, name)
            interval = group.interval(values.values.astype(np.float64), seed, possible)
            series = Series.of(_line_words(run, group, len(groups_of(runs[run]))), number)
            series.draw(panel, values["step"].values, interval, group)
    return sheet.finish(TITLE + HEIGHT + UNDER)


def _line_words(run: str, group: Group, groups: int) -> str:
    """ "forgotten (n = 20, 18 clusters)", the group's name after the run's where there are several."""
    which = f", {group.words}" if groups > 1 else ""
    return f"{plain(run, 2 * LONGEST_NAME)}{which} ({group.size})"


def _continuation(runs: Mapping[str, "MemorizationSignature"], name: str) -> str:
    """Which continuation the runs are of."""
    kinds = sorted({continuation_words(signature, name) for signature in runs.values()})
    return " and ".join(kinds)


def _if_there_are_any(edits: EditsAsked) -> "go.Figure | None":
    return relearning(edits.relearned, seed=edits.seed) if edits.relearned else None


KIND = EditFigureKind(
    "relearning",
    title="How fast what was forgotten comes back",
    caption="Exact match and NLL against steps of training on the paragraphs taught; what was only hidden comes back in fewer steps than "
    f"what was never known. {BANDS}",
    function=relearning,
    make=_if_there_are_any,
)
