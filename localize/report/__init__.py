"""One HTML file of one or several runs: what was asked, what stands out, every figure, the paragraphs themselves.

The folder is called as the function that it is named after: `localize.report("run")`, see `localize.report.page.report`. A folder of a
package always takes its own name there, so that a function could only stand beside it until a file of the folder is imported.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localize.report.page import Given


class _Report(ModuleType):
    """`localize.report`, callable."""

    def __call__(
        self,
        results: "Given | Sequence[Given]",
        path: str | Path | None = None,
        *,
        title: str | None = None,
        max_paragraphs: int = 500,
        seed: int = 0,
    ) -> Path:
        """Write one HTML file; see `localize.report.page.report`."""
        from localize.report.page import report

        return report(results, path, title=title, max_paragraphs=max_paragraphs, seed=seed)


sys.modules[__name__].__class__ = _Report
