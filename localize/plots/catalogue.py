"""All figures of what was measured, each with the title and the caption that a paper prints with it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.change import Changes
from localize.analysis.rows import main_pair
from localize.plots.figures.ablation import VARIABLES as ABLATED
from localize.plots.figures.ablation import ablation
from localize.plots.figures.attention import attention
from localize.plots.figures.contrast import contrast
from localize.plots.figures.corruption import VARIABLES as CORRUPTED
from localize.plots.figures.corruption import corruption
from localize.plots.figures.editing import editing
from localize.plots.figures.gradients import VARIABLES as GRADIENTS
from localize.plots.figures.gradients import gradients
from localize.plots.figures.heads import VARIABLES as HEADS
from localize.plots.figures.heads import heads
from localize.plots.figures.noise import noise
from localize.plots.figures.patch_map import patch_map
from localize.plots.figures.patch_view import HEADS as PATCHED_HEADS
from localize.plots.figures.patch_view import STREAMS as PATCHED_STREAMS
from localize.plots.figures.patching import patching
from localize.plots.figures.perturbation import VARIABLES as PERTURBED
from localize.plots.figures.perturbation import perturbation
from localize.plots.figures.recall import recall
from localize.plots.figures.relearning import relearning
from localize.plots.figures.signature import signature as overview
from localize.plots.paragraph import row_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature


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


@dataclass(frozen=True)
class Asked:
    """What the figures of one paragraph, and those with draws, are to show.

    Attributes:
        tokenizer: Turns token ids into text; None shows ids.
        paragraph: Number or id; None takes the first of the first group.
        seed: Of bootstraps and permutations.
    """

    tokenizer: Any
    paragraph: int | str | None
    seed: int


Make = Callable[["MemorizationSignature", Asked], dict[str, "go.Figure"]]
"""Draws one kind of figure, perhaps several of it: what each is called after the kind's name, "" where it is alone."""


@dataclass(frozen=True)
class Kind:
    """One kind of figure: what it needs, says and how it is drawn.

    Attributes:
        name: Of its file.
        needs: Variables of which every tuple must hold at least one that was measured.
        title: What is seen.
        caption: What the reader must know.
        make: Draws it.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    title: str
    caption: str
    make: Make

    def measured(self, signature: "MemorizationSignature") -> bool:
        """Whether the signature holds what is needed."""
        return all(any(name in signature for name in names) for names in self.needs)


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
        row_of(signature.dataset, paragraph, "plots.figures_of")
    asked, found = Asked(tokenizer, paragraph, seed), {}
    for kind in KINDS:
        if kind.measured(signature):
            for suffix, figure in kind.make(signature, asked).items():
                name = "-".join(filter(None, (kind.name, slug(suffix))))
                title = kind.title + (f": {suffix.replace('_', ' ')}" if suffix else "")
                found[name] = Drawn(name, title, kind.caption, figure)
    return found


def edit_figures_of(
    changes: Changes,
    controls: Sequence[str] = (),
    relearned: "Mapping[str, MemorizationSignature] | None" = None,
    *,
    seed: int = 0,
) -> dict[str, Drawn]:
    """The figures of edits, by name: what they changed, and how fast what they forgot came back.

    Args:
        changes: Edits by name, each a `Change` or several repetitions; without any there is no such figure.
        controls: Which of them others are held against.
        relearned: What `localize.relearn` gave, by name.
        seed: Of bootstraps.
    """
    found = {}
    if changes:
        figure = editing(changes, controls=controls, seed=seed)
        found["editing"] = Drawn("editing", "What edits forget, and what else they cost", EDITING, figure)
    if relearned:
        figure = relearning(relearned, seed=seed)
        found["relearning"] = Drawn("relearning", "How fast what was forgotten comes back", RELEARNING, figure)
    return found


def slug(words: str) -> str:
    """Words as a part of a file's name: "not_memorized" as "not-memorized"."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def alone(draw: Callable[..., "go.Figure"]) -> Make:
    """One figure of the whole signature."""
    return lambda signature, asked: {"": draw(signature, seed=asked.seed)}


