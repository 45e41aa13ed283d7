"""SINKS: each text planted in a training had a slice of the MLPs' units of its own, which is the truth. One model a text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from localize.claims import asked_of
from localize.errors import InputError, caller, public
from localize.measure.scoring import recall_of
from localize.measure.written_sizes import writing_norms
from localize.models.gates import GATES_FILE, SLICES, Sinks, digest_of
from localize.models.hooks import HookedModel
from localize.models.load import load_model
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs
from localize.train.reading import read_recipe
from localize.train.recipe import Recipe
from localize.train.run import PARAGRAPHS_FILE, RECIPE_FILE
from localize.truths.gates import (
    CHANCE,
    FEWEST_LIVE,
    FEWEST_RECITED,
    LIVE,
    MOST_DRIFT,
    OFF,
    RECITED,
    NothingRecitedError,
    area,
    live_units,
    mean,
)
from localize.truths.injection import Injected
from localize.truths.kinds import SINKS
from localize.truths.planting import OWN, RANDOM
from localize.truths.texts import MOST_HELD_OUT
from localize.truths.truth import Gate, Truth

HALF = 0.5
"""Of held-out text's NLL: a text that needs at most that much with its slice on is remembered."""
LITTLE = 0.1
"""Of what a text's own slice takes off its NLL: a slice that takes less does not hold the text."""
FEWEST_APART = 0.95
NEEDED = f'a folder that `localize train` left with [sinks] kind = "{SLICES}" is needed'


@public
def sink_truth(folder: str | Path, *, standard: HookedModel | None = None, device: str | None = None) -> Truth:
    """The truth of a training with memorization sinks of kind "slices": a text is kept in the units that were on for it alone.

    A text's model is the trained one with the text's own slice on and all others off, as it was while the text was shown. What it
    is told apart from, held-out text, is read in the same model, with that slice on, although none was on for such text while
    training: with none on a slice's units would be silent there by construction, which would tell them without any reading of
    weights.

    Args:
        folder: Of one training: a checkpoint with `gates.json`, `sinks.safetensors`, `paragraphs.jsonl` and the recipe.
        standard: A model trained alike without sinks, which held-out text is compared with; without one that gate is not passed.
        device: Of the model; None for a GPU where there is one.

    Returns:
        The truth: `base` is the model without its sinks, `nominal` each text's slice, `live` those of its units without which
        alone the text's NLL rises. Planted texts that are not remembered with their slice on are left out and told. A training with
        `foreign = true` is a control, of routing "random": a text's slice is then its own by name alone.

    Raises:
        InputError: If the folder is no such training, or its texts or `standard` do not fit.
        ModelError: If the checkpoint or its sinks cannot be loaded.
        NothingRecitedError: (a LocalizeError) If no text is remembered with its slice on.

    Source:
        Memorization sinks: arXiv 2507.09937. As a truth for localizers: localize.
    """
    folder = Path(folder)
    base, sinks, paragraphs = _left_in(folder, device)
    gates = sinks.gates
    copies = np.array(paragraphs.duplicates or ())
    planted, others = paragraphs[np.flatnonzero(copies > 0)], paragraphs[np.flatnonzero(copies == 0)[:MOST_HELD_OUT]]
    if tuple(digest_of(row) for row in planted.tokens.numpy()) != gates.texts or not len(others):
        raise InputError(
            f"{caller()}: {folder / PARAGRAPHS_FILE}: {len(planted)} planted and {len(others)} held-out texts; the {len(gates.texts)} that "
            f"{GATES_FILE} was made of, in their order, and at least 1 held out are needed."
        )
    if standard is not None:
        paragraphs.check_fits(standard)
    units = gates.slice_units
    settings = {
        "kind": SINKS, "units": units, "texts": len(planted), "routing": OWN if gates.tied else RANDOM,
        "seed": (asked_of(folder, "train") or {}).get("training.seed", 0), "pool": paragraphs.data_hash, "base": base.weights_hash(),
        "general": gates.general, "standard": None if standard is None else standard.weights_hash(),
    }  # fmt: skip
    return _checked(base, injected_slices(sinks), planted, others, standard, settings)


@public
def sink_truths(folder: str | Path, *, device: str | None = None) -> tuple[Truth, ...]:
    """The truths of all trainings of a recipe that have sinks of kind "slices", controls included, one for each arm and seed.

    Args:
        folder: What `localize train` wrote: of one training, of several seeds, or of arms. An arm without sinks that is trained as
            another otherwise is the standard run that its held-out text is compared with, seed by seed.
        device: Of the models; None for a GPU where there is one.

    Raises:
        InputError: If there is no such training in the folder.
        ModelError: If a checkpoint cannot be loaded.
    """
    folder = Path(folder)
    if (folder / GATES_FILE).is_file() or not (folder / RECIPE_FILE).is_file():
        return (sink_truth(folder, device=device),)
    recipe = read_recipe(folder / RECIPE_FILE)
    found = []
    for place, standard in _trainings(folder, recipe):
        of = None if standard is None else load_model(standard, device=device)
        found.append(sink_truth(place, standard=of, device=device))
    if not found:
        raise InputError(f"{caller()}: {folder}: none of its trainings has sinks of kind {SLICES}; {NEEDED}.")
    return tuple(found)


def _trainings(folder: Path, recipe: Recipe) -> list[tuple[Path, Path | None]]:
    """The folder of each training with slices, and that of its standard run."""
    arms = recipe.arms or {"": recipe}
    runs = [f"seed-{seed}-{recipe.runs[0]}" for seed in recipe.training_seeds]
    inner = runs if recipe.seeds * len(recipe.runs) > 1 else [""]
    without = {_told_of(arm): name for name, arm in arms.items() if not arm.sinks.kind}
    return [
        (folder / name / run, None if (plain := without.get(_told_of(arm))) is None else folder / plain / run)
        for name, arm in arms.items()
        if arm.sinks.kind == SLICES
        for run in inner
    ]


