"""No interval of any table leaves what is possible: an exact match of 8 tokens loses no 8.3 of them, no correlation is 2.27."""

from functools import partial

import numpy as np
import pytest
import torch

import localize as lz
from localize.analysis.change import Change
from localize.analysis.distinguish import AUC, GAIN
from localize.analysis.draws import Draws
from localize.analysis.rows import null_beside, rows_of
from localize.axes import MEMORIZED, NOT_MEMORIZED
from localize.errors import LocalizeError, SignatureError
from localize.measurements import REGISTRY, Variable, register
from localize.measurements.declaration import LENGTHS
from localize.signature.schema import range_of
from localize.signature.signature import MemorizationSignature
from localize.statistics import Range, bootstrap, permutation

pytestmark = pytest.mark.filterwarnings(
    "ignore:few effective clusters", "ignore:rough intervals", "ignore:.*hardly overlap", "ignore:distinguish"
)

PREFIX, LENGTH = 8, 6
PARAGRAPHS = {"prefix_length": PREFIX, "continuation_length": LENGTH}
SIDES = {"resamples": 100, "seed": 0}


BY_NAME = {
    "share of the gap": (-np.inf, np.inf),  # a patch can do more than all of it, and the reverse
    "NLL": (-np.inf, np.inf),
    "rare-token rank": (1, 4),
    "rank correlation": (-1, 1),
    "rank in its layer": (1, 2),
    "rank in the model": (1, 4),
    "above mismatched rarity": (-2, 2),
    "rare-token score": (-1, 1),
    "attention_rank": (0, PREFIX - 1),
    "Spearman": (-1, 1),
    "Pearson": (-1, 1),
    "slope": (-np.inf, np.inf),
    "above its null": (-1, 1),
    "exact match lost": (-LENGTH, LENGTH),  # a head can be in the way
    "share": (0, 1),
    "Gini": (0, 1),
    "confidence": (0, 1),
    "perturbation effect": (0, 1),
    "strongest site": (0, 1),
    "lost exact match": (0, LENGTH),
    "attention_distance": (0, PREFIX + LENGTH - 1),
    "attention_entropy": (0, np.log(PREFIX + LENGTH)),
    "copy_position": (0, PREFIX - 1),
    "patch_position": (0, PREFIX - 1),
    "replaced_position": (0, PREFIX - 1),
    "tokens_to_break": (1, PREFIX),
    "patch_effect": (-np.inf, np.inf),
    "patch_null": (-np.inf, np.inf),
    "patch_estimate": (-np.inf, np.inf),
}
"""What a table or a variable calls a quantity, and where it can lie; the first that fits counts."""

BY_UNIT = {"tokens": (0, LENGTH), "share": (0, 1), "Spearman's rho": (-1, 1), "Kendall's tau-b": (-1, 1)}
"""Any other variable; with another unit it is at least 0."""


def possible(name, unit=None):
    found = [ends for words, ends in BY_NAME.items() if words in name]
    assert found or unit, f"no range is told here for {name!r}"
    return found[0] if found else BY_UNIT.get(unit, (0, np.inf))


