"""What is declared is what is measured: names, files, options, variables, continuations."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import localize as lz
from localize.axes import OWN
from localize.measurements import AXES, MEASUREMENTS, REGISTRY, declared, nulls_of
from localize.measurements.declaration import LENGTHS

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:.*token counts")

ASKED = [measurement for measurement in MEASUREMENTS.values() if measurement.asked]
RECALL = {variable.name for variable in MEASUREMENTS["recall"].variables}
SMALL = {
    "rare_token_heads": {"null_draws": 1},
    "corrupt_prefix": {"draws": 1, "numbers": [2]},
    "patch": {"sites": ["q"], "streams": ["resid"]},
    "noise": {"fractions": [0.1], "strengths": [1.0], "draws": 1},
    "contrastive_gradients": {"forget": "a", "keep": "b"},
    "gradients": {"embeddings": True, "biases": True},
}
"""So that it takes no time, or gives all that it can."""

BESIDE_OWN = {"gradient_controls": ("true",)}
"""Measurements of the own continuation that hold tokens of the true one beside it."""

NOT_BY_DEFAULT = {"patch": {f"{part}_patch_{what}map" for part in ("head", "stream") for what in ("", "estimate_")},
                  "memory": {"text_log_p_gain", "text_log_p_per_byte", "memorized_bits", "sampled_ngrams_in_rows",
                             "true_ngrams_in_rows"}}  # fmt: skip
"""What comes only with other options."""


def names(variables):
    return {variable.name for variable in variables}


def test_a_declaration_stands_in_a_file_of_its_name():
    files = {path.stem for path in Path(declared.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(MEASUREMENTS)


@pytest.mark.parametrize("measurement", MEASUREMENTS.values(), ids=lambda m: m.name)
def test_a_measurement_is_the_public_function_of_its_name(measurement):
    call = measurement.call()
    assert call is getattr(lz, measurement.name)
    assert call.__name__ == measurement.name
    assert call.__module__.split(".")[-1] == measurement.name or call.__module__.startswith(
        ("localize.edit.", "localize.train.")
    )


@pytest.mark.parametrize("measurement", ASKED, ids=lambda m: m.name)
def test_what_can_be_asked_for_needs_a_model_and_paragraphs_alone(measurement):
    needed = [p.name for p in measurement.parameters().values() if p.default is inspect.Parameter.empty]
    assert needed == ["model", "paragraphs"]
    assert set(measurement.takes) <= measurement.defaults().keys()
    assert set(measurement.cells) - {"at"} <= measurement.defaults().keys()
    if measurement.builds_on is not None:
        argument, earlier = measurement.builds_on
        assert argument in measurement.parameters()
        assert MEASUREMENTS[earlier].place < measurement.place


@pytest.mark.parametrize("measurement", ASKED, ids=lambda m: m.name)
def test_what_is_measured_is_what_is_declared(measurement, neo):
    rows = np.random.default_rng(0).integers(0, 97, (6, 14))
    paragraphs = lz.load_paragraphs(rows, prefix_length=8, continuation_length=6).with_groups("aabbbb")
    signature = measurement.call()(neo, paragraphs, **SMALL.get(measurement.name, {}))
    own = names(measurement.variables) - NOT_BY_DEFAULT.get(measurement.name, set())
    assert set(signature.variables) == RECALL | own | set(measurement.also)
    assert [call["measurement"] for call in signature.dataset.attrs["calls"]] == [measurement.name]
    continuation = OWN if measurement.of_own(measurement.defaults()) else "true"
    told = {signature[name].attrs["continuation"] for name in own - RECALL}
    assert told <= {continuation, *BESIDE_OWN.get(measurement.name, ())}
    for name in own:
        for axis in (AXES[dim] for dim in signature[name].dims):
            if axis.labels:
                assert tuple(signature[name][axis.name].values) == axis.labels


@pytest.mark.parametrize("measurement", ASKED, ids=lambda m: m.name)
def test_an_axis_is_labelled_by_an_option_that_its_measurement_has(measurement):
    chosen = [axis.chosen_by for axis in measurement.axes if axis.chosen_by is not None]
    assert set(chosen) <= measurement.defaults().keys()


def test_every_name_that_a_declaration_gives_is_one():
    for variable in REGISTRY.values():
        assert set(variable.dims) <= AXES.keys()
        assert variable.high is None or isinstance(variable.high, int) or variable.high in LENGTHS
        assert (variable.role == "null") == (variable.of is not None)
        assert variable.of is None or REGISTRY[variable.of].role == "measured"
        assert variable.before is None or REGISTRY[variable.before].role == "before"
    for measurement in MEASUREMENTS.values():
        assert set(measurement.also) <= REGISTRY.keys() - names(measurement.variables)


def test_a_null_lies_where_what_it_is_of_can_lie():
    for name, variable in REGISTRY.items():
        for null in (REGISTRY[null] for null in nulls_of(name)):
            assert (null.unit, null.low, null.high) == (variable.unit, variable.low, variable.high), null.name
            assert set(null.dims) - set(variable.dims) <= {"null", "untrained_model"}, null.name


def test_no_name_of_today_or_before_stands_for_two_measurements():
    known = [name for m in MEASUREMENTS.values() for name in (m.name, *m.formerly)]
    assert len(known) == len(set(known))


def test_what_is_declared_is_known_without_torch_or_numpy():
    code = (
        "import sys, localize.measurements; print(sorted({'torch', 'numpy', 'xarray', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_decoding_the_models_own_continuation_costs_a_pass():
    facts, ablate = {"layers": 4, "heads": 8}, MEASUREMENTS["ablate"]
    own, true = (ablate.cost(ablate.defaults() | {"continuation": which}, facts, 50, 50) for which in ("own", "true"))
    assert own - true == 1.0
    assert true == 1.0 + 8 * (1 + 0.75 + 0.5 + 0.25)  # recall, and each head of each layer from there on


def test_parts_of_an_ablation_join_whatever_layers_and_heads_they_chose(neo):
    rows = np.random.default_rng(0).integers(0, 97, (4, 14))
    paragraphs = lz.load_paragraphs(rows, prefix_length=8, continuation_length=6)
    joined = lz.ablate(neo, paragraphs, 0, 1) | lz.ablate(neo, paragraphs, 2, 3)
    assert np.isfinite(joined["ablated_nll"].sel(layer=[0, 2]).values).sum() == 2 * len(rows)
