"""A measurement of one's own, with an axis, a null and no figure, works wherever the house's own do, by its declaration alone."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import localize as lz
from localize.errors import LocalizeError, SignatureError
from localize.measurements import MEASUREMENTS, REGISTRY, measurement_of, nulls_of
from localize.measurements.registry import remove

pytestmark = pytest.mark.filterwarnings(
    "ignore:few effective clusters", "ignore:rough intervals", "ignore:.*token counts"
)

SHORT = {"prefix": 8, "continuation": 6}


def norms(model, paragraphs, *, scale: int = 1):
    """How long the stream is at each place between blocks, and of a paragraph's neighbour as its null."""
    tokens = paragraphs.tokens.to(model.device)
    kept = {}
    names = {"before": "blocks.0.hook_resid_pre", "behind": "blocks.0.hook_resid_mid"}
    hooks = {name: lambda value, name: kept.update({name: value}) for name in names.values()}
    model.final_states(tokens, hooks=hooks)
    values = np.stack(
        [scale * kept[name].detach().norm(dim=-1).mean(-1).cpu().numpy() for name in names.values()], axis=1
    )
    arrays = {"stream_norm": values, "stream_norm_null": np.roll(values, 1, axis=0)}
    return lz.measured_signature(
        model, paragraphs, arrays, measurement="norms", options={"scale": scale}, axes={"place": list(names)}
    )


DIMS = ("paragraph", "place")
NORMS = lz.Measurement(
    "norms",
    words="length of the stream",
    axes=(lz.Axis("place", "place between blocks"),),
    variables=(
        lz.Variable(
            "stream_norm", DIMS, "float", "L2 norm", "stream norm", "how long the stream is", "me", low=0, part="lengths"
        ),
        lz.Variable(
            "stream_norm_null", DIMS, "float", "L2 norm", "stream norm, null", "of the paragraph before", "me",
            role="null", of="stream_norm",
        ),
    ),
    function=norms,
)  # fmt: skip


@pytest.fixture
def norms_known():
    """Registered for one test."""
    yield lz.register(NORMS)
    remove("norms")


@pytest.fixture
def grid(make_model, tmp_path):
    """A small model and 16 paragraphs on disk, and a grid of them that measures `norms`."""
    make_model("gpt2").hf.save_pretrained(tmp_path / "model")
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(0, 97, (16, 14)))
    return {
        "model": [{"source": str(tmp_path / "model"), "dtype": "float64"}],
        "paragraphs": [{"source": str(tmp_path / "rows.npy")} | SHORT],
        "measure": [{"measurement": "norms", "over": {"scale": [1, 2]}}],
    }


@pytest.fixture
def signature(norms_known, make_model):
    """Measured of 16 paragraphs in two groups."""
    rows = np.random.default_rng(0).integers(0, 97, (16, 14))
    paragraphs = lz.load_paragraphs(rows, prefix_length=8, continuation_length=6).with_groups(
        ["memorized", "other"] * 8
    )
    return norms(make_model("gpt2"), paragraphs)


def test_it_is_known_with_its_variables_axis_and_null(norms_known):
    assert list(MEASUREMENTS)[-1] == "norms"
    assert list(REGISTRY)[-2:] == ["stream_norm", "stream_norm_null"]
    assert nulls_of("stream_norm") == ("stream_norm_null",)
    assert measurement_of("stream_norm_null") is NORMS


def test_when_it_is_forgotten_nothing_of_it_is_left(norms_known):
    lz.register(NORMS)
    remove("norms")
    assert not {"stream_norm", "stream_norm_null"} & REGISTRY.keys()
    assert "norms" not in MEASUREMENTS
    lz.register(NORMS)


def test_a_grid_takes_it_sweeps_its_option_and_reuses_its_numbers(norms_known, grid, tmp_path):
    done = lz.run_sweep(grid, tmp_path / "s.zarr")
    assert done.cells()["status"].tolist() == ["finished"] * 3
    swept = done["stream_norm"].load()
    assert swept.dims == ("scale", "paragraph", "place")
    np.testing.assert_allclose(swept.sel(scale=2), 2 * swept.sel(scale=1), rtol=1e-12)
    lines = []
    lz.run_sweep(grid, tmp_path / "s.zarr", on_line=lines.append)
    assert lines == ["3 of 3 units are there; 0 to do."]


def test_the_command_line_takes_it(norms_known, grid, tmp_path, localize):
    options = ("--prefix", "8", "--continuation", "6", "--out", tmp_path / "run")
    model, rows = (grid[section][0]["source"] for section in ("model", "paragraphs"))
    code, _, stderr = localize("run", model, rows, *options, "--measure", "norms", "--measure", "gradients")
    assert (code, stderr.count("localize:")) == (0, 0), stderr
    assert {"stream_norm", "gradient_max"} <= set(lz.load_signature(tmp_path / "run" / "signature.zarr.zip").variables)
    code, stdout, _ = localize("run", model, rows, *options, "--measure", "norms")
    assert "holds 1 of these; to do: nothing." in stdout


