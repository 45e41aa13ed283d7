"""`MemorizationSignature`: one labelled dataset that every measurement emits and every figure draws."""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.axes import MEMORIZED, NOT_MEMORIZED, ordered_groups
from localize.errors import SignatureError
from localize.signature.schema import DIMS, REGISTRY, range_of
from localize.storage import is_unicode

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from localize.signature.comparison import Comparison

SCHEMA_VERSION = 3
ROUNDING = {"bfloat16": 6e-2, "float16": 1e-2}
"""Relative difference up to which two measurements of one variable agree, in other batch sizes, kernels or on other devices."""
ROUNDING_OF_FLOATS = 1e-3


class MemorizationSignature:
    """What was measured on some paragraphs of one model, labelled, with what made it. Frozen.

    Args:
        dataset: Variables as in the registry, with coordinates `paragraph` (ids), `group` and `cluster`; attributes `model`,
            `paragraphs` and `calls` say what made it.

    Raises:
        SignatureError: If a variable is unknown or does not fit its schema, or a coordinate or attribute is missing.
    """

    __slots__ = ("_dataset",)
    _dataset: "xr.Dataset"

    def __init__(self, dataset: "xr.Dataset"):
        check(dataset)
        # A copy, so that what the caller does to his dataset afterwards does not reach it; in the registry's order.
        own = dataset.copy(deep=True)
        own = own.drop_vars(list(own.data_vars)).assign({name: own[name] for name in REGISTRY if name in own})
        for variable in own.variables.values():
            variable.values.flags.writeable = False
        object.__setattr__(self, "_dataset", own)

    def __reduce__(self) -> tuple[type["MemorizationSignature"], tuple["xr.Dataset"]]:
        return MemorizationSignature, (self.dataset,)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a signature is frozen; {name!r} cannot be set.")

    @property
    def dataset(self) -> "xr.Dataset":
        """The labelled arrays, read-only, in a dataset of their own."""
        copied = self._dataset.copy(deep=False)
        copied.attrs = copy.deepcopy(self._dataset.attrs)
        return copied

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, those of recall first and from most to least memorized."""
        return ordered_groups(str(g) for g in self._dataset["group"].values)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of what it holds."""
        return tuple(str(name) for name in self._dataset.data_vars)

    def __getitem__(self, name: str) -> "xr.DataArray":
        if name not in self._dataset:
            raise SignatureError(f"signature: no {name!r}; it holds {', '.join(self.variables)}.")
        return self._dataset[name].copy(deep=False)

    def __contains__(self, name: object) -> bool:
        return name in self._dataset

    def __len__(self) -> int:
        """Number of paragraphs."""
        return self._dataset.sizes["paragraph"]

    def __or__(self, other: "MemorizationSignature") -> "MemorizationSignature":
        """Both signatures' variables in one; a variable in both must agree up to rounding, and the left one's is kept.

        Of a sweep over heads done in parts, each fills what the other was not asked for.

        Raises:
            SignatureError: If model, paragraphs or a shared variable differ.
            TypeError: If the other is no signature.
        """
        if not isinstance(other, MemorizationSignature):
            raise TypeError(f"join: a signature joins with a signature, not with {type(other).__name__}.")
        return _joined(self, other)

    def where(self, *, group: str) -> "MemorizationSignature":
        """The paragraphs of one group, and what was measured of it as a set."""
        chosen = np.flatnonzero(self._dataset["group"].values == self._known(group))
        part = self._dataset.isel(paragraph=chosen)
        for axis in ("set", "other_set"):
            if axis in part.dims:
                part = part.isel({axis: np.flatnonzero(part[axis].values == group)})
        return MemorizationSignature(part)

    def _known(self, group: str) -> str:
        if group not in self.groups:
            raise SignatureError(f"signature: no group {group!r}; it has {', '.join(self.groups)}.")
        return group

    def compare(
        self, a: str, b: str, variables: str | Sequence[str] | None = None, *, seed: int = 0, resamples: int = 2000
    ) -> "Comparison":
        """Difference of two groups' means, cell by cell, with what it would be if the labels meant nothing.

        Args:
            a: The one group.
            b: The group subtracted from it.
            variables: One or several, whatever is measured per paragraph; None takes those whose mean means something and that
                have at most 3000 cells.
            seed: Seed of bootstrap and permutation.
            resamples: Draws of each.

        Returns:
            `comparison[name]` is a Dataset over the variable's cells: `difference`, its 95 % interval `low` `high` by bootstrap
            over clusters, `p_value` by permutation of clusters, `q_value` (Benjamini-Hochberg over these cells), `null_low`
            `null_high` (central 95 % under permuted labels), `effect_size` (Hedges' g), `auc` (probability that a paragraph of
            a has the larger value), `mean_a`, `mean_b`, and `rough`: fewer than 10 effective clusters, or too skewed for their
            number, so that the interval covers less than it says. `to_dataframe`, `strongest`, `save` tell all cells together.
            Draws are averaged first. Fewer than 30 effective clusters warn, and so do rough intervals.

        Raises:
            SignatureError: If a group or variable is not there.
        """
        from localize.signature.compare import compare_groups, compared_variables, warn_of_rough_intervals

        a, b = self._known(a), self._known(b)
        if a == b:
            raise SignatureError(f"compare: a and b are both {a!r}; two groups are needed.")
        names = compared_variables(self._dataset) if variables is None else variables
        names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        if not names:
            raise SignatureError(f"compare: variables is empty; the signature holds {', '.join(self.variables)}.")
        possible = {name: range_of(self._dataset, name) for name in names}
        comparison = compare_groups([self[name] for name in names], a, b, possible, seed=seed, resamples=resamples)
        warn_of_rough_intervals(comparison)
        return comparison

    def distinguish(
        self,
        a: str = MEMORIZED,
        b: str = NOT_MEMORIZED,
        *,
        seed: int = 0,
        permutations: int = 200,
        folds: int = 5,
        repeats: int = 5,
        resamples: int = 2000,
    ) -> "pd.DataFrame":
        """Whether two groups can be told apart by how well they are recited, by where, and by where beyond how well.

        A linear classifier (ridge regression) is trained on the clusters of all folds but one and judged on that one.

        Args:
            a: The one group; its paragraphs should score higher.
            b: The other.
            seed: Of folds, permutations and bootstrap.
            permutations: Labellings of each null.
            folds: Parts that the clusters are divided into, each held out once; fewer where a group has fewer clusters.
            repeats: How often they are divided anew.
            resamples: Draws of the bootstrap.

        Returns:
            Indexed by `features`: "loss" (NLL and its logarithm); a row per part measured: "gradients" (shares per component
            and head), "rare-token heads" (score, mass), "attention" (entropy, distance), "ablation", "replacement",
            "perturbation" (NLL rises per head, choice of tokens, prefix position), "patching" (effect per site);
            "where (all parts)"; "loss + gradients", ... and "loss + where".

            `auc`: of the pairs of an a and a b held out in one fold, the share in which a scores higher (chance is .5), with
            its 95 % interval by bootstrap over clusters of the scores; `null` and its central 95 % and `p_value` (one-sided):
            labels permuted over clusters, scaling, choice of penalty and training run anew each time. `gain`: AUC(loss + part)
            - AUC(loss), on the same pairs; its null permutes labels among clusters alike in loss (up to 10 strata of the range
            that both groups reach). `features_count`, `paragraphs`, `effective_clusters`. `attrs` tell every choice made.

            The gain tests whether a part tells the groups apart among paragraphs alike in loss. It is asked only of those that
            have a counterpart in the other group (`attrs["alike_in_loss"]`); where the AUC of the loss is near 1 there is
            hardly one and hardly anything left to gain, so that no gain is no sign that where is the same, and an AUC of
            a part may be nothing but loss seen in another place. This warns. A gain can come from loss that its two features
            do not hold, such as the NLL of another continuation. A part that only a curved boundary finds is not found.
            Fewer than 30 effective clusters warn.

        Raises:
            SignatureError: If a group is not there, or has fewer than 3 clusters.
        """
        from localize.signature.distinguish import distinguish_groups

        a, b = self._known(a), self._known(b)
        if a == b:
            raise SignatureError(f"distinguish: a and b are both {a!r}; two groups are needed.")
        return distinguish_groups(
            self, a, b, seed=seed, permutations=permutations, folds=folds, repeats=repeats, resamples=resamples
        )

    def contrast(
        self,
        a: str,
        b: str,
        variable: str = "gradient_share",
        *,
        over: str | Sequence[str] | None = None,
        seed: int = 0,
        resamples: int = 2000,
    ) -> "xr.Dataset":
        """How two groups' profiles differ, cell by cell: by how much, and by what factor.

        A profile is the mean over a group's paragraphs of a variable of at least 0, best a share: absolute gradients follow
        the loss, which is several times larger for text that is not memorized.

        Args:
            a: The one group.
            b: The group that it is held against.
            variable: What is contrasted: "gradient_share", "head_gradient_share" or another variable that is never negative.
            over: Axes to sum over first: "component" gives the profile over layers.
            seed: Seed of bootstrap and permutation.
            resamples: Draws of each.

        Returns:
            Per cell `profile_a`, `profile_b`; `difference` (a - b) with its 95 % interval `low` `high` by bootstrap over
            clusters and the central 95 % under permuted labels, `null_low` `null_high`; `log_ratio` (log profile_a -
            log profile_b, nats) with `log_ratio_low` `log_ratio_high` and `log_ratio_null_low` `log_ratio_null_high`, the
            log ratios that the null's differences are; `p_value` of equal profiles, `q_value` (Benjamini-Hochberg over the
            cells) and `effect_size` (Hedges' g of the difference). The log ratio is nan where a profile is 0. Attributes say
            variable, unit, groups, paragraphs, effective clusters, seed. Fewer than 30 effective clusters warn.

        Raises:
            SignatureError: If a group, variable or axis is not there, or the variable can be negative.
        """
        from localize.signature.contrast import contrast_groups

        a, b = self._known(a), self._known(b)
        values, possible = self[variable], range_of(self._dataset, variable)
        return contrast_groups(values, a, b, possible, over=over, seed=seed, resamples=resamples)

    def head_agreement(
        self,
        group: str | None = None,
        *,
        component: str | None = "W_V",
        query: str = "last_prefix",
        seed: int = 0,
        resamples: int = 2000,
    ) -> "pd.DataFrame":
        """Whether the heads that carry most gradient are those that look at rare tokens.

        Args:
            group: One group, or None for each.
            component: Whose gradient: W_Q, W_K, W_V or W_O of a head, or None for the four together.
            query: Who looks: "last_prefix" or "continuation".
            seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
            resamples: Draws of each.

        Returns:
            Three rows per group, indexed by `quantity` and `group`, with the columns of `summary` and `head`, `heads` (how many
            are ranked), `left_out` (how many have no score, because they attend evenly):

            - Spearman's rho over heads between mean gradient share and mean rare-token score; null: heads permuted within
              their layers. Noise in the means pulls rho toward 0, so that few paragraphs show less agreement than there is.
            - The head with most gradient, chosen on one half of the group's clusters: its rank by rare-token score on the
              other half, 1 the highest; null: a head taken at random, `p_value` the chance that it ranks as high.
            - Its score there, beside its own mismatched null; `p_value` by flipping the sign of whole clusters.

        Raises:
            SignatureError: If the group, component, query or a measurement is not there.

        Source:
            Stoehr et al. 2024 find one head (W_V of head 2, layer 1) both most salient and most rare-token. The test is ours.
        """
        from localize.signature.agreement import agreement

        groups = self.groups if group is None else (self._known(group),)
        return agreement(self, groups, component=component, query=query, seed=seed, resamples=resamples)

    def causal_check(self, *, query: str = "last_prefix", seed: int = 0, resamples: int = 2000) -> "pd.DataFrame":
        """Whether removing heads confirms that attention to rare tokens matters, in numbers and in words.

        The head with the highest rare-token score above its mismatched null is chosen on one half of the clusters, as in
        `summary`, by the memorized paragraphs where there are any. All that is told of it is measured on the other half.

        Args:
            query: Who looks: "last_prefix" or "continuation".
            seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
            resamples: Draws of each.

        Returns:
            Four rows per group, indexed by `quantity` and `group`: of the chosen `head` its rare-token score beside its null,
            and its NLL rise (nats per token) and lost exact match (tokens) when it is removed beside the mean over the other
            heads of its layer (`null`). Each has `difference` with its 95 % interval by bootstrap over clusters and
            `p_value` by flipping the sign of whole clusters. And, over all heads and paragraphs, Spearman's rho between
            score above null and NLL rise; null: heads permuted within their layers. Other columns as in `summary`;
            `verdict` says in words whether removal confirms the correlation. nan where a head was not removed.

        Raises:
            SignatureError: If the query or a measurement is not there.
        """
        from localize.signature.causal import causal_table

        return causal_table(self, query=query, seed=seed, resamples=resamples)

    def concentration(
        self,
        kind: str | None = None,
        *,
        effect: str = "exact_match",
        counts: Any = None,
        seed: int = 0,
        resamples: int = 1000,
    ) -> "pd.DataFrame":
        """How few prefix tokens hold what replacing them costs, and which: early ones, rare ones?

        Args:
            kind: Of replacement; None takes the first that was measured.
            effect: What a replacement costs: "exact_match" (tokens lost) or "nll" (nats per token), which does not end at the first
                wrong token. What is gained counts as 0 in shares and Gini.
            counts: Occurrences of each token in a reference corpus (`unigram_counts`), for the link with rarity; None leaves it out.
            seed: Seed of bootstrap and permutations.
            resamples: Draws of each.

        Returns:
            Columns and index as in `summary`, rows per group and for the difference of the two main ones:

            - The share of the cost in the top 1, 3 and 5 positions, chosen on every second draw and scored on the others, both
              ways averaged. Null: positions permuted in each draw apart. nan with one draw.
            - The Gini coefficient over positions, draws averaged, with the same null; and how far it is above that null, which
              is what groups of different noise are compared by.
            - The share in the first half of the prefix, the first position too. Null: positions permuted alike in all draws.
            - Spearman's rho, inside each paragraph, between cost and rarity of the token replaced (of a span, its first). Null:
              the rarity of paragraphs from other clusters at the same positions; `p_value` by flipping the sign of clusters.

            Positions are permuted alike in all paragraphs of a cluster. Positions where nothing was put are left out.

        Raises:
            SignatureError: If the kind, effect or a measurement is not there, or `counts` does not cover the tokens.
        """
        from localize.signature.concentration import concentration_table

        return concentration_table(self, effect=effect, kind=kind, counts=counts, seed=seed, resamples=resamples)

    def matched_drop(
        self,
        a: str = MEMORIZED,
        b: str = NOT_MEMORIZED,
        *,
        kind: str | None = None,
        seed: int = 0,
        resamples: int = 2000,
    ) -> "pd.DataFrame":
        """Whether one group is harder to corrupt than another, or only surer to begin with.

        Args:
            a: The one group.
            b: The group subtracted from it.
            kind: Of replacement; None takes the first that was measured.
            seed: Seed of bootstrap and permutation.
            resamples: Draws of each.

        Returns:
            Rows for a, b and a - b, indexed by `quantity` and `group`: confidence before the change (mean probability of the
            continuation's tokens); then each loss (lost exact match, also without the first position, which the paper never
            changes; NLL rise; share of tokens made wrong), plain and matched on confidence: of the paragraph, for tokens on each
            token's own. Columns as in `summary`; of the plain difference the null is permuted labels, of the matched one labels
            permuted among clusters alike in confidence. And `confidence`, the mean of what is compared (of the difference, what
            is left of it after matching; the estimate is adjusted for that); `support`, the share of the group that has
            counterparts in the other (of the difference, the smaller one), and `paragraphs` and `effective_clusters` of them,
            as they are weighted; `verdict`, in words. nan where the groups have no common support.

            The lost exact match is at least 0 for each replacement. Measured on true continuations, which are not all matched
            before, only tokens before the first error count as made wrong, and lost exact match gets no verdict. Where whole clusters
            are not alike in confidence, though tokens are, there is no `p_value`, and the interval alone gives the verdict. Fewer
            than 30 effective clusters warn.

        Raises:
            SignatureError: If a group, the kind or a measurement is not there.
        """
        from localize.signature.matching import matched_table

        return matched_table(self, self._known(a), self._known(b), kind=kind, seed=seed, resamples=resamples)

    def patch_table(
        self, *, metric: str = "first_changed", direction: str | None = None, seed: int = 0, resamples: int = 2000
    ) -> "pd.DataFrame":
        """Which single activation carries most from one run to the other, and whether more than any change of its size does.

        The strongest site (of all head activations; and of each stream, over layers) lowers the NLL most in denoising and raises
        it most in noising. It is chosen on one half of all clusters, the same for every group, and told on the other.

        Args:
            metric: Judged by "first_changed" or "continuation".
            direction: "denoising", "noising", or None for both.
            seed: Seed of bootstrap, permutation and of the half of the clusters that chooses.
            resamples: Draws of each.

        Returns:
            Two rows per kind of site, direction and group, indexed by `quantity`, `direction` and `group`: the NLL change (nats
            per token), and the share of the gap between the two runs' NLL that it makes up (ratio of means, 1 for all of it).
            Beside each (`null`) as large a change in a random direction; `difference` from it, `p_value` by flipping the sign
            of whole clusters, the same for both rows, and `q_value` (Benjamini-Hochberg over the sites listed). `site` names it
            ("L1.H2.v", "L3.mlp_out"), `verdict` says in words whether it does more than its null. nan without a changed token.
            Patched at the changed position or at all, `resid` of layer 0 is the whole difference of the runs: 1 by construction.

        Raises:
            SignatureError: If the metric, direction or a measurement is not there.
        """
        from localize.signature.patching import patch_table

        return patch_table(self, metric=metric, direction=direction, seed=seed, resamples=resamples)

    def patching(
        self, part: str = "head", *, metric: str = "first_changed", seed: int = 0, resamples: int = 2000
    ) -> "xr.Dataset":
        """What patching does at every site, of each group and in each direction.

        Args:
            part: "head" for q, k, v, z of each head, "stream" for what is of a whole layer.
            metric: Judged by "first_changed" or "continuation".
            seed: Seed of bootstrap and permutation.
            resamples: Draws of each.

        Returns:
            Per group, direction and site `effect` (NLL change, nats per token), its `null` (as large a change in a random
            direction) and their `difference`, each with its 95 % interval by bootstrap over clusters; `p_value` of no
            difference by flipping the sign of whole clusters, `q_value` (Benjamini-Hochberg over all that is returned); `share`
            of the gap between the two runs (ratio of means) with its interval. nan for what was not patched.

        Raises:
            SignatureError: If the part, metric or a measurement is not there.
        """
        from localize.signature.patch_grid import patch_grid

        return patch_grid(self, part, metric=metric, seed=seed, resamples=resamples)

    def patch_agreement(
        self, *, metric: str | None = None, direction: str | None = None, seed: int = 0, resamples: int = 2000
    ) -> "pd.DataFrame":
        """Whether attribution patching, one gradient for all sites, tells what patching each of them does.

        Args:
            metric: "first_changed", "continuation", or None for all there are.
            direction: "denoising", "noising", or None for both.
            seed: Seed of bootstrap and permutation.
            resamples: Draws of each.

        Returns:
            Six rows for heads and for streams, each direction, metric and group, indexed by `quantity`, `part`, `direction`,
            `metric`, `group`. Over the sites inside each paragraph, then a mean over paragraphs: Spearman's rho, Pearson's r, the
            slope of the effect on the estimate, the share of sites of the same sign, and whether the strongest site is the
            estimate's strongest, or among its 5. `null`: one paragraph's estimate with the effects in paragraphs from other
            clusters of its group, on average over all of them, which keeps what all paragraphs share. Other columns as in
            `causal_check`, and `sites`, how many are compared.

        Raises:
            SignatureError: If the metric, direction or a measurement is not there.

        Source:
            Nanda 2023; Syed et al. 2023. The null: ours.
        """
        from localize.signature.patch_agreement import agreement_table

        return agreement_table(self, metric=metric, direction=direction, seed=seed, resamples=resamples)

    def summary(self, *, seed: int = 0) -> "pd.DataFrame":
        """The fingerprint in a few numbers, for each group and their difference; see `localize.signature.summary`."""
        from localize.signature.summary import fingerprint

        return fingerprint(self, seed=seed)

    def to_dataframe(self, variable: str | None = None) -> "pd.DataFrame":
        """One variable as a long table, or, without a name, one row per paragraph with all that is one number for each."""
        if variable is not None:
            return self[variable].to_dataframe().reset_index()
        names = [n for n in self.variables if self._dataset[n].dims == ("paragraph",)]
        coords = [str(n) for n, c in self._dataset.coords.items() if c.dims == ("paragraph",) and n != "paragraph"]
        return self._dataset[names].reset_coords(coords)[[*coords, *names]].to_dataframe()

    def save(self, path: str | Path) -> None:
        """Write one zipped Zarr file; a killed save leaves the old file or the new one."""
        from localize.signature.storage import save

        save(self._dataset, Path(path))

    def __repr__(self) -> str:
        model, counts = self._dataset.attrs["model"], self._group_counts()
        groups = ", ".join(f"{count} {group}" for group, count in counts.items())
        return f"MemorizationSignature({model['name']}; {len(self)} paragraphs: {groups}; {', '.join(self.variables)})"

    def _group_counts(self) -> dict[str, int]:
        values = self._dataset["group"].values
        return {group: int((values == group).sum()) for group in self.groups}

    def _repr_html_(self) -> str:
        from localize.signature.html import signature_html

        return signature_html(self)


