"""What an earlier perturbation was of, and how it was made: for the measurements that build on it."""

from typing import TYPE_CHECKING, Any

from localize.errors import InputError, caller
from localize.models.hooks import HookedModel
from localize.paragraphs.paragraphs import Paragraphs

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature

MADE_BY = "perturb_prefix"
OPTIONS = ("measurement", "kinds", "draws", "span", "copy_positions", "drawn_from", "seed", "continuation")
"""Of a perturbation: what decides which copies it makes."""


def call_of(perturbation: "MemorizationSignature") -> dict[str, Any]:
    """The options of the perturbation that a signature holds."""
    calls = perturbation.dataset.attrs["calls"]
    made = next((call for call in calls if call["measurement"] == MADE_BY), {})
    return {option: made[option] for option in OPTIONS if option in made}


def check_perturbation(
    model: HookedModel,
    paragraphs: Paragraphs,
    perturbation: "MemorizationSignature",
    continuation: str,
    *,
    name: str,
) -> None:
    """Raise an `InputError` unless a perturbation, given as the argument `name`, is of this model, these paragraphs and continuation.

    One that replaced several tokens together is refused too: it does not tell what a single one does.
    """
    dataset = perturbation.dataset
    if "perturbed_exact_match" not in perturbation:
        raise InputError(
            f"{caller()}: {name} has no 'perturbed_exact_match'; measure it with localize.perturb_prefix(model, paragraphs)."
        )
    theirs, ours = dataset.attrs["model"]["weights_hash"], model.weights_hash()
    if theirs != ours:
        raise InputError(
            f"{caller()}: {name} is of {dataset.attrs['model']['name']} (weights_hash {theirs[:12]}), the model is "
            f"{model.name} (weights_hash {ours[:12]}); they must be the same."
        )
    theirs, ours = dataset.attrs["paragraphs"]["data_hash"], paragraphs.data_hash
    if theirs != ours or dataset["paragraph"].values.tolist() != list(paragraphs.ids):
        raise InputError(
            f"{caller()}: {name} is of {len(perturbation)} of {dataset.attrs['paragraphs']['source']} (data_hash "
            f"{theirs[:12]}), the paragraphs are {len(paragraphs)} of {paragraphs.source} (data_hash {ours[:12]}); "
            "the same ones, in the same order, are needed."
        )
    of = dataset["perturbed_exact_match"].attrs["continuation"]
    if of != continuation:
        raise InputError(
            f"{caller()}: {name} is of the {of} continuation, continuation={continuation!r} is asked for; they must be the same."
        )
    if (span := call_of(perturbation).get("span", 1)) > 1:
        raise InputError(
            f"{caller()}: {name} was made with span={span}; span=1 is needed, one token replaced at a time."
        )
