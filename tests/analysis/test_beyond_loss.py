"""What is left of a difference in gradients beyond loss: planted answers, and rows that are the statistics of their names."""

import numpy as np
import pytest

from localize.analysis.alike import Alike
from localize.analysis.beyond_loss import (
    AMONG,
    BEYOND,
    COPIES,
    FEW,
    MANY,
    NEVER,
    NOTHING_ALIKE,
    OWN,
    SAID,
    TOTAL,
    loss_note,
    token_support,
)
from localize.analysis.layer_share import LOW_LAYERS, low_layer_share
from localize.analysis.rows import COLUMNS
from localize.analysis.sentences import decision
from localize.errors import SignatureError
from localize.signature.signature import MemorizationSignature
from localize.statistics import (
    cluster_bootstrap,
    cluster_bootstrap_difference,
    cluster_permutation_difference,
    cluster_sign_flip,
    matched_difference,
)
from localize.statistics.overlap import has_counterpart

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")

A, B = "memorized", "not_memorized"
DIFFERENCE = f"{A} - {B}"
SINGLE = BEYOND.format("single tokens")
LEVELS, TOKENS = (0.1, 1.0), 4


def of(make_dataset, seed=0, *, count=60, by_loss=0.08, effect=0.0, apart=2.0, own=True, third=0, **coords):
    """Two groups `apart` in log NLL, whose gradients lie lower the smaller the loss, and in `a` by `effect` more at any loss."""
    rng = np.random.default_rng(seed)
    group = [A] * count + [B] * count + ["other"] * third
    in_a, total = np.array([name == A for name in group]), 2 * count + third
    log_nll = rng.normal(np.where(in_a, -apart / 2, apart / 2)[:, None] - 1.2, 1.0, (total, TOKENS))
    nll = np.exp(log_nll)
    own_nll = np.exp(rng.normal(-1.0, 0.5, total))
    sets = np.exp(np.log(LEVELS) + rng.normal(0, 0.3, (total, 1, len(LEVELS))))
    sets[rng.random(sets.shape) < np.where(in_a, 0.3, 0.2)[:, None, None]] = np.nan

    def layers(log_loss, extra):
        share = 0.6 - by_loss * np.tanh(log_loss / 2) + extra + rng.normal(0, 0.03, log_loss.shape)
        return np.stack([share, 1 - share], axis=-1)

    def arrays(of, layered):
        lead = layered.shape[:-1]
        whole = np.broadcast_to(layered[..., None], (*lead, 2, 6))
        heads = np.broadcast_to(layered[..., None, None], (*lead, 2, 4, 2))
        return {f"{of}gradient_max": whole, f"{of}head_gradient_max": heads, f"{of}gradient_share": whole / 6}

    extra = effect * in_a
    found = arrays("", layers(np.log(nll).mean(1), extra))
    found |= arrays("token_", layers(np.log(sets), extra[:, None, None])) | {"token_set_nll": sets}
    if own:
        found |= arrays("own_", layers(np.log(own_nll), 0.0 * extra)) | {"own_nll": own_nll}
    dataset = make_dataset(group, found, **coords)
    dataset["token_nll"] = ("paragraph", "continuation_position"), nll, dataset["token_nll"].attrs
    dataset["nll"] = ("paragraph", nll.mean(1), dataset["nll"].attrs)
    return MemorizationSignature(dataset.assign_coords(tokens_in_set=[1], loss_level=list(LEVELS)))


def test_what_follows_from_loss_alone_is_total_and_not_beyond_loss(make_dataset):
    total, beyond = [], []
    for seed in range(60):
        table = of(make_dataset, seed).beyond_loss(resamples=100)
        rows = [table.loc[(name, DIFFERENCE)] for name in (TOTAL, SINGLE)]
        total.append(decision(rows[0].to_dict()))
        beyond.append(decision(rows[1].to_dict()))
        assert rows[1]["verdict"].startswith(
            {
                0: f"no significant difference between {A} and {B}{AMONG}",
                1: f"{A} is higher than {B}{AMONG}",
                -1: f"{A} is lower than {B}{AMONG}",
            }[beyond[-1]]
        )
    assert total == [1] * 60
    assert np.mean(np.array(beyond) != 0) <= 0.12


@pytest.mark.parametrize("effect", [-0.05, 0.05])
def test_a_difference_at_any_loss_is_found_beyond_loss(make_dataset, effect):
    row = of(make_dataset, 1, effect=effect).beyond_loss(resamples=100).loc[(SINGLE, DIFFERENCE)]
    assert row["low"] < effect < row["high"]
    assert row["estimate"] == pytest.approx(effect, abs=0.015)
    assert row["p_value"] < 0.01
    assert row["verdict"].startswith(f"{A} is {'higher' if effect > 0 else 'lower'} than {B}{AMONG} (")


