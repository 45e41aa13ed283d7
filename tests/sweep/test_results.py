"""A sweep opened for reading: labelled over the grid, lazy, exported, drawn."""

import numpy as np
import pandas as pd
import pytest

import localize as lz
from localize import plots
from localize.errors import LocalizeError
from localize.sweep.store import SweepStore

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters")


@pytest.fixture(scope="module")
def done(made, make_grid, tmp_path_factory):
    return lz.run_sweep(make_grid(made), tmp_path_factory.mktemp("sweep") / "s.zarr")


def test_a_variable_is_labelled_by_all_that_the_grid_varies(done):
    shares = done["gradient_share"]
    assert shares.dims == ("model", "paragraph", "layer", "component")
    assert shares["model"].values.tolist() == ["deep", "flat"]
    assert shares.sizes["layer"] == 4 and np.isnan(shares.sel(model="flat", layer=3)).all()
    assert np.allclose(shares.sum(["layer", "component"]), 1)
    ablated = done["ablated_nll"]
    assert ablated.dims == ("model", "paragraph", "layer", "head"), "cells of other layers fill one axis"
    assert np.isfinite(ablated.sel(layer=[0, 1])).all() and np.isnan(ablated.sel(layer=[2, 3])).all()
    for layer in (0, 1):
        exact = done.dataset("flat", measure=f"ablate, layers={layer}")["ablated_nll"].sel(layer=layer)
        assert np.array_equal(ablated.sel(model="flat", layer=layer), exact.transpose("paragraph", "head"))


@pytest.fixture(scope="module")
def crossed(made, make_grid, tmp_path_factory):
    """The README's: three layers, each removed to its mean and to zero."""
    grid = make_grid(made)
    grid["model"] = grid["model"][:1]
    grid["measure"] = [{"measurement": "ablate", "over": {"layers": [0, 1, 2], "to": ["mean", "zero"]}}]
    return lz.run_sweep(grid, tmp_path_factory.mktemp("crossed") / "s.zarr")


def test_layers_fill_their_own_axis_and_what_they_are_removed_to_has_one(crossed):
    ablated = crossed["ablated_nll"]
    assert ablated.dims == ("to", "paragraph", "layer", "head")
    assert ablated["to"].values.tolist() == ["mean", "zero"]
    for to in ("mean", "zero"):
        for layer in (0, 1, 2):
            cell = crossed.dataset(measure=f"ablate, layers={layer}, to={to}")["ablated_nll"].sel(layer=layer)
            assert np.array_equal(ablated.sel(to=to, layer=layer), cell.transpose("paragraph", "head"))
    assert np.isnan(ablated.sel(layer=3)).all()
    assert ablated.attrs["unit"] == "nats per token" and ablated.attrs["options"] == '{"measurement": "ablate"}'
    plain = crossed["unperturbed_nll"]
    assert plain.dims == ("layers", "to", "paragraph")  # it has no layers of its own


def test_a_signature_joins_parts_and_names_cells_that_do_where_options_differ(crossed):
    with pytest.raises(LocalizeError) as error:
        crossed.signature()
    measures = ["ablate, layers=0, to=mean", "ablate, layers=1, to=mean", "ablate, layers=2, to=mean"]
    assert str(error.value) == (
        f"sweep {crossed.path}: 'ablate, layers=0, to=zero' does not join those before it (join: ablated_exact_match is of to='mean' "
        "on the left and of to='zero' on the right; only parts of one measurement join); choose some that do, such as "
        f"measures={measures}."
    )
    signature = crossed.signature(measures=measures)
    assert np.isfinite(signature["ablated_nll"].sel(layer=[0, 1, 2])).all()


def test_cells_that_chose_the_same_layer_stand_apart_and_lists_and_numbers_on_one_axis_are_text(grid, files):
    grid["model"] = grid["model"][:1]
    grid["measure"] = [{"measurement": "ablate", "over": {"layers": [0, [0, 1]], "heads": [[0], [2, 3]]}}]
    ablated = lz.run_sweep(grid, files / "s.zarr")["ablated_nll"]
    assert ablated.dims == ("layers", "paragraph", "layer", "head") and ablated["layers"].values.tolist() == [
        "0",
        "0+1",
    ]
    there = ~np.isnan(ablated.transpose("layers", "layer", "head", "paragraph").values).any(-1)
    assert np.argwhere(there[0]).tolist() == [[0, 0], [0, 2], [0, 3]]
    assert np.argwhere(there[1]).tolist() == [[0, 0], [0, 2], [0, 3], [1, 0], [1, 2], [1, 3]]


def test_entries_of_one_measurement_that_no_axis_tells_apart_stand_along_their_names(grid, files):
    grid["model"] = grid["model"][:1]
    grid["measure"] = [
        {"measurement": "ablate", "name": f"to {to}", "options": {"to": to, "layers": [0]}} for to in ("zero", "mean")
    ]
    ablated = lz.run_sweep(grid, files / "s.zarr")["ablated_nll"]
    assert ablated.dims == ("measure", "paragraph", "layer", "head")
    assert ablated["measure"].values.tolist() == ["to zero", "to mean"]


def test_values_are_read_when_they_are_asked_for(done):
    pytest.importorskip("dask")
    assert done["gradient_norm"].chunks is not None
    assert done.dataset("deep", measure="gradients")["gradient_norm"].chunks[0] == (4, 2)


