"""What stands for a model or for paragraphs where a measurement is called: read here, in one place, for all of them."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from localize.errors import InputError, ModelError, caller, public
from localize.models.hooks import HookedModel
from localize.models.load import load_model
from localize.paragraphs.paragraphs import Paragraphs
from localize.paragraphs.readers import load_paragraphs

F = TypeVar("F", bound=Callable[..., Any])


def reads_inputs(*names: str, check: Callable[[Paragraphs], None] | None = None) -> Callable[[F], F]:
    """The same function for users to call: `public`, and it also takes what `load_model` and `load_paragraphs` read.

    For its model a hub name, a checkpoint folder, or a model in memory; for paragraphs a file, texts, a DataFrame, ..., tokenized by
    the model's tokenizer and cut to 50 + 50 tokens. Type checkers see the function as it is written.

    Args:
        names: Its arguments that are paragraphs; `model` is the model.
        check: Raises where paragraphs are none that it can measure with its defaults; becomes its attribute `check`, for who wants to
            know before anything is measured.
    """

    def decorated(function: F) -> F:
        signature = inspect.signature(function)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            model = given.arguments["model"] = _model(given.arguments["model"])
            for name in names:
                if given.arguments.get(name) is not None:
                    given.arguments[name] = _paragraphs(given.arguments[name], model, name)
            return function(*given.args, **given.kwargs)

        found = public(called)
        found.__dict__["check"] = check
        return cast(F, found)

    return decorated


def _model(given: Any) -> HookedModel:
    if isinstance(given, HookedModel):
        return given
    if isinstance(given, str | Path) or hasattr(given, "parameters"):
        return load_model(given)
    raise ModelError(
        f"{caller()}: model is a {type(given).__name__}; a HookedModel as load_model gives it, or what it reads, is needed."
    )


def _paragraphs(given: Any, model: HookedModel, name: str) -> Paragraphs:
    if isinstance(given, Paragraphs):
        return given
    if isinstance(given, HookedModel):
        raise InputError(
            f"{caller()}: {name} is a HookedModel; Paragraphs as load_paragraphs gives them, or what it reads, are needed."
        )
    return load_paragraphs(given, model)
