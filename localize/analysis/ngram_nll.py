"""How much of the texts' likelihood n-grams of the training's rows explain, beside the model's own.

- *NLL of the model*, and *NLL* of tables of n-grams. Null of a table: the same without the rows that hold the text, so that the
  difference is what its own copies give.
- *Rank correlation with the model's NLL* over paragraphs, with all rows and with a text's own left out. Null: one of the two dealt out
  anew, whole clusters at a time.
"""

from typing import TYPE_CHECKING

import numpy as np

from localize.analysis.compare import warn_of_few_clusters
from localize.analysis.draws import Draws
from localize.analysis.measured import require
from localize.analysis.memory import agreement_rows, pairs_of
from localize.analysis.rows import DIFFERENCE, NOTHING, Basis, Row, beside, differing, row_of
from localize.axes import ordered_groups
from localize.errors import public
from localize.statistics import Range

if TYPE_CHECKING:
    import pandas as pd

    from localize.signature.signature import MemorizationSignature

MODEL, TABLE = "NLL of the model", "NLL"
CORRELATION = "rank correlation with the model's NLL"
LEFT_OUT = f"{CORRELATION}, own rows left out"


@public
def ngram_table(signature: "MemorizationSignature", *, seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
    """NLL of each group in tables of n-grams of the training's rows, beside the model's, and how they agree.

    Args:
        signature: Holds `localize.ngram_nll`, of one model.
        seed: Of bootstrap, permutation and sign flips.
        resamples: Draws of each.

    Returns:
        Indexed by `quantity`, `ngram` (0 for the model) and `group`, columns as in `summary` and `difference`, `difference_low`,
        `difference_high`: the number less its null, paragraph by paragraph. NLL is in nats per token; see `localize.analysis.ngram_nll`.

    Raises:
        SignatureError: If the tables were not measured.
    """
    from localize.analysis.tables import table_of

    require(signature, {"ngram_nll": "localize.ngram_nll(model, paragraphs, rows)"})
    dataset, draws, rows, possible = signature.dataset, Draws(seed, resamples), list[Row](), Range(0, np.inf)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    warn_of_few_clusters({name: clusters[group == name] for name in signature.groups})
    model, lengths = dataset["nll"].values.astype(float), dataset["ngram"].values.tolist()
    every, rest = (dataset[name].values.astype(float) for name in ("ngram_nll", "ngram_nll_left_out"))
    for name in ordered_groups(group.tolist()):
        chosen = group == name
        inside = clusters[chosen]
        own = draws.mean(model[chosen], inside).within(possible)
        rows.append(
            {"quantity": MODEL, "ngram": 0, "group": name} | row_of(own, basis=Basis.of(inside)) | differing(NOTHING)
        )
        for at, n in enumerate(lengths):
            told = beside(every[chosen, at], rest[chosen, at], inside, possible, draws)
            rows.append({"quantity": TABLE, "ngram": n, "group": name} | told)
        for quantity, values in ((CORRELATION, every), (LEFT_OUT, rest)):
            both = np.column_stack([model, values])[chosen]
            found = zip(pairs_of(both.shape[1]), agreement_rows(both, inside, draws), strict=True)
            for (_, at), row in (of for of in found if of[0][0] == 0):
                about = {"quantity": quantity, "ngram": lengths[at - 1], "group": name}
                rows.append(about | row | differing(NOTHING))
    return table_of(rows, ("quantity", "ngram", "group"), DIFFERENCE)
