"""All figures of what was measured, in the order of a paper, each with the title and the caption that a paper prints with it."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localize.analysis.change import Changes
from localize.analysis.trainings import design_of, parts_told
from localize.errors import called_as
from localize.measurements import REGISTRY
from localize.plots.figures import (
    ablation,
    arms,
    attention,
    capacity,
    capacity_by_size,
    contrast,
    corruption,
    counterfactual,
    dose,
    early_signs,
    editing,
    facts,
    forgetting,
    gradients,
    heads,
    locality,
    loss_change,
    loss_change_over_training,
    massive_activations,
    membership,
    memory,
    noise,
    patch_map,
    patching,
    perturbation,
    priming,
    recall,
    relearning,
    resurfacing,
    signature,
    sinks,
    stored_units,
    training,
    unit_dynamics,
)
from localize.plots.figures.default import default, default_words
from localize.plots.kinds import REGISTERED, EditsAsked, FigureAsked, FigureKind
from localize.plots.paragraph import row_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

KINDS = (
    recall.KIND,
    memory.KIND,
    stored_units.KIND,
    locality.KIND,
    contrast.KIND,
    gradients.KIND,
    heads.KIND,
    ablation.KIND,
    perturbation.KIND,
    perturbation.KIND_OF_ONE_PARAGRAPH,
    attention.KIND,
    corruption.KIND,
    patching.KIND,
    patch_map.KIND,
    priming.KIND,
    massive_activations.KIND,
    noise.KIND,
    signature.KIND,
)
"""The house's figures of what was measured."""

EDIT_KINDS = (editing.KIND, relearning.KIND, resurfacing.KIND)
"""Those of edits."""

TRAINING_KINDS = (
    arms.KIND,
    training.KIND,
    dose.KIND,
    membership.KIND,
    forgetting.KIND,
    early_signs.KIND,
    counterfactual.KIND,
    loss_change.KIND,
    loss_change_over_training.KIND,
    unit_dynamics.KIND,
    capacity.KIND,
    capacity_by_size.KIND,
    facts.KIND,
    sinks.KIND,
)
"""Those of what was measured while a model was trained."""

for _kind in KINDS:
    _kind.register()


@dataclass(frozen=True, eq=False)
class Drawn:
    """One figure of a catalogue.

    Attributes:
        name: Of its file, without a suffix: "gradients".
        title: What is seen.
        caption: What is drawn, what the intervals are, and what nothing would look like, in plain sentences.
        figure: To be edited, or given to `plots.column` and `plots.save`.
    """

    name: str
    title: str
    caption: str
    figure: "go.Figure"


def kinds() -> tuple[FigureKind, ...]:
    """The house's figures, then those that were registered beside them."""
    return (*KINDS, *(kind for kind in REGISTERED.values() if kind not in KINDS))


def figures_of(
    signature: "MemorizationSignature", *, tokenizer: Any = None, paragraph: int | str | None = None, seed: int = 0
) -> dict[str, Drawn]:
    """Every figure that the signature holds the measurements for, by name, in the order in which a paper would show them.

    Args:
        signature: Any.
        tokenizer: Of transformers or tokenizers, or a model with one, for the figures of one paragraph; None shows token ids.
        paragraph: Whose figures these are, by number or id; None is the first paragraph of the first group.
        seed: Of bootstraps and permutations.

    Raises:
        LocalizeError: If there is no such paragraph, or a figure refuses what the signature holds.
    """
    if paragraph is not None:
        with called_as("plots.figures_of"):
            row_of(signature.dataset, paragraph)
    asked, found, drawn = FigureAsked(tokenizer, paragraph, seed), {}, set()
    for kind in kinds():
        if kind.measured(signature):
            for suffix, figure in kind.figures(signature, asked).items():
                name = "-".join(filter(None, (kind.name, slug(suffix))))
                title = kind.title + (f": {suffix.replace('_', ' ')}" if suffix else "")
                found[name] = Drawn(name, title, kind.caption, figure)
                drawn |= kind.draws
    for name in undrawn(signature, drawn):
        found[name] = Drawn(name, *default_words(signature, name), default(signature, name, seed=seed))
    return found


def undrawn(signature: "MemorizationSignature", drawn: Set[str]) -> list[str]:
    """Variables that were measured, hold a number, and are not among those drawn; a null is drawn with what it is of."""
    left = [name for name in signature.variables if name not in drawn and REGISTRY[name].role == "measured"]
    return [name for name in left if bool(signature[name].notnull().any())]


def edit_figures_of(
    changes: Changes,
    controls: Sequence[str] = (),
    relearned: "Mapping[str, MemorizationSignature] | None" = None,
    attacked: "Mapping[str, Sequence[MemorizationSignature]] | None" = None,
    *,
    seed: int = 0,
) -> dict[str, Drawn]:
    """The figures of edits, by name: what they changed, how fast what they forgot came back, and what attacks brought back of it.

    Args:
        changes: Edits by name, each a `Change` or several repetitions; without any there is no such figure.
        controls: Which of them others are held against.
        relearned: What `localize.relearn` gave, by name.
        attacked: What `localize.resurface` gave, by the edit's name.
        seed: Of bootstraps.
    """
    asked = EditsAsked(changes, controls, relearned or {}, attacked or {}, seed)
    drawn = ((kind, kind.make(asked)) for kind in EDIT_KINDS)
    return {
        kind.name: Drawn(kind.name, kind.title, kind.caption, figure) for kind, figure in drawn if figure is not None
    }


def training_figures_of(signature: "MemorizationSignature", *, seed: int = 0) -> dict[str, Drawn]:
    """The figures of a signature over training, by name: its course, what copies taught, and how that was forgotten.

    Args:
        signature: Over training, with recall and the copies of paragraphs; of several arms the figures of each follow the one of all.
        seed: Of bootstraps.

    Raises:
        SignatureError: If the signature is not over training, or does not say what was planted.
    """
    found = {}
    for arm, part in parts_told(signature).items():
        for kind in TRAINING_KINDS:
            if kind.of == design_of(part) and kind.there(part):
                name, title = "-".join(filter(None, (kind.name, slug(arm)))), kind.title + (f": {arm}" if arm else "")
                found[name] = Drawn(name, title, kind.caption, kind.function(part, seed=seed))
    return found


def slug(words: str) -> str:
    """Words as a part of a file's name: "not_memorized" as "not-memorized"."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
