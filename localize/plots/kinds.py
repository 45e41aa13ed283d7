"""What a figure declares of itself in its own file: its name, what it needs and draws, and the words a paper prints with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.analysis.change import Changes
from localize.analysis.rows import main_pair
from localize.analysis.trainings import Design
from localize.code import origin
from localize.errors import LocalizeError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from localize.signature.signature import MemorizationSignature

BANDS = "Bands and bars are 95% intervals by bootstrap over clusters of near-duplicates."


@dataclass(frozen=True)
class FigureAsked:
    """What the figures of one paragraph, and those with draws, are to show.

    Attributes:
        tokenizer: Turns token ids into text; None shows ids.
        paragraph: Number or id; None takes the first of the first group.
        seed: Of bootstraps and permutations.
    """

    tokenizer: Any = None
    paragraph: int | str | None = None
    seed: int = 0


Make = Callable[["MemorizationSignature", FigureAsked], dict[str, "go.Figure"]]
"""Draws one kind of figure, perhaps several of it: what each is called after the kind's name, "" where it is alone."""


@dataclass(frozen=True, eq=False)
class FigureKind:
    """One kind of figure of what was measured.

    Attributes:
        name: That of the measurement which it draws; of its file, and beside its own name that of its function in `localize.plots`.
        needs: Variables of which every tuple must hold at least one that was measured.
        title: What is seen.
        caption: What the reader must know.
        function: Takes a signature and `seed`, and gives a plotly figure.
        also: Variables that it draws where they were measured, beyond those that it needs. A variable that no figure draws gets
            a default one.
        make: Calls the function, where it takes more than a seed, gives several figures or sometimes none.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    title: str
    caption: str
    function: Callable[..., "go.Figure"]
    also: tuple[str, ...] = ()
    make: Make | None = None

    @property
    def draws(self) -> frozenset[str]:
        """All variables that it draws."""
        return frozenset(self.also).union(*self.needs)

    def measured(self, signature: "MemorizationSignature") -> bool:
        """Whether the signature holds what is needed."""
        return all(any(name in signature for name in names) for names in self.needs)

    def figures(self, signature: "MemorizationSignature", asked: FigureAsked) -> dict[str, "go.Figure"]:
        """What it draws of a signature: by the words after its name, "" where it is alone."""
        if self.make is not None:
            return self.make(signature, asked)
        return {"": self.function(signature, seed=asked.seed)}

    def register(self) -> "FigureKind":
        """Draw it from now on, after the figures there are: in `localize figures` and in reports, and as `localize.plots.NAME`.

        Registered again, as in a notebook's cell, it takes the place of the earlier one: that of a function of the same name in the
        same module.

        Raises:
            LocalizeError: If another figure has the name.
        """
        known = _KINDS.get(self.name, self)
        if origin(known.function) != origin(self.function):
            raise LocalizeError(
                f"FigureKind.register: a figure {self.name!r} of another function is registered already; choose another name, or "
                "unregister that one."
            )
        _KINDS[self.name] = self
        return self

    def unregister(self) -> None:
        """Draw it no more.

        Raises:
            LocalizeError: If it is not registered.
        """
        if _KINDS.get(self.name) is not self:
            raise LocalizeError(
                f"FigureKind.unregister: the figure {self.name!r} is not registered, or is another one."
            )
        del _KINDS[self.name]


@dataclass(frozen=True, eq=False)
class EditsAsked:
    """Edits to be drawn.

    Attributes:
        changes: By name, each a `Change` or several repetitions.
        controls: Which of them others are held against.
        relearned: What `localize.relearn` gave, by name.
        attacked: What `localize.resurface` gave, by the edit's name, one run or several.
        seed: Of bootstraps.
    """

    changes: Changes
    controls: Sequence[str]
    relearned: "Mapping[str, MemorizationSignature]"
    attacked: "Mapping[str, Sequence[MemorizationSignature]]"
    seed: int


@dataclass(frozen=True, eq=False)
class EditFigureKind:
    """One kind of figure of edits.

    Attributes:
        name: Of its file.
        title: What is seen.
        caption: What the reader must know.
        function: What draws it.
        make: Calls the function; gives None where there is nothing to draw.
    """

    name: str
    title: str
    caption: str
    function: Callable[..., "go.Figure"]
    make: Callable[[EditsAsked], "go.Figure | None"]


@dataclass(frozen=True, eq=False)
class TrainingFigureKind:
    """One kind of figure of what was measured while a model was trained.

    Attributes:
        name: Of its file, and of its function in `localize.plots`.
        title: What is seen.
        caption: What the reader must know.
        function: Takes a signature over training and `seed`, and gives a plotly figure.
        there: Whether the signature holds what it draws.
        of: Which trainings it tells of.
    """

    name: str
    title: str
    caption: str
    function: Callable[..., "go.Figure"]
    there: Callable[["MemorizationSignature"], bool]
    of: Design = "planted"


_KINDS: dict[str, FigureKind] = {}
REGISTERED = MappingProxyType(_KINDS)
"""The figures of what was measured, by name: those of the house, once `localize.plots.catalogue` is there, and the user's own."""


def main_groups(signature: "MemorizationSignature") -> tuple[str, ...]:
    """The groups whose difference is told, or else the first."""
    return main_pair(signature.groups) or signature.groups[:1]


def paragraph_asked(signature: "MemorizationSignature", asked: FigureAsked) -> int | str:
    """The paragraph asked for, or the first of the first group."""
    if asked.paragraph is not None:
        return asked.paragraph
    return int(np.flatnonzero(signature.dataset["group"].values == signature.groups[0])[0])
