"""What the metrics of how well a text is memorized declare; of each a higher value is more memory."""

from localize.measurements.cost import Workload
from localize.measurements.declaration import Axis, Measurement, Variable, always

GIVEN = ("paragraph", "tokens_given")
NGRAM = ("paragraph", "ngram")
EXTRACTION = "Hayes et al. 2024 (arXiv 2410.19482)"
NOVELTY = "McCoy et al. 2023 (arXiv 2111.09509)"
EXTRACTING = "Carlini et al. 2021 (arXiv 2012.07805)"


def passes(work: Workload) -> float:
    """One over the text, and decoding behind each prefix."""
    return 1.0 + work.count("prefixes", 4)


MEASUREMENT = Measurement(
    "memory", words="metrics of memorization", place=2, passes=passes, alone=always, alone_if="always",
    axes=(
        Axis("tokens_given", "first tokens given (tokens)", counted="{} tokens given", averaged=True, chosen_by="prefixes"),
        Axis("ngram", "length of the n-grams (tokens)", counted="n = {}", averaged=True),
    ),
    variables=(
        Variable(
            "continued_exact_match", GIVEN, "float", "tokens", "exact match",
            "tokens right before the first error, decoding greedily as many as a continuation has behind the first tokens of the text",
            "Hubble (arXiv 2510.19811)", low=0, high="continuation",
        ),
        Variable(
            "continued_rouge_l", GIVEN, "float", "share", "ROUGE-L",
            "longest common subsequence of the greedy and the true tokens behind the first ones of the text, over their number",
            "Lin 2004", low=0, high=1,
        ),
        Variable(
            "extraction_probability", GIVEN, "float", "probability", "extraction",
            "probability of sampling all the true tokens behind the first ones of the text in one try", EXTRACTION, low=0,
            high=1,
        ),
        Variable(
            "extraction_chance", GIVEN, "float", "probability", "extraction in several tries",
            "probability of sampling all the true tokens at least once in some tries", EXTRACTION, low=0, high=1,
        ),
        Variable(
            "text_log_p", ("paragraph",), "float", "nats per token", "log p of the text",
            "mean log probability of the text's tokens but the first: its loss with the sign turned", "Yeom et al. 2018", high=0,
        ),
        Variable(
            "text_log_p_gain", ("paragraph",), "float", "nats per token", "log p above the reference's",
            "mean log probability of the text's tokens less the same of a reference model", EXTRACTING,
        ),
        Variable(
            "text_log_p_per_byte", ("paragraph",), "float", "nats per byte", "log p per zlib byte",
            "log probability of the text over the bytes that zlib compresses it to", EXTRACTING, high=0,
        ),
        Variable(
            "min_k", ("paragraph",), "float", "nats per token", "Min-K%",
            "mean log probability of the share of the text's tokens that are least likely", "Shi et al. 2024 (arXiv 2310.16789)", high=0,
        ),
        Variable(
            "min_k_plus_plus", ("paragraph",), "float", "standard deviations", "Min-K%++",
            "mean over the lowest share of the text's tokens of log probability less its mean under the model there, over its standard "
            "deviation under the model there", "Zhang et al. 2024 (arXiv 2404.02936)",
        ),
        Variable(
            "memorized_bits", ("paragraph",), "float", "bits", "memorized bits",
            "bits by which the model's code of the text is shorter than a reference model's, 0 where it is not",
            "Morris et al. 2025 (arXiv 2505.24832)", low=0,
        ),
        Variable(
            "sampled_ngrams_in_rows", NGRAM, "float", "share", "sampled n-grams in the rows",
            "share of the n-grams of continuations sampled behind the prefix that stand in the rows the model was trained on: 1 less "
            "their novelty", NOVELTY, low=0, high=1,
        ),
        Variable(
            "true_ngrams_in_rows", NGRAM, "float", "share", "true n-grams in the rows",
            "share of the n-grams of the true continuation that stand in the rows the model was trained on", NOVELTY, low=0, high=1,
            role="null", of="sampled_ngrams_in_rows",
        ),
    ),
)  # fmt: skip
