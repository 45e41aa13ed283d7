"""Every option of every measurement that a grid takes can be swept and read back: over the grid, cell by cell, and as a signature."""

import ast
import json
import re

import numpy as np
import pytest

import localize as lz
from localize.errors import LocalizeError
from localize.measurements import AXES, MEASUREMENTS
from localize.sweep.joined import filled_by, label

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:.*token counts")

SETS = {"set_sizes": ["equal", "all"], "set_draws": [1, 2]}
OWN = {"continuation": ["own", "true"], "batch_size": [1, 64], "seed": [0, 1]}
VALUES = {
    "recall": {},
    "memory": {"prefixes": [4, [2, 8]], "temperature": [0.5, 1.0], "top_k": [5, None], "tries": [1, 10], "k": [0.1, 0.5],
               "samples": [1, 2], "ngrams": [2, [2, 3]], "seed": [0, 1], "batch_size": [1, 64]},
    "stored_units": {"floor": [0.1, 1.0], "untrained": [True, False]} | OWN,
    "locality": {"numbers": [4, [8, 16]], "texts": [1, None], "others": [1, 2]} | OWN,
    "gradients": {"statistics": ["max", ["max", "norm"]], "sets": [True, False], "embeddings": [True, False],
                  "biases": [True, False], "attention_scale": ["apart", "in_W_Q"]} | SETS | OWN,
    "set_similarity": SETS | OWN,
    "contrastive_gradients": {"forget": ["memorized", "not_memorized"], "keep": ["partial", "not_memorized"], "c": [0.1, 1.0],
                              "steps": [0, 1], "learning_rate": [1e-5, 1e-3]} | OWN,
    "activation_gradients": OWN,
    "gradient_controls": {"levels": [0.1, [0.1, 1.0]], "sizes": [1, [1, 2]], "attention_scale": ["apart", "in_W_Q"]} | OWN,
    "rare_token_heads": {"null_draws": [1, 2], "rarest": [2, 3], "untrained": [True, False], "untrained_models": [1, 2]} | OWN,
    "massive_activations": {"untrained": [True, False]} | OWN,
    "in_context": {"length": [6, None], "seed": [0, 1], "batch_size": [1, 64]},
    "prefix_attention": OWN,
    "ablate": {"layers": [0, [1, 2]], "heads": [[0], [1, 3]], "to": ["mean", "zero"]} | OWN,
    "replace_rarest": {"tokens": [1, 2], "draws": [1, 2]} | OWN,
    "perturb_prefix": {"kinds": ["uniform", ["second_choice", "neutral"]], "draws": [1, 2], "span": [1, 2],
                     "copy_positions": [[0, 1], [2]]} | OWN,
    "corrupt_prefix": {"orders": ["random", ["first"]], "draws": [1, 2], "numbers": [1, [2, 4]]} | OWN,
    "patch": {"kind": [None, "uniform"], "sites": [["q"], ["k", "z"]], "streams": [["resid"], ["mlp_out"]],
                 "metrics": [["first_changed"], ["continuation"]], "directions": [["denoising"], ["noising"]], "layers": [[0], [1, 2]],
                 "null": [True, False], "estimate": [True, False]} | OWN,
    "noise": {"fractions": [0.01, [0.1]], "strengths": [[0.5], [1.0, 2.0]], "draws": [1, 2],
              "chosen_by": [["not_memorized"], ["not_memorized", "random"]], "components": [["W_Q"], ["W_in", "W_out"]]} | OWN,
}  # fmt: skip
"""Two values of each option."""

SMALL = {
    "rare_token_heads": {"null_draws": 1, "untrained": False},
    "perturb_prefix": {"draws": 1},
    "corrupt_prefix": {"draws": 1, "numbers": [2]},
    "patch": {"sites": ["q"], "streams": ["resid"]},
    "noise": {"fractions": [0.1], "strengths": [1.0], "draws": 1},
    "contrastive_gradients": {"forget": "memorized", "keep": "partial"},
}
"""So that it takes no time."""

