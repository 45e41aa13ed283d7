"""What a text shown before adds to recall, beside another text shown: recall from the context and recall from the weights.

- *NLL* and *exact match* by what is shown before: nothing, the same text, its tokens shuffled, another text. Null of the same text and of
  its tokens: another one; of another one: nothing, whose text stands at other positions.
- *Gain*: by how much the continuation is likelier, or longer said, with the same text shown than with another one, paragraph by
  paragraph. Null: the same of the text's tokens shuffled, which tell its words and not their order: what exceeds it is copied. Null of
  the difference of groups: labels permuted over clusters.
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.rows import DIFFERENCE, NOTHING, Basis, Row, beside, differing, null_beside, row_of, rows_of
from localize.axes import SHOWN, ordered_groups
from localize.errors import public
from localize.signature.schema import range_of
from localize.statistics import pair_differences

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

NLL, EXACT_MATCH = "NLL", "exact match"
GAIN, LONGER = "gain in NLL from the text shown before", "gain in exact match from the text shown before"
VARIABLES = {NLL: ("in_context_nll", GAIN, -1), EXACT_MATCH: ("in_context_exact_match", LONGER, 1)}
"""Of each quantity its variable, its gain, and the sign of more recall."""

HELD_AGAINST = {"nothing": None, "same": "other", "shuffled": "other", "other": "nothing"}
"""What each is held against."""


@public
def in_context_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """What a text shown before adds to recall, for each group, beside another text shown.

    Args:
        signature: Holds `localize.in_context`, of one model.
        seed: Of bootstrap, permutation and sign flips.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity`, `shown` and `group`, columns as in `summary` and `difference`, `difference_low`, `difference_high`: the
        number less its null, paragraph by paragraph. NLL is in nats per token, exact match in tokens; see `localize.analysis.in_context`.

    Raises:
        SignatureError: If recall from the context was not measured.
    """
    from localize.analysis.tables import table_of

    require(signature, {"in_context_nll": "localize.in_context(model, paragraphs)"})
    dataset, draws, rows = signature.dataset, Draws(seed, resamples), list[Row]()
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    for quantity, (variable, _, _) in VARIABLES.items():
        values = {shown: told(dataset, variable, shown) for shown in SHOWN}
        for shown in SHOWN:
            for name in ordered_groups(group.tolist()):
                row = _level(values, shown, group == name, clusters, dataset, variable, draws)
                rows.append({"quantity": quantity, "shown": shown, "group": name} | row)
        rows += [row | differing(NOTHING) | {"shown": "same"} for row in gain_rows(signature, draws, quantity)]
    return table_of(rows, ("quantity", "shown", "group"), DIFFERENCE)


def gain_rows(signature: "MemorizationSignature", draws: Draws, quantity: str = NLL) -> list[Row]:
    """What the same text shown adds beyond another one, beside its shuffled tokens, for each group and the difference of two."""
    dataset, (variable, name, sign) = signature.dataset, VARIABLES[quantity]
    group, clusters, possible = dataset["group"].values, dataset["cluster"].values, range_of(dataset, variable)
    gain, null = (
        sign * pair_differences(told(dataset, variable, shown), told(dataset, variable, "other"))
        for shown in ("same", "shuffled")
    )
    apart = possible.minus(possible)
    return rows_of(name, gain, group, clusters, draws, partial(null_beside, gain, null, clusters, draws, apart), apart)


def told(dataset: "xr.Dataset", variable: str, shown: str) -> Float[np.ndarray, " paragraph"]:
    """A variable of all paragraphs with this shown before."""
    return dataset[variable].sel(shown=shown).values.astype(float)


def _level(
    values: dict[str, np.ndarray],
    shown: str,
    chosen: Bool[np.ndarray, " paragraph"],
    clusters: Int[np.ndarray, " paragraph"],
    dataset: "xr.Dataset",
    variable: str,
    draws: Draws,
) -> Row:
    """One mean of one group beside what it is held against."""
    possible, against = range_of(dataset, variable), HELD_AGAINST[shown]
    if against is not None:
        return beside(values[shown][chosen], values[against][chosen], clusters[chosen], possible, draws)
    interval = draws.mean(values[shown][chosen], clusters[chosen]).within(possible)
    return row_of(interval, basis=Basis.of(clusters[chosen])) | differing(NOTHING)
