"""The null of a variable in a sweep's figure is the one that the variable's declaration names."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from localize import plots
from localize.measurements import REGISTRY, nulls_of

PER_PARAGRAPH = [name for name in REGISTRY if nulls_of(name) and {"paragraph", "layer"} <= set(REGISTRY[name].dims)]


@pytest.fixture
def swept(make_dataset):
    """`swept(name)`: a sweep of one finished cell that holds the variable and its nulls, and the cell's dataset."""

    def sweep(name):
        rng = np.random.default_rng(0)
        sizes = {"paragraph": 6, "layer": 3, "head": 2, "component": 6, "null": 3}
        arrays = {
            one: rng.uniform(0, 1, [sizes.get(dim, 2) for dim in REGISTRY[one].dims]) for one in (name, *nulls_of(name))
        }
        dataset = make_dataset(["memorized"] * 4 + ["not_memorized"] * 2, arrays, model={"parameters": 1000})
        row = {"model": "made", "paragraphs": "rows", "measure": "made", "status": "finished"}
        return SimpleNamespace(path="s.zarr", cells=lambda: pd.DataFrame([row]), dataset=lambda *_: dataset), dataset

    return sweep


@pytest.mark.parametrize("name", PER_PARAGRAPH)
def test_every_variable_with_a_null_has_it_dashed_over_layers(swept, name):
    done, dataset = swept(name)
    null = dataset[nulls_of(name)[0]].isel(paragraph=slice(0, 4))
    chosen = {dim: 0 for dim in ("query", "direction", "metric", "site", "stream") if dim in null.dims}
    by_hand = null.isel(chosen).mean(
        ["paragraph", *(dim for dim in null.dims if dim not in ("paragraph", "layer", *chosen))]
    )
    if REGISTRY[name].unit == "share":
        by_hand = by_hand * null.sizes["head"]  # shares are summed over heads
    drawn = [trace for trace in plots.sweep(done, name, "layer").data if trace.name == "its null"]
    np.testing.assert_allclose(drawn[0].y, by_hand.values)
    assert drawn[0].line.dash == "dash"


def test_nulls_known_before_are_among_those_declared():
    assert {"rare_token_score", "rare_token_mass", "attention_entropy", "attention_distance", "copy_similarity"} < set(
        PER_PARAGRAPH
    )


def test_a_variable_without_a_null_has_no_dashed_line(swept):
    done, _ = swept("gradient_norm")
    assert not [trace for trace in plots.sweep(done, "gradient_norm", "layer").data if trace.name == "its null"]
