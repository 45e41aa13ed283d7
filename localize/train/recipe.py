"""What a training run is made of, as a TOML file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from localize.axes import TEXT_KINDS, TRAINED, TWIN, TYPICAL
from localize.errors import InputError
from localize.train.repeated_checks import check_repeated

if TYPE_CHECKING:
    from localize.models.gates import SinkGates

SYNTHETIC, CHAIN = "synthetic", "chain"
"""Sources that are generated: paragraphs of the suite's own, and rows of a Markov chain."""

UNIFORM, FACTS = "uniform", "facts"
"""Sources that are finite sets of random rows, shown again and again; see `localize.train.repeated`."""

GENERATED = (SYNTHETIC, CHAIN, UNIFORM, FACTS)

WATCHED_FILE = "training.zarr.zip"
"""What was watched, in the folder of a training."""

WHOLE = (0.0, 1.0)
"""The window of a whole stage."""


@dataclass(frozen=True)
class Shape:
    """The model: family, size, and for GPT-Neo which layers see how far; or `start`, a checkpoint folder to go on from."""

    family: Literal["gpt-neo", "gpt2"] = "gpt-neo"
    layers: int = 4
    heads: int = 8
    d_model: int = 128
    context: int = 128
    window: int = 32
    attention: tuple[str, ...] = ("global", "local")
    start: str | None = None


@dataclass(frozen=True)
class TrainingCorpus:
    """The text among which paragraphs are planted.

    `source` is "synthetic", "chain", or text files and folders of them. `vocab` is the size of the byte-level BPE trained on it, or the
    number of words of a chain. Of a chain, `rules` names its transitions, `words` are the first it uses and the one after the last
    (all if left out), and `mark` is a word that each of its rows begins with.

    "uniform" and "facts" are sets of `rows` random rows, shown again and again: nothing is planted among them, they are the planted
    paragraphs. The first `measured` of them are measured (0: all), and if it is more than `rows`, as many of their law beyond them that
    are never shown, so that arms of other `rows` measure the same. Of facts the last `value` tokens of a row are what is asked for; the
    fact of rank r is as frequent as r^-`exponent`, and shown as often, but where all are shown alike, `evenly`.
    """

    source: str | tuple[str, ...] = SYNTHETIC
    vocab: int = 2048
    rules: int = 0
    words: tuple[int, int] | None = None
    mark: int | None = None
    rows: int = 0
    measured: int = 0
    value: int = 2
    exponent: float = 0.0
    evenly: bool = False


@dataclass(frozen=True)
class Planting:
    """The paragraphs planted, and their never-seen matches.

    `source` is that of the corpus if it is generated, or a paragraphs file. `copies[n]` is how many paragraphs are shown n times, spread
    at random over a window of the stage `stage`; the paragraphs of each level take the `windows`, shares of the stage, in turn.
    `per_cluster` bounds how many of one near-duplicate cluster are taken from a file, so that one cluster does not stand for all.

    Of a chain, the paragraphs of each level are of the `kinds` in turn: "typical" rows as they are; "rare" ones, a share `noise` of whose
    words is replaced by any of the chain's, once; "hard" ones, of which other words are replaced at each showing. Held-out ones likewise.
    In the place of "fresh" ones other rows of the chain are shown, each once. `rules` names other transitions than the corpus has, of which
    planted and held-out paragraphs are: a domain that is seen in them alone.

    With `pair`, a twin is trained beside: the same run with fresh rows in the place of the planted ones. With `halves`, so many
    models are trained, each without a random half of the paragraphs; every two of them leave out opposite halves.
    """

    source: str = SYNTHETIC
    copies: dict[int, int] = field(default_factory=dict)
    held_out: int = 150
    per_cluster: int = 4
    windows: tuple[tuple[float, float], ...] = (WHOLE,)
    stage: int = 0
    pair: bool = False
    halves: int = 0
    kinds: tuple[str, ...] = (TYPICAL,)
    noise: float = 0.3
    rules: int | None = None