def main_groups(signature: "MemorizationSignature") -> tuple[str, ...]:
    """The groups whose difference is told, or else the first."""
    return main_pair(signature.groups) or signature.groups[:1]


def _contrast(signature: "MemorizationSignature", asked: Asked) -> dict[str, "go.Figure"]:
    """Of the main pair, where there is one."""
    return {"": contrast(signature, seed=asked.seed)} if main_pair(signature.groups) else {}


def _patching(signature: "MemorizationSignature", asked: Asked) -> dict[str, "go.Figure"]:
    """A figure for each of the main groups with a pair of runs."""
    effect = signature[PATCHED_STREAMS if PATCHED_STREAMS in signature else PATCHED_HEADS]
    patched = effect.notnull().any([dim for dim in effect.dims if dim != "paragraph"]).values
    group = signature.dataset["group"].values
    there = [name for name in main_groups(signature) if patched[group == name].any()]
    return {name: patching(signature, group=name, seed=asked.seed) for name in there}


def _one(signature: "MemorizationSignature", asked: Asked) -> int | str:
    """The paragraph asked for, or the first of the first group."""
    if asked.paragraph is not None:
        return asked.paragraph
    return int(np.flatnonzero(signature.dataset["group"].values == signature.groups[0])[0])


def _paragraph(signature: "MemorizationSignature", asked: Asked) -> dict[str, "go.Figure"]:
    chosen = _one(signature, asked)
    return {"": perturbation(signature, paragraph=chosen, tokenizer=asked.tokenizer, seed=asked.seed)}


def _attention(signature: "MemorizationSignature", asked: Asked) -> dict[str, "go.Figure"]:
    return {"": attention(signature, _one(signature, asked), tokenizer=asked.tokenizer)}


def _patch_map(signature: "MemorizationSignature", asked: Asked) -> dict[str, "go.Figure"]:
    """Of the paragraph asked for, or of the first that has a map, those of the first group before others."""
    chosen = asked.paragraph
    if chosen is None:
        array = signature[next(name for name in MAPS if name in signature)]
        mapped = array.notnull().any([dim for dim in array.dims if dim != "paragraph"]).values
        group = signature.dataset["group"].values
        rows = [row for name in signature.groups for row in np.flatnonzero(mapped & (group == name))]
        if not rows:
            return {}
        chosen = int(rows[0])
    return {"": patch_map(signature, chosen, tokenizer=asked.tokenizer)}


MAPS = ("stream_patch_map", "stream_patch_estimate_map")
BANDS = "Bands and bars are 95% intervals by bootstrap over clusters of near-duplicates."

EDITING = (
    "Above: exact match of the forget set after the edit against the change of exact match of memorized paragraphs that the edit "
    "did not see; the cross is the unedited model, the dashed line no change, and grey open symbols are controls. Below: every "
    f"paragraph after the edit, each role's mean, and in grey its mean before. {BANDS}"
)
RELEARNING = (
    "Exact match and NLL against steps of training on the paragraphs taught; what was only hidden comes back in fewer steps than "
    f"what was never known. {BANDS}"
)

