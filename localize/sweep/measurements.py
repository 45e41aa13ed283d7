"""The measurements that a sweep can ask for: what options each has, and whether its paragraphs can be measured in blocks."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from localize.axes import OWN
from localize.errors import InputError
from localize.measure.labels import plain_value


def _always(options: Mapping[str, Any], has_counts: bool) -> bool:
    return True


def _never(options: Mapping[str, Any], has_counts: bool) -> bool:
    return False


def _gradients_alone(options: Mapping[str, Any], has_counts: bool) -> bool:
    return options["sets"] is False


def _removed_to_zero(options: Mapping[str, Any], has_counts: bool) -> bool:
    return options["to"] == "zero"


def _uniform_or_counted(options: Mapping[str, Any], has_counts: bool) -> bool:
    return has_counts or options["kinds"] in ("uniform", ["uniform"])


@dataclass(frozen=True)
class Measurement:
    """A public function as a sweep calls it.

    Attributes:
        name: As the grid has it.
        function: Its name in `localize`.
        alone: Whether, with these options and with or without token counts beside the model, each paragraph's numbers are the
            same whoever is measured with it: only then can blocks of paragraphs be measured apart.
        alone_if: When that is so, in words.
    """

    name: str
    function: str
    alone: Callable[[Mapping[str, Any], bool], bool] = _never
    alone_if: str = "never: it looks at the whole set"

    def call(self) -> Callable[..., Any]:
        """The function itself."""
        return getattr(import_module("localize"), self.function)

    def defaults(self) -> dict[str, Any]:
        """Its options and their defaults; those that a file cannot hold are left out."""
        parameters = inspect.signature(self.call()).parameters.values()
        return {
            p.name: plain_value(p.default) for p in parameters if p.default is not p.empty and p.name not in OBJECTS
        }

    def checked(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """All options, those given in place of the defaults.

        Raises:
            InputError: If there is no such option; it names the nearest.
        """
        known = self.defaults()
        check_keys(given, known, f"{where}: {self.name}")
        return known | {name: plain_value(value) for name, value in given.items()}

    def of_own(self, options: Mapping[str, Any]) -> bool:
        """Whether it asks for the continuation that the model says itself."""
        return options.get("continuation") == OWN


OBJECTS = ("counts", "copies", "perturbation", "at")
"""Arguments that are arrays or results of another measurement, which a grid cannot hold; each measurement has its own default."""

MEASUREMENTS = {
    m.name: m
    for m in (
        Measurement("recall", "recall", _always, "always"),
        Measurement("gradients", "gradients", _gradients_alone, "sets = false"),
        Measurement("activation_gradients", "activation_gradients", _always, "always"),
        Measurement("heads", "rare_token_heads"),
        Measurement("attention", "prefix_attention", _always, "always"),
        Measurement("ablation", "ablate", _removed_to_zero, 'to = "zero"'),
        Measurement("replacement", "replace_rarest"),
        Measurement(
            "perturbation", "perturb_prefix", _uniform_or_counted, 'kinds = "uniform", or the model has token counts'
        ),
        Measurement("corruption", "corrupt_prefix"),
        Measurement("patching", "patch"),
        Measurement("noise", "noise"),
    )
}
"""By the name that a grid uses; the same as in `localize run`."""


def check_keys(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise an `InputError` that names the nearest allowed key, unless all given ones are known."""
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), [str(k) for k in known], n=1, cutoff=0.0)
            meant = f"; did you mean {near[0]!r}? " if near else "; "
            raise InputError(f"{where} has no {key!r}{meant}Allowed: {', '.join(map(str, known)) or 'nothing'}.")
