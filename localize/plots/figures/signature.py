"""Everything that a signature holds, in one figure."""

from typing import TYPE_CHECKING

from localize.analysis.stored_units import UNITS
from localize.errors import public
from localize.plots.figures.gradients import draw_gradients
from localize.plots.figures.heads import draw_heads
from localize.plots.figures.patching import draw_patching
from localize.plots.figures.perturbation import draw_perturbation
from localize.plots.figures.recall import draw_recall
from localize.plots.figures.stored_units import draw_stored_units
from localize.plots.kinds import BANDS, FigureKind
from localize.plots.sheet import Sheet
from localize.plots.theme import NULL

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

GAP = 10


@public("plots.signature")
def signature(signature: "MemorizationSignature", *, seed: int = 0) -> "go.Figure":
    """Recall, stored units, gradients, heads, perturbation and patching, as far as measured: a figure over both columns of a paper.

    The panels are those of `stored_units` with the curve of `locality`, of `gradients` (sensitivity, which is not where text is
    stored), `heads`, `perturbation` and, of one group, `patching`, lower; before them exact
    match and NLL by group and, where the paragraphs tell how often they stand in training, exact match by copies. What
    each dashed line and grey mark is stands in small print under the panel's title.

    Args:
        signature: Any.
        seed: Of bootstrap and permutation.

    Returns:
        An editable figure, 700 px for 7 in.
    """
    sheet = Sheet(nulls_in_legend=False)
    bottom = draw_recall(signature, sheet, 0, seed=seed)
    if "unit_score" in signature:
        bottom = draw_stored_units(signature, sheet, bottom + GAP, units=UNITS, seed=seed, compact=True)
    if "gradient_max" in signature:
        bottom = draw_gradients(signature, sheet, bottom + GAP, value="max", scale="log", seed=seed, compact=True)
    if "rare_token_score" in signature:
        bottom = draw_heads(signature, sheet, bottom + GAP, top=5, seed=seed, compact=True)
    if "perturbed_exact_match" in signature:
        bottom = draw_perturbation(signature, sheet, bottom + GAP, seed=seed, compact=True)
    if "stream_patch_effect" in signature or "head_patch_effect" in signature:
        bottom = draw_patching(signature, sheet, bottom + GAP, seed=seed)
    _key(sheet)
    return sheet.finish(bottom)


def _key(sheet: Sheet) -> None:
    """One entry for all nulls."""
    sheet.nulls_in_legend = True
    sheet.null_key(
        "grey or dashed, told per panel", {"mode": "lines", "line": {"color": NULL, "width": 1, "dash": "dash"}}
    )


KIND = FigureKind(
    "signature",
    needs=(("exact_match",), ("nll",)),
    title="The signature at a glance",
    caption="Recall, stored units with their locality, gradients (sensitivity, not place), heads, perturbation and patching as far as they "
    f"were measured; what is grey or dashed shows what nothing would look like, as told under each panel's title. {BANDS}",
    function=signature,
)
