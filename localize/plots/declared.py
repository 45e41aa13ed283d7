"""Stand-in until the declarations are there."""

from dataclasses import dataclass

from localize.signature.schema import DIMS
from localize.signature.schema import REGISTRY as OLD


@dataclass
class Axis:
    name: str
    words: str
    counted: str | None
    draws: bool
    averaged: bool
    summed: bool


NUMBERED = {"position", "prefix_position", "continuation_position", "layer", "head"}
AXES = {
    d: Axis(
        d,
        w,
        f"{'position' if 'position' in d else d} {{}}" if d in NUMBERED else None,
        d.endswith("draw"),
        d.endswith(("draw", "position", "null")),
        d.endswith("component"),
    )
    for d, w in DIMS.items()
}
ENDS = ("_null", "_untrained", "_uniform")
SETUP = (
    "replacement",
    "copy_position",
    "copy_tokens",
    "patch_position",
    "patch_target",
    "unperturbed_tokens",
    "replaced_position",
)


def role_of(name):
    if name.endswith(ENDS):
        return "null"
    if name in SETUP:
        return "set-up"
    return "before" if name.startswith(("unperturbed", "clean")) else "measured"


def nulls_of(name):
    stem = {"rare_token_score": "rare_token"}.get(name, name)
    return tuple(stem + end for end in ENDS if stem + end in OLD)