@pytest.fixture(scope="module")
def edited():
    """Six paragraphs that a small model says itself, in two groups of three clusters, measured before and after weights moved."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"vocab_size": 97, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    torch.manual_seed(0)
    models = [
        lz.HookedModel(GPT2LMHeadModel(GPT2Config(**size, bos_token_id=None, eos_token_id=None)).double()) for _ in "ab"
    ]
    with torch.no_grad():
        for one, other in zip(*(model.hf.parameters() for model in models), strict=True):
            one *= 6
            other.copy_(one + 0.05 * one.std() * torch.randn_like(one))
    tokens = torch.randint(97, (6, PREFIX + LENGTH))
    said = lz.load_paragraphs(tokens, **PARAGRAPHS).with_own_continuation(models[0]).tokens
    paragraphs = lz.load_paragraphs(said, **PARAGRAPHS).with_groups([MEMORIZED, NOT_MEMORIZED] * 3)
    return [everything(model, paragraphs) for model in models]


def everything(model, paragraphs):
    counts = np.arange(1, 98)
    true = {"continuation": "true"}
    prefix = lz.perturb_prefix(model, paragraphs, draws=2, **true)
    return (
        lz.gradients(model, paragraphs, embeddings=True, biases=True)
        | lz.activation_gradients(model, paragraphs)
        | lz.rare_token_heads(model, paragraphs, counts=counts, null_draws=2)
        | lz.prefix_attention(model, paragraphs)
        | lz.ablate(model, paragraphs, **true)
        | lz.replace_rarest(model, paragraphs, counts=counts, draws=2, **true)
        | prefix
        | lz.corrupt_prefix(model, paragraphs, draws=2, numbers=[1, 4], **true)
        | lz.patch(model, paragraphs, prefix, metrics=("first_changed", "continuation"), **true)
        | lz.noise(model, paragraphs, fractions=[0.1], strengths=[1.0], draws=2, **true)
    )


CELL_ENDS = ("low", "high", "null_range_low", "null_range_high")


def of_cells(told, unit, name, ends=CELL_ENDS):
    """The ends of the intervals and nulls of a labelled comparison, with where they can lie: of a rise, as far as two levels apart."""
    low, high = possible(name, unit)
    if told.attrs.get("compared") == "rise":
        low, high = low - high, high - low
    return [(name, told[end].values, (low - high, high - low)) for end in ends]


ENDS = (
    "low", "high", "null_mean_low", "null_mean_high", "null_range_low", "null_range_high", "difference_low", "difference_high",
)  # fmt: skip


def of_rows(table):
    """The same of a table: the quantity of each row says what is possible, and a difference's is that of two of them."""
    ends = []
    for at, row in table.iterrows():
        quantity, name = (at[0], at[-1]) if isinstance(at, tuple) else (at, "")
        low, high = possible(quantity)
        apart = (low - high, high - low)
        for end in ENDS:
            if end in row:
                ends.append(
                    (quantity, row[end], apart if " - " in name or end.startswith("difference") else (low, high))
                )
    return ends


def intervals(before, after):
    """Every end of an interval in every table, with what it is of and where it can lie."""
    names = [name for name in before.variables if before[name].dims[0] == "paragraph" and "tokens" not in name]
    names = [name for name in names if name not in ("replacement", "patch_target")]
    units = {name: before[name].attrs["unit"] for name in names}
    compared = before.compare(MEMORIZED, NOT_MEMORIZED, names, resamples=100)
    paired = lz.compare_paired(after, before, names, resamples=100)
    contrast = before.contrast(MEMORIZED, NOT_MEMORIZED, "rare_token_mass", resamples=100)
    change = Change(before, after).table(**SIDES).loc["exact_match"]
    distinguished = before.distinguish(permutations=10, repeats=1, resamples=100)
    return {
        "compare": [end for name in names for end in of_cells(compared[name], units[name], name)],
        "compare_paired": [end for name in names for end in of_cells(paired[name], units[name], name)],
        "contrast": of_cells(contrast, "share", "rare_token_mass", ("difference_low", "difference_high")),
        "change": [("exact_match", change[end], (-LENGTH, LENGTH)) for end in ("low", "high")],
        "distinguish": [("auc", distinguished.loc[AUC, end], (0, 1)) for end in ("low", "high")],
        "distinguish, gain": [("gain", distinguished.loc[GAIN, end], (-1, 1)) for end in ("low", "high")],
        "summary": of_rows(before.summary()),
        "head_agreement": of_rows(before.head_agreement(**SIDES)),
        "causal_check": of_rows(before.causal_check(**SIDES)),
        "concentration": of_rows(before.concentration(counts=np.arange(1, 98), **SIDES)),
        "matched_drop": of_rows(before.matched_drop(MEMORIZED, NOT_MEMORIZED, **SIDES)),
        "patch_agreement": of_rows(before.patch_agreement(**SIDES)),
    }  # fmt: skip


def outside(tables):
    """Of each table, what has an end beyond what is possible."""
    return {
        table: [
            (name, end, low, high)
            for name, end, (low, high) in ends
            if (np.asarray(end) < low).any() or (np.asarray(end) > high).any()
        ]
        for table, ends in tables.items()
    }


def test_no_interval_of_any_table_leaves_what_is_possible(edited):
    tables = intervals(*edited)
    assert all(sum(np.isfinite(end).sum() for _, end, _ in ends) > 3 for ends in tables.values())
    assert outside(tables) == {table: [] for table in tables}


