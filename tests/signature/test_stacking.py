"""Signatures over training: one axis in front of every variable, one model of them chosen by its labels, and what needs one says so."""

import numpy as np
import pytest

import localize as lz
from localize.axes import TRAINING_AXES
from localize.errors import SignatureError
from localize.signature import MemorizationSignature
from localize.signature.stacking import stacked

OF_ONE_ARM = TRAINING_AXES[1:]
GROUPS = ["memorized", "not_memorized", "partial", "memorized"]


def told(function, *args, kind=SignatureError, **options):
    with pytest.raises(kind) as caught:
        function(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def at(make):
    """`at(step, seed=0, groups=GROUPS, ...)`: a signature of the weights of that step and seed, the values of each its own."""

    def made(step, seed=0, groups=GROUPS, **options):
        value = (step + 1) / 100 + seed / 10
        sizes = {"rare_token_score": (1, 2, 2), "rare_token_null": (1, 1, 2, 2), "nll": ()}
        arrays = {name: np.full((len(groups), *size), value) for name, size in sizes.items()}
        weights = {"weights_hash": f"{seed}{step:02d}".ljust(64, "0")}
        return make(groups, options.pop("arrays", arrays), model=weights | options.pop("model", {}), **options)

    return made


@pytest.fixture
def over_steps(at):
    """`over_steps(seed=0)`: over the steps 0, 5 and 10."""
    return lambda seed=0: stacked("training_step", {step: at(step, seed) for step in (0, 5, 10)})


@pytest.fixture
def whole(over_steps):
    """Over two runs, two seeds and three steps."""
    runs = {"planted": 0, "twin": 2}
    return stacked(
        "training_run",
        {
            run: stacked("training_seed", {seed: over_steps(first + seed) for seed in (0, 1)})
            for run, first in runs.items()
        },
    )


# Joined along an axis.


def test_every_variable_gets_the_axis_in_front_and_keeps_its_values(over_steps, at):
    signature = over_steps()
    assert signature.over_training == ("training_step",)
    assert signature["training_step"].values.tolist() == [0, 5, 10]
    assert signature["rare_token_score"].dims == ("training_step", "paragraph", "query", "layer", "head")
    assert signature["nll"].values.tolist() == [[0.01] * 4, [0.06] * 4, [0.11] * 4]
    for name in ("group", "cluster", "paragraph"):
        assert signature[name].dims == ("paragraph",)
    assert signature["weights_hash"].dims == ("training_step",)
    assert [value[:3] for value in signature["weights_hash"].values] == ["000", "005", "010"]
    assert len(signature) == 4
    assert signature.groups == at(0).groups


def test_the_model_is_told_by_a_digest_of_all_weights_and_each_call_once(over_steps, at):
    one, other = over_steps(0), over_steps(1)
    digests = {s.dataset.attrs["model"]["weights_hash"] for s in (one, other)}
    assert len(digests) == 2
    assert all(len(digest) == 64 for digest in digests)
    assert over_steps(0).dataset.attrs["model"]["weights_hash"] in digests
    other_end = stacked("training_step", {0: at(0), 5: at(5), 10: at(11)})
    assert other_end.dataset.attrs["model"]["weights_hash"] not in digests
    assert len(one.dataset.attrs["calls"]) == 1
    calls = [{"measurement": "a"}, {"measurement": "b"}, {"measurement": "a"}]
    three = stacked("training_step", {step: at(step, call=call) for step, call in enumerate(calls)})
    assert [call["measurement"] for call in three.dataset.attrs["calls"]] == ["a", "b"]


def test_axes_stand_in_their_order_however_deep(whole):
    assert whole.over_training == OF_ONE_ARM
    assert whole["nll"].dims == (*OF_ONE_ARM, "paragraph")
    assert whole["weights_hash"].dims == OF_ONE_ARM
    np.testing.assert_allclose(whole["nll"].values[1, 0, 2], 0.11 + 0.2)
    assert str(whole["weights_hash"].values[1, 1, 2])[:3] == "310"


def test_arms_may_differ_in_how_paragraphs_were_planted_and_are_taken_apart_again(at):
    def arm(copies, steps):
        part = at(0, duplicates=copies).dataset
        part.attrs["training"] = {"steps": steps}
        return MemorizationSignature(part)

    arms = {"few": arm([1.0, 0.0, 2.0, np.nan], 10), "many": arm([8.0, 0.0, 2.0, np.nan], 20)}
    joined = stacked("training_arm", arms).dataset
    joined.attrs["training"] = {"arms": {name: part.dataset.attrs["training"] for name, part in arms.items()}}
    signature = MemorizationSignature(joined)
    assert signature["duplicates"].dims == ("training_arm", "paragraph")
    assert signature["cluster"].dims == ("paragraph",)
    assert list(signature.arms) == ["few", "many"]
    for name, part in signature.arms.items():
        assert not part.over_training
        np.testing.assert_array_equal(part["duplicates"].values, arms[name]["duplicates"].values)
        assert part.dataset.attrs["training"] == arms[name].dataset.attrs["training"]
    alike = stacked("training_arm", {"few": arms["few"], "as few": arms["few"]})
    assert alike["duplicates"].dims == ("paragraph",)
    assert at(0).arms == {}
    refused = told(
        stacked, "training_arm", {"few": arms["few"], "other": at(0, duplicates=[0.0] * 4, cluster=[1, 2, 3, 4])}
    )
    assert refused.endswith("differs from training_arm='few' in 'cluster'.")


def test_what_is_not_of_the_same_is_not_joined(at, over_steps, make):
    def refused(other, first=None):
        return told(stacked, "training_step", {0: first or at(0), 7: other}).removeprefix(
            "localize: training_step=7 differs from training_step=0 in "
        )

    assert refused(at(1, about={"data_hash": "e" * 64})) == "its paragraphs."
    assert refused(at(1, model={"weights": "folded"})) == "its weight processing: folded."
    assert refused(at(1, arrays={})) == "what was measured: exact_match, nll, token_nll."
    assert refused(at(1, text=list("wxyz"))) == "its labels: text."
    assert refused(at(1, groups=GROUPS[::-1])) == "'group'."
    assert refused(at(1, cluster=[0, 0, 1, 2])) == "'cluster'."
    assert refused(at(1, ids=list("wxyz"))) == "'paragraph'."
    assert refused(at(1, continuation="own")) == "the options of rare_token_score."
    draws = [at(0, arrays={"perturbed_exact_match": np.zeros((4, count, 6), int)}) for count in (2, 3)]
    assert refused(draws[1], draws[0]) == (
        "the axes of perturbed_exact_match: paragraph 4, kind 1, draw 3, prefix_position 6."
    )
    known, unknown = (at(0, duplicates=[1.0, 2.0, np.nan, last]) for last in (4.0, np.nan))
    assert refused(unknown, known) == "'duplicates'."
    assert stacked("training_step", {0: known, 7: at(3, duplicates=[1.0, 2.0, np.nan, 4.0])})["nll"].shape == (2, 4)
    assert told(stacked, "training_seed", {0: over_steps(), 1: at(1)}).endswith(
        "training_seed=1 differs from training_seed=0 in its labels: training_step."
    )


def test_what_has_no_such_axis_is_not_joined(at, over_steps):
    assert told(stacked, "paragraph", {0: at(0)}) == (
        "localize: 'paragraph' is not one of training_arm, training_run, training_seed, training_step."
    )
    assert told(stacked, "training_step", {}) == "localize: no signatures to join along training_step."
    assert told(stacked, "training_step", {3: over_steps()}) == (
        "localize: training_step=3 is over training_step, which cannot stand behind training_step."
    )
    seeds = stacked("training_seed", {0: at(0)})
    assert told(stacked, "training_step", {3: seeds}) == (
        "localize: training_step=3 is over training_seed, which cannot stand behind training_step."
    )


# One of them.


def test_at_gives_back_what_was_joined(over_steps, at):
    signature = over_steps()
    for step in (0, 5, 10):
        assert signature.at(training_step=step).dataset.identical(at(step).dataset)
    assert signature.at(training_step=-1).dataset.identical(at(10).dataset)
    assert signature.at().dataset.identical(signature.dataset)


def test_at_chooses_along_any_axes_and_keeps_the_others(whole, over_steps, at):
    assert whole.at(training_run="twin", training_seed=1).dataset.identical(over_steps(3).dataset.assign_attrs(
        model=whole.dataset.attrs["model"]
    ))  # fmt: skip
    assert whole.at(training_seed=1).over_training == ("training_run", "training_step")
    assert whole.at(training_step=5)["weights_hash"].dims == ("training_run", "training_seed")
    one = whole.at(training_run="planted", training_seed=1, training_step=-1)
    assert one.over_training == ()
    assert one.dataset.identical(at(10, 1).dataset)
    assert whole.at(training_seed=1).at(training_step=10).at(training_run="planted").dataset.identical(one.dataset)


def test_what_is_not_there_is_told(whole, at):
    assert told(whole.at, training_step=3) == "signature: no training_step=3; there are 0, 5, 10."
    assert told(whole.at, training_run="third") == "signature: no training_run='third'; there are planted, twin."
    assert told(whole.at, training_seed=-1) == "signature: no training_seed=-1; there are 0, 1."
    axes = ", ".join(map(str, at(0).dataset.dims))
    assert told(at(0).at, training_step=3) == f"signature: no axis 'training_step'; it has {axes}."
    many = stacked("training_step", {step: at(step) for step in range(20)})
    assert told(many.at, training_step=99) == (
        "signature: no training_step=99; there are 0, 1, 2, 3, 4, 5, ..., 17, 18, 19."
    )


def test_what_needs_one_model_says_how_to_choose_it(whole, over_steps, at):
    chosen = "choose one model: .at(training_step=10)."
    for name in ("summary", "compare", "concentration", "contrast", "distinguish", "matched_drop", "patch_table"):
        assert told(getattr, over_steps(), name) == f"{name}: the signature is over training_step; {chosen}"
    for name in ("recall", "heads", "default", "tokens", "patching", "signature"):
        given = ["nll"] if name == "default" else []
        figure = getattr(lz.plots, name)
        assert told(figure, over_steps(), *given) == f"plots.{name}: the signature is over training_step; {chosen}"
    assert told(whole.one_model, "this") == (
        "this: the signature is over training_run, training_seed, training_step; choose one model: "
        ".at(training_run='twin', training_seed=1, training_step=10)."
    )
    for sides in ((over_steps(), at(0)), (at(0), over_steps())):
        assert told(lz.compare_paired, *sides) == f"compare_paired: the signature is over training_step; {chosen}"
    copies = {"copy_tokens": np.zeros((4, 10), int)}
    copied = stacked("training_step", {step: at(step, arrays=copies) for step in (0, 10)})
    paragraphs = lz.load_paragraphs(np.arange(40).reshape(4, 10), prefix_length=6, continuation_length=4)
    assert told(lz.copies_of, copied, paragraphs) == f"copies_of: the signature is over training_step; {chosen}"
    assert at(0).one_model("this") is None
    with pytest.warns(UserWarning, match="few effective clusters"):
        assert len(over_steps().at(training_step=5).summary())


# Held, shown and kept.


def test_the_schema_holds_axes_and_weights_of_all(over_steps):
    dataset = over_steps().dataset
    turned = dataset.assign(nll=dataset["nll"].transpose("paragraph", "training_step"))
    assert told(MemorizationSignature, turned) == (
        "signature: nll has axes ('paragraph', 'training_step'); ('training_step', 'paragraph') are due."
    )
    last = dataset.assign(nll=dataset["nll"].isel(training_step=-1, drop=True))
    assert told(MemorizationSignature, last) == (
        "signature: nll has axes ('paragraph',); ('training_step', 'paragraph') are due."
    )
    needed = "signature: no coordinate 'weights_hash' along ('training_step',); it says which weights were measured."
    assert told(MemorizationSignature, dataset.drop_vars("weights_hash")) == needed
    assert told(MemorizationSignature, dataset.assign_coords(weights_hash="a" * 64)) == needed
    bad = dataset.copy(deep=True)
    bad["rare_token_score"][1, 0, 0, 0, 0] = 2
    assert told(MemorizationSignature, bad) == "signature: rare_token_score has the value 2.0; at most 1 is allowed."


def test_it_comes_back_from_a_file(whole, over_steps, tmp_path):
    for signature in (over_steps(), whole):
        signature.save(tmp_path / "over.zarr.zip")
        again = lz.load_signature(tmp_path / "over.zarr.zip")
        assert again.dataset.identical(signature.dataset)
        assert again.over_training == signature.over_training
        assert (again | signature).dataset.identical(signature.dataset)


def test_as_a_table_a_row_is_a_paragraph_of_a_model(over_steps, whole):
    table = over_steps().to_dataframe()
    assert table.index.names == ["training_step", "paragraph"]
    assert table.columns.tolist() == ["group", "cluster", "exact_match", "nll", "weights_hash"]
    assert len(table) == 12
    assert table.loc[(5, "p2"), "nll"] == 0.06
    assert table.loc[(5, "p2"), "group"] == "partial"
    assert whole.to_dataframe().index.names == [*OF_ONE_ARM, "paragraph"]
    long = over_steps().to_dataframe("rare_token_score")
    assert len(long) == 3 * 4 * 1 * 2 * 2
    assert set(long["training_step"]) == {0, 5, 10}


def test_shown_in_a_notebook_it_is_the_last_step_of_the_first_run_and_seed(whole, over_steps, at):
    assert over_steps()._repr_html_() == at(10)._repr_html_()
    assert whole._repr_html_() == at(10, 0)._repr_html_()
    assert "exact_match" in repr(whole)


def test_one_group_of_it(over_steps):
    part = over_steps().where(group="memorized")
    assert part["nll"].shape == (3, 2)
    assert part.over_training == ("training_step",)


def test_two_measurements_of_the_same_trainings_join_and_of_others_do_not(over_steps, at, make):
    matched = {"unperturbed_exact_match": np.array([4, 4, 4, 4]), "nll": np.full(4, 0.5)}
    right = stacked("training_step", {step: at(step, arrays=matched) for step in (0, 5, 10)})
    left = stacked("training_step", {step: at(step, arrays={"nll": np.full(4, 0.5)}) for step in (0, 5, 10)})
    joined = left | right
    assert joined["unperturbed_exact_match"].dims == ("training_step", "paragraph")
    assert joined.over_training == ("training_step",)
    assert told(lambda: over_steps(0) | over_steps(1)).startswith("join: the models differ: made (weights_hash ")
    assert told(lambda: over_steps(0) | at(10)).startswith("join: the models differ: made (weights_hash ")
    assert told(lambda: left | over_steps(0)).startswith("join: nll is in both signatures with different values")
    other = over_steps(0).dataset.assign_coords(training_step=[0, 5, 11])
    assert told(lambda: over_steps(0) | MemorizationSignature(other)) == (
        "join: 'training_step' differs between the two signatures; measure both with the same labels and layers."
    )