def test_rows_are_the_statistics_of_their_names(make_dataset):
    copies = np.array([*range(59), 29, *[0, 3] * 30, *[1] * 10])
    signature = of(make_dataset, 2, third=10, duplicates=copies)
    dataset, table = signature.dataset, signature.beyond_loss(seed=4, resamples=150)
    group, clusters = dataset["group"].values, dataset["cluster"].values
    assert table.columns.tolist() == [*COLUMNS, "nll", "support", "verdict"]
    assert table.index.get_level_values(0).unique().tolist() == [TOTAL, SINGLE, OWN, "other", COPIES, NEVER]
    whole, own = low_layer_share(dataset), low_layer_share(dataset, "own_")
    in_a, in_b = group == A, group == B
    many = in_a & (copies > np.median(copies[in_a]))
    unseen = (copies == 0) & ~in_a
    mixed = np.where(in_b, own, whole)
    for name, label, values, one, other in (
        (TOTAL, DIFFERENCE, whole, in_a, in_b),
        (OWN, f"{A} - {SAID.format(B)}", mixed, in_a, in_b),
        ("other", f"{A} - other", whole, in_a, group == "other"),
        (COPIES, f"{MANY} - {FEW}", whole, many, in_a & ~many),
        (NEVER, f"{A} - {NEVER}", whole, in_a, unseen),
    ):
        row = table.loc[(name, label)]
        used = one | other
        options = {"seed": 4, "resamples": 150}
        interval = cluster_bootstrap_difference(values[used], one[used], other[used], clusters[used], **options)
        test = cluster_permutation_difference(
            values[used], one[used], other[used], clusters[used], seed=4, permutations=150
        )
        assert row[["estimate", "low", "high"]].tolist() == pytest.approx(
            [*map(float, (interval.estimate, interval.low, interval.high))]
        )
        assert (row["p_value"], row["n"]) == (test.p_value, used.sum())
        assert (
            "is higher than" in row["verdict"]
            or "is lower than" in row["verdict"]
            or "no significant" in row["verdict"]
        )
    assert table.loc[(OWN, f"{A} - {SAID.format(B)}"), "nll"] == pytest.approx(
        dataset["nll"].values[in_a].mean() - dataset["own_nll"].values[in_b].mean()
    )
    paired = table.loc[(OWN, f"{SAID.format(B)} - {B}, true one")]
    moved = (own - whole)[in_b]
    interval = cluster_bootstrap(moved, clusters[in_b], seed=4, resamples=150)
    assert paired[["estimate", "low", "high"]].tolist() == pytest.approx(
        [*map(float, (interval.estimate, interval.low, interval.high))]
    )
    assert paired["p_value"] == cluster_sign_flip(moved, clusters[in_b], seed=4, permutations=150).p_value
    assert paired["nll"] == pytest.approx((dataset["own_nll"].values - dataset["nll"].values)[in_b].mean())


def test_beyond_loss_is_matched_on_the_logarithm_of_the_nll_of_sets(make_dataset):
    signature = of(make_dataset, 3, cluster=[*np.repeat(np.arange(30), 2), *range(100, 160)])
    dataset = signature.dataset
    group, clusters = (np.repeat(dataset[name].values, len(LEVELS)) for name in ("group", "cluster"))
    values, on = low_layer_share(dataset, "token_").ravel(), np.log(dataset["token_set_nll"].values.ravel())
    found = matched_difference(values, on, group == A, group == B, clusters)
    row = signature.beyond_loss(resamples=100).loc[(SINGLE, DIFFERENCE)]
    assert [row[name] for name in ("estimate", "low", "high", "p_value")] == pytest.approx(
        [
            float(number)
            for number in (found.difference.estimate, found.difference.low, found.difference.high, found.p_value)
        ]
    )
    assert row["matched_on"] == "NLL of single tokens"
    assert row["clusters"] == len(np.unique(clusters[found.weights > 0]))
    weights = found.weights
    expected = (weights * np.exp(on))[(group == A) & (weights > 0)].sum()
    assert signature.beyond_loss(resamples=100).loc[(SINGLE, A), "nll"] == pytest.approx(expected)


def test_support_is_of_all_tokens(make_dataset):
    signature = of(make_dataset, 4, apart=4.0)
    nll, group = signature["token_nll"].values, signature["nll"]["group"].values
    one, other = nll[group == A].ravel(), nll[group == B].ravel()
    near = has_counterpart(np.log(np.concatenate([one, other])), np.arange(len(one) + len(other)) < len(one))
    expected = near[: len(one)].mean(), near[len(one) :].mean()
    assert token_support(signature.dataset, (A, B)) == pytest.approx(expected)
    table = signature.beyond_loss(resamples=100).loc[SINGLE]
    assert table["support"].tolist() == pytest.approx([*expected, min(expected)])
    assert 0 < min(expected) < 1