def test_what_is_not_finished_is_nan_and_no_signature(grid, files, monkeypatch):
    write, written = SweepStore.write, []

    def three(store, cell, outcome):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(store, cell, outcome)
        written.append(cell.is_recall)

    options = {"to": "zero", "layers": [0]}
    grid["model"], grid["measure"] = grid["model"][:1], [{"measurement": "ablate", "block": 2, "options": options}]
    monkeypatch.setattr(SweepStore, "write", three)
    with pytest.raises(KeyboardInterrupt):
        lz.run_sweep(grid, files / "s.zarr")
    assert written == [True, False, False]
    sweep = lz.open_sweep(files / "s.zarr")
    rows = lz.load_paragraphs(files / "rows.npy", prefix_length=30, continuation_length=20)
    whole = lz.ablate(lz.load_model(files / "deep", dtype="float64"), rows, **options)
    found = sweep.dataset(measure="ablate")
    for name in ("ablated_exact_match", "ablated_nll"):
        first = found[name].sel(layer=0).transpose("paragraph", ...)
        assert np.isnan(first[4:]).all(), name
        assert np.allclose(first[:4], whole[name].sel(layer=0).transpose("paragraph", ...)[:4]), name
    assert found["exact_match"].dtype.kind == found["tokens"].dtype.kind == "i"
    with pytest.raises(LocalizeError, match=r"'ablate' of deep / rows is partly; finished: recall\.$"):
        sweep.signature(measures=["ablate"])


def test_names_that_are_not_there_are_told_with_those_that_are(done):
    with pytest.raises(LocalizeError, match=r"no cell holds 'gradient_nrm'; did you mean 'gradient_norm'\?$"):
        done["gradient_nrm"]
    with pytest.raises(LocalizeError, match=r"model=None is not one of deep, flat\.$"):
        done.dataset(measure="gradients")
    with pytest.raises(
        LocalizeError, match=r"measure='x' is not one of recall, gradients, ablate, layers=0, ablate, layers=1\.$"
    ):
        done.dataset("deep", measure="x")
    with pytest.raises(LocalizeError, match=r"'x' of deep / rows is not asked for; finished: recall, gradients"):
        done.signature("deep", measures=["x"])


def test_a_signature_of_a_sweep_is_one_like_any_other(done, files):
    signature = done.signature("deep")
    assert {"exact_match", "gradient_norm", "ablated_nll"} <= set(signature.variables)
    assert np.isfinite(signature["ablated_nll"].sel(layer=[0, 1])).all()  # of two cells
    signature.save(files / "one.zarr.zip")
    assert lz.load_signature(files / "one.zarr.zip").variables == signature.variables


def test_parquet_holds_every_number_beside_its_labels(done, files):
    written = done.to_parquet(files / "tables", rows=4)
    names = {path.name for path in written}
    assert {"exact_match.parquet", "gradient_share.parquet", "ablated_nll.parquet"} <= names
    table = pd.read_parquet(files / "tables" / "ablated_nll.parquet")
    assert list(table.columns[:4]) == ["model", "paragraphs", "measure", "layers"]
    wanted = done.dataset("flat", measure="ablate, layers=1")["ablated_nll"]
    part = table[(table["model"] == "flat") & (table["layers"] == "1") & (table["layer"] == 1)]
    assert len(part) == 6 * 4
    for row in part.to_dict("records"):
        assert row["ablated_nll"] == float(wanted.sel(paragraph=row["paragraph"], layer=1, head=row["head"]))
    assert len(pd.read_parquet(files / "tables" / "exact_match.parquet")) == 2 * 6
    with pytest.raises(LocalizeError, match="no finished cell holds 'x'"):
        done.to_parquet(files / "tables", ["x"])


def test_it_shows_itself(done):
    assert repr(done).endswith("2 models x 1 paragraph sets x 4 measurements; cells: 8 finished)")
    assert "<table" in done._repr_html_()


def test_figures_show_the_means_of_the_cells(done):
    figure = plots.sweep(done, "gradient_share", "layer")
    means = [t for t in figure.data if t.meta["what"] == "mean"]
    values = done.dataset("deep", measure="gradients")["gradient_share"].sum("component")
    (deep,) = [t for t in means if t.name == "deep"]
    assert np.allclose(deep.y, values.mean("paragraph"))
    assert np.allclose(deep.x, [0, 25, 50, 75])  # the models differ in depth
    sizes = plots.sweep(done, "nll", "size")
    (line,) = [t for t in sizes.data if t.meta["what"] == "mean"]
    assert sorted(line.y) == pytest.approx(
        sorted(float(done.dataset(m, measure="recall")["nll"].mean()) for m in ("deep", "flat"))
    )
    (null,) = [t for t in sizes.data if t.meta["what"] == "null"]
    assert np.allclose(null.y, line.y)  # there is one group
    heads = plots.sweep(done, "head_gradient_share", "head")
    maps = [t for t in heads.data if t.type == "heatmap"]
    assert [np.shape(t.z) for t in maps] == [(4, 4), (3, 4)]
    assert np.allclose(
        maps[1].z,
        done.dataset("flat", measure="gradients")["head_gradient_share"].sum("attention_component").mean("paragraph"),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nll", "depth"), "plots.sweep: against='depth' is not one of size, layer, head, duplicates."),
        (("nll", "layer"), "plots.sweep: nll has no axis 'layer'; it has paragraph."),
        (("set_gradient_max", "layer"), "plots.sweep: 'set_gradient_max' is no variable that is measured per paragraph."),
        (("nll", "duplicates"), "plots.sweep: the paragraphs do not tell how often they stand in training; duplicates are needed."),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_told(done, arguments, message):
    with pytest.raises(LocalizeError) as error:
        plots.sweep(done, *arguments)
    assert str(error.value) == message
