"""`ResultDataset`: an xarray dataset of results that tells what a variable, asked for by a name that it had, is called now."""

from typing import Any

import xarray as xr

from localize.analysis.tables import RENAMED

NULL_ENDS = ("null_low", "null_high")
"""Names that ends of both kinds had."""

KINDS = ("mean", "range")
"""Of the interval of the null's mean, and of its central 95 %."""


class ResultDataset(xr.Dataset):
    """Numbers of cells, with labels. An end of the null is of the interval of its mean, or of its central 95 %; each has its name."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        try:
            return super().__getitem__(key)
        except KeyError:
            asked = [key] if isinstance(key, str) else key if isinstance(key, list) else []
            for name in asked:
                if name in NULL_ENDS and name not in self.variables:
                    now = [new for new in (name.replace("_", f"_{kind}_") for kind in KINDS) if new in self.variables]
                    raise KeyError(f"{name!r} is called {now[0] if now else RENAMED[name]} now") from None
            raise
