"""`Paragraphs`: token rows split into prefix and continuation, with what is known of each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from localize.axes import CONTINUATIONS, OWN, TRUE, UNLABELLED, ordered_groups
from localize.errors import InputError, LocalizeError, caller, public
from localize.paragraphs.clusters import near_duplicate_clusters
from localize.paragraphs.records import is_missing
from localize.storage import is_unicode, replacing

if TYPE_CHECKING:
    import pandas as pd

    from localize.models.hooks import HookedModel


@dataclass(frozen=True, eq=False)
class Paragraphs:
    """Paragraphs of one length, each a prefix that is given and a continuation that is asked for.

    Attributes:
        tokens: Token ids, int64 on the CPU, `(paragraph, position)`.
        prefix_length: How many of the positions are the prefix.
        ids: One name per paragraph, all different.
        texts: The paragraphs as text, None in the place of one that has none; or None.
        groups: The user's own label of each paragraph, None in the place of one without; or None: then groups follow from exact
            match. Where some are labelled, the others are "unlabelled": labels and exact match are never mixed.
        em_bins: Ranges of exact match that name the groups instead, both ends included, or None.
        duplicates: How often each stands in the training data, None in the place of one of which it is not known; or None.
        continuation: "true", or "own" where the continuation is the model's greedy one.
        true_tokens: Where `continuation` is "own": the paragraphs' true tokens, or None if they are not known.
        skipped: One line for every row of the source that was left out.
        source: Where they came from.
        notes: One line for whatever was read otherwise than it stands in the source.

    `known_clusters` may be given where `clusters` do not follow from these tokens alone: of paragraphs taken from a larger set,
    or of copies. `dataclasses.replace` does not carry them over, because other tokens may be in other clusters.
    """

    tokens: Int[Tensor, "paragraph position"]
    prefix_length: int
    ids: tuple[str, ...] = ()
    texts: tuple[str | None, ...] | None = None
    groups: tuple[str | None, ...] | None = None
    em_bins: tuple[tuple[int, int], ...] | None = None
    duplicates: tuple[int | None, ...] | None = None
    continuation: str = TRUE
    true_tokens: Int[Tensor, "paragraph position"] | None = None
    skipped: tuple[str, ...] = ()
    source: str = "in memory"
    notes: tuple[str, ...] = ()
    known_clusters: InitVar[Int[np.ndarray, "_"] | None] = None
    _known_clusters: Int[np.ndarray, "_"] | None = field(init=False, repr=False)

    def __post_init__(self, known_clusters: Int[np.ndarray, "_"] | None) -> None:
        object.__setattr__(self, "_known_clusters", known_clusters)
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
        named = {name: getattr(self, name) for name in ("ids", "texts", "groups", "duplicates")}
        for name, given in (named | {"known_clusters": known_clusters}).items():
            if given is not None and len(given) != count:
                raise InputError(f"{self.source}: {len(given)} {name} for {count} paragraphs; one each is needed.")
        for name in ("ids", "texts", "groups"):
            for row, text in enumerate(getattr(self, name) or ()):
                if text is not None and not is_unicode(text):
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
        if (labels := self.labels) is not None:
            parts.append(", ".join(f"{labels.count(name)} {name}" for name in ordered_groups(labels)))
        if unknown := (self.duplicates or ()).count(None):
            parts.append(f"duplicates of {unknown} not known")
        if self.skipped:
            parts.append(f"{len(self.skipped)} rows skipped")
        parts += self.notes
        return f"Paragraphs({self.source}: {'; '.join(parts)})"

    def __getitem__(
        self,
        index: "int | np.integer | slice | str | Sequence[int] | Sequence[str] | np.ndarray | Tensor | pd.Series",
    ) -> "Paragraphs":
        """The paragraphs at these positions, of these ids, or where a mask is true, in that order."""
        rows = np.atleast_1d(np.arange(len(self))[self._positions(index)]).copy()
        if rows.size == 0:
            raise LocalizeError(f"{self.source}: the index selects none of {len(self)} paragraphs.")
        pick = {
            name: None if (values := getattr(self, name)) is None else tuple(values[i] for i in rows)
            for name in ("ids", "texts", "groups", "duplicates")
        }
        true_tokens = None if self.true_tokens is None else self.true_tokens[rows]
        # A near-duplicate chain may run through paragraphs left out: the clusters stay those of the whole set.
        known = self.clusters[rows]
        return replace(self, tokens=self.tokens[rows], true_tokens=true_tokens, known_clusters=known, **pick)

    def _positions(self, index: Any) -> Any:
        """What numpy takes as an index, for any that is allowed."""
        if isinstance(index, slice):
            return index
        if isinstance(index, str):
            return self._row_of(index)
        given = np.asarray(index, dtype=np.int64 if isinstance(index, list | tuple) and not index else None)
        if given.dtype.kind in "UTO" and all(isinstance(name, str) for name in given.flat):
            return [self._row_of(str(name)) for name in given.ravel()]
        if given.dtype == bool and given.shape == (len(self),):
            return given
        if given.dtype.kind not in "iu" or given.ndim > 1:
            raise LocalizeError(
                f"{self.source}: an index of {given.dtype} of shape {given.shape} is none; positions, ids, or a mask of {len(self)} are."
            )
        if (outside := given[(given < -len(self)) | (given >= len(self))]).size:
            told = f"{self.source}: no paragraph {outside.flat[0]}; there are {len(self)}, from 0."
            raise IndexError(told) if given.ndim == 0 else LocalizeError(told)  # a loop over all ends by an IndexError
        return given

    def _row_of(self, name: str) -> int:
        """The position of an id."""
        if name not in self._rows:
            first = ", ".join(map(repr, self.ids[:3]))
            raise LocalizeError(f"{self.source}: no paragraph {name!r}; ids are {first}{', ...' * (len(self) > 3)}.")
        return self._rows[name]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The group of each paragraph by the user's labels, "unlabelled" where there is none; None without any."""
        if self.groups is None:
            return None
        return tuple(UNLABELLED if group is None else group for group in self.groups)

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
        """Cluster of near-duplicates of each paragraph, numbered by first appearance; see `near_duplicate_clusters`.

        Where they are known from elsewhere, as they are numbered there.
        """
        if self._known_clusters is not None:
            return self._known_clusters
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

    def with_groups(self, groups: "Sequence[str | None] | pd.Series") -> "Paragraphs":
        """The same paragraphs under the user's own labels; None where there is none."""
        return self._relabelled(groups=tuple(None if is_missing(g) else str(g) for g in groups), em_bins=None)

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
        return replace(self, known_clusters=self.clusters, **changes)

    @public
    def save(self, path: str | Path) -> None:
        """Write one JSON object per paragraph, which `load_paragraphs` reads back (it is told the prefix length again).

        Raises:
            LocalizeError: If the continuations are a model's own, which the file could not tell from true ones.
        """
        if self.continuation == OWN:
            raise LocalizeError(
                f"{caller()}: {self.source} hold own continuations, which depend on a model; save the true paragraphs."
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
