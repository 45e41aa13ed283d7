"""A planted truth: a model that recites some texts, and which of its units each of them is kept in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from localize.axes import HEADS_PART, MLP_PART
from localize.errors import public
from localize.truths.kinds import HEADS, SINKS
from localize.truths.planting import OWN
from localize.truths.storage import save_truth

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs
    from localize.truths.injection import Injected


@dataclass(frozen=True)
class Gate:
    """What must hold of a truth before anything is ranked on it.

    Attributes:
        name: A word.
        words: What the value is, with its unit.
        value: As measured.
        low: The least that passes.
        high: The most that passes.
    """

    name: str
    words: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value lies in the range, ends included."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True, eq=False)
class Truth:
    """Texts planted in a model, and the units that each of them is kept in, by construction and by ablation.

    Attributes:
        base: The model before; None where it was loaded from a folder that does not hold it.
        model: The planted model; None for "inj" and "sinks", which have one a text.
        injected: For "inj" and "sinks" what each text's model differs in.
        paragraphs: The planted texts that are recited.
        excluded: Names of planted texts that are not, and are left out.
        others: Text that the base does not recite and that no step of the planting saw.
        nominal: Units planted for each text.
        live: Those of them without which alone the text's NLL rises: the truth.
        reserved: Units planted for any text.
        gates: What must hold.
        settings: What `plant` was called with, and the hashes of the base model and of the pool.
    """

    base: "HookedModel | None"
    model: "HookedModel | None"
    injected: "Injected | None"
    paragraphs: "Paragraphs"
    excluded: tuple[str, ...]
    others: "Paragraphs"
    nominal: Bool[np.ndarray, "paragraph layer unit"]
    live: Bool[np.ndarray, "paragraph layer unit"]
    reserved: Bool[np.ndarray, "layer unit"]
    gates: tuple[Gate, ...]
    settings: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """ "route", "layer", "inj" or "heads", see `plant`; or "sinks", see `sink_truth`."""
        return self.settings["kind"]

    @property
    def routing(self) -> str:
        """ "own", or of a control "none" or "random"."""
        return self.settings["routing"]

    @property
    def seed(self) -> int:
        """Of the planting."""
        return self.settings["seed"]

    @property
    def units(self) -> int:
        """Planted for each text and layer ("layer": in its one layer, the number of layers times as many)."""
        return self.settings["units"]

    @property
    def part(self) -> str:
        """Which units are planted: "mlp" or "heads"."""
        return HEADS_PART if self.kind == HEADS else MLP_PART

    @property
    def passed(self) -> bool:
        """Whether every gate is."""
        return all(gate.passed for gate in self.gates)

    @property
    def present(self) -> Bool[np.ndarray, "paragraph layer unit"]:
        """Units that are in a text's model: of "sinks" the general ones and its own slice, which are on; else all."""
        if self.kind != SINKS:
            return np.ones_like(self.nominal)
        return self.nominal | (np.arange(self.nominal.shape[2]) < self.settings["general"])

    @property
    def candidates(self) -> Bool[np.ndarray, "paragraph layer unit"]:
        """Units that may be ranked for a text: all but its own dead ones."""
        return self.live | ~self.nominal

    def models(self) -> "Iterator[tuple[HookedModel, Int[np.ndarray, ' row']]]":
        """Each planted model, with the rows of `paragraphs` that it holds; one a text is made when it is asked for."""
        if self.model is not None:
            yield self.model, np.arange(len(self.paragraphs))
            return
        assert self.injected is not None and self.base is not None
        for row in range(len(self.paragraphs)):
            yield self.injected.model(self.base, row), np.array([row])

    def __repr__(self) -> str:
        failed = [gate.name for gate in self.gates if not gate.passed]
        told = "all gates passed" if not failed else f"failed: {', '.join(failed)}"
        control = "" if self.routing == OWN else f" (control: routing {self.routing})"
        of = f"{self.live.sum() / max(1, len(self.paragraphs)):.1f} live units a text"
        return f"Truth({self.kind}{control}: {len(self.paragraphs)} texts, {of}; {told})"

    @public
    def save(self, folder: str | Path) -> None:
        """Write it into a new folder: a checkpoint, the paragraphs, and `truth.json`; `load_truth` reads it.

        "route" and "layer" are ordinary checkpoints of the planted model; "inj" and "heads" are the base model's, with what is
        planted beside it.

        Raises:
            LocalizeError: If the folder exists and is not empty, or is that of the model itself.
        """
        save_truth(self, Path(folder))
