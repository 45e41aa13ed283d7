"""What activation patching declares."""

from localize.axes import DIRECTIONS, STREAMS
from localize.measurements.cost import BACKWARD, Workload
from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.sources import PAPER


def passes(work: Workload) -> float:
    """Each site resumed at its layer; the first changed token alone needs no continuation but a token of it."""
    options, tokens = work.options, work.prefix + work.continuation
    sites = len(options["sites"]) * work.heads + len(options["streams"])
    share = 0.5 if "continuation" in options["metrics"] else 0.5 / tokens * 10
    runs = len(options["directions"]) * (2 if options["null"] else 1)
    return work.prefix + runs * sites * len(work.chosen_layers()) * share + 2 * BACKWARD


MEASUREMENT = Measurement(
    "patch", words="activation patching", place=80, by_default=True,
    builds_on=("copies", "perturb_prefix"),
    cells=("layers", "sites", "streams", "directions", "metrics", "null", "estimate"), passes=passes,
    formerly=("patching",),
    also=("unperturbed_tokens",),
    axes=(
        Axis("direction", "direction of patching", labels=DIRECTIONS, chosen_by="directions"),
        Axis("metric", "judged by", chosen_by="metrics"),
        Axis("stream", "activation", labels=STREAMS, chosen_by="streams"),
    ),
    variables=(
        Variable(
            "patch_position", ("paragraph",), "integer", "tokens", "changed position",
            "the one prefix position at which the corrupted copy differs", PAPER + ", section 6", low=0,
            high="last prefix position", role="set-up",
        ),
        Variable(
            "patch_target", ("paragraph",), "integer", "tokens", "first changed token",
            "position of the first continuation token in which the corrupted copy differs; -1 where none does",
            PAPER + ", section 6", low=-1, role="set-up",
        ),
        Variable(
            "clean_nll", ("paragraph", "metric"), "float", "nats per token", "NLL, clean run",
            "NLL of the paragraph's token or tokens in its own run", PAPER + ", section 6", low=0, role="before",
        ),
        Variable(
            "corrupted_run_nll", ("paragraph", "metric"), "float", "nats per token", "NLL, corrupted run",
            "NLL of the paragraph's token or tokens with one prefix token replaced", PAPER + ", section 6", low=0,
            role="before",
        ),
        *(
            Variable(
                f"{place}_patch_{what}", ("paragraph", "direction", "metric", *dims), "float", "nats per token", label,
                description, source, pieces=True, role="null" if what == "null" else "measured",
                of=f"{place}_patch_effect" if what == "null" else None, part="patching" if what == "effect" else "",
            )
            for place, axes in (("head", ("site", "layer", "head")), ("stream", ("stream", "layer")))
            for what, dims, label, description, source in (
                ("effect", axes, "NLL change by patching",
                 "NLL of the paragraph's tokens with one activation of the other run put in, less without",
                 PAPER + ", section 6"),
                ("null", axes, "NLL change by patching, null",
                 "change of the NLL of the paragraph's tokens by as large a change of that activation in a random direction",
                 "localize"),
                ("estimate", axes, "NLL change by patching, estimated",
                 "the two runs' difference of an activation times the gradient of the NLL: attribution patching",
                 "Nanda 2023; Syed et al. 2023"),
                ("map", (*axes, "position"), "NLL change by patching",
                 "NLL of the paragraph's tokens with one activation of the other run put in at one position, less without",
                 PAPER + ", section 6"),
                ("estimate_map", (*axes, "position"), "NLL change by patching, estimated",
                 "the two runs' difference of an activation at one position times the gradient of the NLL: attribution patching",
                 "Nanda 2023; Syed et al. 2023"),
            )
        ),
    ),
)  # fmt: skip
