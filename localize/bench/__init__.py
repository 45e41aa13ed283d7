"""The benchmark of localizers: what they find of truths that were planted, and what gradient maps say there.

The folder is called: `localize.bench(model, paragraphs)`, see `localize.bench.run.bench`; `localize.bench.read_results`,
`localize.bench.score_localizer` and `localize.bench.oracle` are taken from it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localize.bench.results import BenchResults

_HOME = {
    "BenchResults": "results",
    "joined_table": "tables",
    "oracle": "upper_bound",
    "read_results": "results",
    "score_localizer": "scoring",
}


class _Bench(ModuleType):
    """`localize.bench`, callable."""

    def __call__(self, *args: Any, **options: Any) -> "BenchResults":
        """Plant truths and score localizers on them; see `localize.bench.run.bench`."""
        from localize.bench.run import bench

        return bench(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'localize.bench' has no attribute {name!r}")
        module = import_module(f"{__name__}.{_HOME[name]}")
        return getattr(module, name)


sys.modules[__name__].__class__ = _Bench