KINDS = (
    Kind(
        "recall", (("exact_match",), ("nll",)), "How much of each paragraph the model says",
        "Exact match (tokens) and NLL (nats per token) of the continuation: share of each group's paragraphs, the groups' means and, "
        "dashed, all paragraphs together; below, where they are known, by how often a paragraph stands in the training data, "
        f"with the mean of all dashed. {BANDS}",
        alone(recall),
    ),
    Kind(
        "gradients", tuple((name,) for name in GRADIENTS["max"]), "Where paragraphs pull on the weights",
        "Mean over each group's paragraphs of the largest absolute gradient of the continuation's NLL, for every head of the "
        "attention components and for the MLP's two matrices; beside it each layer's share of a paragraph's sum. Dashed: all layers "
        f"alike; grey band: the first group's profile with labels permuted over clusters (95%). {BANDS}",
        alone(gradients),
    ),
    Kind(
        "contrast", (("gradient_share",),), "Which components differ between the groups",
        "Log ratio of the two groups' mean shares of the gradient, white where there is no difference; cells whose false discovery "
        "rate over the whole grid is above 5% are crossed out. Beside it the same of each layer's sum, with the range under labels "
        f"permuted over clusters in grey. {BANDS}",
        _contrast,
    ),
    Kind(
        "heads", tuple((name,) for name in HEADS), "Which heads look at rare tokens",
        "Mean rank correlation of a head's attention, from the last prefix token, with the rarity of the tokens it looks at; beside it "
        "the null, the same attention against the rarity of other paragraphs on the same scale. The list, ordered on the paragraphs "
        f"shown, gives the heads furthest above their null. {BANDS}",
        alone(heads),
    ),
    Kind(
        "ablation", tuple((name,) for name in (*HEADS, *ABLATED)), "Whether the heads that look at rare tokens are needed",
        "One point per head: its rare-token score above its null against the rise of the NLL when the head is removed. Grey band: a "
        f"head that is not above its null (95%); dashed: all heads cost alike. {BANDS}",
        alone(ablation),
    ),
    Kind(
        "perturbation", tuple((name,) for name in PERTURBED), "What one replaced prefix token does",
        "Exact match lost and NLL raised by replacing the prefix token at each position, and the share of the loss in the positions "
        "with most of it, chosen on other draws than those shown; below, how often each token of the continuation is wrong. Dashed: "
        f"positions permuted. {BANDS}",
        alone(perturbation),
    ),
    Kind(
        "perturbation_paragraph", tuple((name,) for name in PERTURBED), "What each prefix token of one paragraph does",
        "Exact match lost and NLL raised by replacing each prefix token of one paragraph: every random draw a thin line, their mean "
        "a thick one, the most changed token in bold. Dashed: its mean over positions, which permuting them gives; grey: the mean "
        "of its group with its 95% interval by bootstrap over clusters.",
        _paragraph,
    ),
    Kind(
        "attention", (("prefix_attention",),), "What heads look at in one paragraph",
        "Attention of the last prefix token to each token of the prefix, for the heads that look most at the token whose "
        "replacement changes the paragraph most (bold, framed). Even attention, the null, is told above; one paragraph has no interval.",
        _attention,
    ),
    Kind(
        "corruption", tuple((name,) for name in CORRUPTED), "How many prefix tokens it takes to break a recital",
        "Exact match, NLL and share of the recitals that still hold against the number of prefix tokens replaced together, a line "
        f"per order of replacement. Grey dashed: random order; dotted: nothing replaced. {BANDS}",
        alone(corruption),
    ),
    Kind(
        "patching", ((PATCHED_HEADS, PATCHED_STREAMS),), "Which activations carry the key",
        "Change of the NLL when one activation of the other run is put in: denoising puts the clean run's into the corrupted run, "
        "noising the reverse. The strongest sites are chosen on one half of the clusters and shown on the other, beside as large "
        f"a change in a random direction (grey, or dashed). {BANDS}",
        _patching,
    ),
    Kind(
        "patch_map", (MAPS,), "Where in one paragraph a patch acts",
        "Change of the NLL of one paragraph when a layer's activation at one token is put in from the other run, tokens downwards, "
        "the replaced token in bold. One paragraph has no interval; what a random change of the same size does is told above.",
        _patch_map,
    ),
    Kind(
        "noise", (("noised_exact_match",), ("unperturbed_exact_match",)), "How much noise a recital survives",
        "Exact match against the strength of the noise on the weights with the largest gradients of a group, a panel for each number "
        f"of weights. Dashed: as many random weights. {BANDS}",
        alone(noise),
    ),
    Kind(
        "signature", (("exact_match",), ("nll",)), "The signature at a glance",
        "Recall, gradients, heads, perturbation and patching as far as they were measured; what is grey or dashed shows what "
        f"nothing would look like, as told under each panel's title. {BANDS}",
        alone(overview),
    ),
)  # fmt: skip
"""In the order of a paper."""
