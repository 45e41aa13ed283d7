"""The table of loss change allocation tells the sums of the signature, by seeds, beside held-out text at the same steps."""

import numpy as np
import pytest
import torch
from scipy import stats

import localize as lz
from localize.axes import COMPONENTS, NEVER_TRAINED, TRAINED
from localize.signature.stacking import stacked

LAYERS, SEEDS = 2, 3

pytestmark = pytest.mark.filterwarnings("ignore:loss_change_table. (one seed|. seeds)")


@pytest.fixture(scope="module")
def seeds(followed_seeds):
    return followed_seeds


def sums(signature, ending="", **of):
    """By hand: (seed, layer, component) of one set and kind of steps."""
    return signature["loss_change" + ending].sel(of).transpose("training_seed", ..., "layer", "component").values


def told(function, *args, kind=lz.LocalizeError, **options):
    with pytest.raises(kind) as caught:
        function(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_every_part_is_told_with_students_interval_beside_held_out_text_at_the_same_steps(seeds):
    table = lz.loss_change_table(seeds)
    assert (table["step"] == 4).all() and (table["since"] == 0).all() and (table["seeds"] == SEEDS).all()
    for exposure in ("shown", "other"):
        of = {"set": TRAINED, "exposure": exposure, "training_step": 4}
        own, null = sums(seeds, **of), sums(seeds, "_null", **of)
        for layer in range(LAYERS):
            for c, component in enumerate(COMPONENTS):
                row = table.loc[TRAINED, layer, component, -1, exposure]
                a, b = own[:, layer, c], null[:, layer, c]
                assert row["estimate"] == pytest.approx(a.mean())
                assert row["null"] == pytest.approx(b.mean())
                interval = stats.t.interval(0.95, SEEDS - 1, a.mean(), stats.sem(a))
                np.testing.assert_allclose((row["low"], row["high"]), interval)
                interval = stats.t.interval(0.95, SEEDS - 1, (a - b).mean(), stats.sem(a - b))
                np.testing.assert_allclose(
                    [row[f"difference{end}"] for end in ("", "_low", "_high")], [(a - b).mean(), *interval]
                )
                assert row["p_value"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
                assert row["n"] == 3
    held_out = table.loc[NEVER_TRAINED]
    assert held_out[["null", "difference", "p_value"]].isna().all(axis=None)
    assert (held_out.xs("shown", level="exposure")["estimate"] == 0).all()


def test_the_parts_sum_to_all_and_both_kinds_of_steps_to_both(seeds):
    for by in ("component", "block", "head"):
        table = lz.loss_change_table(seeds, by=by)["estimate"].sort_index()
        for name in (TRAINED, NEVER_TRAINED):
            of_set = table.xs(name)
            whole = of_set.xs("all", level="component").droplevel(("layer", "head"))
            parts = of_set[of_set.index.get_level_values("component") != "all"]
            np.testing.assert_allclose(parts.groupby("exposure").sum().sort_index(), whole.sort_index(), rtol=1e-9)
            apart = parts.unstack("exposure")
            np.testing.assert_allclose(apart["shown"] + apart["other"], apart["both"], atol=1e-15)
    found = {by: lz.loss_change_table(seeds, by=by)["estimate"].to_dict() for by in ("component", "block", "head")}
    for exposure in ("shown", "both"):
        of = {name: found["component"][TRAINED, 1, name, -1, exposure] for name in COMPONENTS}
        assert found["block"][TRAINED, 1, "mlp", -1, exposure] == pytest.approx(of["W_in"] + of["W_out"])
        attention = sum(of[name] for name in ("W_Q", "W_K", "W_V", "W_O"))
        assert found["block"][TRAINED, 1, "attention", -1, exposure] == pytest.approx(attention)
        heads = [found["head"][TRAINED, 1, "W_K", head, exposure] for head in range(4)]
        assert sum(heads) == pytest.approx(of["W_K"])
    outside = {component for _, layer, component, _, _ in found["component"] if layer == -1}
    assert outside == {"W_E + W_U", "W_pos", "biases", "layer_norms", "all"}


def test_a_window_tells_what_changed_in_it(seeds):
    table = lz.loss_change_table(seeds, 4, since=2)
    of = {"set": TRAINED, "exposure": "shown"}
    wanted = (sums(seeds, training_step=4, **of) - sums(seeds, training_step=2, **of)).mean(0)
    assert table.loc[TRAINED, 1, "W_O", -1, "shown"]["estimate"] == pytest.approx(wanted[1, 3])
    assert (table["since"] == 2).all()
    nll = seeds["set_nll_change"].sel(set=TRAINED)
    moved = (nll.sel(training_step=4) - nll.sel(training_step=2)).values
    every = lz.loss_change_table(seeds, 4, since=2).loc[TRAINED, -1, "all", -1, "both"]
    assert every["estimate"] == pytest.approx(moved.mean(), rel=0.01)
    assert 0 < every["error"] < 0.01
    early, late = (lz.loss_change_table(seeds, 2)["estimate"], table["estimate"])
    np.testing.assert_allclose(early + late, lz.loss_change_table(seeds)["estimate"], atol=1e-15)


def test_p_values_are_corrected_for_all_parts_of_a_set_and_kind_of_steps(seeds):
    table = lz.loss_change_table(seeds)
    family = table.loc[TRAINED].xs("shown", level="exposure")
    family = family[family.index.get_level_values("component") != "all"]
    assert len(family) == LAYERS * 6 + 4
    np.testing.assert_allclose(family["q_value"], stats.false_discovery_control(family["p_value"]))


def test_one_seed_has_no_interval_and_says_so(seeds):
    one = seeds.at(training_seed=1)
    with pytest.warns(UserWarning, match="loss_change_table: one seed, so that there are no intervals; 5 are needed"):
        table = lz.loss_change_table(one)
    assert table[["low", "high", "difference_low", "p_value"]].isna().all(axis=None)
    own = one["loss_change"].sel(set=TRAINED, exposure="other", training_step=4)
    assert table.loc[TRAINED, 0, "W_V", -1, "other"]["estimate"] == pytest.approx(
        float(own.sel(layer=0, component="W_V"))
    )


def test_of_one_model_it_tells_what_changed_to_it(make_model, make_rows):
    paragraphs = make_rows(4).with_groups("aabb")
    before, after = make_model("gpt2", seed=0), make_model("gpt2", seed=0)
    with torch.no_grad():
        after.hf.lm_head.weight.mul_(1.02)
    table = lz.loss_change_table(lz.loss_change(before, after, paragraphs, points=4))
    moved = table["estimate"].loc["a"].xs("other", level="exposure")
    assert moved[moved != 0].index.get_level_values("component").tolist() == ["W_E + W_U", "all"]
    assert table.loc["a"].xs("shown", level="exposure")["estimate"].isna().all()


def test_an_error_beyond_a_hundredth_is_warned_of(seeds):
    from localize.signature.signature import MemorizationSignature

    dataset = seeds.dataset.copy(deep=True)
    dataset["set_nll_change"].loc[{"set": TRAINED}] *= 1.1
    with pytest.warns(UserWarning, match=r"miss a share of what changed, 0.09\d* of 'planted', more than 0.01"):
        lz.loss_change_table(MemorizationSignature(dataset))


def test_what_cannot_be_told_is_said(seeds, parts):
    assert told(lz.loss_change_table, parts[0], kind=lz.SignatureError) == (
        "loss_change_table: the signature has no 'loss_change'; follow a training with localize.LossChange."
    )
    assert told(lz.loss_change_table, seeds, by="layer") == (
        "loss_change_table: by='layer' is not one of block, component, head."
    )
    assert told(lz.loss_change_table, seeds, 3, kind=lz.SignatureError) == (
        "loss_change_table: step=3 was not measured; the nearest that was is 2."
    )
    assert told(lz.loss_change_table, seeds, since=4) == "loss_change_table: since=4 must lie before step=4."
    arms = stacked("training_arm", {"x": seeds, "y": seeds})
    assert "the signature is of the arms x, y; choose one" in told(lz.loss_change_table, arms, kind=lz.SignatureError)
