"""The fingerprint of memorization in a few numbers, each with its interval and its null.

- *Stored units*: what share of a paragraph's scores above 0 its best MLP units hold, how many of these lie in the lower half of the
  layers, and the best head's share; null: a model with random weights, chosen alike. See `localize.analysis.stored_units`.
- *Locality*: the NLL rise with a paragraph's best units ablated, beside other texts' and random units', as a share of the gap to
  held-out loss, too. See `localize.analysis.locality`.
- *Low-layer share* of the gradient, which is sensitivity and not where a text is stored: how much of a paragraph's gradient, summed over
  cells (heads of W_Q W_K W_V W_O, and W_in, W_out) as max |g|, lies in the lower half of the layers. *Beyond loss*: between the main
  groups' tokens alike in NLL; it comes first where at least half of the tokens have a counterpart. *In total*: null of the difference
  between groups: labels permuted over clusters; beside a single group stands what a profile even over layers has, which is a landmark,
  not a test. See `localize.analysis.beyond_loss`.
- *Strongest rare-token head*, on either side of its null: chosen on one half of the clusters, scored on the other. Null: token counts dealt
  out over the token types, with the choice among heads in it. Then its *score above mismatched rarity*, beside the strongest heads of
  models with random weights. And, where heads were removed, because a score is a correlation: the *rank correlation of score and NLL
  rise over heads*, null: heads permuted within their layers; and how that head *ranks in its layer* by what its removal costs. In NLL,
  because text that is said with less confidence loses its exact match to almost any change. All but the score are of the memorized
  alone, which choose the head, where there are any.
- *NLL rise with the rarest tokens replaced*; beside it as many common ones at like positions.
- *Share of the NLL rise in the top 5 positions*, and *in the first half of the prefix*; then the same of the lost exact match, which
  saturates, because it ends at the first error. The top positions are chosen on some draws and scored on the others. Null: positions
  permuted, for the top positions in each draw apart. Of the lost exact match the difference of the groups stands again *beside
  saturation alone*: null of that is what one profile of hazards makes at each paragraph's own level. See
  `localize.analysis.saturation`.
- *NLL rise* by a replaced token, which does not saturate, and *lost exact match, first position left out*, which the paper never
  replaces and which counts nothing after the first error; and, of the two main groups, the *share of tokens made wrong, matched on
  each token's confidence* before the change: "harder to corrupt" may be "surer to begin with". See `localize.analysis.matching`.
- *Share of the gap restored by a head activation*: of the rise in NLL by a changed token, what putting that one activation of the
  unchanged run in takes back. The activation is each group's strongest, chosen on one half of the clusters and told on the other; null:
  as large a change in a random direction.
- *Priming of the least expected token*: log10 of its probability behind unrelated prefixes after a model was taught the text, less before;
  null: a token that is not in the text and was as likely there. See `localize.analysis.priming`.
- *Largest over median activation, of all layers*; null: a model with random weights. See `localize.analysis.massive_activations`.
- *Gain in NLL from the text shown before*, in the context, beyond another text shown; null: its tokens shuffled, so that what
  exceeds it is copied. See `localize.analysis.in_context`.

Each of these is a `SummaryRow`; one of your own registers beside them.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from localize.analysis.beyond_loss import low_layer_rows
from localize.analysis.causal import RANKS, TOGETHER, rank_rows, together_rows
from localize.analysis.chosen_head import SCORE, UNTRAINED, ChosenHead, reference_groups, untrained_row
from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.concentration import EFFECTS, HALF, TOP_POSITIONS, Told
from localize.analysis.concentration import SHARE as SHARE_IN_TOP
from localize.analysis.draws import Draws
from localize.analysis.effects import effect_of, one_kind
from localize.analysis.in_context import GAIN as COPIED
from localize.analysis.in_context import gain_rows
from localize.analysis.layer_share import LOW_LAYERS
from localize.analysis.locality import BESIDE_OTHERS, OF_GAP, locality_rows, told_numbers
from localize.analysis.massive_activations import LARGEST_RATIO, largest_rows
from localize.analysis.matching import corruption_rows
from localize.analysis.patching import SHARE, patch_table
from localize.analysis.priming import LEAST_EXPECTED, least_expected
from localize.analysis.rows import COLUMNS, Row, null_beside, rows_of
from localize.analysis.stored_units import HEAD, HELD, LOW_HALF, head_rows, held_rows, low_half_rows, told_units
from localize.axes import DIRECTIONS, QUERIES, REPLACED
from localize.code import origin
from localize.errors import LocalizeError, public
from localize.statistics import MINUS_ONE_TO_ONE, UNBOUNDED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

RESTORED = "share of the gap restored by head activation {}"

TOP_SHARE, FIRST_HALF = SHARE_IN_TOP.format("{}", TOP_POSITIONS, "s"), HALF
"""Of the NLL rise, and of the lost exact match."""

RARE_REPLACED = "NLL rise with the rarest tokens replaced"

NULL_DRAWS = 200
"""Permutations of positions."""


@dataclass(frozen=True)
class SummaryRow:
    """Some rows of the summary: what must have been measured for them, how they are made, and what they are held against.

    Attributes:
        name: What they are; no other registered rows may have it.
        needs: Variables without which they are left out.
        make: From the signature and the draws of intervals and tests to rows, as of `localize.analysis.rows.rows_of`.
        nulls: How a quantity among them begins, and what a single group's number is held against, in words.
    """

    name: str
    needs: tuple[str, ...]
    make: Callable[["MemorizationSignature", Draws], list[Row]]
    nulls: Mapping[str, str] = field(default_factory=dict)

    def register(self) -> "SummaryRow":
        """From now on every summary of a signature that holds what these rows need has them, last.

        Registered again, as in a notebook's cell, they take the place of the earlier ones: those of a function of the same name in
        the same module.

        Raises:
            LocalizeError: If others of this name are registered.
        """
        if origin(REGISTERED.get(self.name, self).make) != origin(self.make):
            raise LocalizeError(
                f"SummaryRow: {self.name!r} is registered already; choose another name than {', '.join(REGISTERED)}."
            )
        REGISTERED[self.name] = self
        return self

    def unregister(self) -> None:
        """From now on summaries are without these rows."""
        if REGISTERED.get(self.name) is self:
            del REGISTERED[self.name]


@public
def summary(signature: "MemorizationSignature", *, seed: int = 0) -> "pd.DataFrame":
    """The fingerprint in a few numbers, for each group and their difference; see `localize.analysis.summary`."""
    from localize.analysis.tables import table_of

    group, clusters = (signature.dataset[name].values for name in ("group", "cluster"))
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    draws, rows = Draws(seed), []
    for made in REGISTERED.values():
        if all(name in signature for name in made.needs):
            rows += made.make(signature, draws)
    return table_of(rows, ("quantity", "group"))


def null_words(quantity: str) -> str:
    """What a single group's number is held against, by how the name of its quantity begins."""
    words = (found for made in REGISTERED.values() for found in made.nulls.items())
    return next((said for start, said in words if quantity.startswith(start)), "")


