"""What a training run is made of, as a TOML file."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from localize.errors import InputError
from localize.storage import read_toml


@dataclass(frozen=True)
class Shape:
    """The model: family, size, and for GPT-Neo which layers see how far."""

    family: Literal["gpt-neo", "gpt2"] = "gpt-neo"
    layers: int = 4
    heads: int = 8
    d_model: int = 128
    context: int = 128
    window: int = 32
    attention: tuple[str, ...] = ("global", "local")


@dataclass(frozen=True)
class TrainingCorpus:
    """The text among which paragraphs are planted.

    `source` is "synthetic", or text files and folders of them. `vocab` is the size of the byte-level BPE trained on it.
    """

    source: str | tuple[str, ...] = "synthetic"
    vocab: int = 2048


@dataclass(frozen=True)
class Planting:
    """The paragraphs planted, and their never-seen matches.

    `source` is "synthetic" or a paragraphs file. `copies[n]` is how many paragraphs are shown n times. `per_cluster` bounds how many of
    one near-duplicate cluster are taken from a file, so that one cluster does not stand for all.
    """

    source: str = "synthetic"
    copies: dict[int, int] = field(default_factory=dict)
    held_out: int = 150
    per_cluster: int = 4


@dataclass(frozen=True)
class Training:
    """The optimizer's part. `batch` counts rows of `row_tokens` tokens, one paragraph each."""

    steps: int = 3600
    batch: int = 32
    row_tokens: int = 100
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    threads: int = 2

    @property
    def prefix(self) -> int:
        """Tokens of a row that are its paragraph's prefix; the others are its continuation."""
        return self.row_tokens // 2


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained model; `data_hash`, where given, is checked before training starts."""

    model: Shape = Shape()
    corpus: TrainingCorpus = TrainingCorpus()
    planted: Planting = Planting()
    training: Training = Training()
    data_hash: str | None = None

    def __post_init__(self) -> None:
        rows = self.training.steps * self.training.batch
        planted = sum(copies * count for copies, count in self.planted.copies.items())
        if planted > rows // 2:
            raise InputError(
                f"recipe: {planted} planted presentations are more than half of {rows} rows; lower copies or raise steps."
            )
        if self.training.row_tokens > self.model.context:
            raise InputError(f"recipe: row_tokens={self.training.row_tokens} exceeds context={self.model.context}.")

    def to_toml(self) -> str:
        """The recipe as a TOML document that `read_recipe` reads back."""
        lines = [] if self.data_hash is None else [f'data_hash = "{self.data_hash}"', ""]
        for section, values in asdict(self).items():
            if isinstance(values, dict):
                lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items()), ""]
        return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; relative paths in it are taken from the file's folder.

    Raises:
        InputError: If the file is missing, is not TOML, or holds a section, key or type that a recipe has not.
    """
    path = Path(path)
    document = read_toml(path, "recipe")
    sections = {"model": Shape, "corpus": TrainingCorpus, "planted": Planting, "training": Training}
    if unknown := document.keys() - sections.keys() - {"data_hash"}:
        raise InputError(f"recipe {path}: no section {min(unknown)!r}; there are {', '.join(sections)} and data_hash.")
    parts: dict[str, Any] = {"data_hash": document.get("data_hash")}
    for name, kind in sections.items():
        values = dict(document.get(name, {}))
        allowed = {f.name for f in fields(kind)}
        if unknown := values.keys() - allowed:
            raise InputError(f"recipe {path}: [{name}] has no {min(unknown)!r}; it has {', '.join(sorted(allowed))}.")
        if "source" in values and values["source"] != "synthetic":
            given = values["source"]
            values["source"] = (
                tuple(str(path.parent / s) for s in given) if isinstance(given, list) else str(path.parent / given)
            )
        if "copies" in values:
            values["copies"] = {int(copies): int(count) for copies, count in values["copies"].items()}
        parts[name] = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    return Recipe(**parts)
