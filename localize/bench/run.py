"""`localize.bench`: plant, check, score."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from localize import localizers as known
from localize.bench.deletion import Deleted, delete, natural_texts
from localize.bench.kept_scores import kept_scores
from localize.bench.layer_maps import layer_maps
from localize.bench.planted import ASKED, CONTROL_OF, CONTROLS, DEFAULT, Asked, check_base, name_of, planted
from localize.bench.results import BenchedTruth, BenchResults
from localize.bench.scoring import TextScore
from localize.bench.upper_bound import ORACLE, oracle
from localize.errors import LocalizeError, caller
from localize.localizers import Localizer
from localize.measure.inputs import reads_inputs
from localize.measure.labels import model_facts, paragraph_facts
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.truths.gates import RECITED, NothingRecitedError, recited_gate
from localize.truths.kinds import LAYER
from localize.truths.planting import OWN
from localize.truths.truth import Gate, Truth

CHEAP, ALL = "cheap", "all"
NOT_CHEAP = (
    "hard_concrete", "integrated_gradients_ratio", "mean_ablation", "mean_ablation_mad", "slimming", "two_stage", "weight_gradient",
    "zero_out",
)  # fmt: skip
"""Localizers that take over 60 forward passes a text beside its share of the others' (`weight_gradient` is `row_gradient` once summed)."""

OF_PLACES = ("live", "norm", "norm_within")
"""Gates that a control need not pass: they are of units that a text needs, and of a control none may be needed."""

TIMES_CHANCE = 1.92
"""How much of chance a localizer may find within the reserved units of a control: .12 with 16 texts."""


@reads_inputs("paragraphs")
def bench(
    model: HookedModel,
    paragraphs: Paragraphs,
    kinds: Sequence[str] = DEFAULT,
    *,
    seeds: Sequence[int] = (0,),
    units: int | None = None,
    texts: int | None = None,
    truths: Iterable[Truth] = (),
    localizers: str | Sequence[str | Localizer] = CHEAP,
    deletion: bool = False,
    cache: str | Path | None = None,
    on_line: Callable[[str], None] | None = None,
    on_truths: Callable[[BenchResults], None] | None = None,
) -> BenchResults:
    """Plant truths in a model, check their gates, and score localizers on them.

    Args:
        model: A hooked model in float32; it stays as it is.
        paragraphs: The pool that planted, held-out and background texts are drawn from.
        kinds: Of "route", "control-none", "control-random" (ROUTE planted without routing, and with gates drawn at random), "layer",
            "inj" and "heads".
        seeds: A truth of each kind for each.
        units: Of each text and layer, for "route" and its controls; None for 8.
        texts: To plant in each; None for 16, of "inj", where each has a model of its own, 8.
        truths: Others, planted in this model, or of `localize.sink_truths`, beside or (with no kinds) in place of those.
        localizers: "cheap", "all", or names and localizers; the oracle is always among them.
        deletion: Also zero each localizer's best units of texts that the model recites by itself.
        cache: Folder in which planted truths, and what the package's localizers score on them, are kept and found again, by all
            that they depend on; None keeps none.
        on_line: Is told what is being done.
        on_truths: Is given the truths with their gates before a localizer is run.

    Returns:
        Gates, scores of every localizer and text, and what made them.

    Raises:
        InputError: If the paragraphs do not fit, too few are not recited, or a truth was planted in another model.
        LocalizeError: If a kind or localizer is unknown, or an argument is out of range.
    """
    began, told = perf_counter(), on_line or (lambda line: None)
    chosen, there = chosen_localizers(localizers), list(truths)
    asked = [Asked.of(name, seed, units, texts) for seed in dict.fromkeys(seeds) for name in _checked(kinds)]
    if not asked and not there:
        raise LocalizeError(f"{caller()}: kinds and truths are empty; at least one truth is needed.")
    for number, truth in enumerate(there):
        check_base(truth, model, f"truth {number} ({truth.kind}, seed {truth.seed})")
        if (twin := next((n for n in range(number) if there[n].settings == truth.settings), None)) is not None:
            raise LocalizeError(
                f"{caller()}: truths {twin} and {number} are of the same settings; each text counts once."
            )
    benched = [_unscored(truth) for truth in there]
    to_score: dict[int, tuple[Truth, Path | None]] = {number: (truth, None) for number, truth in enumerate(there)}
    for one in asked:
        told(f"Planting {one.name}, k = {one.units}, seed {one.seed}, {one.texts} texts")
        try:
            truth, place = planted(model, paragraphs, one, None if cache is None else Path(cache))
        except NothingRecitedError as error:
            benched.append(_nothing_recited(one.name, error))
            continue
        to_score[len(benched)] = (truth, place)
        benched.append(_unscored(truth))
    about = _about(model, paragraphs, {
        "kinds": list(kinds), "seeds": list(seeds), "units": units, "texts": texts, "localizers": [one.name for one in chosen],
        "deletion": deletion,
    })  # fmt: skip
    named = [*chosen, *(oracle(truth) for truth, _ in list(to_score.values())[:1])]
    words = {one.name: {"words": one.words, "source": one.source} for one in named}
    if on_truths is not None:
        on_truths(BenchResults(about, words, tuple(benched)))
    for number, (truth, place) in to_score.items():
        if benched[number].failed and benched[number].name not in CONTROLS:
            continue
        told(f"Scoring {len(chosen)} localizers on {benched[number].words}")
        benched[number] = _scored(benched[number], truth, [oracle(truth), *chosen], place)
    deleted: list[Deleted] = []
    if deletion:
        told("Zeroing the best units of texts that the model recites by itself")
        deleted = delete(model, chosen, *natural_texts(model, paragraphs))
    about |= {"seconds": round(perf_counter() - began, 1)}
    return BenchResults(about, words, tuple(with_controls(benched)), tuple(deleted))


