"""What the attention of heads to rare tokens declares."""

from localize.axes import CORRELATIONS
from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Variable
from localize.measurements.sources import PAPER

LOOKING = ("query", "layer", "head")
UNTRAINED = ("paragraph", "untrained_model", "layer", "head")
SHARE = "share"
RHO = "Spearman's rho"
TAU = "Kendall's tau-b"


def passes(work: Workload) -> float:
    """A pass of the untrained twin, and of the prefix alone in each of the other untrained models; in large sets of fewer paragraphs."""
    if not work.options["untrained"]:
        return 0.0
    return 1.0 + work.options["untrained_models"] * work.prefix / (work.prefix + work.continuation)


MEASUREMENT = Measurement(
    "rare_token_heads", words="attention of heads to rare tokens", place=20, by_default=True, passes=passes,
    formerly=("heads",),
    axes=(
        Axis("null", "null", averaged=True),
        Axis("untrained_model", "model with random weights", averaged=True),
        Axis("correlation", "correlation", labels=CORRELATIONS),
    ),
    variables=(
        Variable(
            "rare_token_score", ("paragraph", *LOOKING), "float", RHO, "rare-token score",
            "rank correlation, inside a paragraph, of the attention to earlier prefix tokens with their rarity",
            PAPER + ", section 5, ranked inside each paragraph", low=-1, high=1, part="rare-token heads",
        ),
        Variable(
            "rare_token_null", ("paragraph", "null", *LOOKING), "float", RHO, "rare-token score of the null",
            "the same score of the same attention against other rarities, or of an untrained model's", "localize", low=-1,
            high=1, role="null", of="rare_token_score",
        ),
        Variable(
            "rare_token_kendall", ("paragraph", *LOOKING), "float", TAU, "rare-token score",
            "rank correlation, inside a paragraph, of the attention to earlier prefix tokens with their rarity", "localize",
            low=-1, high=1,
        ),
        Variable(
            "rare_token_kendall_null", ("paragraph", "null", *LOOKING), "float", TAU, "rare-token score of the null",
            "the same score of the same attention against other rarities, or of an untrained model's", "localize", low=-1,
            high=1, role="null", of="rare_token_kendall",
        ),
        Variable(
            "rare_token_mass", ("paragraph", *LOOKING), "float", SHARE, "attention on the rarest tokens",
            "attention that goes to the k rarest of the prefix tokens seen (ties share alike)", "localize", low=0, high=1,
            part="rare-token heads",
        ),
        Variable(
            "rare_token_mass_null", ("paragraph", "null", *LOOKING), "float", SHARE,
            "attention on the rarest tokens of the null",
            "the same attention on what are the k rarest tokens by other rarities, or an untrained model's", "localize",
            low=0, high=1, role="null", of="rare_token_mass",
        ),
        Variable(
            "attention_entropy", ("paragraph", *LOOKING), "float", "nats", "attention entropy",
            "entropy of one query's attention over all keys that it sees, itself among them", "localize", low=0,
            high="log of the paragraph", part="attention",
        ),
        Variable(
            "attention_distance", ("paragraph", *LOOKING), "float", "tokens", "attention distance",
            "how far back a query looks, on the average of its attention; 0 is itself", "localize", low=0,
            high="last position", part="attention",
        ),
        Variable(
            "attention_entropy_untrained", ("paragraph", *LOOKING), "float", "nats", "attention entropy, untrained",
            "the same of a model of the same shape with random weights", "localize", low=0, high="log of the paragraph",
            role="null", of="attention_entropy",
        ),
        Variable(
            "attention_distance_untrained", ("paragraph", *LOOKING), "float", "tokens", "attention distance, untrained",
            "the same of a model of the same shape with random weights", "localize", low=0, high="last position",
            role="null", of="attention_distance",
        ),
        Variable(
            "rare_token_score_untrained", UNTRAINED, "float", RHO, "rare-token score, random weights",
            "the score of the last prefix token's attention in models of the same shape with random weights; nan for a paragraph that "
            "they did not read", "localize", low=-1, high=1, role="null", of="rare_token_score",
        ),
        Variable(
            "rare_token_null_untrained", UNTRAINED, "float", RHO, "rare-token score of the null, random weights",
            "the same score of the same attention against the rarity of paragraphs from other clusters", "localize", low=-1, high=1,
            role="null", of="rare_token_score",
        ),
        Variable(
            "attention_rank", ("paragraph", *LOOKING, "prefix_position"), "float", "rank", "rank by attention",
            "rank of a prefix token among those scored by the attention that it gets, 0 the least, ties share theirs; nan if not scored",
            "localize", low=0, high="last prefix position", role="set-up",
        ),
        Variable(
            "prefix_counts", ("paragraph", "prefix_position"), "integer", "occurrences", "occurrences in the corpus",
            "how often the prefix token occurs in the reference corpus", "localize", low=0, role="set-up",
        ),
        Variable(
            "summed_rank_correlation", ("set", "correlation", "layer", "head"), "float", "correlation",
            "rank correlation of summed attention",
            "attention from the last prefix token summed per rank of token frequency over a set, against the rank (0 = rarest)",
            PAPER + ", section 5, summed over the set as there", low=-1, high=1,
        ),
        Variable(
            "summed_rank_correlation_uniform", ("set", "correlation", "layer"), "float", "correlation",
            "rank correlation of summed attention, uniform",
            "the same of a head that looks at all it sees alike: ranks that fewer paragraphs have sum to less", "localize",
            low=-1, high=1, role="null", of="summed_rank_correlation",
        ),
    ),
)  # fmt: skip
