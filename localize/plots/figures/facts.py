"""How many facts a model knows, and how often it would be right, by which facts it was trained on."""

from typing import TYPE_CHECKING

from localize.analysis.draws import Draws
from localize.analysis.facts import ACCURACY, KNOWN, NEVER, SOURCE, facts_rows, values_of
from localize.analysis.seed_rows import mean_over
from localize.analysis.sets import OfSet, sets_of
from localize.errors import public
from localize.plots.kinds import TrainingFigureKind
from localize.plots.over_training import (
    HEIGHT,
    INTERVALS,
    PLACES,
    UNDER,
    basis_words,
    half_page,
    interval_of,
    members,
    null_band,
)
from localize.plots.series import Series, stacked
from localize.plots.sheet import NOTE, TITLE, Sheet
from localize.plots.theme import axis_words, plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

PANELS = (
    (KNOWN, "How many facts are known", "known facts"),
    (ACCURACY, "How often it is right", "accuracy (share of questions)"),
)


@public("plots.facts")
def facts(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """Known facts over the steps of training, a line per arm; beside it the accuracy, each fact weighted by how frequent it is.

    Grey: facts of the same law that were never shown, of the first arm. The numbers are those of `localize.facts_table`.

    Args:
        signature: As `localize.facts_table` takes it.
        seed: Of the bootstrap, with one seed of the training.

    Returns:
        An editable figure, 700 px for 7 in.

    Raises:
        SignatureError: As `localize.facts_table`.
    """
    sets, draws, sheet = sets_of(signature, SOURCE), Draws(seed), Sheet()
    first = sets[0].trainings
    x = first.steps.astype(float)
    rows = [row for at in range(len(x)) for row in facts_rows(sets, at, draws)]
    for place, (quantity, title, words) in enumerate(PANELS):
        y = {"title": {"text": words}, "rangemode": "tozero"}
        axis = {"title": {"text": axis_words("training_step")}, "nticks": 6}
        panel = sheet.panel(half_page(place), title, basis_words(first.seeds), x=axis, y=y)
        null_band(panel, x, stacked([_never(sets[0], quantity, at, draws) for at in range(len(x))]), NEVER)
        for number, one in enumerate(sets):
            series = Series.of(plain(one.arm or SOURCE), PLACES[number % len(PLACES)])
            own = [row for row in rows if (row["arm"], row["quantity"]) == (one.arm, quantity)]
            series.draw(panel, x, interval_of(own), members(series, one.shown, one.trainings))
    return sheet.finish(TITLE + NOTE + HEIGHT + UNDER)


def _never(one: OfSet, quantity: str, at: int, draws: Draws):
    """What the same is of facts never shown."""
    return mean_over(values_of(one, quantity, at), one.trainings.held_out, one.trainings.clusters, draws)


KIND = TrainingFigureKind(
    "facts",
    title="How many facts are known",
    caption="Facts of which every token of the value is the model's first choice behind the key, over the steps of training: how many they "
    "are, and beside it the share of questions that they answer, each fact asked for as often as it is frequent. Grey: facts of the same "
    "law that were never shown. " + INTERVALS,
    function=facts,
    there=lambda signature: True,
    of="facts",
)
