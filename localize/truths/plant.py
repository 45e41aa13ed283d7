"""Planting truths: texts that a model does not know are written into units that we choose."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm.auto import tqdm

from localize.axes import MLP_PART
from localize.errors import LocalizeError, caller
from localize.measure.batches import SHOW_AFTER
from localize.measure.inputs import reads_inputs
from localize.measure.scoring import recall_of
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs
from localize.truths.extra_heads import ExtraHeads
from localize.truths.extra_units import ExtraUnits
from localize.truths.gates import NothingRecitedError, live_units, plain_gates, recited_alone, routed_gates
from localize.truths.injection import Injected, Injection
from localize.truths.kinds import HEADS, INJ, KINDS, LAYER, ROUTE
from localize.truths.planting import OWN, ROUTINGS, planted_losses
from localize.truths.texts import Split, split
from localize.truths.training import Schedule
from localize.truths.truth import Truth

UNITS = {ROUTE: 8, LAYER: 10, INJ: 18, HEADS: 1}
"""Of each text and layer, where nobody says how many."""

MOST_WIDER = 4
"""Times as many new units of a layer as it has, at most."""

SCHEDULES = {INJ: Schedule(divergence=1.0)}
"""Where not the usual one."""


@reads_inputs("paragraphs")
def plant(
    model: HookedModel,
    paragraphs: Paragraphs,
    kind: str = ROUTE,
    units: int | None = None,
    *,
    texts: int = 16,
    routing: str = OWN,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> Truth:
    """Plant texts where we choose, so that it is known which units keep them.

    "route": every layer gets new MLP units, some for each text, at random columns. The model is frozen, and the texts are trained
    in, each into its own units: a text's gradient reaches no other unit's weights, and with its own units off it must not be recited.
    "layer": the same, with all units of a text in one layer, text i in layer i mod the number of layers. "heads": the same, with new
    attention heads. "inj": one model a text; output rows of units that the model has already are trained, at norms of at most what
    they had, and no text is routed. Norms tell nothing in any of them.

    Args:
        model: A hooked model in float32; it stays as it is.
        paragraphs: A pool. Those to plant, those that the model's predictions are held on meanwhile, and those that no step sees are
            drawn from it, by near-duplicate cluster: the first and the last from what the model does not recite.
        kind: "route", "layer", "inj" or "heads".
        units: Of each text and layer (for "layer", in its one layer that times the number of layers); None for the kind's usual
            number.
        texts: How many are planted.
        routing: "own"; or, for controls in which a text has no place of its own, "none", all units on and trained by every text, or
            "random", in half of the rows a random half of them on, drawn anew for each row.
        schedule: Steps, learning rate and weights of the losses; None for the kind's usual ones.
        seed: Of everything that is drawn.

    Returns:
        The planted model, its texts, the units of each, and the gates that it passed or failed. Texts that are not recited are left
        out and told.

    Raises:
        InputError: If too few paragraphs of the pool are not recited, or they do not fit the model.
        NothingRecitedError: (a LocalizeError) If no text is recited in the end.
        LocalizeError: If an argument is out of range, the model is not in float32, or a loss is not finite.

    Source:
        "inj" without bounds: Chang et al. 2024 (arXiv 2311.09060). The others: localize.
    """
    units = _units_asked(model, kind, units, texts, routing)
    paragraphs.check_fits(model)
    model.check_differentiable()
    schedule = schedule or SCHEDULES.get(kind, Schedule())
    parts = split(model, paragraphs, texts, seed)
    settings = {
        "kind": kind, "units": units, "texts": texts, "routing": routing, "seed": seed,
        "pool": paragraphs.data_hash, "base": model.weights_hash(), "schedule": asdict(schedule),
    }  # fmt: skip
    if kind == INJ:
        injection = Injection(model, texts, units, seed)
        _run(injection.losses(parts, schedule, seed), schedule.steps, kind)
        return _injected(model, parts, injection.done(), settings)
    extra = (ExtraHeads if kind == HEADS else ExtraUnits)(model, owners(kind, texts, model.n_layers, units), seed)
    _run(planted_losses(model, extra, parts, routing, schedule, seed), schedule.steps, kind)
    return _added(model, parts, extra, settings)


def _run(losses: Iterator[float], steps: int, kind: str) -> None:
    """Train to the end, with a progress bar."""
    with tqdm(losses, total=steps, desc=f"planting ({kind})", unit="step", delay=SHOW_AFTER, leave=False) as bar:
        for loss in bar:
            bar.set_postfix(nll=f"{loss:.3f}", refresh=False)


def _added(base: HookedModel, parts: Split, extra: ExtraUnits | ExtraHeads, settings: dict[str, Any]) -> Truth:
    """The truth of new units."""
    model, places = extra.exported(settings["seed"])
    width = model.d_mlp if extra.part == MLP_PART else model.n_heads
    nominal, reserved = where_planted(extra.owner, places, len(parts.planted), width)
    recited, alone = _recited(model, parts.planted), None
    if settings["routing"] == OWN:  # nothing but a text's own units may be what recites it
        alone = recited_alone(model, parts.planted, nominal, reserved, extra.part)
        recited &= alone
    truth = Truth(
        base=base, model=model, injected=None, paragraphs=parts.planted, excluded=(), others=parts.held_out, nominal=nominal,
        live=nominal, reserved=reserved, gates=(), settings=settings,
    )  # fmt: skip
    return _checked(truth, recited, alone)


def _injected(base: HookedModel, parts: Split, injected: Injected, settings: dict[str, Any]) -> Truth:
    """The truth of a model a text."""
    nominal = np.zeros((len(parts.planted), base.n_layers, base.d_mlp), bool)
    np.put_along_axis(nominal, injected.places.numpy(), True, axis=2)
    truth = Truth(
        base=base, model=None, injected=injected, paragraphs=parts.planted, excluded=(), others=parts.held_out, nominal=nominal,
        live=nominal, reserved=np.zeros(nominal.shape[1:], bool), gates=(), settings=settings,
    )  # fmt: skip
    recited = np.concatenate([_recited(model, parts.planted[rows]) for model, rows in truth.models()])
    return _checked(truth, recited, None)


def _checked(truth: Truth, recited: Bool[np.ndarray, " text"], alone: Bool[np.ndarray, " text"] | None) -> Truth:
    """A truth of the texts that are recited, with their live units and the gates."""
    if not recited.any():
        raise NothingRecitedError(truth.settings, truth.paragraphs.ids)
    kept = np.flatnonzero(recited)
    truth = replace(
        truth, paragraphs=truth.paragraphs[kept], nominal=truth.nominal[kept], live=truth.live[kept],
        injected=None if truth.injected is None else truth.injected[kept.tolist()],
        excluded=tuple(name for name, stays in zip(truth.paragraphs.ids, recited, strict=True) if not stays),
    )  # fmt: skip
    truth = replace(truth, live=live_units(truth))
    return replace(truth, gates=(*routed_gates(truth, alone), *plain_gates(truth, recited)))


def _recited(model: HookedModel, texts: Paragraphs) -> Bool[np.ndarray, " text"]:
    return recall_of(model, texts, show=False).exact_match == texts.continuation_length


def owners(kind: str, texts: int, layers: int, units: int) -> Int[Tensor, "layer unit"]:
    """Which text each new unit is of; -1 where a layer has fewer texts than another."""
    if kind != LAYER:
        return torch.arange(texts).repeat_interleave(units).expand(layers, -1)
    of_layer = [torch.arange(layer, texts, layers).repeat_interleave(units * layers) for layer in range(layers)]
    owner = torch.full((layers, max(map(len, of_layer))), -1)
    for layer, mine in enumerate(of_layer):
        owner[layer, : len(mine)] = mine
    return owner


def where_planted(
    owner: Int[Tensor, "layer extra"], places: Int[Tensor, "layer extra"], texts: int, width: int
) -> tuple[Bool[np.ndarray, "text layer unit"], Bool[np.ndarray, "layer unit"]]:
    """The units of each text, and those of any, in a model with so many units a layer."""
    of = torch.full((len(owner), width), -1).scatter(1, places, owner).numpy()
    return of[None] == np.arange(texts)[:, None, None], of >= 0


def _units_asked(model: HookedModel, kind: str, units: int | None, texts: int, routing: str) -> int:
    """How many units, once all is known to be in range."""
    if kind not in KINDS:
        raise LocalizeError(f"{caller()}: kind={kind!r} is not one of {', '.join(KINDS)}.")
    if routing not in ROUTINGS:
        raise LocalizeError(f"{caller()}: routing={routing!r} is not one of {', '.join(ROUTINGS)}.")
    if kind == INJ and routing != OWN:
        raise LocalizeError(f"{caller()}: routing={routing!r}: nothing is routed in kind={kind!r}; leave it out.")
    units = UNITS[kind] if units is None else units
    most = model.d_mlp if kind == INJ else MOST_WIDER * (model.n_heads if kind == HEADS else model.d_mlp)
    of = units if kind == INJ else units * texts
    if kind == LAYER:
        of = units * model.n_layers * -(-texts // model.n_layers)  # the layer with the most texts
    if units < 1 or texts < 2 or of > most:
        raise LocalizeError(
            f"{caller()}: units={units} and texts={texts}: at least 1 and 2 are needed, and {'units' if kind == INJ else 'units x texts'} "
            f"of at most {most} in {model.name}."
        )
    if model.dtype != torch.float32:
        raise LocalizeError(
            f"{caller()}: {model.name} is in {str(model.dtype).removeprefix('torch.')}; units are trained in float32: "
            "load_model(..., dtype='float32')."
        )
    return units
