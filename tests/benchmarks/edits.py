"""What edits of several models cost, mask by mask: the folders of `localize edit` pooled, one number of each, intervals over folders.

    python tests/benchmarks/edits.py FOLDER FOLDER ...

For planted truths, of which each seed is another model. Tokens are of a continuation's own length; the last lines are what each mask costs
other memorized texts beyond what found units (`ratio`) do, paired over folders.
"""

import sys
import warnings

import numpy as np
from scipy import stats

import localize as lz
from localize.axes import MEMORIZED
from localize.report.folder import read_results

FOUND = "ratio"


def over(values, digits):
    """The mean with its interval by Student's t."""
    known = np.array([value for value in values if not np.isnan(value)])
    if len(known) < 2:
        return " ".join(f"{value:.{digits}f}" for value in known) or "."
    reach = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return f"{known.mean():.{digits}f} [{known.mean() - reach:.{digits}f}, {known.mean() + reach:.{digits}f}]"


def numbers(results):
    """Of each edit of a folder: tokens said and lost, others' NLL (mean, worst), perplexity, own NLL, and whether the aim is reached."""
    aim = lz.edit_aim(results.changes, results.attacked)
    for edit, changes in results.changes.items():
        mine = aim.loc[edit]
        length = changes[0].before.dataset.attrs["paragraphs"]["continuation_length"]
        rises = [
            change.after.where(group=MEMORIZED)["nll"].values - change.before.where(group=MEMORIZED)["nll"].values
            for change in changes
        ]
        told = {name: float(mine.loc[name, "value"]) if name in mine.index else np.nan for name in aim.index.unique(1)}
        rise = np.concatenate(rises)
        yield edit, {
            "said": length * told["forgotten"], "lost": length * told["other memorized"], "mean": rise.mean(), "worst": rise.max(),
            "perplexity": 100 * told["general perplexity"], "own": told["own continuations"], "reached": bool(mine["reached"].all()),
        }  # fmt: skip


def main():
    pooled: dict[str, list[dict]] = {}
    for folder in sys.argv[1:]:
        for edit, row in numbers(read_results(folder)):
            pooled.setdefault(edit, []).append(row)
    print("mask | tokens said | lost by others | their NLL (worst) | perplexity, % | own NLL | aim")
    for edit, rows in pooled.items():
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        nll = f"{over(columns['mean'], 3)} ({max(columns['worst']):.2f})"
        print(
            f"{edit} | {over(columns['said'], 1)} | {over(columns['lost'], 1)} | {nll} | "
            f"{over(columns['perplexity'], 1)} | {over(columns['own'], 3)} | {sum(columns['reached'])} of {len(rows)}"
        )
    for edit, rows in pooled.items():
        if edit != FOUND and len(rows) == len(pooled.get(FOUND, ())):
            more = [row["mean"] - found["mean"] for row, found in zip(rows, pooled[FOUND], strict=True)]
            print(f"{edit} - {FOUND}: {over(more, 3)} nats per token of other memorized texts")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
