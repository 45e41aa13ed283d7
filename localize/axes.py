"""The words for axes and weights that every file uses, so that arrays meet by name."""

from collections.abc import Iterable
from typing import Final

ATTENTION_COMPONENTS: Final = ("W_Q", "W_K", "W_V", "W_O")
"""Weights that divide into heads."""

MLP_COMPONENTS: Final = ("W_in", "W_out")

COMPONENTS: Final = (*ATTENTION_COMPONENTS, *MLP_COMPONENTS)
"""The weights of one block, biases and layer norms left out, in the order of every `component` axis."""

EMBEDDINGS: Final = ("W_E", "W_pos", "W_U", "W_E + W_U")
"""Weights outside the blocks. A tied matrix is read twice: as W_E, as W_U, and with both uses together."""

BIASES: Final = ("b_Q", "b_K", "b_V", "b_O", "b_in", "b_out")

OUTSIDE: Final = (*EMBEDDINGS, "biases", "layer_norms")
"""All weights that are no component of a block. A tied matrix, which has one gradient for both uses, is "W_E + W_U" alone."""

EXPOSURES: Final = ("shown", "other")
"""Steps of a training that show some of a set's paragraphs, and those that do not."""

GATES: Final = ("all", "dropped", "own", "other")
"""Which memorization sinks are on: all, each times its chance to be on; none; the text's own; another planted text's."""

SITES: Final = ("q", "k", "v", "z")
"""Activations of one attention head, named as their hooks are: `blocks.1.attn.hook_q`, ...."""

QUERIES: Final = ("last_prefix", "continuation")
"""Who looks: the last token of the prefix, or those of the continuation on average."""

NULLS: Final = ("mismatched", "permuted", "untrained")
"""What an attention score is held against: the rarity of paragraphs from other clusters, which keeps position; the
paragraph's own rarity permuted, which does not; and a model of the same shape with random weights."""

TERMS: Final = ("objective", "forget", "keep")
"""The contrastive objective and its two parts."""

CORRELATIONS: Final = ("pearson", "spearman", "kendall")

REPLACED: Final = ("rarest", "common")
"""Which prefix tokens are replaced together: the rarest, or common ones at like positions."""

KINDS: Final = ("uniform", "frequency", "second_choice", "neutral")
"""What replaces a prefix token: any other token of the tokenizer alike; one about as frequent; what the model finds likeliest
after the tokens before it, if not the token itself; one of the commonest tokens."""

ORDERS: Final = ("random", "rarest", "effect", "first", "last")
"""In which order more and more of a prefix's tokens are replaced: at random; from the rarest; from the one whose own replacement
does most; from the first; from the last."""

DIRECTIONS: Final = ("denoising", "noising")
"""Whose activation goes where: the clean run's into the corrupted run, or the corrupted run's into the clean one."""

PATCH_METRICS: Final = ("first_changed", "continuation")
"""What a patch is judged by: the NLL of the first continuation token in which the corrupted copy differs, or the mean NLL."""

STREAMS: Final = ("attn_out", "mlp_out", "resid")
"""Activations of a whole layer: what attention writes, what the MLP writes, and the residual stream that enters it."""

APART: Final = "apart"
IN_W_Q: Final = "in_W_Q"

ATTENTION_SCALES: Final = (APART, IN_W_Q)
"""Where the scale of attention scores stands when gradients are taken: apart from the weights, where the model has it, or in W_Q."""

RAW: Final = "raw"
FOLDED: Final = "folded"
"""Weights as they were trained, or with layer norms and value biases folded in and what writes to the stream centred."""

DTYPES: Final = ("float32", "float64", "bfloat16", "float16")
"""Weights that can be measured."""

MEMORIZED: Final = "memorized"
NOT_MEMORIZED: Final = "not_memorized"
PARTIAL: Final = "partial"

UNLABELLED: Final = "unlabelled"
"""Group of a paragraph without a label, where others have one of the user's."""

RECALL_GROUPS: Final = (MEMORIZED, PARTIAL, NOT_MEMORIZED)
"""Groups that follow from exact match: all tokens right, between, at most 20 % right."""

TRUE: Final = "true"
OWN: Final = "own"

CONTINUATIONS: Final = (TRUE, OWN)
"""A paragraph's own text, or what the model says greedily after its prefix."""


FORGET: Final = "forget"
NEAR_DUPLICATE: Final = "near_duplicate"
KEPT: Final = "kept"
GENERAL: Final = "general"
"""What a paragraph is to an edit: to be forgotten; in the cluster of one that is; shown so that it stays (`kept_memorized`, ...);
text that was never planted. All others, which the edit did not see, go by the groups of recall."""

PROMPTS: Final = ("as_is", "one_changed", "second_half", "fifth_given", "half_given")
"""What is asked for a continuation: its prefix; the prefix with one random token changed, mean over draws; its second half alone;
the prefix and the first fifth, or half, of the continuation itself."""

ATTACKS: Final = (
    *PROMPTS, "best_of_samples", "float16", "relearned_others", "relearned_others_largest", "relearned_begun",
)  # fmt: skip
"""What brings a forgotten text back: other prompts; the longest match of many samples; weights rounded; training on other texts of its
kind, of all weights or of those with its largest gradient before the edit; training on its first continuation tokens."""

NEVER_TRAINED: Final = "never_trained"
"""Text that was never trained, attacked as a forgotten one is."""

MLP_PART: Final = "mlp"
HEADS_PART: Final = "heads"
"""The kinds of units, hidden MLP units and attention heads, as what holds a number of each names them."""

RESETS: Final = ("none", "largest", "random")
"""Weights put back to what they were before a training: none, those that changed most, as many at random."""

SHOWN: Final = ("nothing", "same", "shuffled", "other")
"""What stands in the context before a text: nothing, the same text, its tokens in another order, another text as long."""

RANDOM: Final = "random"
"""Weights chosen by no gradient."""


TRAINING_AXES: Final = ("training_arm", "training_run", "training_seed", "training_step")
"""Axes that any variable may have before its own, where a model was measured while it was trained: which variant of the recipe, which of
the runs that differ in what was planted, which seed, after how many steps."""

TRAINED: Final = "planted"
TWIN: Final = "twin"
"""Runs of a minimal pair: with the planted rows, and with fresh rows in their place."""

TYPICAL: Final = "typical"
RARE: Final = "rare"
HARD: Final = "hard"
FRESH: Final = "fresh"
TEXT_KINDS: Final = (TYPICAL, RARE, HARD, FRESH)
"""Planted texts: as the language has them; with words of it replaced at random, the same at every showing; with others replaced at each
showing, so that there is nothing to memorize in them; with another text of the language in its place at each showing."""

WATCHED: Final = "watched"
"""Paragraphs measured while a model is trained, where nothing tells which of them it is trained on."""


def ordered_groups(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, those of recall first, from most to least memorized, the others by the alphabet, what has no label last."""
    present = set(names)
    others = sorted(present - set(RECALL_GROUPS), key=lambda name: (name == UNLABELLED, name))
    return (*(g for g in RECALL_GROUPS if g in present), *others)