def _stored_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """How much of the scores the best units hold, how low they lie, and how much of the heads' the best head has."""
    dataset, units = signature.dataset, told_units(signature.dataset)
    return held_rows(dataset, draws, units) + low_half_rows(dataset, draws, units) + head_rows(dataset, draws)


def _locality_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """What texts lose without their best units."""
    numbers = told_numbers(signature.dataset)
    told = {quantity.format(number) for quantity in (BESIDE_OTHERS, OF_GAP) for number in numbers}
    return [row for row in locality_rows(signature.dataset, draws, numbers) if row["quantity"] in told]


def _low_layer_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """The share of the gradient in the lower half of the layers, beyond loss and in total; beside the latter that of an even profile."""
    return low_layer_rows(signature.dataset, draws)


def _head_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """The head that scores furthest from its null on one half of the clusters, told on the other half; the last prefix token looks."""
    dataset, query, groups = signature.dataset, QUERIES[0], signature.groups
    chosen = ChosenHead.of(dataset, query, draws.seed)
    if chosen is None or not chosen.told.any():
        return []
    nulls, told = chosen.dealt_nulls(dataset, query, groups, draws.seed), chosen.told
    group, clusters = chosen.group[told], chosen.clusters[told]
    score, quantity = chosen.score[told][:, *chosen.strongest.at], SCORE.format(chosen.name)
    of_group = lambda inside: nulls[str(group[inside][0])]  # noqa: E731
    rows = rows_of(quantity, score, group, clusters, draws, of_group, MINUS_ONE_TO_ONE)
    for name in reference_groups(groups):
        row = untrained_row(dataset, query, name, draws)
        rows += [] if row is None else [row | {"quantity": UNTRAINED.format(row["head"]), "group": name}]
    return rows


def _removal_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """Whether heads that score higher cost more when they are removed, and how the chosen one ranks in its layer."""
    dataset, query, groups = signature.dataset, QUERIES[0], reference_groups(signature.groups)
    rows = [row | {"group": name} for name, row in together_rows(dataset, query, groups, draws).items()]
    chosen = ChosenHead.of(dataset, query, draws.seed)
    if chosen is not None and chosen.told.any():
        rows += [rank_rows(chosen, dataset, name, draws)[0] | {"group": name} for name in groups]
    return rows


def _replacement_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """What replacing the rarest prefix tokens costs, beside as many common ones at like positions."""
    dataset = signature.dataset
    rise = dataset["replaced_nll"] - dataset["unperturbed_nll"]
    rarest, common = (rise.sel(replaced=which).values.astype(float) for which in REPLACED)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    of_group = partial(null_beside, rarest, common, clusters, draws, UNBOUNDED)
    return rows_of(RARE_REPLACED, rarest, group, clusters, draws, of_group, UNBOUNDED)


def _nll_position_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """Where in the prefix a replacement raises the NLL."""
    dataset, told = _perturbed(signature, draws)
    return _share_rows(told, "nll", effect_of(dataset, "nll").clip(min=0))


