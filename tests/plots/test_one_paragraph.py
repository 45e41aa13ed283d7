"""Figures of one paragraph: what its heads look at, and what each replaced token does, draw by draw."""

import numpy as np
import pytest

from localize import plots
from localize.errors import LocalizeError


def by(figure, what):
    return [trace for trace in figure.data if trace.meta["what"] == what]


def test_the_heads_that_look_most_at_the_most_changed_token_come_first(made):
    figure = plots.attention(made, 3, heads=5)
    attention = made["prefix_attention"].isel(paragraph=3).sel(query="last_prefix").values.reshape(16, -1)
    at = int(made["copy_position"].values[3, 0])
    order = np.argsort(-attention[:, at], kind="stable")[:5]
    (heat,) = by(figure, "values")
    np.testing.assert_allclose(np.array(heat.z), attention[order])
    assert list(figure.layout.yaxis.ticktext) == [f"L{head // 4}.H{head % 4}" for head in order]
    label = figure.layout.xaxis.ticktext[list(figure.layout.xaxis.tickvals).index(at)]
    assert label == f"<b>{made['tokens'].values[3, at]}</b>"
    assert f"even attention, {1 / attention.shape[1]:.3f}" in "".join(a.text for a in figure.layout.annotations)


def test_all_heads_of_a_layer_are_shown_in_their_order_and_the_other_query_is_another_picture(made):
    for query in ("last_prefix", "continuation"):
        figure = plots.attention(made, "p1", layer=2, query=query)
        expected = made["prefix_attention"].isel(paragraph=1, layer=2).sel(query=query).values
        np.testing.assert_allclose(np.array(by(figure, "values")[0].z), expected)
        assert list(figure.layout.yaxis.ticktext) == [f"L2.H{head}" for head in range(4)]


def test_every_draw_its_mean_and_the_group_behind_are_drawn(made):
    figure = plots.perturbation(made, paragraph=2)
    before, after = made["unperturbed_nll"].values, made["perturbed_nll"].values[:, 0]
    rise = after - before[:, None, None]
    draws, mean = (
        [t for t in by(figure, what) if t.meta["panel"].startswith("Raised NLL")] for what in ("draw", "mean")
    )
    np.testing.assert_allclose(np.array([trace.y for trace in draws]), rise[2])
    np.testing.assert_allclose(np.array(mean[0].y), np.nanmean(rise[2], axis=0))
    group = made["group"].values == made["group"].values[2]
    context = next(t for t in by(figure, "context") if t.meta["panel"].startswith("Raised NLL"))
    np.testing.assert_allclose(np.array(context.y), np.nanmean(np.nanmean(rise, axis=1)[group], axis=0))
    lost = next(t for t in by(figure, "mean") if t.meta["panel"].startswith("Lost exact match"))
    fewer = made["unperturbed_exact_match"].values[2] - made["perturbed_exact_match"].values[2, 0]
    np.testing.assert_allclose(np.array(lost.y), np.nanmean(fewer, axis=0))


def test_the_texts_of_tokens_are_shown_as_they_are(made):
    class Tags:
        def decode(self, ids):
            return f"<i>{ids[0]}"

    figure = plots.attention(made, 0, tokenizer=Tags())
    assert all("<i>" not in label.replace("<b>", "") for label in figure.layout.xaxis.ticktext)
    assert any("&lt;i&gt;" in label for label in figure.layout.xaxis.ticktext)


def test_what_is_not_there_is_refused_in_one_line(made):
    for options, message in (
        ({"paragraph": 99}, "plots.attention: paragraph=99 must lie in 0..13, or be an id."),
        ({"layer": 9}, "plots.attention: layer=9 is not one of 0, 1, 2, 3."),
        ({"heads": 0}, "plots.attention: heads=0 must be at least 1."),
        ({"query": "first"}, "plots.attention: query='first' is not one of last_prefix, continuation."),
    ):
        with pytest.raises(LocalizeError) as error:
            plots.attention(made, **options)
        assert str(error.value) == message
