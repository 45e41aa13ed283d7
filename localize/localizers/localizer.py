"""What a localizer is: a named function from a model and paragraphs to scores, which are checked whoever wrote it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from localize.errors import LocalizeError, caller, public
from localize.localizers.registry import register
from localize.localizers.scores import Scores, WeightScores

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel
    from localize.paragraphs.paragraphs import Paragraphs

Function = Callable[["HookedModel", "Paragraphs", "Paragraphs | None"], Scores | WeightScores]
"""From a model, the paragraphs to locate and others to tell them apart from, to scores of the former."""


@dataclass(frozen=True)
class Localizer:
    """A way to score where a model stores paragraphs.

    Attributes:
        name: A Python name; that of its file, where it is one of the package's.
        function: Gives `Scores.of(model, paragraphs, ...)`, or `WeightScores.of(model, paragraphs, ...)`; the model stays as it is.
        words: What the scores are, in a line.
        source: Where the method is from.
        needs_others: Whether there are no scores without other paragraphs.
    """

    name: str
    function: Function
    words: str
    source: str
    needs_others: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise LocalizeError(
                f"localizer {self.name!r}: the name must be one that Python takes, such as 'my_scores'."
            )

    def __call__(
        self, model: "HookedModel", paragraphs: "Paragraphs", others: "Paragraphs | None" = None
    ) -> Scores | WeightScores:
        """The scores of some paragraphs, checked.

        Args:
            model: A hooked model.
            paragraphs: To locate.
            others: That these are told apart from; None where the localizer needs none.

        Raises:
            LocalizeError: If others are needed and not given, or what the function gives are no scores of this model and these
                paragraphs. The message begins with the localizer's name.
            InputError: If the paragraphs do not fit the model.
        """
        from localize.measure.inputs import reads_inputs  # it brings torch, which a list of names does without

        def located(
            model: "HookedModel", paragraphs: "Paragraphs", others: "Paragraphs | None"
        ) -> Scores | WeightScores:
            return self._checked(model, paragraphs, others)

        located.__name__ = self.name
        return public(reads_inputs("paragraphs", "others")(located))(model, paragraphs, others)

    def _checked(
        self, model: "HookedModel", paragraphs: "Paragraphs", others: "Paragraphs | None"
    ) -> Scores | WeightScores:
        """What the function gives, once it is known to be what it should."""
        if self.needs_others and others is None:
            raise LocalizeError(f"{caller()}: others=None: paragraphs to tell these apart from are needed.")
        for given in (paragraphs, others):
            if given is not None:
                given.check_fits(model)
        with model.unchanged():
            found = self.function(model, paragraphs, others)
            if not isinstance(found, Scores | WeightScores):
                raise LocalizeError(f"{caller()}: gave a {type(found).__name__}; Scores or WeightScores are needed.")
            found.check(model)
        if found.data_hash != paragraphs.data_hash:
            raise LocalizeError(f"{caller()}: gave scores of other paragraphs than those asked for.")
        return replace(found, name=self.name)

    def register(self) -> "Localizer":
        """Make it known by its name for as long as Python runs.

        Returns:
            Itself.

        Raises:
            LocalizeError: If there is another of that name.
        """
        register(self)
        return self


def localizer(words: str, source: str, *, needs_others: bool = False) -> Callable[[Function], Localizer]:
    """Make a `Localizer` of a function, whose name it takes.

    Args:
        words: What the scores are, in a line.
        source: Where the method is from.
        needs_others: Whether there are no scores without other paragraphs.
    """
    return lambda function: Localizer(function.__name__, function, words, source, needs_others)
