"""What a scan is asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localize.errors import LocalizeError

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


@dataclass(frozen=True)
class Options:
    """What a scan is asked for; see `scan_corpus`."""

    prefix: int
    continuation: int
    stride: int
    threshold: int
    min_distinct: float
    max_repeated: float
    keywords: tuple[str, ...]
    matched: bool
    count: bool

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.prefix + self.continuation

    def check(self, model: "HookedModel", batch_size: int | None) -> None:
        """Raise a `LocalizeError` if an option is out of range, or a window exceeds the model's context."""
        for name in ("prefix", "continuation", "stride"):
            if getattr(self, name) < 1:
                raise LocalizeError(f"scan: {name}={getattr(self, name)} must be at least 1.")
        for name in ("min_distinct", "max_repeated"):
            if not 0 <= getattr(self, name) <= 1:
                raise LocalizeError(f"scan: {name}={getattr(self, name)} must lie in 0..1.")
        if batch_size is not None and batch_size < 1:
            raise LocalizeError(f"scan: batch_size={batch_size} must be at least 1.")
        if not 1 <= self.threshold <= self.continuation:
            raise LocalizeError(
                f"scan: threshold={self.threshold} must lie in 1..{self.continuation}, the continuation's length."
            )
        if self.length > model.n_ctx:
            raise LocalizeError(
                f"scan: windows of {self.length} tokens exceed the context of {model.name}, which is {model.n_ctx}."
            )