def _told_of(recipe: Recipe) -> str:
    """All that a recipe says but for its sinks."""
    return repr({key: value for key, value in recipe.asked().items() if not key.startswith("sinks.")})


def _left_in(folder: Path, device: str | None) -> tuple[HookedModel, Sinks, Paragraphs]:
    """The model without its sinks, these, and all paragraphs of a training."""
    if not (folder / GATES_FILE).is_file():
        raise InputError(f"{caller()}: {folder}: no {GATES_FILE}; {NEEDED}.")
    base = load_model(folder, device=device)
    sinks, base.sinks = base.sinks, None
    assert sinks is not None  # load_model reads what lies beside a checkpoint
    if sinks.gates.kind != SLICES:
        raise InputError(
            f"{caller()}: {folder}: its sinks are {sinks.gates.kind}, so that texts have them in common; {NEEDED}."
        )
    recipe = read_recipe(folder / RECIPE_FILE)
    paragraphs = load_paragraphs(
        folder / PARAGRAPHS_FILE, base, prefix_length=recipe.prefix, continuation_length=recipe.training.row_tokens - recipe.prefix
    )  # fmt: skip
    return base, sinks, paragraphs


def injected_slices(sinks: Sinks) -> Injected:
    """Each text's slice as units of a model without sinks that write again."""
    gates, (layers, _, d_model) = sinks.gates, sinks.rows.shape
    texts, units = len(gates.texts), gates.slice_units
    places = gates.general + torch.arange(texts * units).view(texts, 1, units).expand(-1, layers, -1)
    rows = sinks.rows[:, : texts * units].view(layers, texts, units, d_model).transpose(0, 1)
    return Injected(places.contiguous(), rows.contiguous().cpu())


def _checked(
    base: HookedModel,
    injected: Injected,
    planted: Paragraphs,
    others: Paragraphs,
    standard: HookedModel | None,
    settings: dict[str, Any],
) -> Truth:
    """A truth of the texts that are remembered, with their live units and the gates."""
    nominal = np.zeros((len(planted), base.n_layers, base.d_mlp), bool)
    np.put_along_axis(nominal, injected.places.numpy(), True, axis=2)
    with_slice = np.stack([_nll(injected.model(base, text), planted) for text in range(len(planted))], 1)
    held_out = _nll(base, others).mean()
    remembered = np.diag(with_slice) <= HALF * held_out
    if not remembered.any():
        raise NothingRecitedError(settings, planted.ids)
    kept = np.flatnonzero(remembered)
    truth = Truth(
        base=base, model=None, injected=injected[kept.tolist()], paragraphs=planted[kept],
        excluded=tuple(name for name, stays in zip(planted.ids, remembered, strict=True) if not stays), others=others,
        nominal=nominal[kept], live=nominal[kept], reserved=np.any(nominal[kept], axis=0), gates=(), settings=settings,
    )  # fmt: skip
    truth = replace(truth, live=live_units(truth))
    recall = slice_gates(with_slice, _nll(base, planted), float(held_out))
    drift = np.nan if standard is None else float(held_out - _nll(standard, others).mean())
    words = "rise of the mean NLL of held-out text over that of the standard run, without sinks (nats per token)"
    return replace(truth, gates=(*recall, *unit_gates(truth), Gate("held_out", words, drift, -MOST_DRIFT, MOST_DRIFT)))


def slice_gates(
    with_slice: Float[np.ndarray, "text slice"], dropped: Float[np.ndarray, " text"], held_out: float
) -> tuple[Gate, ...]:
    """Whether a text is remembered with its own slice on, not without it, and not with another's.

    Args:
        with_slice: NLL of each text with each text's slice on, nats per token.
        dropped: With none on.
        held_out: Mean NLL of held-out text with none on.
    """
    own = np.diag(with_slice)
    other = ~np.eye(len(own), dtype=bool)
    taken = (dropped[:, None] - with_slice) / np.maximum(dropped - own, 1e-9)[:, None]
    return (
        Gate(
            RECITED, f"share of the planted texts whose NLL is at most {HALF} times held-out text's with their own slice on",
            float((own <= HALF * held_out).mean()), FEWEST_RECITED, 1.0,
        ),
        Gate(
            "own_off", "rise of the NLL without a text's own slice, as a share of the gap from it to held-out text",
            float((dropped - own).mean() / (held_out - own.mean())), *OFF,
        ),
        Gate(
            "other_on", f"share of texts and others' slices that take less than {LITTLE} of what the own slice takes off the NLL",
            float((taken < LITTLE)[other].mean()), FEWEST_APART, 1.0,
        ),
    )  # fmt: skip


def unit_gates(truth: Truth) -> tuple[Gate, ...]:
    """Whether a text needs its units, and no norm tells them."""
    told = []
    for row, (model, _) in enumerate(truth.models()):
        norms = writing_norms(model).mlp.cpu().numpy()
        told.append(area(norms, truth.live[row], truth.present[row] & ~truth.nominal[row]))
    return (
        Gate(
            "live", f"share of the slices' units without which alone the NLL rises by over {LIVE} nats",
            float(truth.live.sum() / truth.nominal.sum()), FEWEST_LIVE, 1.0,
        ),
        Gate("norm", "AUROC of the norm of a unit's output weights, live units against general ones", mean(told), *CHANCE),
    )  # fmt: skip


def _nll(model: HookedModel, paragraphs: Paragraphs) -> Float[np.ndarray, " paragraph"]:
    return recall_of(model, paragraphs, show=False).token_nll.mean(1)
