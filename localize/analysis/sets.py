"""Trainings on a finite set of random rows whose law is known: what is in the set, and the bits that a model knows of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from localize.analysis.trainings import Trainings
from localize.errors import SignatureError, caller
from localize.statistics import Interval

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


@dataclass(frozen=True, eq=False)
class OfSet:
    """One arm of a training on a set, or a training without arms.

    Attributes:
        arm: Its name, "" without arms.
        trainings: What was measured.
        told: What its recipe says of the set, as `localize.train.selection.set_facts` gives it.
        parameters: Of the model.
        dtype: Of its weights.
    """

    arm: str
    trainings: Trainings
    told: dict[str, Any]
    parameters: int
    dtype: str

    @property
    def rows(self) -> int:
        """How many there are in the set."""
        return int(self.told["rows"])

    @property
    def shown(self) -> Bool[np.ndarray, " paragraph"]:
        """The measured rows that are in it."""
        return self.trainings.planted

    @property
    def bits_of_row(self) -> float:
        """What a model needs for a row that knows its law alone: for each predicted token log2 of the vocabulary."""
        return int(self.told["predicted_tokens"]) * math.log2(int(self.told["vocab"]))

    @property
    def data_bits(self) -> float:
        """All that can be known of the set: rows that begin alike cannot be told apart by what is given of them."""
        return self.rows * self.bits_of_row - float(self.told["ambiguous_bits"])

    @property
    def bits(self) -> Float[np.ndarray, "seed step paragraph"]:
        """What the model knows of each row: the bits of its law less the model's NLL, in bits; below 0 where it does worse than the law."""
        predicted = int(self.told["predicted_tokens"])
        return self.bits_of_row - self.trainings.nll * predicted / math.log(2)

    @property
    def whole(self) -> Bool[np.ndarray, "seed step paragraph"]:
        """Whether all predicted tokens of a row are the model's first choice."""
        return self.trainings.exact_match == int(self.told["predicted_tokens"])

    @property
    def labels(self) -> dict[str, Any]:
        """The columns of a table that say which arm it is."""
        return {"arm": self.arm, "rows": self.rows, "dtype": self.dtype, "parameters": self.parameters}


def sets_of(signature: "MemorizationSignature", source: str) -> list[OfSet]:
    """The arms of a training on sets of one kind.

    Raises:
        SignatureError: If it was trained on something else.
    """
    return list(_sets(signature, source))


def _sets(signature: "MemorizationSignature", source: str) -> Iterator[OfSet]:
    for arm, part in (signature.arms or {"": signature}).items():
        told = part.dataset.attrs.get("training", {})
        found = told.get("set", {}).get("source")
        if found != source:
            other = f"corpus {found!r}" if found else "other text"
            raise SignatureError(
                f"{caller()}: trained on {other}{f' (arm {arm!r})' if arm else ''}; a training with corpus source = {source!r} is needed."
            )
        yield OfSet(arm, Trainings.of(part), told["set"], int(told["parameters"]), str(told["dtype"]))


def by_size(sets: Sequence[OfSet]) -> dict[int, list[OfSet]]:
    """The arms by the model's parameters, of each the sets in the order of their bits; of one dtype, the first one's."""
    found: dict[int, list[OfSet]] = {}
    for one in sorted(sets, key=lambda one: (one.parameters, one.data_bits)):
        if one.dtype == sets[0].dtype:
            found.setdefault(one.parameters, []).append(one)
    return found


def is_grid(sizes: Mapping[int, Sequence[OfSet]]) -> bool:
    """Whether there are several sizes of the model, each with several sets."""
    return len(sizes) > 1 and all(len(of) > 1 for of in sizes.values())


def widened(interval: Interval, of_row: Float[np.ndarray, " row"], rows: int, seeds: int) -> Interval:
    """An interval over seeds of a mean over some rows, wide enough for the other rows of the set, too.

    The rows measured are the same in all seeds, so that seeds do not show how much they vary; the variance of their mean is added, which
    is none where all are measured. It is that of each row's mean over seeds, in which some of the seeds' own is: rather too wide.

    Args:
        interval: Of Student's t over seeds.
        of_row: The mean of each measured row over seeds.
        rows: How many there are in the set.
        seeds: How many trainings.
    """
    from scipy.special import stdtrit

    left = 1 - len(of_row) / rows
    if left <= 0 or len(of_row) < 2:
        return interval
    sampled = stdtrit(seeds - 1, 0.975) * np.std(of_row, ddof=1) * math.sqrt(left / len(of_row))
    low = interval.estimate - np.hypot(interval.estimate - interval.low, sampled)
    high = interval.estimate + np.hypot(interval.high - interval.estimate, sampled)
    return Interval(interval.estimate, np.asarray(low), np.asarray(high), rough=interval.rough)