def test_a_report_calls_it_by_its_words(signature, tmp_path):
    page = lz.report(signature, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "length of the stream" in page
    assert "Not measured: metrics of memorization, units and heads that store a text" in page


def test_it_is_compared_cell_by_cell_and_its_null_is_not(signature):
    comparison = signature.compare("memorized", "other")
    assert "stream_norm" in comparison
    assert "stream_norm_null" not in comparison
    assert {"before", "behind"} <= set(comparison.to_dataframe("stream_norm")["place"])
    group = signature.dataset["group"].values
    values = signature["stream_norm"].values
    expected = values[group == "memorized"].mean(0) - values[group == "other"].mean(0)
    np.testing.assert_allclose(comparison["stream_norm"]["difference"], expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:distinguish. memorized has 8 clusters")
def test_distinguish_takes_it_as_the_part_that_it_names(signature):
    table = signature.distinguish("memorized", "other", permutations=3, repeats=1, resamples=100)
    assert "lengths" in table.index.get_level_values("features")
    assert table.attrs["variables"]["lengths"] == ["stream_norm"]


def test_a_saved_signature_of_it_is_read_where_it_is_registered(signature, tmp_path):
    signature.save(tmp_path / "s.zarr.zip")
    xr.testing.assert_identical(lz.load_signature(tmp_path / "s.zarr.zip").dataset, signature.dataset)
    remove("norms")
    try:
        with pytest.raises(SignatureError, match=r"unknown variable 'stream_norm.*'; register it first"):
            lz.load_signature(tmp_path / "s.zarr.zip")
    finally:
        lz.register(NORMS)


def test_it_joins_what_the_house_measures(signature, make_model):
    rows = np.random.default_rng(0).integers(0, 97, (16, 14))
    paragraphs = lz.load_paragraphs(rows, prefix_length=8, continuation_length=6).with_groups(
        ["memorized", "other"] * 8
    )
    joined = lz.gradients(make_model("gpt2"), paragraphs) | signature
    assert {"gradient_max", "stream_norm"} <= set(joined.variables)


def test_it_gets_a_figure_by_its_axes_with_its_null_beside(signature):
    from localize.plots.catalogue import figures_of

    drawn = figures_of(signature)
    assert "stream_norm" in drawn
    assert "stream_norm_null" not in drawn
    assert "null" in drawn["stream_norm"].caption


def test_registered_again_it_takes_the_place_of_the_earlier_one(norms_known):
    again = replace(NORMS, words="other words")
    assert lz.register(again) is again
    assert MEASUREMENTS["norms"].words == "other words"
    assert list(REGISTRY).count("stream_norm") == 1


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (lz.Measurement("gradients", words="mine"),
         "register: a measurement 'gradients' with another definition is registered already."),
        (lz.Measurement("mine", words="mine", axes=(lz.Axis("layer", "storey"),)),
         "register: an axis 'layer' with another definition is registered already."),
        (lz.Measurement("mine", words="mine", variables=(replace(NORMS.variables[0], name="nll"),)),
         "register: a variable 'nll' with another definition is registered already."),
        (lz.Measurement("mine", words="mine", variables=(replace(NORMS.variables[0], dims=("paragraph",), role="null"),)),
         "register: 'stream_norm' has role='null' and of=None; a null, and nothing else, is of a variable."),
        (lz.Measurement("mine", words="mine", variables=(replace(NORMS.variables[0], dims=("paragraph",), before="what"),)),
         "register: before='what' of 'stream_norm' is no variable that is registered."),
        (3, "register: 3 is a int; a Measurement, a Variable or what has a method `register` is needed."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_left_of_it(declared, message):
    before = list(MEASUREMENTS), list(REGISTRY)
    with pytest.raises(LocalizeError) as error:
        lz.register(declared)
    assert str(error.value) == message
    assert (list(MEASUREMENTS), list(REGISTRY)) == before


def test_an_axis_that_nobody_declared_is_refused_with_those_there_are():
    with pytest.raises(
        LocalizeError,
        match=r"^register: unknown axis 'place' of 'stream_norm'; there are attack, attention_component, ",
    ):
        lz.register(replace(NORMS, axes=()))


def test_arrays_of_a_measurement_that_is_not_registered_are_refused(neo):
    rows = np.random.default_rng(0).integers(0, 97, (4, 14))
    paragraphs = lz.load_paragraphs(rows, prefix_length=8, continuation_length=6)
    with pytest.raises(LocalizeError) as error:
        lz.measured_signature(neo, paragraphs, {}, measurement="norms")
    assert str(error.value) == (
        "measured_signature: measurement='norms' is not registered; localize.register(localize.Measurement(...)) does that."
    )
    with pytest.raises(SignatureError) as error:
        lz.measured_signature(neo, paragraphs, {"mine": np.zeros(4)}, measurement="recall")
    assert str(error.value) == "measured_signature: 'mine' is no variable that is registered; declare it with 'recall'."


def test_where_the_new_one_is_refused_the_earlier_one_stays(norms_known):
    with pytest.raises(LocalizeError, match="unknown axis"):
        lz.register(replace(NORMS, axes=()))
    assert MEASUREMENTS["norms"] is NORMS
    assert "stream_norm" in REGISTRY