def load_signature(path: str | Path) -> MemorizationSignature:
    """Read a saved signature.

    Raises:
        SignatureError: If the file is missing, damaged or does not fit the schema.
    """
    from localize.signature.storage import load

    dataset = load(Path(path))
    try:
        return MemorizationSignature(dataset)
    except SignatureError as error:
        raise SignatureError(f"{path}: {error}") from None


def check(dataset: "xr.Dataset") -> None:
    """Raise a `SignatureError` unless every variable, coordinate and attribute is as the schema has it."""
    for name in ("paragraph", "group", "cluster"):
        if name not in dataset.coords or dataset.coords[name].dims != ("paragraph",):
            raise SignatureError(f"signature: no coordinate {name!r} along the paragraphs.")
    for name in ("model", "paragraphs", "calls"):
        if name not in dataset.attrs:
            raise SignatureError(f"signature: no attribute {name!r}; it says what was measured.")
    for name, array in dataset.data_vars.items():
        schema = REGISTRY.get(str(name))
        if schema is None:
            raise SignatureError(
                f"signature: unknown variable {name!r}; register it first. Known: {', '.join(REGISTRY)}."
            )
        if array.dims != schema.dims:
            raise SignatureError(f"signature: {name} has axes {array.dims}; {schema.dims} are due.")
        if array.dtype.kind not in ("f" if schema.kind == "float" else "iu"):
            raise SignatureError(f"signature: {name} is {array.dtype}; {schema.kind} values are due.")
        finite = array.values[np.isfinite(array.values)]
        slack, possible = 1e-5, range_of(dataset, str(name))
        if (finite < possible.low - slack).any():
            raise SignatureError(f"signature: {name} has the value {finite.min()}; at least {possible.low} is allowed.")
        if (finite > possible.high + slack).any():
            raise SignatureError(
                f"signature: {name} has the value {finite.max()}; at most {possible.high:g} is allowed."
            )
    for name, array in dataset.variables.items():
        if array.dtype.kind == "U" and not is_unicode("".join(array.values.flat)):
            raise SignatureError(f"signature: a text of {name} holds half a surrogate pair; valid Unicode is needed.")
    if unknown := {str(d) for d in dataset.dims} - set(DIMS):
        raise SignatureError(f"signature: unknown axis {min(unknown)!r}; there are {', '.join(DIMS)}.")


