"""What a measurement declares of itself, once: its axes, its variables, and what a run, a grid or a report must know of it."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal

from localize.axes import OWN
from localize.errors import InputError
from localize.measurements.cost import Workload

Role = Literal["measured", "null", "before", "set-up"]


@dataclass(frozen=True)
class Axis:
    """One axis of variables.

    Attributes:
        name: Its name in a dataset.
        words: What stands at it in a figure.
        counted: How a number along it is said, "layer {}"; None says its words and the number. Labels speak for themselves.
        labels: Those that it always has; none where they follow from the model, the paragraphs or the options.
        draws: Whether it repeats a measurement: it is averaged before paragraphs are compared.
        averaged: Whether a figure that does not show it averages over it.
        summed: Whether such a figure sums shares over it.
        chosen_by: The option that chooses its labels, where there is one: cells of a sweep that chose different ones fill it together.
    """

    name: str
    words: str
    counted: str | None = None
    labels: tuple[str, ...] = ()
    draws: bool = False
    averaged: bool = False
    summed: bool = False
    chosen_by: str | None = None


@dataclass(frozen=True)
class Variable:
    """One variable of a signature.

    Attributes:
        name: Its name in the dataset.
        dims: Its axes, in order.
        kind: "float" or "integer".
        unit: What one unit of it is.
        label: A few words for an axis title.
        description: One line that says what it is.
        source: Where the definition comes from.
        low: Smallest possible value, None if there is none.
        high: Largest possible value, None if there is none; one of `LENGTHS` where it follows from the paragraphs' length.
        pieces: Whether nan means that a cell was not asked for, so that two signatures fill each other's cells.
        role: "measured"; "null", what `of` is when there is nothing; "before", what others were before a change; "set-up", what was
            done, in places and ids, or what each paragraph has in places of its own: a mean of it means nothing.
        of: The variable that a null is of.
        before: The variable that tells what this one was before the change of model or prefix; their difference is the rise.
        part: As a part of which `MemorizationSignature.distinguish` takes it; "" if it does not. Where there is a `before`, its rise.
    """

    name: str
    dims: tuple[str, ...]
    kind: Literal["float", "integer"]
    unit: str
    label: str
    description: str
    source: str
    low: int | None = None
    high: int | str | None = None
    pieces: bool = False
    role: Role = "measured"
    of: str | None = None
    before: str | None = None
    part: str = ""

    def bounds(self, prefix: int | float, continuation: int | float) -> tuple[float, float]:
        """Smallest and largest possible value in paragraphs of so many tokens; infinite where there is none."""
        high = LENGTHS[self.high](prefix, continuation) if isinstance(self.high, str) else self.high
        return (-math.inf if self.low is None else float(self.low), math.inf if high is None else float(high))


LENGTHS: Mapping[str, Callable[[int | float, int | float], int | float]] = MappingProxyType(
    {
        "prefix": lambda prefix, continuation: prefix,
        "continuation": lambda prefix, continuation: continuation,
        "last prefix position": lambda prefix, continuation: prefix - 1,
        "last position": lambda prefix, continuation: prefix + continuation - 1,
        "log of the paragraph": lambda prefix, continuation: math.log(prefix + continuation),
    }
)
"""Largest values that follow from the tokens of prefix and continuation."""

Options = Mapping[str, Any]

OBJECTS = ("counts", "copies", "perturbation", "at", "reference", "rows", "scores", "tokens")
"""Arguments that are arrays or results of another measurement, which a file cannot hold; each measurement has its own default."""


def always(options: Options, has_counts: bool) -> bool:
    """A paragraph's numbers never depend on its company."""
    return True


def never(options: Options, has_counts: bool) -> bool:
    """They always do."""
    return False


def recall_alone(work: Workload) -> float:
    """Nothing beyond the pass of recall."""
    return 0.0


@dataclass(frozen=True)
class Measurement:
    """One measurement: a function from a model and paragraphs to a signature.

    Attributes:
        name: The same in Python, on the command line, in a grid, in a report and of a figure's file.
        words: What it is, for a report: "activation patching".
        variables: What it adds to a signature and nobody else declares.
        also: Names of variables that others declare and it gives too.
        axes: Those that nobody else declares.
        place: Where it stands among the others, in every list; those without one stand last.
        function: What measures; None for the public function of that name.
        asked: Whether a run or a grid can ask for it: it needs a model, paragraphs and options that a file can hold.
        by_default: Whether a run makes it unless told otherwise.
        takes: Options of `localize run` beside seed and batch size that it takes.
        builds_on: An argument that is another measurement's signature, and that measurement's name.
        cells: Options that say which cells of a variable with `pieces` are measured: what is measured in parts joins if all others agree.
        alone: Whether, with these options and with or without token counts beside the model, each paragraph's numbers are the
            same whoever is measured with it: only then can blocks of paragraphs be measured apart.
        alone_if: When that is so, in words.
        passes: About how many forward passes a paragraph costs beyond recall and decoding.
        formerly: Names that grids and commands had for it, which still work.
    """

    name: str
    words: str
    variables: tuple[Variable, ...] = ()
    also: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    place: int | None = None
    function: Callable[..., Any] | None = None
    asked: bool = True
    by_default: bool = False
    takes: tuple[str, ...] = ()
    builds_on: tuple[str, str] | None = None
    cells: tuple[str, ...] = ()
    alone: Callable[[Options, bool], bool] = never
    alone_if: str = "never: it looks at the whole set"
    passes: Callable[[Workload], float] = recall_alone
    formerly: tuple[str, ...] = ()

    def call(self) -> Callable[..., Any]:
        """The function itself."""
        return self.function or getattr(import_module("localize"), self.name)

    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of the function."""
        return inspect.signature(self.call()).parameters

    def defaults(self) -> dict[str, Any]:
        """Its options and their defaults; those that a file cannot hold are left out."""
        given = {p.name: p.default for p in self.parameters().values() if p.default is not p.empty}
        return {name: plain_value(default) for name, default in given.items() if name not in OBJECTS}

    def checked(self, given: Options, where: str) -> dict[str, Any]:
        """All options, those given in place of the defaults.

        Raises:
            InputError: If there is no such option; it names the nearest.
        """
        known = self.defaults()
        check_keys(given, known, f"{where}: {self.name}")
        return known | {name: plain_value(value) for name, value in given.items()}

    def of_own(self, options: Options) -> bool:
        """Whether it asks for the continuation that the model says itself."""
        return options.get("continuation") == OWN

    def cost(self, options: Options, facts: Mapping[str, Any], prefix: int, continuation: int) -> float:
        """About how many forward passes a paragraph takes, recall and decoding the own continuation included."""
        work = Workload(options, facts["layers"], facts["heads"], prefix, continuation)
        return 1.0 + float(self.of_own(options)) + self.passes(work)


def plain_value(value: Any) -> Any:
    """NumPy's numbers and tuples as Python's numbers and lists, which a file can hold."""
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def check_keys(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise an `InputError` that names the nearest allowed key, unless all given ones are known."""
    for key in given:
        if key not in known:
            raise unknown_key(key, known, where)


def unknown_key(key: Any, known: Iterable[str], where: str) -> InputError:
    """What to raise for a key that is not allowed: it names the nearest that is."""
    allowed = [str(name) for name in known]
    near = get_close_matches(str(key), allowed, n=1, cutoff=0.0)
    meant = f"; did you mean {near[0]!r}? " if near else "; "
    return InputError(f"{where} has no {key!r}{meant}Allowed: {', '.join(allowed) or 'nothing'}.")