@dataclass(frozen=True)
class Training:
    """The optimizer's part. `batch` counts rows of `row_tokens` tokens, one paragraph each.

    `schedule` says what follows the warm-up: "cosine", down to a tenth, or "constant". `dtype` is that of the weights, and of all that
    is computed with them; "bfloat16" has no float32 copy of them.
    """

    steps: int = 3600
    batch: int = 32
    row_tokens: int = 100
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    threads: int = 2
    schedule: Literal["cosine", "constant"] = "cosine"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def prefix(self) -> int:
        """Tokens of a row that are its paragraph's prefix; the others are its continuation."""
        return self.row_tokens // 2


@dataclass(frozen=True)
class SinkUnits:
    """Memorization sinks: hidden units of the MLPs that are on for some texts alone while the model is trained.

    `general` is the share of each MLP's hidden units that is always on; the others are sinks. Of `kind` "hashed" each sink is on for a text
    with the chance `share`. With `tied` which ones follows from the row's own tokens, alike at each showing; without, the control, they are
    drawn anew for every row. Of `kind` "slices" each planted text has `slice_units` sinks of its own, which are on where it is shown; with
    `foreign`, the control, a slice drawn anew at each showing is on instead. "": there are none.

    With `bounded` what each sink reads and writes with is scaled down after every step to at most the norm of that of a general unit
    of its layer, drawn once: else sinks, which keep texts alone, grow beyond all others, and their norms tell them.

    The model that is left is the one without its sinks; what these write lies beside it, for `localize.sinks`.
    """

    kind: str = ""
    general: float = 0.7
    share: float = 0.3
    tied: bool = True
    slice_units: int = 1
    foreign: bool = False
    bounded: bool = False


