"""The figure of massive activations shows means by layer beside those of random weights, and where an activation is called massive."""

import numpy as np
import pytest

import localize as lz
from localize import plots
from localize.analysis.massive_activations import LARGEST_RATIO
from localize.plots.catalogue import figures_of

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")

PANELS = {
    "activation_ratio": "Largest activation of the stream", "stream_sparsity": "Sparsity of the stream",
    "mlp_sparsity": "Sparsity of the MLP",
}  # fmt: skip


@pytest.fixture(scope="module")
def sized(model, paragraphs):
    return lz.massive_activations(model, paragraphs)


def drawn(figure, panel, what, group=None):
    (found,) = [t for t in figure.data if (t.meta["panel"], t.meta["what"], t.meta["group"]) == (panel, what, group)]
    return found


def test_every_layer_stands_beside_random_weights(sized):
    figure, group = plots.massive_activations(sized), sized.dataset["group"].values
    for name, panel in PANELS.items():
        for chosen in sized.groups:
            curve = drawn(figure, panel, "mean", chosen.replace("_", " "))
            np.testing.assert_allclose(curve.y, sized[name].values[group == chosen].mean(0), rtol=1e-5)
            assert list(curve.x) == [0, 1, 2, 3]
        np.testing.assert_allclose(drawn(figure, panel, "null").y, sized[f"{name}_untrained"].values.mean(0), rtol=1e-5)
    assert list(drawn(figure, PANELS["activation_ratio"], "landmark").y) == [1000, 1000]
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis2.type != "log"
    assert [figure.layout[axis].title.text for axis in ("xaxis", "yaxis", "yaxis2")] == [
        "layer", "largest over median", "Hoyer sparsity",
    ]  # fmt: skip


def test_without_the_twin_no_null_is_drawn_and_the_summary_has_no_row(sized, model, paragraphs):
    bare = lz.massive_activations(model, paragraphs, untrained=False)
    assert not [trace for trace in plots.massive_activations(bare).data if trace.meta["what"] == "null"]
    assert LARGEST_RATIO not in bare.summary().index.get_level_values("quantity")


def test_the_summary_tells_the_largest_of_all_layers_beside_the_twins(sized):
    summary, group = sized.summary(), sized.dataset["group"].values
    for chosen in sized.groups:
        own, twin = (
            sized[name].values[group == chosen].max(1).mean()
            for name in ("activation_ratio", "activation_ratio_untrained")
        )
        row = summary.loc[(LARGEST_RATIO, chosen)]
        np.testing.assert_allclose(row[["estimate", "null"]].astype(float), [own, twin], rtol=1e-5)


def test_the_catalogue_draws_it_in_place_of_default_figures(sized):
    found = figures_of(sized)
    assert found["massive_activations"].figure.to_json() == plots.massive_activations(sized).to_json()
    assert not {"activation_ratio", "stream_sparsity", "mlp_sparsity"} & set(found) and "largest_activation" in found


def test_it_says_what_to_measure(model, paragraphs):
    with pytest.raises(lz.SignatureError) as error:
        plots.massive_activations(lz.recall(model, paragraphs))
    assert str(error.value) == (
        "plots.massive_activations: the signature has no 'activation_ratio'; measure it with "
        "localize.massive_activations(model, paragraphs)."
    )
