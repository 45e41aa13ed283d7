"""What each variable of a signature is: its axes, unit and meaning. Checks, axis labels and views all read it here."""

from localize.signature.registry import DIMS, REGISTRY, Variable, range_of, register

__all__ = ["DIMS", "REGISTRY", "Variable", "range_of", "register"]

PAPER = "Stoehr et al. 2024 (arXiv 2403.19851)"

_GRADIENT = ("layer", "component")
_HEAD_GRADIENT = ("layer", "attention_component", "head")
_LOOKING = ("query", "layer", "head")
_PERTURBED = ("paragraph", "kind", "draw", "prefix_position")
_CORRUPTED = ("paragraph", "order", "corruption_draw", "tokens_replaced")
_NOISED = ("paragraph", "chosen_by", "weights_noised", "strength", "noise_draw")
_PER_WEIGHT = "nats per weight unit"
_SHARE, _RHO, _TAU = "share", "Spearman's rho", "Kendall's tau-b"

for _variable in (
    Variable(
        "exact_match", ("paragraph",), "integer", "tokens", "exact match",
        "continuation tokens right before the first error, decoding greedily from the prefix", PAPER, low=0, high="continuation",
    ),
    Variable(
        "nll", ("paragraph",), "float", "nats per token", "NLL",
        "mean negative log-likelihood of the continuation, teacher forced", PAPER, low=0,
    ),
    Variable(
        "token_nll", ("paragraph", "continuation_position"), "float", "nats", "token NLL",
        "negative log-likelihood of each continuation token, teacher forced", PAPER, low=0,
    ),
    Variable(
        "gradient_max", ("paragraph", *_GRADIENT), "float", _PER_WEIGHT, "max |gradient|",
        "largest absolute gradient of a paragraph's mean NLL over the weights of a component", PAPER + ", section 4", low=0,
    ),
    Variable(
        "gradient_norm", ("paragraph", *_GRADIENT), "float", _PER_WEIGHT, "gradient norm",
        "L2 norm of the gradient of a paragraph's mean NLL over the weights of a component", "localize", low=0,
    ),
    Variable(
        "head_gradient_max", ("paragraph", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "max |gradient|",
        "largest absolute gradient of a paragraph's mean NLL over one head's weights", PAPER + ", section 4", low=0,
    ),
    Variable(
        "head_gradient_norm", ("paragraph", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "gradient norm",
        "L2 norm of the gradient of a paragraph's mean NLL over one head's weights", "localize", low=0,
    ),
    Variable(
        "gradient_share", ("paragraph", *_GRADIENT), "float", _SHARE, "share of the squared gradient",
        "a component's part of the paragraph's squared gradient norm, summed over all layers and components", "localize",
        low=0, high=1,
    ),
    Variable(
        "head_gradient_share", ("paragraph", *_HEAD_GRADIENT), "float", _SHARE, "share of the squared gradient",
        "one head's part of the paragraph's squared gradient norm, summed over all layers and components", "localize",
        low=0, high=1,
    ),
    Variable(
        "embedding_gradient_max", ("paragraph", "embedding"), "float", _PER_WEIGHT, "max |gradient|",
        "largest absolute gradient of a paragraph's mean NLL over an embedding; nan for a use that the model does not have",
        "localize", low=0,
    ),
    Variable(
        "embedding_gradient_norm", ("paragraph", "embedding"), "float", _PER_WEIGHT, "gradient norm",
        "L2 norm of the gradient of a paragraph's mean NLL over an embedding; nan for a use that the model does not have",
        "localize", low=0,
    ),
    Variable(
        "bias_gradient_max", ("paragraph", "layer", "bias"), "float", _PER_WEIGHT, "max |gradient|",
        "largest absolute gradient of a paragraph's mean NLL over a bias; nan for one that the model does not have",
        "localize", low=0,
    ),
    Variable(
        "bias_gradient_norm", ("paragraph", "layer", "bias"), "float", _PER_WEIGHT, "gradient norm",
        "L2 norm of the gradient of a paragraph's mean NLL over a bias; nan for one that the model does not have",
        "localize", low=0,
    ),
    Variable(
        "set_gradient_max", ("set", *_GRADIENT), "float", _PER_WEIGHT, "max |gradient of the mean NLL|",
        "largest absolute gradient of a group's mean NLL (one backward pass) over a component", PAPER + ", figure 3", low=0,
    ),
    Variable(
        "set_gradient_norm", ("set", *_GRADIENT), "float", _PER_WEIGHT, "norm of the gradient of the mean NLL",
        "L2 norm of the gradient of a group's mean NLL (one backward pass) over a component", "localize", low=0,
    ),
    Variable(
        "set_head_gradient_max", ("set", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "max |gradient of the mean NLL|",
        "largest absolute gradient of a group's mean NLL (one backward pass) over one head's weights",
        PAPER + ", figure 3", low=0,
    ),
    Variable(
        "set_head_gradient_norm", ("set", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "norm of the gradient of the mean NLL",
        "L2 norm of the gradient of a group's mean NLL (one backward pass) over one head's weights", "localize", low=0,
    ),
    Variable(
        "set_cancellation", ("set", *_GRADIENT), "float", _SHARE, "cancellation",
        "what of a set's gradients cancels in their mean: 1 - |mean gradient| / mean |gradient|, L2 norms", "localize",
        low=0, high=1,
    ),
    Variable(
        "set_cancellation_null", ("set", *_GRADIENT), "float", _SHARE, "cancellation, unrelated gradients",
        "the cancellation of gradients of the same norms at right angles to each other", "localize", low=0, high=1,
    ),
    Variable(
        "set_similarity", ("set", "other_set", *_GRADIENT), "float", "cosine", "gradient similarity",
        "cosine between the gradients of two sets' mean NLL", PAPER + ", appendix", low=-1, high=1,
    ),
    Variable(
        "set_split_similarity", ("set", "other_set", *_GRADIENT), "float", "cosine", "gradient similarity of half sets",
        "mean cosine between half of one set's clusters and half of another's; on the diagonal the two halves of one set",
        "localize", low=-1, high=1,
    ),
    Variable(
        "copy_similarity", ("paragraph", *_GRADIENT), "float", "cosine", "gradient similarity to the copy",
        "cosine between the gradients of a paragraph's and its changed copy's mean NLL", "localize", low=-1, high=1,
    ),
    Variable(
        "copy_similarity_null", ("paragraph", *_GRADIENT), "float", "cosine", "gradient similarity to another's copy",
        "cosine between the gradients of a paragraph's and another one's copy's mean NLL, from another cluster",
        "localize", low=-1, high=1,
    ),
    Variable(
        "contrastive_gradient_max", ("term", *_GRADIENT), "float", _PER_WEIGHT, "max |gradient of the objective|",
        "largest absolute gradient of -c NLL(forget) + KL(keep), and of either term, over a component",
        PAPER + ", section 4", low=0,
    ),
    Variable(
        "contrastive_gradient_norm", ("term", *_GRADIENT), "float", _PER_WEIGHT, "norm of the objective's gradient",
        "L2 norm of the gradient of -c NLL(forget) + KL(keep), and of either term, over a component",
        PAPER + ", section 4", low=0,
    ),
    Variable(
        "contrastive_head_gradient_max", ("term", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "max |gradient of the objective|",
        "largest absolute gradient of -c NLL(forget) + KL(keep), and of either term, over one head's weights",
        PAPER + ", section 4", low=0,
    ),
    Variable(
        "contrastive_head_gradient_norm", ("term", *_HEAD_GRADIENT), "float", _PER_WEIGHT, "norm of the objective's gradient",
        "L2 norm of the gradient of -c NLL(forget) + KL(keep), and of either term, over one head's weights",
        PAPER + ", section 4", low=0,
    ),
    Variable(
        "activation_gradient", ("paragraph", "layer", "site", "head", "position"), "float", "nats per activation unit",
        "gradient norm", "L2 norm of the gradient of the chosen tokens' mean NLL by one head's activation at one position",
        PAPER + ", section 4, there q k v", low=0,
    ),
    Variable(
        "residual_gradient", ("paragraph", "layer", "position"), "float", "nats per activation unit", "gradient norm",
        "L2 norm of the gradient of the chosen tokens' mean NLL by the residual stream that enters a layer, at one position",
        "localize", low=0,
    ),
    Variable(
        "rare_token_score", ("paragraph", *_LOOKING), "float", _RHO, "rare-token score",
        "rank correlation, inside a paragraph, of the attention to earlier prefix tokens with their rarity",
        PAPER + ", section 5, ranked inside each paragraph", low=-1, high=1,
    ),
    Variable(
        "rare_token_null", ("paragraph", "null", *_LOOKING), "float", _RHO, "rare-token score of the null",
        "the same score of the same attention against other rarities, or of an untrained model's", "localize",
        low=-1, high=1,
    ),
    Variable(
        "rare_token_kendall", ("paragraph", *_LOOKING), "float", _TAU, "rare-token score",
        "rank correlation, inside a paragraph, of the attention to earlier prefix tokens with their rarity", "localize",
        low=-1, high=1,
    ),
    Variable(
        "rare_token_kendall_null", ("paragraph", "null", *_LOOKING), "float", _TAU, "rare-token score of the null",
        "the same score of the same attention against other rarities, or of an untrained model's", "localize",
        low=-1, high=1,
    ),
    Variable(
        "rare_token_mass", ("paragraph", *_LOOKING), "float", _SHARE, "attention on the rarest tokens",
        "attention that goes to the k rarest of the prefix tokens seen (ties share alike)", "localize", low=0, high=1,
    ),
    Variable(
        "rare_token_mass_null", ("paragraph", "null", *_LOOKING), "float", _SHARE,
        "attention on the rarest tokens of the null",
        "the same attention on what are the k rarest tokens by other rarities, or an untrained model's", "localize",
        low=0, high=1,
    ),
    Variable(
        "attention_entropy", ("paragraph", *_LOOKING), "float", "nats", "attention entropy",
        "entropy of one query's attention over all keys that it sees, itself among them", "localize", low=0, high="log of the paragraph",
    ),
    Variable(
        "attention_distance", ("paragraph", *_LOOKING), "float", "tokens", "attention distance",
        "how far back a query looks, on the average of its attention; 0 is itself", "localize", low=0, high="last position",
    ),
    Variable(
        "attention_entropy_untrained", ("paragraph", *_LOOKING), "float", "nats", "attention entropy, untrained",
        "the same of a model of the same shape with random weights", "localize", low=0, high="log of the paragraph",
    ),
    Variable(
        "attention_distance_untrained", ("paragraph", *_LOOKING), "float", "tokens", "attention distance, untrained",
        "the same of a model of the same shape with random weights", "localize", low=0, high="last position",
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
        low=-1, high=1,
    ),
    Variable(
        "ablated_exact_match", ("paragraph", "layer", "head"), "float", "tokens", "exact match, ablated",
        "exact match after one head's output has been replaced by its mean or zero; nan for a head that was not",
        "localize", low=0, high="continuation", pieces=True,
    ),
    Variable(
        "ablated_nll", ("paragraph", "layer", "head"), "float", "nats per token", "NLL, ablated",
        "mean NLL of the same continuation after one head's output has been replaced; nan for a head that was not",
        "localize", low=0, pieces=True,
    ),
    Variable(
        "replaced_exact_match", ("paragraph", "replaced"), "float", "tokens", "exact match, tokens replaced",
        "exact match after several prefix tokens have been replaced by random ones at once, mean over draws", "localize",
        low=0, high="continuation",
    ),
    Variable(
        "replaced_nll", ("paragraph", "replaced"), "float", "nats per token", "NLL, tokens replaced",
        "mean NLL of the same continuation after several prefix tokens have been replaced, mean over draws", "localize",
        low=0,
    ),
    Variable(
        "replaced_position", ("paragraph", "replaced"), "float", "tokens", "position of the tokens replaced",
        "mean position of the prefix tokens that were replaced: how well the common ones match the rarest", "localize",
        low=0, high="last prefix position",
    ),
    Variable(
        "unperturbed_exact_match", ("paragraph",), "integer", "tokens", "exact match, unperturbed",
        "exact match of the continuation that a change of prefix or model compares with, before it", PAPER + ", section 6",
        low=0, high="continuation",
    ),
    Variable(
        "unperturbed_nll", ("paragraph",), "float", "nats per token", "NLL, unperturbed",
        "mean NLL of the continuation that a change of prefix or model compares with, before it", PAPER + ", section 6", low=0,
    ),
    Variable(
        "unperturbed_token_nll", ("paragraph", "continuation_position"), "float", "nats", "token NLL, unperturbed",
        "NLL of each token of the continuation that a change of prefix compares with, before it", "localize", low=0,
    ),
    Variable(
        "unperturbed_tokens", ("paragraph", "position"), "integer", "token id", "tokens, unperturbed",
        "the prefix and the continuation that a change of prefix compares with", "localize", low=0,
    ),
    Variable(
        "perturbed_exact_match", _PERTURBED, "float", "tokens", "exact match, perturbed",
        "exact match after prefix tokens have been replaced, by the first of them; nan where nothing was put", PAPER + ", section 6",
        low=0, high="continuation",
    ),
    Variable(
        "perturbed_nll", _PERTURBED, "float", "nats per token", "NLL, perturbed",
        "mean NLL of the same continuation after prefix tokens have been replaced; nan where nothing was put",
        PAPER + ", section 6", low=0,
    ),
    Variable(
        "perturbed_token_error", ("paragraph", "kind", "continuation_position"), "float", _SHARE, "tokens wrong, perturbed",
        "share of the replacements after which a continuation token, the ones before it given, is not the likeliest", "localize",
        low=0, high=1,
    ),
    Variable(
        "replacement", _PERTURBED, "integer", "token id", "replacement",
        "the token put in the place of the prefix token; -1 where nothing was put", PAPER + ", section 6", low=-1,
    ),
    Variable(
        "copy_position", ("paragraph", "kind"), "integer", "tokens", "most changed position",
        "where replacing does most: lowest exact match, mean over draws; among equals the highest NLL", PAPER + ", section 6",
        low=0, high="last prefix position",
    ),
    Variable(
        "copy_tokens", ("paragraph", "kind", "position"), "integer", "token id", "perturbed copy",
        "the prefix with that position replaced, and what the model then says greedily", PAPER + ", section 6", low=0,
    ),
    Variable(
        "copy_exact_match", ("paragraph", "kind"), "integer", "tokens", "exact match of the copy",
        "tokens of the copy's continuation right before the first wrong one", PAPER + ", section 6", low=0, high="continuation",
    ),
    Variable(
        "copy_tokens_wrong", ("paragraph", "kind"), "integer", "tokens", "tokens wrong in the copy",
        "tokens of the copy's continuation that differ from the one at the same position", "localize", low=0, high="continuation",
    ),
    Variable(
        "copy_edit_distance", ("paragraph", "kind"), "integer", "tokens", "edit distance of the copy",
        "fewest tokens to insert, delete or replace that make the copy's continuation the paragraph's (Levenshtein)", "localize",
        low=0, high="continuation",
    ),
    Variable(
        "copy_longest_run", ("paragraph", "kind"), "integer", "tokens", "longest verbatim run in the copy",
        "longest run of tokens in the copy's continuation that stands in the paragraph's, at any place", "localize",
        low=0, high="continuation",
    ),
    Variable(
        "corrupted_exact_match", _CORRUPTED, "float", "tokens", "exact match, tokens replaced",
        "exact match after so many prefix tokens have been replaced together", "localize", low=0, high="continuation",
    ),
    Variable(
        "corrupted_nll", _CORRUPTED, "float", "nats per token", "NLL, tokens replaced",
        "mean NLL of the same continuation after so many prefix tokens have been replaced together", "localize", low=0,
    ),
    Variable(
        "tokens_to_break", ("paragraph", "order", "corruption_draw"), "float", "tokens", "tokens to break the recital",
        "fewest of the numbers tried of prefix tokens replaced that leave less than half of the exact match; nan if none does",
        "localize", low=1, high="prefix",
    ),
    Variable(
        "patch_position", ("paragraph",), "integer", "tokens", "changed position",
        "the one prefix position at which the corrupted copy differs", PAPER + ", section 6", low=0, high="last prefix position",
    ),
    Variable(
        "patch_target", ("paragraph",), "integer", "tokens", "first changed token",
        "position of the first continuation token in which the corrupted copy differs; -1 where none does", PAPER + ", section 6",
        low=-1,
    ),
    Variable(
        "clean_nll", ("paragraph", "metric"), "float", "nats per token", "NLL, clean run",
        "NLL of the paragraph's token or tokens in its own run", PAPER + ", section 6", low=0,
    ),
    Variable(
        "corrupted_run_nll", ("paragraph", "metric"), "float", "nats per token", "NLL, corrupted run",
        "NLL of the paragraph's token or tokens with one prefix token replaced", PAPER + ", section 6", low=0,
    ),
    *(
        Variable(
            f"{place}_patch_{what}", ("paragraph", "direction", "metric", *dims), "float", "nats per token", label,
            description, source, pieces=True,
        )
        for place, axes in (("head", ("site", "layer", "head")), ("stream", ("stream", "layer")))
        for what, dims, label, description, source in (
            ("effect", axes, "NLL change by patching",
             "NLL of the paragraph's tokens with one activation of the other run put in, less without", PAPER + ", section 6"),
            ("null", axes, "NLL change by patching, null",
             "change of the NLL of the paragraph's tokens by as large a change of that activation in a random direction", "localize"),
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
    Variable(
        "token_accuracy", ("paragraph",), "float", _SHARE, "tokens right",
        "share of the continuation tokens that are the likeliest, the true ones before them given", "localize", low=0, high=1,
    ),
    Variable(
        "reference_exact_match", ("paragraph",), "integer", "tokens", "exact match of the unedited model's continuation",
        "exact match of what the unedited model says after the prefix", "localize", low=0, high="continuation",
    ),
    Variable(
        "reference_nll", ("paragraph",), "float", "nats per token", "NLL of the unedited model's continuation",
        "mean NLL of what the unedited model says after the prefix", "localize", low=0,
    ),
    Variable(
        "prompted_recall", ("paragraph", "prompt"), "float", _SHARE, "recall behind a prompt",
        "share of the continuation tokens asked for that are said before the first error, by prompt", "localize", low=0, high=1,
    ),
    Variable(
        "rewritten_exact_match", ("paragraph",), "float", "tokens", "exact match of the new continuation",
        "exact match of the continuation that an edit teaches; nan for a paragraph that is not rewritten", PAPER,
        low=0, high="continuation",
    ),
    Variable(
        "rewritten_nll", ("paragraph",), "float", "nats per token", "NLL of the new continuation",
        "mean NLL of the continuation that an edit teaches; nan for a paragraph that is not rewritten", PAPER, low=0,
    ),
    Variable(
        "relearned_exact_match", ("paragraph", "step"), "float", "tokens", "exact match while relearning",
        "exact match after so many steps of training on the paragraphs taught", "localize", low=0, high="continuation",
    ),
    Variable(
        "relearned_nll", ("paragraph", "step"), "float", "nats per token", "NLL while relearning",
        "mean NLL after so many steps of training on the paragraphs taught", "localize", low=0,
    ),
    Variable(
        "noised_exact_match", _NOISED, "float", "tokens", "exact match, weights noised",
        "exact match after normal noise on so many weights, of `strength` standard deviations of their matrix", PAPER,
        low=0, high="continuation",
    ),
    Variable(
        "noised_nll", _NOISED, "float", "nats per token", "NLL, weights noised",
        "mean NLL of the same continuation after normal noise on so many weights", PAPER, low=0,
    ),
    Variable(
        "prefix_attention", ("paragraph", *_LOOKING, "prefix_position"), "float", _SHARE, "attention to the token",
        "attention that the last prefix token, or the continuation's tokens on average, pay to each prefix token", "localize",
        low=0, high=1,
    ),
):  # fmt: skip
    register(_variable)