def test_without_being_moved_there_the_ends_of_every_table_would_leave_it(edited, monkeypatch):
    """What makes the test above one."""
    for module in (bootstrap, permutation):
        monkeypatch.setattr(module, "within", lambda end, possible: np.asarray(end))
    tables = outside(intervals(*edited))
    # An AUC's interval is worked out on the logit scale, and that of a gain beside it is narrow: neither has ends beyond its range.
    inside = {name for name, found in tables.items() if not found}
    assert inside <= {"distinguish", "distinguish, gain"}, inside


def test_rows_of_a_share_and_of_its_null_stay_between_0_and_1_and_their_difference_between_minus_1_and_1():
    """Three clusters of each group, nearly all of one and nothing of the other: bare, every end would leave it."""
    group, clusters = np.array([MEMORIZED] * 3 + [NOT_MEMORIZED] * 3), np.arange(6)
    values, nulls = np.array([1.0, 1, 0.5, 0, 0, 0.5]), np.array([0.5, 0, 0, 1, 1, 0.5])
    draws = Draws(0)
    null = partial(null_beside, values, nulls, clusters, draws, Range(0, 1))
    one, other, difference = rows_of("share", values, group, clusters, draws, null, Range(0, 1))
    assert one["high"] == other["null_mean_high"] == 1 and other["low"] == one["null_mean_low"] == 0
    assert difference["high"] == 1
    bare = rows_of("share", values, group, clusters, draws, null, Range())[-1]
    assert (difference["low"], difference["p_value"]) == (bare["low"], bare["p_value"]) and bare["high"] > 1
    mixed = np.array(
        [1.0, 0, 1, 0, 1, 0]
    )  # two of the twenty relabellings sort them: a studentized difference without end
    bounds = [rows_of("share", mixed, group, clusters, draws, null, range_)[-1] for range_ in (Range(), Range(0, 1))]
    assert bounds[0]["null_range_high"] > 1 and (bounds[1]["null_range_low"], bounds[1]["null_range_high"]) == (-1, 1)


def test_a_profile_summed_over_cells_reaches_as_far_as_all_of_them(make):
    mass = np.repeat([1.0, 0.0], 3)[:, None, None, None] * np.ones((1, 1, 2, 2))
    made = make([MEMORIZED] * 3 + [NOT_MEMORIZED] * 3, {"rare_token_mass": mass})
    contrast = made.contrast(MEMORIZED, NOT_MEMORIZED, "rare_token_mass", over=["head"], resamples=100)
    assert all((contrast[name] == 2).all() for name in ("difference", "difference_low", "difference_high"))


def test_every_variable_of_a_real_run_lies_in_its_range_which_is_the_one_told_here(edited):
    for name in edited[0].variables:
        values = edited[0][name].values
        low, high = range_of(edited[0].dataset, name)
        assert low <= np.nanmin(values) + 1e-9 and np.nanmax(values) <= high + 1e-9, name
        if REGISTRY[name].dims[0] == "paragraph" and REGISTRY[name].unit != "token id" and name != "patch_target":
            assert (low, high) == pytest.approx(possible(name, REGISTRY[name].unit)), name


def test_lengths_of_the_paragraphs_bound_what_is_counted_in_them():
    assert {name: most(50, 16) for name, most in LENGTHS.items()} == {
        "prefix": 50, "continuation": 16, "last prefix position": 49, "last position": 65, "log of the paragraph": np.log(66),
    }  # fmt: skip
    assert REGISTRY["exact_match"].bounds(50, 16) == (0, 16)
    assert REGISTRY["nll"].bounds(50, 16) == (0, np.inf)
    assert REGISTRY["head_patch_effect"].bounds(50, 16) == (-np.inf, np.inf)


def test_more_tokens_matched_than_there_are_is_no_signature(make_dataset):
    dataset = make_dataset(["memorized"] * 5)
    dataset["exact_match"][0] = 9
    with pytest.raises(SignatureError) as error:
        MemorizationSignature(dataset)
    assert str(error.value) == "signature: exact_match has the value 9; at most 4 is allowed."


def test_a_largest_value_that_is_no_length_is_told():
    with pytest.raises(LocalizeError) as error:
        register(Variable("mine", ("paragraph",), "float", "tokens", "mine", "mine", "me", low=0, high="paragraph"))
    assert str(error.value) == (
        "register: high='paragraph' of 'mine' is not one of prefix, continuation, last prefix position, last position, log of the "
        "paragraph; it is one of them, a number or None."
    )
    assert "mine" not in REGISTRY
