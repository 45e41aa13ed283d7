"""A signature is frozen, checked against its schema, and joins only with one of the same model and paragraphs."""

import copy
import pickle
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from localize.errors import LocalizeError, SignatureError
from localize.measurements import AXES
from localize.measurements.registry import remove
from localize.signature import REGISTRY, MemorizationSignature, Variable, register

GROUPS = ["memorized", "not_memorized", "partial", "memorized"]
TOLD_DATA = "4 of made.csv (data_hash dddddddddddd)"


def told(function, *args, kind=SignatureError, **options):
    with pytest.raises(kind) as caught:
        function(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def scores(count=4, value=0.5):
    sizes = {"rare_token_score": (1, 2, 2), "rare_token_null": (1, 1, 2, 2)}
    return {name: np.full((count, *size), value, np.float32) for name, size in sizes.items()}


def state(signature):
    """All that a signature says, as plain values."""
    dataset = signature.dataset
    arrays = {str(n): (v.dims, v.values.tolist(), copy.deepcopy(v.attrs)) for n, v in dataset.variables.items()}
    return arrays, copy.deepcopy(dataset.attrs)


# What it is.


def test_it_tells_what_it_holds(make):
    signature = make(GROUPS, scores())
    assert signature.variables == ("exact_match", "nll", "token_nll", "rare_token_score", "rare_token_null")
    assert len(signature) == 4
    assert "nll" in signature
    assert "gradient_max" not in signature
    assert signature["nll"].dims == ("paragraph",)
    assert repr(signature) == (
        "MemorizationSignature(made; 4 paragraphs: 2 memorized, 1 partial, 1 not_memorized; "
        "exact_match, nll, token_nll, rare_token_score, rare_token_null)"
    )


def test_groups_of_recall_come_first_from_most_to_least_memorized_then_the_users_by_name(make):
    assert make(["zeta", "not_memorized", "alpha", "partial", "memorized", "alpha"]).groups == (
        "memorized", "partial", "not_memorized", "alpha", "zeta",
    )  # fmt: skip
    assert make(["b", "a"]).groups == ("a", "b")
    assert make(["partial"]).groups == ("partial",)


def test_what_is_not_there_is_told(make):
    signature = make(["b", "a"])
    assert (
        told(lambda: signature["gradient_max"]) == "signature: no 'gradient_max'; it holds exact_match, nll, token_nll."
    )
    assert told(signature.where, group="c") == "signature: no group 'c'; it has a, b."


def test_where_keeps_one_group(make):
    signature = make(GROUPS, scores(), cluster=[5, 6, 7, 5], text=list("wxyz"))
    chosen = signature.where(group="memorized")
    assert chosen.groups == ("memorized",)
    assert chosen["paragraph"].values.tolist() == ["p0", "p3"]
    assert chosen["text"].values.tolist() == ["w", "z"]
    assert chosen["cluster"].values.tolist() == [5, 5]
    assert np.array_equal(chosen["token_nll"], signature["token_nll"].values[[0, 3]])
    assert chosen.variables == signature.variables
    assert len(signature) == 4


def test_as_a_table_a_row_is_a_paragraph_and_a_column_what_is_one_number_each(make):
    signature = make(GROUPS, scores(), duplicates=[3, 1, 4, 1])
    table = signature.to_dataframe()
    assert table.columns.tolist() == ["group", "cluster", "duplicates", "exact_match", "nll"]
    assert table.index.tolist() == ["p0", "p1", "p2", "p3"]
    assert table.loc["p2", "group"] == "partial"
    assert table["nll"].tolist() == signature["nll"].values.tolist()


def test_one_variable_as_a_table_has_a_row_a_cell(make):
    signature = make(["a", "b"], {"rare_token_score": np.arange(8.0).reshape(2, 1, 2, 2) / 8})
    table = signature.to_dataframe("rare_token_score")
    assert table["rare_token_score"].tolist() == (np.arange(8) / 8).tolist()
    assert table["head"].tolist() == [0, 1] * 4
    assert table["layer"].tolist() == [0, 0, 1, 1] * 2
    assert table["group"].tolist() == ["a"] * 4 + ["b"] * 4
    assert told(signature.to_dataframe, "gradient_max") == (
        "signature: no 'gradient_max'; it holds exact_match, nll, token_nll, rare_token_score."
    )


# Frozen.


def test_no_attribute_can_be_set(make):
    signature = make(GROUPS)
    for name in ("dataset", "groups", "_dataset", "anything"):
        with pytest.raises(AttributeError):
            setattr(signature, name, None)
    with pytest.raises(AttributeError) as caught:
        signature.anything = 1
    assert str(caught.value) == "a signature is frozen; 'anything' cannot be set."


WAYS = {
    "a value of an array": lambda s: s["nll"].values.__setitem__(0, 0.0),
    "a value of a coordinate": lambda s: s["group"].values.__setitem__(0, "x"),
    "a value of an index": lambda s: s["paragraph"].values.__setitem__(0, "x"),
    "a value by label": lambda s: s["nll"].loc.__setitem__({"paragraph": "p0"}, 0.0),
    "a value through the dataset": lambda s: s.dataset["nll"].__setitem__(0, 0.0),
    "in place": lambda s: s["nll"].__imul__(2.0),
    "a variable of the dataset": lambda s: s.dataset.__setitem__("nll", ("paragraph", np.zeros(4))),
    "an attribute of the dataset": lambda s: s.dataset.attrs.__setitem__("model", {}),
    "a new array in place of an array": lambda s: setattr(s["nll"], "values", np.zeros(4)),
    "a unit": lambda s: s["nll"].attrs.__setitem__("unit", "bits"),
    "the name of the model": lambda s: s.dataset.attrs["model"].__setitem__("name", "another"),
    "a call": lambda s: s.dataset.attrs["calls"].append({"measurement": "another"}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_it_stays_as_it_is_whatever_is_tried_to_change(make, way):
    signature = make(GROUPS)
    before = state(signature)
    with suppress(ValueError, TypeError, AttributeError):
        way(signature)
    assert state(signature) == before


def test_what_happens_later_to_the_dataset_it_was_made_of_does_not_happen_to_it(make_dataset):
    dataset = make_dataset(GROUPS)
    signature = MemorizationSignature(dataset)
    before = state(signature)
    dataset["nll"] = ("paragraph", np.zeros(4))
    dataset.attrs["model"] = {"name": "another"}
    assert state(signature) == before


def test_it_can_be_copied_and_sent_to_another_process(make):
    signature = make(GROUPS, scores())
    for twin in (copy.copy(signature), copy.deepcopy(signature), pickle.loads(pickle.dumps(signature))):
        assert twin.dataset.identical(signature.dataset)
        assert not twin["nll"].values.flags.writeable


# Checked.


def test_an_unknown_variable_is_refused(make_dataset):
    dataset = make_dataset(GROUPS).assign(loudness=("paragraph", np.zeros(4)))
    assert told(MemorizationSignature, dataset) == (
        f"signature: unknown variable 'loudness'; register it first. Known: {', '.join(REGISTRY)}."
    )


def test_wrong_axes_are_refused(make_dataset):
    dataset = make_dataset(GROUPS).assign(rare_token_score=(("paragraph", "head"), np.zeros((4, 2))))
    assert told(MemorizationSignature, dataset) == (
        "signature: rare_token_score has axes ('paragraph', 'head'); ('paragraph', 'query', 'layer', 'head') are due."
    )
    dataset = make_dataset(GROUPS, scores())
    turned = dataset.assign(
        rare_token_score=dataset["rare_token_score"].transpose("head", "layer", "query", "paragraph")
    )
    assert told(MemorizationSignature, turned) == (
        "signature: rare_token_score has axes ('head', 'layer', 'query', 'paragraph'); ('paragraph', 'query', 'layer', 'head') are due."
    )


@pytest.mark.parametrize(
    ("name", "dtype", "due"),
    [
        ("nll", "int64", "float"),
        ("nll", "bool", "float"),
        ("exact_match", "float64", "integer"),
        ("nll", "<U3", "float"),
    ],
)
def test_wrong_kinds_of_numbers_are_refused(make_dataset, name, dtype, due):
    dataset = make_dataset(GROUPS).assign({name: ("paragraph", np.zeros(4).astype(dtype))})
    assert told(MemorizationSignature, dataset) == f"signature: {name} is {dtype}; {due} values are due."


def test_values_out_of_range_are_refused_and_missing_ones_are_not(make):
    assert (
        told(make, GROUPS, scores(value=1.5)) == "signature: rare_token_score has the value 1.5; at most 1 is allowed."
    )
    assert (
        told(make, GROUPS, scores(value=-2))
        == "signature: rare_token_score has the value -2.0; at least -1 is allowed."
    )
    negative = {"unperturbed_exact_match": np.array([3, -1, 2, -4])}
    assert told(make, GROUPS, negative) == "signature: unperturbed_exact_match has the value -4; at least 0 is allowed."
    one_bad = scores()
    one_bad["rare_token_null"][2, 0, 0, 1, 0] = 7
    assert told(make, GROUPS, one_bad) == "signature: rare_token_null has the value 7.0; at most 1 is allowed."
    one_bad["rare_token_null"][2, 0, 0, 1, 0] = np.nan
    assert np.isnan(make(GROUPS, one_bad)["rare_token_null"].values).sum() == 1
    assert make(GROUPS, scores(value=1 + 1e-6))


def test_missing_coordinates_and_attributes_are_refused(make_dataset):
    for name in ("group", "cluster"):
        dataset = make_dataset(GROUPS).drop_vars(name)
        assert told(MemorizationSignature, dataset) == f"signature: no coordinate {name!r} along the paragraphs."
    with_scalar = make_dataset(GROUPS).drop_vars("group").assign_coords(group="a")
    assert told(MemorizationSignature, with_scalar) == "signature: no coordinate 'group' along the paragraphs."
    for name in ("model", "paragraphs", "calls"):
        dataset = make_dataset(GROUPS)
        del dataset.attrs[name]
        assert told(MemorizationSignature, dataset) == f"signature: no attribute {name!r}; it says what was measured."


def test_an_unknown_axis_is_refused(make_dataset):
    dataset = make_dataset(GROUPS).assign_coords(colour=np.arange(3))
    assert told(MemorizationSignature, dataset) == f"signature: unknown axis 'colour'; there are {', '.join(AXES)}."


def test_a_variable_is_registered_once(make_dataset):
    known = REGISTRY["nll"]
    assert register(replace(known)) == known
    message = "register: a variable 'nll' with another definition is registered already."
    assert told(register, replace(known, unit="bits"), kind=LocalizeError) == message
    assert REGISTRY["nll"] == known
    with pytest.raises(TypeError):
        REGISTRY["nll"] = known


def test_a_registered_variable_is_held(make_dataset):
    new = Variable("made_up_for_a_test", ("paragraph",), "float", "sone", "loudness", "how loud it is", "none")
    try:
        register(new)
        signature = MemorizationSignature(make_dataset(GROUPS, {new.name: np.arange(4.0)}))
        assert signature[new.name].values.tolist() == [0, 1, 2, 3]
    finally:
        remove(new.name)


def test_every_registered_variable_says_what_it_is_on_known_axes():
    for name, variable in REGISTRY.items():
        assert name == variable.name
        assert set(variable.dims) <= set(AXES)
        assert all((variable.unit, variable.label, variable.description, variable.source))
        assert "\n" not in variable.description


# Joined.


def test_two_measurements_of_the_same_paragraphs_join(make):
    perturbed = {"unperturbed_exact_match": np.array([4, 4, 4, 4])}
    left = make(GROUPS, scores(), call={"measurement": "heads"})
    right = make(GROUPS, perturbed, call={"measurement": "perturbation"}, text=list("wxyz"))
    joined = left | right
    assert joined.variables == (*left.variables, "unperturbed_exact_match")
    assert joined["unperturbed_exact_match"].values.tolist() == [4, 4, 4, 4]
    assert joined["text"].values.tolist() == list("wxyz")
    assert [call["measurement"] for call in joined.dataset.attrs["calls"]] == ["heads", "perturbation"]
    assert (left.variables, right.variables) == (left.variables[:5], right.variables[:4])
    assert not joined["nll"].values.flags.writeable


def test_joining_measurements_of_a_model_is_associative_idempotent_and_keeps_what_is_left(parts):
    recall, gradients, heads, perturbation = parts
    assert ((gradients | heads) | perturbation).dataset.identical((gradients | (heads | perturbation)).dataset)
    assert (heads | heads).dataset.identical(heads.dataset)
    whole = gradients | heads | perturbation
    assert (whole | heads).dataset.identical(whole.dataset)
    assert set((perturbation | gradients | heads).variables) == set(whole.variables)
    assert (recall | heads).dataset.attrs["calls"] == [*recall.dataset.attrs["calls"], *heads.dataset.attrs["calls"]]
    for part in parts:
        for name in part.variables:
            np.testing.assert_allclose(whole[name], part[name], rtol=1e-9)  # each measures recall in passes of its own


def test_rounding_is_allowed_and_the_left_one_is_kept(make):
    left = make(GROUPS, scores(value=0.5))
    right = make(GROUPS, scores(value=0.5 * (1 + 5e-4)))
    assert (left | right)["rare_token_score"].values[0, 0, 0, 0] == np.float32(0.5)
    assert (right | left)["rare_token_score"].values[0, 0, 0, 0] == np.float32(0.5 * (1 + 5e-4))


def test_missing_values_agree_with_missing_values_only(make):
    missing = scores()
    missing["rare_token_score"][0, 0, 0, 0] = np.nan
    assert np.isnan((make(GROUPS, missing) | make(GROUPS, missing))["rare_token_score"].values[0, 0, 0, 0])
    told(lambda: make(GROUPS, missing) | make(GROUPS, scores()))


def different(name):
    return f"join: {name} is in both signatures with different values; measure both with the same options."


def test_a_shared_variable_must_agree(make):
    left = make(GROUPS, scores(value=0.5))
    assert told(lambda: left | make(GROUPS, scores(value=0.51))) == different("rare_token_score")
    perturbed = {"perturbed_exact_match": np.zeros((4, 2, 6), int)}
    more_draws = {"perturbed_exact_match": np.zeros((4, 3, 6), int)}
    assert told(lambda: make(GROUPS, perturbed) | make(GROUPS, more_draws)) == different("perturbed_exact_match")


def test_a_tie_may_fall_either_way_but_not_often(make):
    def with_wrong(count):
        tokens = np.zeros((4, 5, 6), int)  # 120 cells
        tokens.flat[:count] = 1
        return make(GROUPS, {"perturbed_exact_match": tokens})

    assert (with_wrong(0) | with_wrong(1))["perturbed_exact_match"].values.sum() == 0
    assert told(lambda: with_wrong(0) | with_wrong(2)) == different("perturbed_exact_match")


def test_a_group_that_a_tie_moved_joins_and_one_that_was_relabelled_does_not(make):
    matched = np.array([0, 1, 2, 3])
    left = make(GROUPS, {"exact_match": matched})
    moved = [GROUPS[1], *GROUPS[1:]]
    joined = left | make(moved, {"exact_match": np.add(matched, [1, 0, 0, 0])} | scores(value=0.5))
    assert joined["group"].values.tolist() == list(GROUPS)
    assert "rare_token_score" in joined
    for groups, changed in ((moved, matched), (GROUPS[::-1], matched + 1)):
        assert told(lambda groups=groups, changed=changed: left | make(groups, {"exact_match": changed})) == (
            "join: 'group' differs between the two signatures; measure both with the same labels and layers."
        )


def test_another_model_does_not_join(make):
    left = make(GROUPS)
    other = make(GROUPS, model={"name": "tuned", "weights_hash": "b" * 64})
    assert told(lambda: left | other) == (
        "join: the models differ: made (weights_hash aaaaaaaaaaaa) and tuned (weights_hash bbbbbbbbbbbb); "
        "only measurements of one model join."
    )
    folded = make(GROUPS, model={"weights": "folded"})
    assert told(lambda: left | folded) == (
        "join: the weight processing differ: made (weights raw) and made (weights folded); only measurements of one model join."
    )


def test_the_same_weights_under_another_name_join(make):
    assert len(make(GROUPS) | make(GROUPS, scores(), model={"name": "a copy of it"})) == 4


def test_other_paragraphs_do_not_join(make):
    other = make(GROUPS, about={"data_hash": "e" * 64, "source": "other.csv"})
    assert told(lambda: make(GROUPS) | other) == (
        f"join: the paragraphs differ: {TOLD_DATA} and 4 of other.csv (data_hash eeeeeeeeeeee); "
        "the same ones, in the same order, are needed."
    )


def labels_differ(name):
    return f"join: {name!r} differs between the two signatures; measure both with the same labels and layers."


def test_other_labels_do_not_join(make):
    left = make(GROUPS, scores())
    assert told(lambda: left | make(["a", "b", "a", "b"])) == labels_differ("group")
    assert told(lambda: left | make(GROUPS, cluster=[0, 0, 1, 2])) == labels_differ("cluster")
    assert told(lambda: left | make(GROUPS, ids=list("wxyz"))) == labels_differ("paragraph")
    three_layers = {name: np.zeros((*values.shape[:-2], 3, 2)) for name, values in scores().items()}
    assert told(lambda: left | make(GROUPS, three_layers)) == labels_differ("layer")
    assert told(lambda: left.where(group="memorized") | left.where(group="partial")) == labels_differ("paragraph")


def test_own_and_true_continuation_do_not_mix_in_one_variable(make):
    matched = {"unperturbed_exact_match": np.array([4, 4, 4, 4])}
    left, right = make(GROUPS, matched), make(GROUPS, matched, continuation="own")
    assert told(lambda: left | right) == (
        "join: unperturbed_exact_match is of the true continuation on the left and of the own one on the right."
    )


def test_variables_of_own_and_true_continuations_stand_beside_each_other(make):
    joined = make(GROUPS, scores()) | make(
        GROUPS, {"unperturbed_exact_match": np.array([4, 4, 4, 4])}, continuation="own"
    )
    assert joined["unperturbed_exact_match"].attrs["continuation"] == "own"
    assert joined["exact_match"].attrs["continuation"] == "true"


def test_a_call_is_told_once(make):
    left = make(GROUPS, call={"measurement": "heads"})
    right = make(GROUPS, call={"measurement": "gradients"})
    assert [c["measurement"] for c in ((left | right) | (right | left)).dataset.attrs["calls"]] == [
        "heads",
        "gradients",
    ]


def test_it_joins_with_a_signature_only(make):
    for other in (make(GROUPS).dataset, 3):  # xarray would answer for its Dataset, and not understand
        assert told(make(GROUPS).__or__, other, kind=TypeError) == (
            f"join: a signature joins with a signature, not with {type(other).__name__}."
        )
