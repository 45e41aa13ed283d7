"""What a benchmark found, as a value and as a file that others can read, check and add theirs to."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.bench.deletion import Deleted
from localize.bench.layer_maps import LayerMap
from localize.bench.scoring import TextScore
from localize.errors import InputError, caller, public
from localize.storage import read_json, write_json
from localize.truths.truth import Gate

if TYPE_CHECKING:
    import pandas as pd

FILE = "results.json"
SCHEMA = 1


@dataclass(frozen=True)
class BenchedTruth:
    """A truth and what was found of it.

    Attributes:
        name: "route", "control-none", "control-random", "layer", "inj", "heads", "sinks" or "control-foreign".
        settings: What was planted: kind, routing, units, texts, seed, schedule, hashes of the base model and of the pool.
        texts: Names of those that are recited.
        excluded: Names of those that are not, and are left out.
        live: Mean number of live units a text.
        gates: What must hold, with what the controls add.
        scores: Of each localizer and text.
        maps: Gradient maps, of "layer".
        skipped: Localizers that score no such units.
    """

    name: str
    settings: Mapping[str, Any]
    texts: tuple[str, ...]
    excluded: tuple[str, ...]
    live: float
    gates: tuple[Gate, ...]
    scores: tuple[TextScore, ...] = ()
    maps: tuple[LayerMap, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates that it fails; nothing is ranked on it if there are any."""
        return tuple(gate.name for gate in self.gates if not gate.passed)

    @property
    def words(self) -> str:
        """ "route, k = 8, seed 0"."""
        return f"{self.name}, k = {self.settings['units']}, seed {self.settings['seed']}"


@dataclass(frozen=True, eq=False)
class BenchResults:
    """A benchmark's results.

    Attributes:
        about: Who made them from what: versions, model, paragraphs, settings, device, threads, seconds.
        localizers: By name: in words, and where from.
        truths: What they were scored on.
        deletion: What their best units are to text that the model recites by itself; empty where that was not asked for.
    """

    about: Mapping[str, Any]
    localizers: Mapping[str, Mapping[str, str]]
    truths: tuple[BenchedTruth, ...]
    deletion: tuple[Deleted, ...] = field(default=())

    def gates(self) -> "pd.DataFrame":
        """A row for each truth and gate; see `localize.bench.tables.gates_table`."""
        from localize.bench.tables import gates_table

        return gates_table(self)

    def table(self, *, seed: int = 0) -> "pd.DataFrame":
        """A row for each kind of truth and localizer; see `localize.bench.tables.localizer_table`."""
        from localize.bench.tables import localizer_table

        return localizer_table(self, seed=seed)

    def layers(self) -> "pd.DataFrame":
        """Which layer localizers and gradient maps name; see `localize.bench.tables.layer_table`."""
        from localize.bench.tables import layer_table

        return layer_table(self)

    def gradient_maps(self, *, seed: int = 0) -> "pd.DataFrame":
        """Gradient shares of texts kept in one layer, over held-out text's; see `localize.bench.tables.map_table`."""
        from localize.bench.tables import map_table

        return map_table(self, seed=seed)

    def save(self, path: str | Path) -> None:
        """Write the JSON that `localize.bench.read_results` reads."""
        write_json(Path(path), {"schema": SCHEMA} | plain(self))

    def __repr__(self) -> str:
        told = ", ".join(truth.words + (" (not ranked)" if truth.failed else "") for truth in self.truths)
        return f"BenchResults({len(self.localizers)} localizers on {told})"


@public
def read_results(path: str | Path) -> BenchResults:
    """The results that `localize bench` wrote: its folder, or the JSON file.

    Raises:
        InputError: If there are none, they are of another schema, or something in them is not what it should be.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    content = read_json(file)
    if content.get("schema") != SCHEMA:
        raise InputError(f"{caller()}: {file}: schema {content.get('schema')!r}; this localize reads schema {SCHEMA}.")
    try:
        truths = tuple(_truth(one) for one in content["truths"])
        deletion = tuple(Deleted(**with_nan(Deleted, one)) for one in content["deletion"])
        return BenchResults(content["about"], content["localizers"], truths, deletion)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{caller()}: {file}: not what `localize bench` writes ({error}); bench again.") from None


def _truth(told: Mapping[str, Any]) -> BenchedTruth:
    return BenchedTruth(
        told["name"], told["settings"], tuple(told["texts"]), tuple(told["excluded"]), told["live"],
        tuple(Gate(**with_nan(Gate, gate)) for gate in told["gates"]),
        tuple(TextScore(**with_nan(TextScore, score)) for score in told["scores"]),
        tuple(_map(one) for one in told["maps"]), tuple(told["skipped"]),
    )  # fmt: skip


def _map(told: Mapping[str, Any]) -> LayerMap:
    right = {name: math.nan if value is None else value for name, value in told["right"].items()}
    return LayerMap(told["text"], told["layer"], tuple(told["shares"]), dict(told["named"]), right)


def with_nan(of: type, told: Mapping[str, Any]) -> dict[str, Any]:
    """A record with nan where JSON has null for a number."""
    floats = {each.name for each in fields(of) if each.type in (float, "float")}
    return {name: math.nan if value is None and name in floats else value for name, value in told.items()}


def plain(value: Any) -> Any:
    """As JSON takes it: nan as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value) if not isinstance(value, BenchResults) else vars(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