def _exact_match_position_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """Where in the prefix the exact match is lost, and the groups' difference beside what saturation alone makes of it."""
    dataset, told = _perturbed(signature, draws)
    lost = effect_of(dataset, "exact_match")
    rows = _share_rows(told, "exact_match", lost)
    return rows + told.beside_saturation(lost, dataset["unperturbed_exact_match"].values, [TOP_POSITIONS])


def _perturbed(signature: "MemorizationSignature", draws: Draws) -> tuple["xr.Dataset", Told]:
    dataset = one_kind(signature.dataset, None)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    return dataset, Told(group, clusters, draws, Draws(draws.seed, NULL_DRAWS))


def _share_rows(told: Told, effect: str, lost: Float[np.ndarray, "paragraph draw position"]) -> list[Row]:
    words = EFFECTS[effect]
    return told.top(TOP_SHARE.format(words), lost) + told.first_half(FIRST_HALF.format(words), lost)


def _lost_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """What the groups lose, and what they do at like confidence."""
    return corruption_rows(signature.dataset, draws)


def _patch_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """How much of what a changed token raises the NLL by each group's strongest head activation restores."""
    judged = signature["head_patch_null"]
    if "first_changed" not in judged["metric"] or DIRECTIONS[0] not in judged["direction"]:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few clusters: told above
        table = patch_table(signature, direction=DIRECTIONS[0], seed=draws.seed, resamples=draws.resamples)
    found = table.xs(SHARE.format("head activation"), level="quantity").reset_index()
    return [
        {name: row[name] for name in ("group", *COLUMNS)}
        | {"quantity": RESTORED.format(row["site"]), "q_value": np.nan}
        for row in found.to_dict("records")  # their q is over the streams too, which are not told here
        if row["site"]
    ]


def _priming_rows(signature: "MemorizationSignature", draws: Draws) -> list[Row]:
    """What teaching a text does to its least expected token elsewhere, beside a token that was as likely there."""
    dataset = signature.dataset
    group, clusters = dataset["group"].values, dataset["cluster"].values
    own, matched = (of[:, 0] for of in least_expected(dataset))
    null = partial(null_beside, own, matched, clusters, draws, UNBOUNDED)
    return rows_of(LEAST_EXPECTED, own, group, clusters, draws, null, UNBOUNDED)


def _beginning(quantity: str) -> str:
    """How the name of a quantity begins, whatever stands in its braces."""
    return quantity.partition("{}")[0]


BUILT_IN = (
    SummaryRow(
        "stored units",
        ("unit_score", "head_score"),
        _stored_rows,
        {_beginning(name): "best of a model with random weights, chosen alike" for name in (HELD, LOW_HALF, HEAD)},
    ),
    SummaryRow(
        "locality",
        ("located_rise",),
        _locality_rows,
        {
            _beginning(BESIDE_OTHERS): "other texts, the same units ablated",
            _beginning(OF_GAP): "random units of the same layers",
        },
    ),
    SummaryRow(
        "low layers",
        ("head_gradient_max", "gradient_max"),
        _low_layer_rows,
        {LOW_LAYERS: "an even profile (a landmark, no test)"},
    ),
    SummaryRow(
        "strongest head",
        ("rare_token_score",),
        _head_rows,
        {
            SCORE.format(""): "counts dealt out over token types",
            UNTRAINED.format(""): "strongest heads of models with random weights",
        },
    ),
    SummaryRow(
        "removal",
        ("rare_token_score", "rare_token_null", "ablated_nll", "ablated_exact_match"),
        _removal_rows,
        {TOGETHER: "heads permuted within their layers", RANKS["in its layer"].format(""): "a head taken at random"},
    ),
    SummaryRow(
        "rarest tokens",
        ("replaced_nll",),
        _replacement_rows,
        {RARE_REPLACED: "as many common tokens, like positions"},
    ),
    SummaryRow(
        "positions (NLL rise)",
        ("perturbed_nll", "unperturbed_nll"),
        _nll_position_rows,
        {name.format(EFFECTS["nll"]): "positions permuted" for name in (TOP_SHARE, FIRST_HALF)},
    ),
    SummaryRow(
        "positions (lost exact match)",
        ("perturbed_exact_match", "unperturbed_exact_match"),
        _exact_match_position_rows,
        {name.format(EFFECTS["exact_match"]): "positions permuted" for name in (TOP_SHARE, FIRST_HALF)},
    ),
    SummaryRow("lost exact match", ("perturbed_exact_match",), _lost_rows),
    SummaryRow(
        "strongest activation",
        ("head_patch_null",),
        _patch_rows,
        {RESTORED.format(""): "as large a random change"},
    ),
    SummaryRow(
        "priming",
        ("priming", "priming_matched", "token_nll"),
        _priming_rows,
        {LEAST_EXPECTED: "a token as likely there before, not in the text"},
    ),
    SummaryRow(
        "massive activations",
        ("activation_ratio", "activation_ratio_untrained"),
        largest_rows,
        {LARGEST_RATIO: "a model with random weights"},
    ),
    SummaryRow("in context", ("in_context_nll",), gain_rows, {COPIED: "the same tokens shuffled"}),
)

REGISTERED = {made.name: made for made in BUILT_IN}
"""What the summary is made of, in its order."""
