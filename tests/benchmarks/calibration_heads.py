"""Calibration of what is said of attention heads, as markdown: `python tests/benchmarks/calibration_heads.py --simulations 2000`.

Heads read the embedded paragraphs. Each simulated head likes some token types and dislikes others; how much has nothing to do with how rare
they are, but for the rows of power. Rates are those of p <= .05.
"""

import argparse
import warnings

import numpy as np
import xarray as xr

import localize as lz
from localize.analysis.causal import CORRELATED, rank_rows, together_rows, with_control
from localize.analysis.chosen_head import ChosenHead, head_sentence, reference_groups, untrained_row
from localize.analysis.dealt_counts import dealt_scores, unit_ranks
from localize.analysis.draws import Draws
from localize.analysis.sentences import decision
from localize.axes import MEMORIZED
from localize.models.untrained import untrained
from localize.statistics import LEVEL, cluster_sign_flip

QUERY, PARTNERS, HEADS = "last_prefix", 8, 32
LIKINGS = {
    "normal": lambda rng, rank: rng.normal(size=len(rank)),
    "log-normal": lambda rng, rank: rng.lognormal(size=len(rank)),
    "stronger for common types": lambda rng, rank: rng.normal(size=len(rank)) * np.exp(-0.7 * rank),
    "stronger for rare types": lambda rng, rank: rng.normal(size=len(rank)) * np.exp(0.7 * rank),
    "none": lambda rng, rank: np.zeros(len(rank)),
}
"""How much a head likes each token type; `rank` is the type's standardized rank by rarity."""


def scores_of(tokens, counts, liking, noise, rng):
    """A dataset of heads, one for each row of `liking` over the types, that read these tokens."""
    _, of = np.unique(tokens, return_inverse=True)
    of, position = of.reshape(tokens.shape), 0.03 * np.arange(tokens.shape[1])
    attention = np.stack([like[of] + noise * rng.normal(size=of.shape) + position for like in liking], axis=1)
    ranks, rarity = unit_ranks(attention), unit_ranks(-counts[tokens].astype(float))
    shifts = rng.choice(np.arange(1, len(tokens)), PARTNERS, replace=False)
    partners = np.mean([np.roll(rarity, shift, axis=0) for shift in shifts], axis=0)
    score, null = (np.einsum("phk,pk->ph", ranks, by)[:, None] for by in (rarity, partners))
    places = attention.argsort(-1).argsort(-1).astype(float)
    return xr.Dataset(
        {
            "rare_token_score": (("paragraph", "query", "layer", "head"), score[:, None]),
            "rare_token_null": (("paragraph", "null", "query", "layer", "head"), null[:, None, None]),
            "attention_rank": (("paragraph", "query", "layer", "head", "prefix_position"), places[:, None, None]),
            "prefix_counts": (("paragraph", "prefix_position"), counts[tokens]),
        },
        {
            "tokens": (("paragraph", "position"), tokens),
            "group": ("paragraph", np.full(len(tokens), MEMORIZED)),
            "cluster": ("paragraph", np.arange(len(tokens))),
            "query": [QUERY],
            "null": ["mismatched"],
            "layer": [0],
            "head": np.arange(len(liking)),
        },
    )