QUICK = {*(axis.chosen_by for axis in AXES.values()), "statistics", "to", "draws", "copy_positions"}
"""Those that change which cells there are; the others are an axis like any other, and slow."""

ASKED = {name: measurement for name, measurement in MEASUREMENTS.items() if measurement.asked}

CASES = [
    pytest.param(name, option, marks=() if option in QUICK else pytest.mark.slow, id=f"{name}, {option}")
    for name, measurement in ASKED.items()
    for option in measurement.defaults()
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, make_model):
    """`swept(measurement, over)`: on a small GPT-2 and six paragraphs in three groups, in one store for all."""
    folder = tmp_path_factory.mktemp("options")
    make_model("gpt2").hf.save_pretrained(folder / "model")
    rows = np.random.default_rng(0).integers(0, 97, (6, 14)).tolist()
    groups = 2 * ["memorized", "partial", "not_memorized"]
    lines = [json.dumps({"tokens": row, "group": group}) for row, group in zip(rows, groups, strict=True)]
    (folder / "rows.jsonl").write_text("\n".join(lines))

    def run(*measures):
        grid = {
            "model": [{"source": str(folder / "model"), "dtype": "float64"}],
            "paragraphs": [{"source": str(folder / "rows.jsonl"), "prefix": 8, "continuation": 6}],
            "measure": list(measures),
        }
        return lz.run_sweep(grid, folder / "s.zarr")

    return run


def test_two_values_of_every_option_are_told_here():
    assert {name: set(m.defaults()) - set(VALUES[name]) for name, m in ASKED.items()} == {name: set() for name in ASKED}


@pytest.mark.parametrize(("name", "option"), CASES)
def test_an_option_is_swept_and_read_back(name, option, swept):
    options = {key: value for key, value in SMALL.get(name, {}).items() if key != option}
    values = VALUES[name][option]
    done = swept({"measurement": name, "options": options, "over": {option: values}})
    told = done.cells()
    assert (told["status"] == "finished").all(), told["error"].tolist()
    cells = {
        label(value): done.dataset(measure=measure) for value, measure in zip(values, done.measures[1:], strict=True)
    }
    recalled = set(done.dataset(measure="recall").data_vars)
    measured = {
        v: (cell[v].dims, cell[v].dtype.kind) for cell in cells.values() for v in cell.data_vars if v not in recalled
    }
    for variable in {alike: v for v, alike in measured.items()}.values():  # one of those that are alike
        whole = done[variable].load()
        holders = {at: cell[variable] for at, cell in cells.items() if variable in cell}
        axis = f"{option}_option" if option in next(iter(holders.values())).dims else option
        own_axis = filled_by(option, whole.dims) is not None and axis not in whole.dims
        assert (axis in whole.dims) == (len(holders) > 1 and not own_axis), variable
        for at, array in holders.items():
            at = at if len({isinstance(v, str) for v in holders}) == 1 else str(at)
            found = whole.sel({axis: at}) if axis in whole.dims else whole
            found = found.sel({dim: array[dim].values for dim in array.dims if dim in array.indexes})
            found = found.isel({dim: slice(array.sizes[dim]) for dim in array.dims if dim not in array.indexes})
            expected = array.transpose(*found.dims).values
            there = ~np.isnan(expected) if own_axis else np.ones(expected.shape, dtype=bool)
            assert there.any()
            np.testing.assert_array_equal(found.values[there], expected[there], err_msg=variable)
    assert set(as_one_signature(done).variables) >= recalled


def as_one_signature(done):
    """All cells where they join; else what the error's one line advises."""
    try:
        return done.signature()
    except LocalizeError as error:
        line = str(error)
    advice = re.search(r"; choose some that do, such as measures=(\[.*\])\.$", line)
    return done.signature(measures=ast.literal_eval(advice[1]))
