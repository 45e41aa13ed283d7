"""`Paragraphs`: token rows split into prefix and continuation, with what is known of each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from localize.axes import CONTINUATIONS, OWN, TRUE
from localize.errors import InputError, LocalizeError
from localize.paragraphs.clusters import near_duplicate_clusters
from localize.storage import is_unicode, replacing

if TYPE_CHECKING:
    from localize.models.hooks import HookedModel


@dataclass(frozen=True, eq=False)
class Paragraphs:
    """Paragraphs of one length, each a prefix that is given and a continuation that is asked for.

    Attributes:
        tokens: Token ids, int64 on the CPU, `(paragraph, position)`.
        prefix_length: How many of the positions are the prefix.
        ids: One name per paragraph, all different.
        texts: The paragraphs as text, or None.
        groups: The user's own label of each paragraph, or None: then groups follow from exact match.
        em_bins: Ranges of exact match that name the groups instead, both ends included, or None.
        duplicates: How often each stands in the training data, or None.
        continuation: "true", or "own" where the continuation is the model's greedy one.
        true_tokens: Where `continuation` is "own": the paragraphs' true tokens, or None if they are not known.
        skipped: One line for every row of the source that was left out.
        source: Where they came from.
    """

    tokens: Int[Tensor, "paragraph position"]
    prefix_length: int
    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    em_bins: tuple[tuple[int, int], ...] | None = None
    duplicates: tuple[int, ...] | None = None
    continuation: str = TRUE
    true_tokens: Int[Tensor, "paragraph position"] | None = None
    skipped: tuple[str, ...] = ()
    source: str = "in memory"

    def __post_init__(self) -> None:
        count, length = self.tokens.shape
        if count == 0:
            raise InputError(f"{self.source}: no paragraphs; at least one is needed.")
        if not 1 <= self.prefix_length < length:
            raise InputError(
                f"{self.source}: prefix_length={self.prefix_length} must lie in 1..{length - 1}, for {length} tokens a paragraph."
            )
        if self.continuation not in CONTINUATIONS:
            raise InputError(
                f"{self.source}: continuation={self.continuation!r} is not one of {', '.join(CONTINUATIONS)}."
            )
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(count)))
        for name in ("ids", "texts", "groups", "duplicates"):
            given = getattr(self, name)
            if given is not None and len(given) != count:
                raise InputError(f"{self.source}: {len(given)} {name} for {count} paragraphs; one each is needed.")
        for name in ("ids", "texts", "groups"):
            for row, text in enumerate(getattr(self, name) or ()):
                if not is_unicode(text):
                    raise InputError(
                        f"{self.source}: {name}[{row}] = {text[:20]!a}... holds half a surrogate pair; valid Unicode is needed."
                    )
        if len(set(self.ids)) < count:
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))
            raise InputError(f"{self.source}: the id {twice!r} stands twice; ids must differ.")

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        parts = [
            f"{len(self)} x ({self.prefix_length} + {self.continuation_length}) tokens",
            f"{self.continuation} continuation",
        ]
        if self.groups is not None:
            names, counts = np.unique(self.groups, return_counts=True)
            parts.append(", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True)))
        if self.skipped:
            parts.append(f"{len(self.skipped)} rows skipped")
        return f"Paragraphs({self.source}: {'; '.join(parts)})"

    def __getitem__(self, index: "int | slice | Sequence[int] | np.ndarray | Tensor") -> "Paragraphs":
        """The paragraphs at these positions (or where a mask is true), in that order."""
        if not isinstance(index, int | slice):
            index = np.asarray(index, dtype=None if len(index) else np.int64)
        rows = np.atleast_1d(np.arange(len(self))[index]).copy()
        if rows.size == 0:
            raise LocalizeError(f"{self.source}: the index selects none of {len(self)} paragraphs.")
        pick = {
            name: None if (values := getattr(self, name)) is None else tuple(values[i] for i in rows)
            for name in ("ids", "texts", "groups", "duplicates")
        }
        true_tokens = None if self.true_tokens is None else self.true_tokens[rows]
        chosen = replace(self, tokens=self.tokens[rows], true_tokens=true_tokens, **pick)
        # A near-duplicate chain may run through paragraphs left out: the clusters stay those of the whole set.
        chosen.__dict__["clusters"] = self.clusters[rows]
        return chosen

    def spaced(self, count: int) -> "Paragraphs":
        """So many of them, evenly spaced."""
        return self[[place * len(self) // count for place in range(count)]]

    @property
    def continuation_length(self) -> int:
        """How many of the positions are the continuation."""
        return self.tokens.shape[1] - self.prefix_length

    @property
    def prefixes(self) -> Int[Tensor, "paragraph prefix_position"]:
        """What is given."""
        return self.tokens[:, : self.prefix_length]

    @property
    def continuations(self) -> Int[Tensor, "paragraph continuation_position"]:
        """What is asked for."""
        return self.tokens[:, self.prefix_length :]

    @property
    def recall_tokens(self) -> Int[Tensor, "paragraph position"]:
        """What exact match is asked of: the true tokens where they are known, else the own ones."""
        return self.tokens if self.true_tokens is None else self.true_tokens

    @property
    def recall_continuation(self) -> str:
        """Which continuation `recall_tokens` are."""
        return self.continuation if self.true_tokens is None else TRUE

    @cached_property
    def clusters(self) -> np.ndarray:
        """Cluster of near-duplicates of each paragraph, numbered by first appearance; see `near_duplicate_clusters`."""
        return near_duplicate_clusters(self.recall_tokens.numpy())

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """A digest of each paragraph's own (true, where known) tokens: what random draws are keyed by."""
        rows = self.recall_tokens.numpy().astype("<i8")
        return tuple(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)

    @property
    def data_hash(self) -> str:
        """A digest of all paragraphs, in order, and of the split."""
        digest = hashlib.sha256(f"{self.prefix_length}+{self.continuation_length}".encode())
        for part in self.hashes:
            digest.update(part)
        return digest.hexdigest()

    def check_fits(self, model: "HookedModel") -> None:
        """Raise an `InputError` if the paragraphs exceed the model's context or vocabulary."""
        if self.tokens.shape[1] > model.n_ctx:
            raise InputError(
                f"{self.source}: {self.prefix_length} + {self.continuation_length} tokens exceed the context of {model.name}, "
                f"which is {model.n_ctx}; choose a shorter prefix or continuation."
            )
        outside = (self.tokens < 0) | (self.tokens >= model.vocab_size)
        if outside.any():
            row, position = (int(i) for i in outside.nonzero()[0])
            raise InputError(
                f"{self.source}: paragraph {self.ids[row]!r} (row {row}) has token id {int(self.tokens[row, position])} at position "
                f"{position}; the vocabulary of {model.name} allows 0..{model.vocab_size - 1}."
            )

    def with_own_continuation(self, model: "HookedModel", *, batch_size: int = 64) -> "Paragraphs":
        """The same prefixes, continued greedily by the model; the true tokens are kept beside."""
        if self.continuation == OWN:
            return self
        self.check_fits(model)
        said = [
            model.continue_greedily(
                self.prefixes[start : start + batch_size].to(model.device), self.continuation_length
            ).cpu()
            for start in tqdm(
                range(0, len(self), batch_size), desc="own continuations", unit="batch", delay=2.0, leave=False
            )
        ]
        tokens = torch.cat([self.prefixes, torch.cat(said)], dim=1)
        return self._relabelled(tokens=tokens, true_tokens=self.tokens, continuation=OWN)

    def with_groups(self, groups: Sequence[str]) -> "Paragraphs":
        """The same paragraphs under the user's own labels."""
        return self._relabelled(groups=tuple(str(g) for g in groups), em_bins=None)

    def with_em_bins(self, bins: Sequence[tuple[int, int]]) -> "Paragraphs":
        """The same paragraphs, to be grouped by exact match: `[(0, 10), (11, 29), (30, 49), (50, 50)]` gives "EM 0-10", ....

        Raises:
            InputError: If the bins overlap, or leave out a value that exact match can take.
        """
        covered = sorted(em for low, high in bins for em in range(low, high + 1))
        if covered != list(range(self.continuation_length + 1)):
            raise InputError(f"em_bins={list(bins)} must cover 0..{self.continuation_length} once each.")
        return self._relabelled(groups=None, em_bins=tuple((int(low), int(high)) for low, high in bins))

    def em_bin(self, exact_match: int) -> str:
        """The name of the bin that an exact match falls in."""
        low, high = next((low, high) for low, high in self.em_bins or () if low <= exact_match <= high)
        return f"EM {low}" if low == high else f"EM {low}-{high}"

    def _relabelled(self, **changes: Any) -> "Paragraphs":
        changed = replace(self, **changes)
        changed.__dict__["clusters"] = self.clusters
        return changed

    def save(self, path: str | Path) -> None:
        """Write one JSON object per paragraph, which `load_paragraphs` reads back (it is told the prefix length again).

        Raises:
            LocalizeError: If the continuations are a model's own, which the file could not tell from true ones.
        """
        if self.continuation == OWN:
            raise LocalizeError(
                f"save: {self.source} hold own continuations, which depend on a model; save the true paragraphs."
            )
        columns: Mapping[str, Sequence | None] = {
            "id": self.ids,
            "text": self.texts,
            "group": self.groups,
            "duplicates": self.duplicates,
            "tokens": self.tokens.tolist(),
        }
        present = {name: values for name, values in columns.items() if values is not None}
        with replacing(Path(path)) as beside, beside.open("w", encoding="utf-8") as file:
            for row in zip(*present.values(), strict=True):
                file.write(json.dumps(dict(zip(present, row, strict=True)), ensure_ascii=False) + "\n")
