"""Paragraphs a batch at a time, with a progress bar, halving the batch where memory runs out."""

from collections.abc import Callable
from numbers import Integral

import torch
from tqdm.auto import tqdm

from localize.errors import LocalizeError, warn

SHOW_AFTER = 2.0
"""Seconds after which work shows a progress bar."""


def in_batches(
    work: Callable[[slice], None],
    count: int,
    batch_size: int,
    *,
    what: str,
    unit: str = "paragraph",
    show: bool = True,
) -> None:
    """Call `work` on consecutive slices of `0 .. count - 1`; a slice that does not fit into memory is tried again in halves.

    `work` writes its results where they belong and must give the same when a slice is done again.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise LocalizeError(f"batch_size={batch_size} must be a whole number of at least 1.")
    start = 0
    with tqdm(total=count, desc=what, unit=unit, delay=SHOW_AFTER, disable=not show, leave=False) as bar:
        while start < count:
            stop = min(start + batch_size, count)
            try:
                work(slice(start, stop))
            except torch.OutOfMemoryError:
                if stop - start == 1:
                    raise
                batch_size = (stop - start) // 2
                torch.cuda.empty_cache()
                warn(f"{what}: out of memory; going on in batches of {batch_size}.")
                continue
            bar.update(stop - start)
            start = stop
