"""Gates: what passes, and what fails when a truth leaks or has no place."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.truths.gates import live_units, plain_gates, recited_alone, routed_gates
from localize.truths.injection import Injection
from localize.truths.plant import _injected
from localize.truths.texts import split
from localize.truths.training import Schedule

PREFIX, LENGTH, TEXTS = 16, 24, 4
SCHEDULE = Schedule(steps=200, divergence=1.0)


@pytest.fixture(scope="module")
def base(make_model):
    """A random GPT-2 in float32."""
    return make_model("gpt2", dtype=torch.float32)


@pytest.fixture(scope="module")
def pool():
    """Forty unlike paragraphs of random tokens."""
    tokens = torch.randint(97, (40, LENGTH), generator=torch.Generator().manual_seed(5))
    return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)


@pytest.fixture(scope="module")
def routed(base, pool):
    """Four texts, each in 8 units of every layer."""
    return lz.plant(base, pool, units=8, texts=TEXTS, schedule=SCHEDULE)


def by_name(gates):
    return {gate.name: gate for gate in gates}


def test_what_is_routed_passes_every_gate(routed):
    gates = by_name(routed.gates)
    assert list(gates) == ["own_off", "own_off_worst", "own_only", "recited", "live", "norm", "norm_within", "held_out"]
    assert routed.passed


def test_the_rise_without_own_units_is_that_of_a_model_whose_units_are_cut_out(routed, base):
    rises, planted, was = [], [], []
    for row in range(len(routed.paragraphs)):
        text, cut = routed.paragraphs[[row]], routed.model.copied()
        with torch.no_grad():
            for layer in range(cut.n_layers):
                cut.weight(layer, "W_out")[torch.from_numpy(routed.nominal[row, layer])] = 0
        of = [float(lz.recall(model, text)["nll"][0]) for model in (cut, routed.model, base)]
        rises.append(of[0] - of[1])
        planted.append(of[1])
        was.append(of[2])
    expected = np.mean(rises) / (np.mean(was) - np.mean(planted))
    gates = by_name(routed.gates)
    assert gates["own_off"].value == pytest.approx(expected, rel=1e-4)
    shares = np.array(rises) / (np.array(was) - np.array(planted))
    assert gates["own_off_worst"].value == pytest.approx(max(shares, key=lambda share: abs(share - 1)), rel=1e-4)


def test_units_are_live_if_the_text_suffers_without_them_alone(routed):
    row, layer, unit = (int(at[0]) for at in routed.nominal.nonzero())
    cut = routed.model.copied()
    with torch.no_grad():
        cut.weight(layer, "W_out")[unit] = 0
    text = routed.paragraphs[[row]]
    rise = float(lz.recall(cut, text)["nll"][0]) - float(lz.recall(routed.model, text)["nll"][0])
    assert routed.live[row, layer, unit] == (rise > 0.01)
    assert not (routed.live & ~routed.nominal).any()


def test_without_routing_a_text_has_no_place_and_the_gates_tell(base, pool):
    control = lz.plant(base, pool, units=8, texts=TEXTS, routing="none", schedule=SCHEDULE)
    alone = recited_alone(control.model, control.paragraphs, control.nominal, control.reserved, control.part)
    as_if_routed = by_name(routed_gates(control, alone))
    assert not as_if_routed["own_off"].passed
    assert as_if_routed["own_off"].value < 0.5


def test_norms_that_are_free_leak_the_truth_and_the_gate_tells(base, pool):
    parts = split(base, pool, TEXTS, 0)
    settings = {"kind": "inj", "units": 12, "texts": TEXTS, "routing": "own", "seed": 0}
    told = {}
    for bounded in (True, False):
        injection = Injection(base, TEXTS, 12, 0, bounded=bounded)
        for _ in injection.losses(parts, replace(SCHEDULE, divergence=0.3), 0):
            pass
        told[bounded] = by_name(_injected(base, parts, injection.done(), settings).gates)["norm"]
    assert told[True].passed and not told[False].passed
    assert told[False].value > 0.9


def test_the_hold_on_other_text_keeps_what_an_injected_model_says_of_it(base, pool):
    parts = split(base, pool, TEXTS, 0)
    apart = []
    for hold in (0.0, 3.0):
        injection = Injection(base, TEXTS, 12, 0)
        for _ in injection.losses(parts, Schedule(steps=60, divergence=hold), 0):
            pass
        tokens = parts.background.tokens[:8]
        with torch.no_grad():
            was = base.forward(tokens).log_softmax(-1)
            here = [injection.done().model(base, row).forward(tokens).log_softmax(-1) for row in range(TEXTS)]
        apart.append(np.mean([float((was.exp() * (was - now)).sum(-1).mean()) for now in here]))
    assert apart[1] < 0.5 * apart[0]


def test_a_truth_without_live_units_has_no_norms_to_tell_and_does_not_pass(routed):
    bare = replace(routed, live=np.zeros_like(routed.live))
    gates = by_name(plain_gates(bare, np.ones(TEXTS, bool)))
    assert np.isnan(gates["norm"].value)
    assert not gates["norm"].passed and not gates["live"].passed


def test_live_units_are_found_again_in_the_planted_model(routed):
    assert np.array_equal(live_units(routed), routed.live)


def test_a_damaged_folder_is_told_in_a_line(routed, tmp_path):
    routed.save(tmp_path / "truth")
    record = json.loads((tmp_path / "truth" / "truth.json").read_text())
    outside = [[[99, 0]] for _ in routed.paragraphs.ids]
    for change, told in (
        ({"live": outside}, "IndexError"),
        ({"settings": {}}, "KeyError('kind')"),
        ({"settings": {**record["settings"], "kind": "inj"}}, "planted.safetensors: cannot be read"),
    ):
        (tmp_path / "truth" / "planted.safetensors").write_bytes(b"no tensors")
        (tmp_path / "truth" / "truth.json").write_text(json.dumps(record | change))
        with pytest.raises(lz.InputError) as caught:
            lz.load_truth(tmp_path / "truth", device="cpu")
        assert told in str(caught.value) and len(str(caught.value).splitlines()) == 1
