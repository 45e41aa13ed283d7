"""What the perturbation of single prefix tokens declares."""

from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Options, Variable
from localize.measurements.sources import PAPER

PERTURBED = ("paragraph", "kind", "draw", "prefix_position")
SHARE = "share"


def alone(options: Options, has_counts: bool) -> bool:
    """Where there are no counts beside the model they are the paragraphs' own, unless no kind of replacement needs any."""
    return has_counts or options["kinds"] in ("uniform", ["uniform"])


def passes(work: Workload) -> float:
    """Every position of each kind and draw, and the copy."""
    return work.count("kinds", 1) * work.draws * (work.prefix * work.after_prefix + 1)


MEASUREMENT = Measurement(
    "perturb_prefix", words="perturbation of single prefix tokens", place=60, by_default=True, takes=("draws",),
    alone=alone, alone_if='kinds = "uniform", or the model has token counts', passes=passes, formerly=("perturbation",),
    axes=(
        Axis("kind", "kind of replacement", chosen_by="kinds"),
        Axis("draw", "draw", draws=True, averaged=True),
    ),
    variables=(
        Variable(
            "unperturbed_exact_match", ("paragraph",), "integer", "tokens", "exact match, unperturbed",
            "exact match of the continuation that a change of prefix or model compares with, before it",
            PAPER + ", section 6", low=0, high="continuation", role="before",
        ),
        Variable(
            "unperturbed_nll", ("paragraph",), "float", "nats per token", "NLL, unperturbed",
            "mean NLL of the continuation that a change of prefix or model compares with, before it", PAPER + ", section 6",
            low=0, role="before",
        ),
        Variable(
            "unperturbed_token_nll", ("paragraph", "continuation_position"), "float", "nats", "token NLL, unperturbed",
            "NLL of each token of the continuation that a change of prefix compares with, before it", "localize", low=0,
            role="before",
        ),
        Variable(
            "unperturbed_tokens", ("paragraph", "position"), "integer", "token id", "tokens, unperturbed",
            "the prefix and the continuation that a change of prefix compares with", "localize", low=0, role="set-up",
        ),
        Variable(
            "perturbed_exact_match", PERTURBED, "float", "tokens", "exact match, perturbed",
            "exact match after prefix tokens have been replaced, by the first of them; nan where nothing was put",
            PAPER + ", section 6", low=0, high="continuation", before="unperturbed_exact_match",
        ),
        Variable(
            "perturbed_nll", PERTURBED, "float", "nats per token", "NLL, perturbed",
            "mean NLL of the same continuation after prefix tokens have been replaced; nan where nothing was put",
            PAPER + ", section 6", low=0, before="unperturbed_nll", part="perturbation",
        ),
        Variable(
            "perturbed_token_error", ("paragraph", "kind", "continuation_position"), "float", SHARE,
            "tokens wrong, perturbed",
            "share of the replacements after which a continuation token, the ones before it given, is not the likeliest",
            "localize", low=0, high=1,
        ),
        Variable(
            "replacement", PERTURBED, "integer", "token id", "replacement",
            "the token put in the place of the prefix token; -1 where nothing was put", PAPER + ", section 6", low=-1,
            role="set-up",
        ),
        Variable(
            "copy_position", ("paragraph", "kind"), "integer", "tokens", "most changed position",
            "where replacing does most: lowest exact match, mean over draws; among equals the highest NLL",
            PAPER + ", section 6", low=0, high="last prefix position",
        ),
        Variable(
            "copy_tokens", ("paragraph", "kind", "position"), "integer", "token id", "perturbed copy",
            "the prefix with that position replaced, and what the model then says greedily", PAPER + ", section 6", low=0,
            role="set-up",
        ),
        Variable(
            "copy_exact_match", ("paragraph", "kind"), "integer", "tokens", "exact match of the copy",
            "tokens of the copy's continuation right before the first wrong one", PAPER + ", section 6", low=0,
            high="continuation",
        ),
        Variable(
            "copy_tokens_wrong", ("paragraph", "kind"), "integer", "tokens", "tokens wrong in the copy",
            "tokens of the copy's continuation that differ from the one at the same position", "localize", low=0,
            high="continuation",
        ),
        Variable(
            "copy_edit_distance", ("paragraph", "kind"), "integer", "tokens", "edit distance of the copy",
            "fewest tokens to insert, delete or replace that make the copy's continuation the paragraph's (Levenshtein)",
            "localize", low=0, high="continuation",
        ),
        Variable(
            "copy_longest_run", ("paragraph", "kind"), "integer", "tokens", "longest verbatim run in the copy",
            "longest run of tokens in the copy's continuation that stands in the paragraph's, at any place", "localize",
            low=0, high="continuation",
        ),
    ),
)  # fmt: skip
