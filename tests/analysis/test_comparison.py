"""A comparison tells all its cells together: as a table, as the strongest, as a file, as HTML. Frozen, and escaped."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from localize.analysis.comparison import IN_TABLE, NUMBERS, Comparison, cell_name
from localize.analysis.rows import COLUMNS
from localize.errors import LocalizeError, SignatureError
from localize.statistics import false_discovery

A, B = 35, 40


@pytest.fixture
def comparison(make):
    """Three variables of 1, 12 and 16 cells: the first and one head of the last differ, the head in 30 of its clusters."""
    rng = np.random.default_rng(1)
    in_a = np.arange(A + B) < A
    heads = rng.normal(size=(A + B, 2, 4, 2))
    heads[in_a, 1, 2, 1] += 5
    arrays = {"gradient_share": rng.uniform(0, 1, (A + B, 2, 6)), "head_gradient_norm": np.exp(0.1 * heads)}
    signature = make(["a"] * A + ["b"] * B, arrays)
    return signature.compare("a", "b", ["nll", *arrays], resamples=1000)


def test_the_table_has_a_row_for_every_cell_with_all_its_numbers(comparison):
    table = comparison.to_dataframe()
    assert len(table) == len(comparison) == 1 + 12 + 16
    assert list(table.columns) == [
        *("variable", "cell", "a", "b", "layer", "component", "attention_component", "head"),
        *COLUMNS, "effect_size", "auc", "mean_a", "mean_b", "q_overall", "unit", "compared",
    ]  # fmt: skip
    row = table[(table["variable"] == "head_gradient_norm") & (table["cell"] == "L1.H1, W_V")].iloc[0]
    cell = comparison["head_gradient_norm"].sel(layer=1, attention_component="W_V", head=1)
    assert {name: row[IN_TABLE.get(name, name)] for name in NUMBERS} == {name: cell[name].item() for name in NUMBERS}
    assert (row["null"], row["matched_on"], row["n"], row["clusters"]) == (0, "", A + B, A + B)
    assert table[["null_mean_low", "null_mean_high"]].isna().all(axis=None)
    assert (row["layer"], row["head"], row["a"], row["b"]) == (1, 1, "a", "b")
    assert row["unit"] == "nats per weight unit"


def test_a_variable_without_axes_has_one_row_and_no_words_for_its_cell(comparison):
    row = comparison.to_dataframe("nll")
    assert row["cell"].tolist() == [""]
    assert "layer" not in row and row["estimate"].tolist() == [comparison["nll"]["difference"].item()]


def test_q_overall_corrects_over_all_cells_of_all_variables_and_stays_so_for_one(comparison):
    table = comparison.to_dataframe()
    p_values = np.concatenate([comparison[name]["p_value"].values.ravel() for name in comparison.variables])
    np.testing.assert_array_equal(table["q_overall"], false_discovery(p_values))
    own = comparison.to_dataframe("gradient_share")
    kept = table[table["variable"] == "gradient_share"]
    np.testing.assert_array_equal(own["q_overall"], kept["q_overall"])
    np.testing.assert_array_equal(own["q_value"], false_discovery(own["p_value"].to_numpy()))


def test_the_strongest_have_the_smallest_q_and_among_equals_the_largest_effect(comparison):
    table, strongest = comparison.to_dataframe(), comparison.strongest(29)
    assert strongest.loc[0, "cell"] == "L1.H1, W_V"
    pairs = list(zip(table["q_overall"], -table["effect_size"].abs(), strict=True))
    got = list(zip(strongest["q_overall"], -strongest["effect_size"].abs(), strict=True))
    assert got == sorted(pairs)
    assert len(comparison.strongest(3)) == 3 and len(comparison.strongest()) == 20
    with pytest.raises(LocalizeError, match=r"^strongest: count=0 must be at least 1\.$"):
        comparison.strongest(0)


def test_what_was_not_tested_comes_last(comparison):
    datasets = {name: comparison[name].copy(deep=True) for name in comparison.variables}
    for number in ("p_value", "effect_size"):
        datasets["nll"][number] = np.nan
    lacking = Comparison(datasets, "a", "b")
    assert lacking.strongest(29)["variable"].tolist()[-1] == "nll"
    assert lacking.counts()["tested"] == 28 == lacking.counts()["cells"] - 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_it_is_saved_as_a_table_and_read_back(comparison, tmp_path, suffix):
    path = tmp_path / f"compared{suffix}"
    comparison.save(path)
    table = comparison.to_dataframe()
    read = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path)
    assert list(read.columns) == list(table.columns)
    for name in table.columns:
        if name in (*COLUMNS[:-1], "effect_size", "auc", "mean_a", "mean_b", "q_overall"):
            np.testing.assert_allclose(read[name].astype(float), table[name].astype(float), rtol=1e-12, err_msg=name)
        elif name not in ("cell", "matched_on"):  # all of its texts are empty, which a csv reads as missing
            one, other = ([None if pd.isna(v) else str(v) for v in side[name]] for side in (read, table))
            assert [text and text.removesuffix(".0") for text in one] == other, name
    assert read["cell"].fillna("").tolist() == table["cell"].tolist()
    assert [path.name for path in tmp_path.iterdir()] == [f"compared{suffix}"]


def test_whole_numbers_stay_whole_where_other_variables_lack_the_axis(comparison, tmp_path):
    comparison.save(tmp_path / "compared.csv")
    assert (
        "1,W_in" in (tmp_path / "compared.csv").read_text()
        and "1.0,W_in" not in (tmp_path / "compared.csv").read_text()
    )


def test_another_suffix_is_refused_in_one_line_and_nothing_is_written(comparison, tmp_path):
    with pytest.raises(LocalizeError) as caught:
        comparison.save(tmp_path / "compared.xlsx")
    assert str(caught.value) == f"Comparison.save: {tmp_path / 'compared.xlsx'} must end in .csv or .parquet."
    assert list(tmp_path.iterdir()) == []


def test_it_is_frozen(comparison):
    with pytest.raises(AttributeError, match="a comparison is frozen; 'a' cannot be set"):
        comparison.a = "other"
    with pytest.raises(ValueError, match="read-only"):
        comparison["nll"]["difference"].values[...] = 0
    comparison["nll"].attrs["a"] = "other"
    assert comparison["nll"].attrs["a"] == "a"
    copied = copy.deepcopy(comparison)
    assert copied["nll"].identical(comparison["nll"]) and (copied.a, copied.paired) == ("a", False)


def test_a_variable_that_was_not_compared_is_told(comparison):
    assert "nll" in comparison and "token_nll" not in comparison
    for ask in (comparison.__getitem__, comparison.to_dataframe):
        with pytest.raises(SignatureError) as caught:
            ask("token_nll")
        assert str(caught.value) == "comparison: no 'token_nll'; it holds nll, gradient_share, head_gradient_norm."


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, ""),
        ({"layer": 3, "component": "W_in"}, "layer 3, W_in"),
        ({"layer": 1, "attention_component": "W_V", "head": 2}, "L1.H2, W_V"),
        ({"query": "last_prefix", "layer": 0, "head": 7}, "L0.H7, last_prefix"),
        ({"kind": "uniform", "prefix_position": 12}, "uniform, position 12"),
        ({"order": "rarest", "tokens_replaced": 5}, "rarest, 5 tokens replaced"),
        ({"head": 4}, "head 4"),
        ({"chosen_by": "memorized", "weights_noised": 100, "strength": 0.5}, "memorized, 100 weights, noise 0.5"),
        ({"draw": 1}, "draw 1"),
    ],
)
def test_a_cell_is_said_in_words(labels, words):
    assert cell_name(labels) == words


def test_it_prints_what_differs_and_what_is_rough(comparison):
    n = comparison.counts()
    assert n["discoveries"] == int((comparison.to_dataframe()["q_overall"] <= 0.05).sum()) >= 1
    assert repr(comparison) == (
        f"Comparison(a - b: {n['discoveries']} of 29 cells differ at a false discovery rate of 5 %; {n['rough']} rough; "
        "nll, gradient_share, head_gradient_norm)"
    )


def test_its_view_tells_the_strongest_cell_with_its_numbers(comparison):
    html = comparison._repr_html_()
    row = comparison.strongest(1).iloc[0]
    assert "<strong>a − b</strong>" in html and "L1.H1, W_V" in html
    assert f"{row['estimate']:.3g} [{row['low']:.3g}, {row['high']:.3g}]" in html
    assert "35 paragraphs" in html and "AUC" in html


def test_texts_reach_the_view_escaped(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ["<script>alert(1)</script>", 'b" onload="x']
        signature = make([names[0]] * 12 + [names[1]] * 12)
        html = signature.compare(*names, "nll", resamples=100)._repr_html_()
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert 'onload="x' not in html


def test_nothing_compared_is_an_empty_table_and_a_view():
    empty = Comparison({}, "a", "b")
    assert len(empty) == len(empty.to_dataframe()) == 0
    assert "0 variables, 0 cells" in empty._repr_html_()


def test_cells_without_labels_are_counted():
    numbers = {name: ("draw", np.zeros(2)) for name in NUMBERS}
    dataset = xr.Dataset(numbers, attrs={"variable": "nll", "unit": "nats"})
    assert Comparison({"nll": dataset}, "a", "b").to_dataframe()["cell"].tolist() == ["draw 0", "draw 1"]
