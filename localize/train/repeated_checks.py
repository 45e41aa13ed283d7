"""What a recipe of a finite set of rows, shown again and again, cannot be."""

from dataclasses import replace
from typing import TYPE_CHECKING

from localize.errors import InputError

if TYPE_CHECKING:
    from localize.train.recipe import Recipe


def check_repeated(recipe: "Recipe", *, facts: bool) -> None:
    """Refuse what a finite set of rows cannot be, or is not made for.

    Raises:
        InputError: In one line.
    """
    corpus, training, planted = recipe.corpus, recipe.training, recipe.planted
    length, evened = training.row_tokens, [replace(other, evenly=corpus.evenly) for other in recipe.corpora]
    if any(other != corpus for other in evened):
        raise InputError(f"recipe: corpus {corpus.source!r}: all stages are of the same rows; evenly alone may differ.")
    if planted.copies or planted.pair or planted.halves or any(stage.replay for stage in recipe.stage):
        raise InputError(
            f"recipe: corpus {corpus.source!r}: its rows are what is planted; copies, pair, halves and replay are for other text."
        )
    if recipe.model.start is not None:
        raise InputError(f"recipe: corpus {corpus.source!r}: its tokens are its own; a model to start from has others.")
    for name, value, least, most in (
        ("vocab", corpus.vocab, 2, None), ("rows", corpus.rows, 1, None), ("measured", corpus.measured, 0, 0 if facts else None),
        ("row_tokens", length, 3, None), ("held_out", planted.held_out, 0, None),
        *([("value", corpus.value, 1, length - 1)] if facts else []),
    ):  # fmt: skip
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            allowed = f"of at least {least}" if most is None else f"in {least}..{most}"
            raise InputError(f"recipe: corpus {corpus.source!r}: {name}={value!r} must be a whole number {allowed}.")
    distinct = corpus.vocab ** (recipe.prefix if facts else length)
    if max(corpus.rows, corpus.measured) + planted.held_out > distinct:
        what = "keys" if facts else "rows"
        raise InputError(
            f"recipe: corpus {corpus.source!r}: rows={corpus.rows} and held_out={planted.held_out} exceed the {distinct} different {what} "
            f"of vocab={corpus.vocab}; raise vocab or row_tokens."
        )
    first = recipe.trainings[0].steps * training.batch
    if corpus.rows > first:
        raise InputError(
            f"recipe: corpus {corpus.source!r}: rows={corpus.rows} exceed the {first} rows that are trained on at first; each is shown at "
            "least once."
        )
    if not facts and (corpus.exponent or any(other.evenly for other in recipe.corpora)):
        raise InputError("recipe: corpus 'uniform': exponent and evenly are for facts; its rows are all as frequent.")
    if not 0 <= corpus.exponent < 10:
        raise InputError(f"recipe: corpus 'facts': exponent={corpus.exponent} must lie in 0..10.")
    for index, stage in enumerate(recipe.stage):
        where = f"recipe: stage {index}: select={stage.select!r}, keep={stage.keep}"
        if bool(stage.select) != bool(stage.keep) or stage.select not in ("", "loss", "oracle", "random"):
            raise InputError(f"{where}: loss, oracle or random, and how many, or neither.")
        if stage.select and (not facts or not 0 < stage.keep <= corpus.rows):
            raise InputError(
                f"{where}: at least 1 and at most the {corpus.rows} rows of a corpus of facts can be kept."
            )
        if stage.select == "loss" and (not index or recipe.watch.loss_change):
            raise InputError(
                f"{where}: a stage before it, and no loss_change, is needed: what it shows is not known before."
            )