def rates_of_heads(tokens, counts, shape, noise, simulations, seed):
    """Of heads: p <= .05 against mismatched rarity, against counts dealt out, and of the strongest of 32 with the choice in its null."""
    rng, by_sign, by_deal, chosen = np.random.default_rng(seed), [], [], []
    types = np.unique(tokens)
    rank = -counts[types].argsort().argsort().astype(float)
    rank = (rank - rank.mean()) / rank.std()
    for number in range(-(-simulations // HEADS)):
        liking = np.stack([LIKINGS[shape](rng, rank) for _ in range(HEADS)])
        data = scores_of(tokens, counts, liking, noise, rng)
        above = (data["rare_token_score"] - data["rare_token_null"]).isel(query=0, layer=0, null=0).values
        by_sign += cluster_sign_flip(above, np.arange(len(tokens)), seed=number, permutations=200).p_value.tolist()
        everything = np.ones(len(tokens), dtype=bool)
        by_deal += dealt_scores(data, QUERY, [everything], number).p_values(0).ravel().tolist()
        head = ChosenHead.of(data, QUERY, number)
        chosen.append(head.dealt_nulls(data, QUERY, (MEMORIZED,), number)[MEMORIZED].p_value)
    return [np.mean(np.array(p) <= LEVEL) for p in (by_sign, by_deal, chosen)]


def power(tokens, counts, strength, simulations, seed):
    """Mean score of a head that likes rare types, beside a random liking as strong as 1, and how often it is found."""
    rng, found, score = np.random.default_rng(seed), [], []
    types = np.unique(tokens)
    rarity = -np.log(counts[types] + 1.0)
    rarity = (rarity - rarity.mean()) / rarity.std()
    everything = np.ones(len(tokens), dtype=bool)
    for number in range(-(-simulations // HEADS)):
        liking = strength * rarity + rng.normal(size=(HEADS, len(types)))
        data = scores_of(tokens, counts, liking, 1.0, rng)
        found += (dealt_scores(data, QUERY, [everything], number).p_values(0).ravel() <= LEVEL).tolist()
        score.append(data["rare_token_score"].values.mean())
    return np.mean(score), np.mean(found)


def removed(rng, layers, heads, paragraphs=100):
    """Heads whose score and cost have nothing to do with one another, each with a mean of its own."""
    cells = (layers, heads)
    score = rng.normal(0, 0.1, cells) + rng.normal(0, 0.3, (paragraphs, *cells))
    rise = rng.gamma(1.0, 0.05, cells) * rng.gamma(2.0, 0.5, (paragraphs, *cells))
    return xr.Dataset(
        {
            "rare_token_score": (("paragraph", "query", "layer", "head"), score.clip(-1, 1)[:, None]),
            "rare_token_null": (("paragraph", "null", "query", "layer", "head"), np.zeros((paragraphs, 1, 1, *cells))),
            "ablated_nll": (("paragraph", "layer", "head"), rise),
            "ablated_exact_match": (("paragraph", "layer", "head"), np.zeros((paragraphs, *cells))),
            "unperturbed_nll": ("paragraph", np.zeros(paragraphs)),
            "unperturbed_exact_match": ("paragraph", np.zeros(paragraphs)),
        },
        {
            "group": ("paragraph", np.full(paragraphs, MEMORIZED)),
            "cluster": ("paragraph", np.arange(paragraphs)),
            "query": [QUERY],
            "null": ["mismatched"],
            "layer": np.arange(layers),
            "head": np.arange(heads),
        },
    )


def rates_of_removal(layers, heads, simulations, seed):
    """How often removal agrees and disagrees: one head against its layer over paragraphs, its ranks, and the correlation over heads."""
    rng, said = np.random.default_rng(seed), []
    for number in range(simulations):
        data, draws = removed(rng, layers, heads), Draws(number, 200)
        head = ChosenHead.of(data, QUERY, number)
        inside = head.of_group(MEMORIZED)
        own, others = with_control(data["ablated_nll"].values[inside], head.strongest.at)
        test = cluster_sign_flip(own - others, head.clusters[inside], seed=number, permutations=200)
        over_paragraphs = 0 if test.p_value > LEVEL else int(np.sign(test.difference))
        in_layer, in_model = (-(decision(row, "null") or 0) for row in rank_rows(head, data, MEMORIZED, draws))
        together = decision(together_rows(data, QUERY, (MEMORIZED,), draws)[MEMORIZED], "null")
        said.append((over_paragraphs, in_layer, in_model, together))
    said = np.array(said)
    return (said == 1).mean(0), (said == -1).mean(0)


def claims_of_random_weights(models, model, paragraphs):
    """Of how many models of random weights a head is said to attend to rare or to common tokens, and by which null it would be."""
    claimed = np.zeros(4, int)
    for number in range(models):
        signature = lz.rare_token_heads(untrained(model, 1000 + number), paragraphs, seed=number)
        data, draws = signature.dataset, Draws(number)
        head = ChosenHead.of(data, QUERY, number)
        for name in reference_groups(signature.groups):
            row = head.score_rows(data, QUERY, signature.groups, draws)[name]
            beside = untrained_row(data, QUERY, name, draws)
            inside = head.of_group(name)
            above = (head.score - head.mismatched)[inside][:, *head.strongest.at]
            flipped = cluster_sign_flip(above, head.clusters[inside], seed=number).p_value
            said = head_sentence(head.name, row, beside)
            by = (flipped <= LEVEL, row["p_value"] <= LEVEL, beside["p_value"] <= LEVEL, not said.startswith("no head"))
            claimed += np.array(by, int)
    return claimed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--simulations", type=int, default=2000, help="simulated heads, and models with heads removed, per row"
    )
    parser.add_argument("--models", type=int, default=20, help="models of random weights")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    model, paragraphs = lz.load_model(), lz.load_paragraphs()
    counts, prefixes = model.unigram_counts.numpy(), paragraphs.prefixes.numpy()[:, :-1]

    print("| liking of types | noise | paragraphs | mismatched rarity | counts dealt out | strongest of 32, chosen |")
    print("|---|---|---|---|---|---|")
    for shape in LIKINGS:
        for noise in (0.3, 1.0):
            for size in (109, 24):
                tokens = prefixes[np.random.default_rng(size).choice(len(prefixes), size, replace=False)]
                rates = rates_of_heads(tokens, counts, shape, noise, asked.simulations, 0)
                print(
                    f"| {shape} | {noise} | {size} | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |", flush=True
                )

    print("\n| liking of rare types | mean score | found, 109 paragraphs |\n|---|---|---|")
    tokens = prefixes[np.random.default_rng(109).choice(len(prefixes), 109, replace=False)]
    for strength in (0.1, 0.2, 0.4):
        score, found = power(tokens, counts, strength, asked.simulations, 1)
        print(f"| {strength} | {score:.3f} | {found:.3f} |", flush=True)

    print(
        f"\nScore and cost of a head independent; removal agrees / disagrees ({CORRELATED.above.split(':')[0]}, ...).\n"
    )
    print(
        "| layers x heads | one head, over paragraphs | rank in its layer | rank in the model | correlation over heads |"
    )
    print("|---|---|---|---|---|")
    for layers, heads in ((4, 8), (12, 12)):
        agree, disagree = rates_of_removal(layers, heads, asked.simulations, 2)
        cells = (f"{one:.3f} / {other:.3f}" for one, other in zip(agree, disagree, strict=True))
        print(f"| {layers} x {heads} | " + " | ".join(cells) + " |", flush=True)

    if asked.models:
        found = claims_of_random_weights(asked.models, model, paragraphs[:260])
        print(
            f"\n{asked.models} models of random weights; a head is claimed by: mismatched rarity {found[0]}, counts dealt out {found[1]}, ",
            end="",
        )
        print(f"untrained models' strongest heads {found[2]}, both, as the sentence has it {found[3]}.")


if __name__ == "__main__":
    main()