def _joined(left: MemorizationSignature, right: MemorizationSignature) -> MemorizationSignature:
    a, b = left._dataset, right._dataset
    for what, key in (("weight processing", "weights"), ("models", "weights_hash")):
        if a.attrs["model"].get(key) != b.attrs["model"].get(key):
            one, other = (f"{d.attrs['model']['name']} ({key} {str(d.attrs['model'].get(key))[:12]})" for d in (a, b))
            raise SignatureError(f"join: the {what} differ: {one} and {other}; only measurements of one model join.")
    if a.attrs["paragraphs"]["data_hash"] != b.attrs["paragraphs"]["data_hash"]:
        raise SignatureError(
            f"join: the paragraphs differ: {_described(a)} and {_described(b)}; the same ones, in the same order, are needed."
        )
    coords = [str(n) for n in b.coords if n in a.coords]
    for name in coords:
        if not _same(a[name].values, b[name].values) and not (name == "group" and _moved_by_a_tie(a, b)):
            raise SignatureError(
                f"join: {name!r} differs between the two signatures; measure both with the same labels and layers."
            )
    shared = [str(n) for n in b.data_vars if n in a.data_vars]
    dtypes = [call.get("dtype") for dataset in (a, b) for call in dataset.attrs["calls"]]
    rounding = max((ROUNDING.get(dtype, ROUNDING_OF_FLOATS) for dtype in dtypes), default=ROUNDING_OF_FLOATS)
    for name in shared:
        _check_agreement(name, a[name], b[name], rounding)
    merged = a.assign({name: b[name] for name in b.data_vars if name not in shared})
    pieces = [name for name in shared if REGISTRY[name].pieces]
    merged = merged.assign({name: a[name].fillna(b[name]).assign_attrs(a[name].attrs) for name in pieces})
    merged = merged.assign_coords({name: b[name] for name in b.coords if name not in coords})
    merged.attrs = {**a.attrs, "calls": _unique([*a.attrs["calls"], *b.attrs["calls"]])}
    return MemorizationSignature(merged)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether labels are equal; what is not known on either side is."""
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")


def _ties(differs: np.ndarray) -> bool:
    """Whether so few differ that it can be rounding: a tie of two logits may fall either way in another batch or kernel."""
    return bool(differs.sum() <= max(1, 0.01 * differs.size))


def _ties_of_tokens(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether whole numbers of tokens, nan at the same places, differ so seldom that it can be ties."""
    missing = np.isnan(one)
    whole = all((values[~missing] % 1 == 0).all() for values in (one, other))
    return whole and np.array_equal(missing, np.isnan(other)) and _ties((one != other) & ~missing)


