"""Which parts of the weights took a text in while a model was trained, and which let it go: loss change allocation, in tables.

What a part's weights change in a set's loss is negative where the set is learned. Some of it is what held-out text gains by the same steps,
the null; the rest is memory. See `localize.LossChange`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.rows import DIFFERENCE, Basis, Null, Row, differing, row_of
from localize.analysis.seed_rows import correct_by_quantity
from localize.analysis.trainings import check_one_arm, of_run, place_of_step, warn_of_few_seeds
from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, EXPOSURES, MLP_COMPONENTS, OUTSIDE, TRAINED
from localize.errors import LocalizeError, SignatureError, caller, public, warn
from localize.statistics import Interval, pair_differences
from localize.statistics.seeds import seed_interval, seed_test

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

BOTH = "both"
"""Steps that show the set and those that do not, together."""

ALL, ATTENTION, MLP = "all", "attention", "mlp"
"""All weights; the four components of attention together; both of the MLP."""

NONE = -1
"""The layer of what lies outside of the blocks, and the head of what has none."""

BY = ("block", "component", "head")
"""How finely blocks are told: attention and MLP, components, or heads where they have some."""

VARIABLES = ("loss_change", "head_loss_change", "outside_loss_change")

LARGEST_ERROR = 0.01
"""The share of a change that its parts may miss before it is warned of."""

OWN = ("error", "since", "step", "seeds")
"""The columns that other tables do not have."""


@dataclass(frozen=True)
class WeightPart:
    """Some weights: of a layer, component and head."""

    layer: int
    component: str
    head: int = NONE


@dataclass(frozen=True, eq=False)
class Allocation:
    """What each part of the weights changed in one set's loss, in a window of a training.

    Attributes:
        name: Of the set.
        rows: Its paragraphs.
        clusters: Of near-duplicates, of all paragraphs.
        parts: What the weights are divided into.
        own: Of the set, in nats per token; `EXPOSURES` and then both.
        null: Of held-out text, by the same steps; nan where there is none.
        error: Of each seed, the share of the change of the set's loss that all parts miss.
        since: After how many steps the window begins.
        step: After how many it ends.
    """

    name: str
    rows: Bool[np.ndarray, " paragraph"]
    clusters: Int[np.ndarray, " paragraph"]
    parts: tuple[WeightPart, ...]
    own: Float[np.ndarray, "seed exposure part"]
    null: Float[np.ndarray, "seed exposure part"]
    error: Float[np.ndarray, " seed"]
    since: int
    step: int

    @property
    def seeds(self) -> int:
        """How many trainings."""
        return len(self.own)

    @property
    def memory(self) -> Float[np.ndarray, "seed exposure part"]:
        """What the set has beyond held-out text."""
        return pair_differences(self.own, self.null)


@public
def loss_change_table(
    signature: "MemorizationSignature", step: int = -1, *, since: int | None = None, by: str = "component"
) -> "pd.DataFrame":
    """Which parts of the weights took each set in and which let it go, beside held-out text at the same steps.

    Args:
        signature: From `localize.LossChange` or `localize.loss_change`, of one training or several seeds; of runs the planted one.
        step: Steps of training after which the window ends; -1 for the last.
        since: After which it begins; None for the first that was followed.
        by: "component": W_Q W_K W_V W_O W_in W_out of each layer; "block": attention and mlp; "head": the former's heads.

    Returns:
        Indexed by `set`, `layer`, `component`, `head` and `exposure`, columns as in `summary` and `difference`, `error`, `since`, `step`,
        `seeds`. Layer is -1 outside of the blocks and of all weights (component "all"), head is -1 where it is of no single one.
        Exposure: steps that "shown" the set, "other" ones, "both". The estimate is what these weights changed in the set's mean NLL,
        nats per token, negative where it was learned; the null is the same of the held-out set at the same steps, and the difference
        is memory. Intervals are Student's t over seeds, nan with one; p is of the paired t-test of a number and its null, `q_value`
        corrects it for all parts. `error`: of the seeds the largest share of the set's change that all parts together miss.

    Raises:
        SignatureError: If the signature holds no loss change, is of several arms, or a step was not measured.
        LocalizeError: If `by` is another word, or the window is empty.

    Warns:
        UserWarning: Of fewer than 5 seeds, and of an error beyond 1 %.

    Source:
        Lan et al. 2019 (arXiv 1909.01440); held-out text at the same steps is ours.
    """
    from localize.analysis.tables import table_of

    found = allocations(signature, step, since, by)
    _warn(found)
    rows = [row for one in found for row in _rows(one)]
    correct_by_quantity(rows)
    return table_of(rows, ("set", "layer", "component", "head", "exposure"), (*DIFFERENCE, *OWN))


def allocations(signature: "MemorizationSignature", step: int, since: int | None, by: str) -> list[Allocation]:
    """Of each set; arguments and errors as in `loss_change_table`."""
    if by not in BY:
        raise LocalizeError(f"{caller()}: by={by!r} is not one of {', '.join(BY)}.")
    check_one_arm(signature)
    if any(name not in signature for name in VARIABLES):
        raise SignatureError(
            f"{caller()}: the signature has no 'loss_change'; follow a training with localize.LossChange."
        )
    dataset = signature.dataset
    if "training_step" not in dataset.dims:
        dataset = dataset.expand_dims("training_step")
    steps = dataset["training_step"].values.astype(np.int64)
    end, start = place_of_step(steps, step), None if since is None else place_of_step(steps, since)
    if start is not None and start >= end:
        raise LocalizeError(f"{caller()}: since={since} must lie before step={steps[end]}.")

    def moved(name: str) -> np.ndarray:
        values = of_run(dataset, name, TRAINED)  # (seed, step, set, ...)
        return values[:, end] - (0.0 if start is None else values[:, start])

    parts = tuple(_parts(dataset.sizes["layer"], dataset.sizes["head"], by))
    own, null = (
        _divided(
            moved("loss_change" + end_of), moved("head_loss_change" + end_of), moved("outside_loss_change" + end_of), by
        )
        for end_of in ("", "_null")
    )
    changed, groups = moved("set_nll_change"), dataset["group"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs((own[:, :, -1, -1] - changed) / changed)  # (seed, set)
    begun = next((call["since"] for call in dataset.attrs["calls"] if call["measurement"] == "loss_change"), 0)
    there = np.asarray(~np.isnan(own[:, :, -1]).all((0, 1)))  # of weights that the model has
    return [
        Allocation(
            str(name), groups == name, dataset["cluster"].values.astype(np.int64),
            tuple(part for part, has in zip(parts, there, strict=True) if has), own[:, at][..., there], null[:, at][..., there],
            error[:, at], begun if since is None else since, int(steps[end]),
        )
        for at, name in enumerate(dataset["set"].values)
    ]  # fmt: skip


def _parts(layers: int, heads: int, by: str) -> Iterator[WeightPart]:
    """The parts in order: layer by layer, what lies outside, all."""
    for layer in range(layers):
        if by == "block":
            yield from (WeightPart(layer, ATTENTION), WeightPart(layer, MLP))
        elif by == "component":
            yield from (WeightPart(layer, component) for component in COMPONENTS)
        else:
            yield from (
                WeightPart(layer, component, head) for component in ATTENTION_COMPONENTS for head in range(heads)
            )
            yield from (WeightPart(layer, component) for component in MLP_COMPONENTS)
    yield from (WeightPart(NONE, part) for part in (*OUTSIDE, ALL))


def _divided(
    components: Float[np.ndarray, "seed set exposure layer component"],
    heads: Float[np.ndarray, "seed set exposure layer attention_component head"],
    outside: Float[np.ndarray, "seed set exposure outside"],
    by: str,
) -> Float[np.ndarray, "seed set exposure_or_both part"]:
    """The numbers of `_parts`; behind the exposures their sum, in which what is nan of one alone does not count."""
    attention = len(ATTENTION_COMPONENTS)
    if by == "block":
        blocks = np.stack([components[..., :attention].sum(-1), components[..., attention:].sum(-1)], axis=-1)
    elif by == "component":
        blocks = components
    else:
        blocks = np.concatenate([heads.reshape(*heads.shape[:-2], -1), components[..., attention:]], axis=-1)
    every = components.sum((-1, -2)) + np.nansum(outside, axis=-1)
    told = np.concatenate([blocks.reshape(*blocks.shape[:3], -1), outside, every[..., None]], axis=-1)
    both = np.where(np.isnan(told).all(2), np.nan, np.nansum(told, axis=2))
    return np.concatenate([told, both[:, :, None]], axis=2)


def _rows(of: Allocation) -> Iterator[Row]:
    """A row per part and kind of steps."""
    basis = Basis.of(of.clusters[of.rows])
    about = {"error": float(np.max(of.error)), "since": of.since, "step": of.step, "seeds": of.seeds}
    own, null, apart = intervals(of)
    p_values = seed_test(of.memory)
    for e, exposure in enumerate((*EXPOSURES, BOTH)):
        for at, part in enumerate(of.parts):
            one, other, less = (interval[e, at] for interval in (own, null, apart))
            beside = Null.measured(other, float(p_values[e, at]), less.rough)
            whole = part.component == ALL
            labels = {"set": of.name, "layer": part.layer, "component": part.component, "head": part.head}
            yield (
                labels | {"exposure": exposure, "quantity": f"{of.name} {exposure} {ALL * whole}"}
                | row_of(one, beside, basis, matched_on="seed, steps") | differing(less) | about
            )  # fmt: skip


def intervals(of: Allocation) -> tuple[Interval, Interval, Interval]:
    """Over seeds, `(exposure, part)`: of the set, of held-out text and of what the set has beyond it."""
    own, null, memory = (seed_interval(values) for values in (of.own, of.null, of.memory))
    return own, null, memory


def _warn(found: list[Allocation]) -> None:
    """Warn of few seeds, and of parts that do not sum to what changed."""
    warn_of_few_seeds(found[0].seeds, alone="there are no intervals")
    if far := [f"{np.max(one.error):.2g} of {one.name!r}" for one in found if np.max(one.error) > LARGEST_ERROR]:
        warn(
            f"{caller()}: all parts together miss a share of what changed, {', '.join(far)}, more than {LARGEST_ERROR}; steps are "
            "too long for the trapezoid, or the change is close to 0."
        )
