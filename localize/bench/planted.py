"""Truths planted once: what was planted of the same model, texts, settings and code is read again."""

import json
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from localize.code import code_of
from localize.errors import InputError, caller
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.storage import is_free, new_folder
from localize.truths.kinds import HEADS, INJ, LAYER, ROUTE, SINKS
from localize.truths.loading import load_truth
from localize.truths.plant import UNITS, plant
from localize.truths.planting import NONE, OWN, RANDOM
from localize.truths.storage import RECORD
from localize.truths.truth import Truth

CONTROL_NONE, CONTROL_RANDOM = "control-none", "control-random"
ASKED = {
    ROUTE: (ROUTE, OWN),
    CONTROL_NONE: (ROUTE, NONE),
    CONTROL_RANDOM: (ROUTE, RANDOM),
    LAYER: (LAYER, OWN),
    INJ: (INJ, OWN),
    HEADS: (HEADS, OWN),
}
"""What can be asked for by name: a kind of truth, and its routing."""
CONTROL_FOREIGN = "control-foreign"
TRAINED = {SINKS: (SINKS, OWN), CONTROL_FOREIGN: (SINKS, RANDOM)}
"""What is not planted but trained; see `localize.sink_truth`."""

DEFAULT = (ROUTE, CONTROL_NONE, CONTROL_RANDOM, LAYER, INJ)
CONTROL_OF = {CONTROL_NONE: ROUTE, CONTROL_RANDOM: ROUTE, CONTROL_FOREIGN: SINKS}
"""Controls, and what each is one of."""
CONTROLS = tuple(CONTROL_OF)
TEXTS = {INJ: 8}
"""Planted if nothing else is said, where it is not the usual number."""
USUAL_TEXTS = 16


class Asked(NamedTuple):
    """A truth to plant.

    Attributes:
        name: Of `ASKED`.
        units: Of each text and layer.
        texts: To plant.
        seed: Of everything drawn.
    """

    name: str
    units: int
    texts: int
    seed: int

    @classmethod
    def of(cls, name: str, seed: int, units: int | None = None, texts: int | None = None) -> "Asked":
        """With the usual numbers where none are given; `units` is of "route" and its controls."""
        kind = ASKED[name][0]
        own = units if units is not None and kind == ROUTE else UNITS[kind]
        return cls(name, own, texts or TEXTS.get(kind, USUAL_TEXTS), seed)


def planted(model: HookedModel, pool: Paragraphs, asked: Asked, cache: Path | None) -> tuple[Truth, Path | None]:
    """A truth, from the cache if it is there, and its folder in the cache.

    Args:
        model: The base model.
        pool: What texts are drawn from.
        asked: What to plant.
        cache: A folder that holds a folder a truth, named by all that the truth depends on; None keeps nothing.
    """
    kind, routing = ASKED[asked.name]
    options = {"kind": kind, "routing": routing, "units": asked.units, "texts": asked.texts, "seed": asked.seed}
    place = None
    if cache is not None:
        depends = [model.weights_hash(), pool.data_hash, options, code_of(plant)]
        digest = sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
        place = cache / f"{asked.name}-{asked.units}-{asked.seed}-{digest}"
        if (place / RECORD).is_file():
            return load_truth(place, device=str(model.device)), place
    truth = plant(model, pool, **options)
    if place is not None and is_free(place):
        with new_folder(place) as beside:
            truth.save(beside)
    return truth, place


def name_of(truth: Truth) -> str:
    """What a truth is asked for by: "route", "control-none", ..."""
    return next(name for name, asked in (ASKED | TRAINED).items() if asked == (truth.kind, truth.routing))


def check_base(truth: Truth, model: HookedModel, told: str) -> None:
    """Raise an `InputError` if a truth was planted in another model; one that was trained has a model of its own."""
    if truth.kind == SINKS:
        return
    if truth.settings["base"] != (hash := model.weights_hash()):
        raise InputError(
            f"{caller()}: {told} was planted in a model with weights {truth.settings['base'][:12]}...; those of {model.name} are "
            f"{hash[:12]}...; name the model that it was planted in."
        )