def _moved_by_a_tie(a: "xr.Dataset", b: "xr.Dataset") -> bool:
    """Whether groups differ in few paragraphs, and only where exact match does, which they follow; the left ones are kept."""
    differs = a["group"].values != b["group"].values
    return _ties(differs) and not bool((differs & (a["exact_match"].values == b["exact_match"].values)).any())


def _check_agreement(name: str, a: "xr.DataArray", b: "xr.DataArray", rounding: float) -> None:
    ways = [array.attrs.get("continuation") for array in (a, b)]
    if ways[0] != ways[1]:
        raise SignatureError(
            f"join: {name} is of the {ways[0]} continuation on the left and of the {ways[1]} one on the right."
        )
    options = [json.loads(array.attrs.get("options", "{}")) for array in (a, b)]
    if differing := [key for key in options[0] if options[0][key] != options[1].get(key, options[0][key])]:
        one, other = (f"{differing[0]}={told[differing[0]]!r}" for told in options)
        raise SignatureError(
            f"join: {name} is of {one} on the left and of {other} on the right; only parts of one measurement join."
        )
    if a.dtype.kind in "iu":
        agree = a.shape == b.shape and _ties(a.values != b.values)
    else:
        # What is near 0 beside the variable's other values has no digits to compare.
        one, other = a.values, b.values
        if REGISTRY[name].pieces and a.shape == b.shape:
            both = ~np.isnan(one) & ~np.isnan(other)
            one, other = one[both], other[both]
        scale = min(1.0, float(np.nanmax(np.abs(one), initial=0.0)))
        agree = a.shape == b.shape and (
            np.allclose(one, other, rtol=rounding, atol=0.1 * rounding * scale, equal_nan=True)
            or (REGISTRY[name].unit == "tokens" and _ties_of_tokens(one, other))
        )
    if not agree:
        raise SignatureError(
            f"join: {name} is in both signatures with different values; measure both with the same options."
        )


def _described(dataset: "xr.Dataset") -> str:
    about = dataset.attrs["paragraphs"]
    return f"{dataset.sizes['paragraph']} of {about['source']} (data_hash {about['data_hash'][:12]})"


def _unique(calls: Iterable[Mapping]) -> list:
    kept: list = []
    for call in calls:
        if call not in kept:
            kept.append(call)
    return kept