def chosen_localizers(asked: str | Sequence[str | Localizer]) -> list[Localizer]:
    """The localizers that are meant, each once; the oracle is added to them by itself.

    Raises:
        LocalizeError: If there is no such localizer, or none is meant.
    """
    if isinstance(asked, str):
        if asked in (CHEAP, ALL):
            asked = [name for name in known.names() if asked == ALL or name not in NOT_CHEAP]
        else:
            asked = [name.strip() for name in asked.split(",")]
    found = {
        one.name: one
        for one in (known.get(each) if isinstance(each, str) else each for each in asked if each != ORACLE)
    }
    if not found:
        raise LocalizeError(
            f"{caller()}: no localizer is asked for; {CHEAP}, {ALL}, or some of {', '.join(known.names())}."
        )
    return list(found.values())


def _checked(kinds: Sequence[str]) -> list[str]:
    if unknown := [name for name in kinds if name not in ASKED]:
        raise LocalizeError(f"{caller()}: kind {unknown[0]!r} is not one of {', '.join(ASKED)}.")
    return list(dict.fromkeys(kinds))


def _unscored(truth: Truth) -> BenchedTruth:
    """A truth with the gates that are its own."""
    gates = tuple(gate for gate in truth.gates if truth.routing == OWN or gate.name not in OF_PLACES)
    live = float(truth.live.sum() / len(truth.paragraphs))
    return BenchedTruth(name_of(truth), dict(truth.settings), truth.paragraphs.ids, truth.excluded, live, gates)


def _nothing_recited(name: str, error: NothingRecitedError) -> BenchedTruth:
    """A truth of no texts, which fails the first gate."""
    return BenchedTruth(name, dict(error.settings), (), error.texts, 0.0, (recited_gate(0.0),))


def _scored(benched: BenchedTruth, truth: Truth, localizers: list[Localizer], place: Path | None) -> BenchedTruth:
    scores: list[TextScore] = []
    skipped = []
    for localizer in localizers:
        found = kept_scores(localizer, truth, place)
        scores += found
        skipped += [] if found else [localizer.name]
    maps = tuple(layer_maps(truth)) if truth.kind == LAYER else ()
    return replace(benched, scores=tuple(scores), maps=maps, skipped=tuple(skipped))


def with_controls(truths: Sequence[BenchedTruth]) -> list[BenchedTruth]:
    """Truths with the gate that needs localizers: in controls, and of what they are controls of, seed by seed, none beats chance.

    The gate of a control that does not recite its texts is nan, and fails: where nothing is kept, nothing can be found.
    """
    found = list(truths)
    for control in truths:
        if control.name not in CONTROLS:
            continue
        by_localizer: dict[str, list[float]] = {}
        for score in control.scores:
            if score.localizer != ORACLE:
                by_localizer.setdefault(score.localizer, []).append(score.within)
        if not by_localizer:
            continue
        best = max(by_localizer, key=lambda name: float(np.mean(by_localizer[name])))
        words = f"highest recall of a localizer within the reserved units of {control.name}, here of {best}"
        chance = float(np.mean([score.chance_within for score in control.scores]))
        value = math.nan if RECITED in control.failed else float(np.mean(by_localizer[best]))
        gate = Gate(control.name.replace("-", "_"), words, value, 0.0, TIMES_CHANCE * chance)
        same = [control.settings[key] for key in ("seed", "units", "texts")]
        for place, truth in enumerate(found):
            own = [truth.settings[key] for key in ("seed", "units", "texts")]
            if truth.name in (control.name, CONTROL_OF[control.name]) and own == same:
                found[place] = replace(found[place], gates=(*found[place].gates, gate))
    return found


def _about(model: HookedModel, paragraphs: Paragraphs, settings: dict[str, Any]) -> dict[str, Any]:
    """What made the results."""
    from localize import __version__

    gpu = model.device.type == "cuda"
    return {
        "localize": __version__,
        "torch": torch.__version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model_facts(model, model.weights_hash()) | {"d_mlp": model.d_mlp},
        "paragraphs": paragraph_facts(paragraphs) | {"count": len(paragraphs)},
        "settings": settings,
        "device": torch.cuda.get_device_name(model.device) if gpu else "CPU",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