def test_components_have_a_row_each(make_dataset):
    signature = of(make_dataset, 5)
    table = signature.beyond_loss(variable="gradient_share", resamples=100)
    assert table.index.names == ["estimand", "group", "layer", "component"]
    low = table.loc[(SINGLE, DIFFERENCE, 0, "W_Q")]
    whole = signature.beyond_loss(resamples=100).loc[(SINGLE, DIFFERENCE)]
    assert low["estimate"] == pytest.approx(whole["estimate"] / 6)  # every component has a sixth of its layer
    assert len(table.query("estimand == @TOTAL and group == @DIFFERENCE")) == 12


def test_what_cannot_be_made_is_said(make_dataset):
    table = of(make_dataset, 6, own=False).beyond_loss(resamples=100)
    assert table.index.get_level_values(0).unique().tolist() == [TOTAL, SINGLE]
    assert table.attrs["left_out"] == [
        "own continuation: not measured; localize.gradient_controls(model, paragraphs) does, with continuation='own'.",
        "copies: no two numbers of copies are known in memorized.",
        "never seen: no paragraph outside memorized has duplicates of 0.",
    ]


def test_nothing_alike_in_loss_is_said(make_dataset):
    signature = of(make_dataset, 7)
    dataset = signature.dataset
    far = dataset["token_set_nll"].values + 1e3 * (dataset["group"].values == B)[:, None, None]
    dataset["token_set_nll"] = dataset["token_set_nll"].dims, far, dataset["token_set_nll"].attrs
    row = MemorizationSignature(dataset).beyond_loss(resamples=100).loc[(SINGLE, DIFFERENCE)]
    assert np.isnan(row["estimate"]) and row["verdict"] == NOTHING_ALIKE


def test_the_summary_leads_with_what_at_least_half_of_the_tokens_support(make_dataset):
    for apart, first in ((1.0, f"{LOW_LAYERS}, {SINGLE}"), (9.0, LOW_LAYERS)):
        signature = of(make_dataset, 8, apart=apart)
        quantities = signature.summary().index.get_level_values(0).unique().tolist()
        assert quantities[0] == first
        assert set(quantities) == {LOW_LAYERS, f"{LOW_LAYERS}, {SINGLE}"}


def test_the_note_says_how_much_of_the_total_goes_with_loss(make_dataset):
    signature = of(make_dataset, 9)
    note, table = loss_note(signature.dataset), signature.summary()
    total = table.loc[(LOW_LAYERS, DIFFERENCE)]
    beyond = table.loc[(f"{LOW_LAYERS}, {SINGLE}", DIFFERENCE)]
    left = [100 * beyond[end] / total["estimate"] for end in ("estimate", "low", "high")]
    assert f"{left[0]:.0f} % [{min(left):.0f}, {max(left):.0f}] of the total, the rest of which goes with loss." in note
    assert "in total: memorized is higher than not memorized (" in note
    assert "Low loss is part of what memorized means." in note
    nothing = loss_note(of(make_dataset, 9, by_loss=0.0).dataset)
    assert "of the total" not in nothing  # there is no total of which it could be a part
    assert loss_note(make_dataset([A, B])) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a": "x"}, "signature: no group 'x'; it has memorized, not_memorized."),
        ({"b": A}, "beyond_loss: a='memorized' and b='memorized' are one group; two are compared."),
        (
            {"variable": "nll"},
            "beyond_loss: variable='nll' is not one of low_layer_share, gradient_max, gradient_norm, head_gradient_max, "
            "gradient_share, head_gradient_share, or was not measured.",
        ),
        (
            {"variable": "gradient_norm"},
            "beyond_loss: the signature has no 'gradient_norm'; measure it with localize.gradients(model, paragraphs).",
        ),
    ],
    ids=["group", "one group", "variable", "not measured"],
)
def test_what_cannot_be_compared_is_said_in_one_line(make_dataset, options, message):
    with pytest.raises(SignatureError) as told:
        of(make_dataset).beyond_loss(**options)
    assert str(told.value) == message


def test_without_the_controls_it_says_what_to_measure(make, layered):
    with pytest.raises(SignatureError) as told:
        make([A, B], layered([1.0, 2.0], 2)).beyond_loss()
    assert str(told.value) == (
        "beyond_loss: the signature has no 'token_gradient_max'; measure it with localize.gradient_controls(model, paragraphs)."
    )


def test_alike_scales_are_the_logarithm_and_the_logit():
    assert Alike.in_loss(np.array([1.0, np.e]), "").on.tolist() == [0.0, 1.0]
    assert Alike.in_confidence(np.array([0.5]), "").on.tolist() == [0.0]
    assert (
        np.isfinite(Alike.in_loss(np.array([0.0]), "").on).all()
        and np.isfinite(Alike.in_confidence(np.array([0.0, 1.0]), "").on).all()
    )