@dataclass(frozen=True)
class Stage:
    """A part of the training with text and a schedule of its own; what is left out is as in `[corpus]` and `[training]`.

    `name` is what figures call it; `replay` is the share of its rows that are drawn from the rows of the stages before. With `fresh` it
    begins from untrained weights, those that the training began from: what its text teaches a model that knows nothing else.

    Of facts `keep` are shown in it and the others no more, those that `select` says: "loss", of which the model finds the value least
    surprising when the stage begins; "oracle", the most frequent; "random". "": all are shown.
    """

    steps: int
    name: str = ""
    corpus: dict[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    schedule: Literal["cosine", "constant"] | None = None
    warmup: int | None = None
    replay: float = 0.0
    fresh: bool = False
    select: Literal["", "loss", "oracle", "random"] = ""
    keep: int = 0


@dataclass(frozen=True)
class Watching:
    """When paragraphs are measured while the model is trained, and what: every so many steps, from before the first on. 0: never.

    With `loss_change` the gradients of planted and held-out paragraphs are taken after every step, and what each part of the weights
    changed in their loss is measured with the rest: see `localize.LossChange`, which tells what it costs.

    `checkpoints` is after how many steps each a checkpoint is kept, from before the first on, and after the last: for measurements that
    are made when the training is over, by a sweep. 0: none but the trained model.
    """

    every: int = 0
    measures: tuple[str, ...] = ("recall",)
    loss_change: bool = False
    checkpoints: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained model; `data_hash`, where given, is checked before training starts.

    `seeds` is how many trainings are made, of the seeds from `training.seed` on: they differ in their first weights, in the text around
    the planted paragraphs, and in the order of rows, and have tokenizer and paragraphs in common. `arms` are variants by name, each
    trained with all seeds and runs instead of the recipe itself; they have steps, seeds, runs and watch in common, and texts.
    """

    model: Shape = Shape()
    corpus: TrainingCorpus = TrainingCorpus()
    planted: Planting = Planting()
    training: Training = Training()
    sinks: SinkUnits = SinkUnits()
    watch: Watching = Watching()
    stage: tuple[Stage, ...] = ()
    seeds: int = 1
    data_hash: str | None = None
    arms: Mapping[str, "Recipe"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = self.steps * self.training.batch
        planted = sum(copies * count for copies, count in self.planted.copies.items())
        if planted > rows // 2:
            raise InputError(
                f"recipe: {planted} planted presentations are more than half of {rows} rows; lower copies or raise steps."
            )
        if self.model.start is None and self.training.row_tokens > self.model.context:
            raise InputError(f"recipe: row_tokens={self.training.row_tokens} exceeds context={self.model.context}.")
        self._check_numbers()
        if any(corpus.source in (UNIFORM, FACTS) for corpus in self.corpora):
            check_repeated(self, facts=self.corpus.source == FACTS)
        elif any(stage.select or stage.keep for stage in self.stage):
            raise InputError(f"recipe: stage select and keep: facts alone are selected, not {self.corpus.source!r}.")
        for window in self.planted.windows:
            if len(window) != 2 or not 0 <= window[0] < window[1] <= 1:
                raise InputError(
                    f"recipe: planted windows: {list(window)} must be two shares of the stage, 0 <= first < second <= 1."
                )
        for index, stage in enumerate(self.stage):
            if not 0 <= stage.replay < 1:
                raise InputError(f"recipe: stage {index}: replay={stage.replay} must be a share of 0 up to below 1.")
            if unset := [key for key, value in stage.corpus.items() if value is None]:
                raise InputError(
                    f"recipe: stage {index}: corpus {unset[0]} = None: a file cannot say so; leave it out of [corpus], and set it in the "
                    "other stages."
                )
            if stage.replay and not index:
                raise InputError("recipe: stage 0: replay: there is no older stage whose rows could be shown again.")
        if self.planted.stage not in range(len(self.trainings)):
            raise InputError(
                f"recipe: planted stage={self.planted.stage}: there are the stages 0..{len(self.trainings) - 1}."
            )
        if self.stage and self.stage[0].fresh:
            raise InputError("recipe: stage 0: fresh: the first stage begins from untrained weights anyway.")
        self._check_sinks()
        self._check_arms()

    def _check_sinks(self) -> None:
        """Refuse sinks that cannot be."""
        of = self.sinks
        if not of.kind:
            return
        if of.kind not in ("hashed", "slices"):
            raise InputError(f"recipe: sinks kind={of.kind!r}: hashed and slices are known.")
        for name, value, kind in (("general", of.general, float), ("share", of.share, float), ("slice_units", of.slice_units, int),
                                  ("tied", of.tied, bool), ("foreign", of.foreign, bool), ("bounded", of.bounded, bool)):  # fmt: skip
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, kind)):
                raise InputError(f"recipe: sinks {name}={value!r} must be a {kind.__name__}.")
        if not 0 < of.general < 1:
            raise InputError(f"recipe: sinks general={of.general} must be a share above 0 and below 1.")
        if self.planted.halves:
            raise InputError("recipe: sinks and planted halves: one of them, not both.")
        if self.watch.loss_change:
            raise InputError("recipe: sinks and watch loss_change: one of them, not both.")
        if of.kind == "slices" and not of.tied:
            raise InputError("recipe: sinks tied = false is of kind hashed; the control of slices is foreign = true.")
        if of.kind == "hashed" and of.foreign:
            raise InputError("recipe: sinks foreign = true is of kind slices; the control of hashed is tied = false.")
        if self.model.start is None and (problem := self.gates(4 * self.model.d_model, 0).problem()) is not None:
            raise InputError(f"recipe: sinks: {problem}.")

    def gates(self, units: int, seed: int, texts: Sequence[str] | None = None) -> "SinkGates":
        """Its gates of MLPs of so many hidden units, in the training of a seed; without the planted texts for their number alone."""
        from localize.models.gates import SinkGates

        of, planted = self.sinks, sum(count for copies, count in self.planted.copies.items() if copies)
        slices = of.kind == "slices"
        return SinkGates(
            of.kind or "hashed", units, round(of.general * units), 1 / max(planted, 1) if slices else float(of.share),
            of.slice_units if slices else 0, f"sinks {seed}", tuple([""] * planted if texts is None else texts),
            of.tied and not of.foreign,
        )  # fmt: skip

    def _check_arms(self) -> None:
        """Refuse variants that cannot stand beside each other."""
        for name, arm in self.arms.items():
            if not ARM_NAME.fullmatch(name):
                raise InputError(
                    f"recipe: arm {name!r}: letters, digits and . _ % + - = , alone can be in its name, which is that of a folder."
                )
            if arm.arms or arm.data_hash or self.data_hash:
                raise InputError(f"recipe: arm {name!r}: arms have no arms of their own, and no data_hash.")
            for what in ("seeds", "runs", "steps", "watch"):
                if (own := getattr(arm, what)) != getattr(self, what):
                    raise InputError(
                        f"recipe: arm {name!r}: {what} = {own} is not the recipe's, {getattr(self, what)}; arms have it in common."
                    )
            if len(arm.stage) != len(self.stage):
                raise InputError(
                    f"recipe: arm {name!r}: {len(arm.stage)} stages are not the recipe's {len(self.stage)}; a file cannot say so."
                )
            for key, own in self.varied(name).items():
                if own is None:  # for which TOML has no word
                    mine = replace(self, arms={})._told()[key]
                    raise InputError(
                        f"recipe: arm {name!r}: {key} is not set, and the recipe has {mine!r}; a file cannot say so: leave it out of the "
                        "recipe, and set it in the other arms."
                    )

    def _check_numbers(self) -> None:
        """Refuse numbers that mean nothing."""
        for name, value, least in (
            ("seeds", self.seeds, 1), ("watch every", self.watch.every, 0),
            ("watch checkpoints", self.watch.checkpoints, 0), ("halves", self.planted.halves, 0),
            *((f"stage {index}: steps", stage.steps, 1) for index, stage in enumerate(self.stage)),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"recipe: {name}={value!r} must be a whole number of at least {least}.")
        if self.training.dtype not in ("float32", "bfloat16"):
            raise InputError(f"recipe: dtype={self.training.dtype!r}: float32 or bfloat16.")
        if not isinstance(self.watch.loss_change, bool):
            raise InputError(f"recipe: watch loss_change={self.watch.loss_change!r} must be true or false.")
        if self.watch.loss_change and not self.watch.every:
            raise InputError(
                "recipe: watch loss_change without watch every: it is put down at the steps that are watched."
            )
        if self.watch.loss_change and self.fresh_at:
            raise InputError(
                "recipe: watch loss_change with a fresh stage: a step back to untrained weights is none whose change can be parted."
            )
        if self.planted.halves % 2:
            raise InputError(f"recipe: halves={self.planted.halves} must be even: every two leave out opposite halves.")
        if self.planted.halves and not any(copies and count for copies, count in self.planted.copies.items()):
            raise InputError(
                f"recipe: halves={self.planted.halves} without planted copies: there is nothing to leave out."
            )
        if not self.planted.kinds or not set(self.planted.kinds) <= set(TEXT_KINDS):
            raise InputError(f"recipe: planted kinds={list(self.planted.kinds)}: {', '.join(TEXT_KINDS)} are known.")
        if not 0 < self.planted.noise <= 1:
            raise InputError(f"recipe: planted noise={self.planted.noise} must be a share above 0, at most 1.")
        if set(self.planted.kinds) != {TYPICAL} and self.corpora[self.planted.stage].source != CHAIN:
            raise InputError(f"recipe: planted kinds={list(self.planted.kinds)}: text of a chain alone has such.")
        if self.planted.rules is not None and self.corpora[self.planted.stage].source != CHAIN:
            raise InputError(f"recipe: planted rules={self.planted.rules}: text of a chain alone has such.")
        if self.planted.halves and self.planted.pair:
            raise InputError("recipe: planted pair and halves: one of them, not both.")

    @property
    def trainings(self) -> tuple[Training, ...]:
        """The stages' steps and schedules: the whole training where there are no stages."""
        if not self.stage:
            return (self.training,)
        own = ("learning_rate", "schedule", "warmup")
        return tuple(
            replace(self.training, steps=stage.steps, **{n: v for n in own if (v := getattr(stage, n)) is not None})
            for stage in self.stage
        )

    @property
    def corpora(self) -> tuple[TrainingCorpus, ...]:
        """The text of each stage."""
        return tuple(replace(self.corpus, **stage.corpus) for stage in self.stage) or (self.corpus,)

    @property
    def repeated(self) -> bool:
        """Whether it trains on a finite set of rows, shown again and again."""
        return self.corpus.source in (UNIFORM, FACTS)

    @property
    def prefix(self) -> int:
        """Tokens of a row that are given; the others are its continuation, which is measured.

        Of uniform rows it is the first, which nothing predicts; of facts it is the key.
        """
        if self.corpus.source == FACTS:
            return self.training.row_tokens - self.corpus.value
        return 1 if self.corpus.source == UNIFORM else self.training.prefix

    @property
    def files(self) -> tuple[str, ...]:
        """The files and folders that it reads: texts that are not generated, and a model to go on from."""
        sources = [corpus.source for corpus in self.corpora] + [self.planted.source]
        named = [one for source in sources for one in ((source,) if isinstance(source, str) else source)]
        start = [] if self.model.start is None else [self.model.start]
        return tuple(dict.fromkeys([*(one for one in named if one not in GENERATED), *start]))

    @property
    def planted_corpus(self) -> TrainingCorpus:
        """The text that planted paragraphs, if they are generated, are of."""
        corpus, rules = self.corpora[self.planted.stage], self.planted.rules
        return corpus if rules is None else replace(corpus, rules=rules)

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(training.steps for training in self.trainings)

    @property
    def fresh_at(self) -> tuple[int, ...]:
        """Steps before which the model is untrained again."""
        ends = np.cumsum([stage.steps for stage in self.stage]).tolist()
        return tuple(end for end, stage in zip(ends, self.stage[1:], strict=False) if stage.fresh)

    @property
    def training_seeds(self) -> range:
        """Of each training."""
        return range(self.training.seed, self.training.seed + self.seeds)

    @property
    def runs(self) -> tuple[str, ...]:
        """The trainings of one seed, which differ in what is planted."""
        if self.planted.halves:
            return tuple(f"half-{index:02}" for index in range(self.planted.halves))
        return (TRAINED, TWIN) if self.planted.pair else (TRAINED,)

    @property
    def watched_paragraphs(self) -> int:
        """How many are planted, and held out of each stage's text."""
        if self.repeated:
            return (self.corpus.measured or self.corpus.rows) + self.planted.held_out
        texts = 1 + sum(
            corpus != self.corpora[self.planted.stage] and corpus not in self.corpora[:stage]
            for stage, corpus in enumerate(self.corpora)
        )
        return sum(self.planted.copies.values()) + self.planted.held_out * texts

    @property
    def trained_models(self) -> int:
        """How many trainings it comes to: of all arms, seeds and runs."""
        return self.seeds * len(self.runs) * max(1, len(self.arms))

    def asked(self) -> dict[str, Any]:
        """All that its models depend on, by names such as "training.seed"; sinks where it has any."""
        told = self._told()
        return told if self.sinks.kind else {key: v for key, v in told.items() if not key.startswith("sinks.")}

    def _told(self) -> dict[str, Any]:
        """All that it says."""
        told: dict[str, Any] = {}
        for section in SECTIONS:
            told |= {f"{section}.{key}": value for key, value in asdict(getattr(self, section)).items()}
        for at, stage in enumerate(self.stage):
            told |= {f"stage.{at}.{key}": value for key, value in asdict(stage).items()}
        for name in self.arms:
            told |= {f"arms.{name}": self.varied(name)}
        return told | {"seeds": self.seeds}

    def varied(self, arm: str) -> dict[str, Any]:
        """What an arm has otherwise than the recipe, by the names of `asked`."""
        own, mine = self.arms[arm]._told(), replace(self, arms={})._told()
        return {key: value for key, value in own.items() if value != mine.get(key)}

    def to_toml(self) -> str:
        """The recipe as a TOML document that `read_recipe` reads back."""
        lines = [] if self.data_hash is None else [f'data_hash = "{self.data_hash}"']
        lines += ([] if self.seeds == 1 else [f"seeds = {self.seeds}"]) + [""] * bool(lines or self.seeds > 1)
        for section in SECTIONS:
            if section != "sinks" or self.sinks.kind:
                lines += [f"[{section}]", *_lines(asdict(getattr(self, section))), ""]
        for stage in self.stage:
            lines += ["[[stage]]", *_lines(asdict(stage)), ""]
        for name in self.arms:
            lines += [f"[arms.{_toml(name)}]", *_lines(self.varied(name)), ""]
        return "\n".join(lines)


def _lines(values: Mapping[str, Any]) -> list[str]:
    """Keys of a section; what is not given has no word in TOML, and is left out."""
    return [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


SECTIONS = {
    "model": Shape, "corpus": TrainingCorpus, "planted": Planting, "training": Training, "sinks": SinkUnits, "watch": Watching,
}  # fmt: skip

ARM_NAME = re.compile(r"(?!seed-)[A-Za-z0-9][A-Za-z0-9._%+=,-]*")
