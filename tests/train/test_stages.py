"""What stages, windows, twins, halves and seeds come to in the rows of a recipe."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import localize as lz
from localize.train.chain import transitions
from localize.train.planting import training_data
from localize.train.reading import read_recipe
from localize.train.recipe import Planting, Recipe, Shape, Stage, Training, TrainingCorpus, Watching

CHAIN = Recipe(
    model=Shape(family="gpt2", layers=1, heads=2, d_model=16, context=16),
    corpus=TrainingCorpus("chain", 128, words=(0, 64)),
    planted=Planting(copies={2: 6, 8: 6}, held_out=10, windows=((0.0, 0.5), (0.0, 1.0)), pair=True),
    training=Training(batch=8, row_tokens=12, warmup=2, threads=1),
    stage=(Stage(20), Stage(10, corpus={"words": (64, 128)}, replay=0.1)),
    watch=Watching(10),
)


@pytest.fixture(scope="module")
def data():
    return training_data(CHAIN)


def test_rows_are_what_they_are_said_to_be(data):
    rows, tokens = data.rows.numpy(), data.paragraphs.tokens.numpy()
    for row, paragraph in zip(rows, data.row_paragraph, strict=True):
        if paragraph >= 0:
            assert (row == tokens[paragraph]).all()
        else:
            assert not (row == tokens).all(1).any()
    first = np.bincount(data.row_paragraph[: 20 * 8][data.row_paragraph[: 20 * 8] >= 0], minlength=len(tokens))
    assert first.tolist() == list(data.paragraphs.duplicates)


def test_the_second_stage_is_of_its_own_text_but_for_a_tenth_of_old_rows(data):
    new = data.rows.numpy()[20 * 8 :]
    old = (new < 64).all(1)
    assert old.sum() == 8 and ((new >= 64).all(1) | old).all()
    before = {row.tobytes() for row in data.rows.numpy()[: 20 * 8]}
    assert all(row.tobytes() in before for row in new[old])
    assert data.replayed == pytest.approx(8 / 240)


def test_each_stages_text_has_held_out_paragraphs(data):
    names, stage = np.array(data.paragraphs.ids), data.paragraph_stage
    assert (stage == 0).sum() == 12 + 10 and (stage == 1).sum() == 10
    assert all(name.startswith("held-out-of-stage-1-") for name in names[stage == 1])
    assert (data.paragraphs.tokens.numpy()[stage == 1] >= 64).all()
    assert [data.paragraphs.duplicates[i] for i in np.flatnonzero(stage == 1)] == [0] * 10


def test_windows_are_told_as_shares_of_all_rows(data):
    planted = np.array(data.paragraphs.duplicates) > 0
    assert np.isnan(data.windows[~planted]).all()
    ends, counts = np.unique(data.windows[planted], axis=0, return_counts=True)
    assert ends == pytest.approx(np.array([[0, 1 / 3], [0, 2 / 3]])) and counts.tolist() == [6, 6]
    rows = {i: np.flatnonzero(data.row_paragraph[: 20 * 8] == i) for i in np.flatnonzero(planted)}
    assert all(at.max() < data.windows[i, 1] * 240 for i, at in rows.items())


def test_a_twin_differs_in_the_planted_rows_alone(data):
    twin = training_data(CHAIN, run="twin")
    differs = (twin.rows != data.rows).any(1).numpy()
    assert np.array_equal(differs, data.row_paragraph >= 0)
    assert (twin.row_paragraph == -1).all()
    assert np.array_equal(twin.paragraphs.tokens, data.paragraphs.tokens)
    fresh = [row.tobytes() for row in twin.rows.numpy()[: 20 * 8]]
    assert len(set(fresh)) == len(fresh)  # also what stands for the planted rows is new


def test_halves_leave_out_opposite_halves_of_every_level():
    recipe = replace(CHAIN, planted=replace(CHAIN.planted, pair=False, halves=4))
    assert recipe.runs == ("half-00", "half-01", "half-02", "half-03")
    shown = np.array([np.isin(range(12), training_data(recipe, run=run).row_paragraph) for run in recipe.runs])
    assert (shown[0] ^ shown[1]).all() and (shown[2] ^ shown[3]).all()
    assert not np.array_equal(shown[0], shown[2])
    copies = np.array(training_data(recipe, run="half-00").paragraphs.duplicates)[:12]
    assert [(shown[0] & (copies == level)).sum() for level in (2, 8)] == [3, 3]


def test_another_seed_has_the_same_paragraphs_among_other_rows(data):
    other = training_data(CHAIN, seed=1)
    assert np.array_equal(other.paragraphs.tokens, data.paragraphs.tokens)
    assert other.paragraphs.duplicates == data.paragraphs.duplicates
    assert not np.array_equal(other.row_paragraph, data.row_paragraph)
    mine, theirs = ({row.tobytes() for row in one.rows.numpy()[one.row_paragraph < 0]} for one in (data, other))
    assert len(mine & theirs) < 0.1 * len(mine)  # twelve words of so few are now and then the same ones


def test_files_of_another_stage_keep_held_out_windows_that_no_seed_sees(tmp_path):
    (tmp_path / "new.txt").write_text(
        " ".join(f"{i} sheep and {i * 7 % 1000} goats." for i in range(3000)), encoding="utf-8"
    )
    recipe = Recipe(
        corpus=TrainingCorpus(vocab=400),
        planted=Planting(copies={2: 3}, held_out=5),
        training=Training(batch=4, row_tokens=20),
        stage=(Stage(10), Stage(20, corpus={"source": str(tmp_path / "new.txt")})),
    )
    for seed in (0, 1):
        data = training_data(recipe, seed=seed)
        held = data.paragraphs.tokens.numpy()[data.paragraph_stage == 1]
        assert len(held) == 5
        rows = {row.tobytes() for row in data.rows.numpy()}
        assert not any(row.tobytes() in rows for row in held)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"planted": Planting(windows=((0.5, 1.2),))},
            "planted windows: [0.5, 1.2] must be two shares of the stage, 0 <= ",
        ),
        (
            {"planted": Planting(windows=((0.5, 0.5),))},
            "planted windows: [0.5, 0.5] must be two shares of the stage, 0 <= ",
        ),
        (
            {"stage": (Stage(20, replay=0.1), Stage(5))},
            "stage 0: replay: there is no older stage whose rows could be shown ",
        ),
        ({"stage": (Stage(20), Stage(5, replay=1.0))}, "stage 1: replay=1.0 must be a share of 0 up to below 1."),
        ({"planted": Planting(stage=2)}, "planted stage=2: there are the stages 0..1."),
        ({"planted": Planting(halves=3)}, "halves=3 must be even: every two leave out opposite halves."),
        ({"planted": Planting(halves=2)}, "halves=2 without planted copies: there is nothing to leave out."),
        (
            {"planted": Planting(halves=2, copies={0: 4})},
            "halves=2 without planted copies: there is nothing to leave out.",
        ),
        ({"planted": Planting(halves=2, copies={2: 4}, pair=True)}, "planted pair and halves: one of them, not both."),
        ({"seeds": 0}, "seeds=0 must be a whole number of at least 1."),
        ({"stage": (Stage(0), Stage(20))}, "stage 0: steps=0 must be a whole number of at least 1."),
        (
            {"stage": (Stage(20, fresh=True), Stage(5))},
            "stage 0: fresh: the first stage begins from untrained weights ",
        ),
        (
            {"arms": {"a b": CHAIN}},
            "arm 'a b': letters, digits and . _ % + - = , alone can be in its name, which is that of a ",
        ),
        ({"arms": {"seed-0-x": CHAIN}}, "arm 'seed-0-x': letters, digits and . _ % + - = , alone can be in its name, "),
        (
            {"arms": {"a": replace(CHAIN, seeds=2)}},
            "arm 'a': seeds = 2 is not the recipe's, 1; arms have it in common.",
        ),
        (
            {"arms": {"a": replace(CHAIN, stage=(Stage(29),))}},
            "arm 'a': steps = 29 is not the recipe's, 30; arms have it ",
        ),
        (
            {"corpus": replace(CHAIN.corpus, mark=3), "arms": {"a": CHAIN, "b": CHAIN}},
            "arm 'a': corpus.mark is not set, and the recipe has 3; a file cannot say so: leave it out of the recipe, and set it in ",
        ),
        (
            {"arms": {"a": replace(CHAIN, stage=(Stage(30),))}},
            "arm 'a': 1 stages are not the recipe's 2; a file cannot say so.",
        ),
        (
            {"stage": (Stage(10, corpus={"mark": 3}), Stage(20, corpus={"mark": None}))},
            "stage 1: corpus mark = None: a file cannot say so; leave it out of [corpus], and set it in the other stages.",
        ),
        (
            {"arms": {"a": replace(CHAIN, arms={"b": CHAIN})}},
            "arm 'a': arms have no arms of their own, and no data_hash.",
        ),
        ({"arms": {"a": CHAIN}, "data_hash": "e"}, "arm 'a': arms have no arms of their own, and no data_hash."),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(changed, message):
    with pytest.raises(lz.InputError) as caught:
        replace(CHAIN, **changed)
    assert str(caught.value).startswith(f"recipe: {message}")
    assert "\n" not in str(caught.value)


def test_a_chain_among_other_text_is_refused():
    with pytest.raises(
        lz.InputError, match=r"^recipe: a chain has words of its own; all stages, and what is planted, "
    ):
        training_data(replace(CHAIN, stage=(Stage(20), Stage(10, corpus={"source": "synthetic"}))))


def test_a_recipe_is_read_back_as_it_is_written(tmp_path):
    (tmp_path / "r.toml").write_text(replace(CHAIN, seeds=3).to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml") == replace(CHAIN, seeds=3)


VARIED = """
seeds = 2
[planted]
copies = { 2 = 3 }
[[stage]]
steps = 20
[[stage]]
steps = 10
corpus = { source = "text.txt", vocab = 300 }
[arms.none]
[arms."5%"]
stage.1.replay = 0.05
[arms.other]
training.schedule = "constant"
planted.copies = { 4 = 3 }
stage.1.corpus = { vocab = 400 }
"""


def test_an_arm_is_the_recipe_but_for_what_it_says(tmp_path):
    (tmp_path / "r.toml").write_text(VARIED, encoding="utf-8")
    recipe = read_recipe(tmp_path / "r.toml")
    base = replace(recipe, arms={})
    assert list(recipe.arms) == ["none", "5%", "other"]
    assert recipe.arms["none"] == base
    assert recipe.arms["5%"] == replace(base, stage=(base.stage[0], replace(base.stage[1], replay=0.05)))
    assert recipe.arms["other"] == replace(
        base, training=replace(base.training, schedule="constant"), planted=replace(base.planted, copies={4: 3}),
        stage=(base.stage[0], replace(base.stage[1], corpus={"vocab": 400})),
    )  # fmt: skip
    assert base.stage[1].corpus["source"] == str(tmp_path / "text.txt")
    assert recipe.varied("5%") == {"stage.1.replay": 0.05}
    assert recipe.asked()["arms.5%"] == {"stage.1.replay": 0.05}
    (tmp_path / "again.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "again.toml") == recipe


def test_a_recipe_with_a_base_is_that_one_but_for_what_it_gives(tmp_path):
    (tmp_path / "r.toml").write_text(VARIED, encoding="utf-8")
    (tmp_path / "deep").mkdir()
    text = (
        'base = "../r.toml"\nseeds = 3\nstage.0.steps = 30\n[planted]\nheld_out = 7\n[arms.other]\ntraining.steps = 4\n'
    )
    (tmp_path / "deep" / "r.toml").write_text(text, encoding="utf-8")
    base, recipe = read_recipe(tmp_path / "r.toml"), read_recipe(tmp_path / "deep" / "r.toml")
    assert (recipe.seeds, recipe.stage[0].steps, recipe.planted.held_out) == (3, 30, 7)
    text, other = recipe.stage[1].corpus["source"], base.stage[1].corpus["source"]
    assert Path(text).resolve() == Path(other).resolve() == (tmp_path / "text.txt").resolve()
    assert recipe.planted.copies == base.planted.copies and recipe.arms["5%"].stage[1].replay == 0.05
    (tmp_path / "r.toml").write_text('base = "deep/r.toml"\n', encoding="utf-8")
    with pytest.raises(lz.InputError, match=r"base: is the base of itself\.$"):
        read_recipe(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text("base = 1\n", encoding="utf-8")
    with pytest.raises(lz.InputError, match=r"base = 1: a recipe's file is needed\.$"):
        read_recipe(tmp_path / "r.toml")


RECIPES = sorted(path.name for path in Path("data/recipes").glob("*.toml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_and_its_twin_for_a_gpu_plant_the_same(name):
    small, large = read_recipe(Path("data/recipes") / name), read_recipe(Path("data/recipes/gpu") / name)
    for own, other in ((small, large), *((small.arms[arm], large.arms[arm]) for arm in small.arms)):
        assert (own.planted, own.runs, len(own.stage)) == (other.planted, other.runs, len(other.stage))
        assert [(part.name, part.replay, part.fresh) for part in own.stage] == [
            (part.name, part.replay, part.fresh) for part in other.stage
        ]
        assert {corpus.source for corpus in own.corpora} == {corpus.source for corpus in other.corpora}
        assert len({corpus for corpus in own.corpora}) == len({corpus for corpus in other.corpora})
        for recipe in (own, other):
            assert recipe.watch.every and recipe.steps % recipe.watch.every == 0
            ends = np.cumsum([training.steps for training in recipe.trainings])
            assert (ends % recipe.watch.every == 0).all(), "every stage's end is measured"
            for corpus in recipe.corpora:
                if corpus.source == "chain":
                    assert transitions(corpus).sum(1).max() == pytest.approx(1)
    assert list(small.arms) == list(large.arms) and large.model.d_model >= 4 * small.model.d_model


def test_what_one_arm_alone_has_not_is_set_in_the_others_and_read_back(tmp_path):
    marked = replace(CHAIN, corpus=replace(CHAIN.corpus, mark=3))
    recipe = replace(CHAIN, arms={"none": CHAIN, "marked": marked})
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(tmp_path / "r.toml") == recipe
    assert read_recipe(tmp_path / "r.toml").arms["none"].corpus.mark is None


def test_arms_of_a_chain_have_their_paragraphs_in_common():
    few, many = (replace(CHAIN, planted=replace(CHAIN.planted, copies={copies: 6})) for copies in (2, 8))
    one, other = training_data(few).paragraphs, training_data(many).paragraphs
    assert (one.ids, one.data_hash) == (other.ids, other.data_hash)
    assert one.duplicates[:6] == (2,) * 6 and other.duplicates[:6] == (8,) * 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[stage]]\nreplay = 0.1\n", "[[stage]] 0 has no steps."),
        (
            "[[stage]]\nsteps = 1\ncorpus = { sorce = 'chain' }\n",
            "[[stage]] 0 corpus has no 'sorce'; it has evenly, exponent, mark, ",
        ),
        (
            "[planted]\nwindows = [0, 0.5]\n",
            "[planted] windows = [0, 0.5]: pairs of shares are needed, [[0, 0.25], [0, 1]].",
        ),
        ("[watch]\nevry = 1\n", "[watch] has no 'evry'; it has checkpoints, every, loss_change, measures."),
        ("[arms.a]\ntraining.speed = 1\n", "[training] has no 'speed'; it has "),
        ("[arms.a]\nstages.1.replay = 1\n", "no section 'stages'; there are model, "),
    ],
)
def test_a_stage_with_a_mistake_is_told_where(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(lz.InputError) as caught:
        read_recipe(tmp_path / "r.toml")
    assert str(caught.value).startswith(f"recipe {tmp_path / 'r.toml'}: {message}")


def test_an_arm_of_a_stage_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "r.toml").write_text("[[stage]]\nsteps = 1\n[arms.a]\nstage.1.replay = 0.1\n", encoding="utf-8")
    with pytest.raises(lz.InputError, match=r"^recipe: no stage 1; there are 1, counted from 0. \(arm 'a'\)$"):
        read_recipe(tmp_path / "r.toml")


def test_token_counts_and_the_hash_are_those_of_all_stages(data):
    distinct = np.unique(data.rows.numpy(), axis=0)
    assert np.array_equal(data.unigram_counts, np.bincount(distinct.ravel(), minlength=128))
    assert training_data(CHAIN).hash == data.hash != training_data(CHAIN, run="twin").hash
    assert isinstance(data.rows, torch.Tensor)


def test_kinds_of_text_are_shown_as_they_are_said_to_be():
    planted = Planting(copies={4: 24}, held_out=6, halves=2, kinds=("typical", "rare", "hard"), noise=0.5)
    recipe = replace(CHAIN, planted=planted, stage=())
    plain = training_data(replace(recipe, planted=replace(planted, kinds=("typical",))), run="half-00")
    data = training_data(recipe, run="half-00")
    rows, tokens, before = data.rows.numpy(), data.paragraphs.tokens.numpy(), plain.paragraphs.tokens.numpy()
    assert data.kinds.tolist() == ["typical", "rare", "hard"] * 10
    assert set(plain.kinds) == {"typical"}
    for paragraph in np.unique(data.row_paragraph[data.row_paragraph >= 0]):
        shown, kind = rows[data.row_paragraph == paragraph], data.kinds[paragraph]
        changed = (shown != before[paragraph]).mean()
        if kind == "hard":
            assert len(np.unique(shown, axis=0)) == 4 and not (shown == tokens[paragraph]).all(1).any()
        else:
            assert (shown == tokens[paragraph]).all()
        assert changed == 0 if kind == "typical" else 0.2 < changed < 0.8
    assert ((tokens >= 0) & (tokens < 64)).all(), "words that the chain uses"
    texts = [data.tokenizer.decode(row) for row in tokens]
    assert list(data.paragraphs.texts) == texts
    other = training_data(recipe, run="half-01")
    assert (other.paragraphs.tokens == data.paragraphs.tokens).all()


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        (Planting(kinds=("odd",)), "planted kinds=['odd']: typical, rare, hard, fresh are known."),
        (Planting(kinds=()), "planted kinds=[]: typical, rare, hard, fresh are known."),
        (Planting(kinds=("rare",), noise=0.0), "planted noise=0.0 must be a share above 0, at most 1."),
    ],
)
def test_kinds_that_are_none_are_refused(planted, message):
    with pytest.raises(lz.InputError) as caught:
        replace(CHAIN, planted=planted)
    assert str(caught.value) == f"recipe: {message}"
    with pytest.raises(lz.InputError, match=r"^recipe: planted kinds=\['rare'\]: text of a chain alone has such\.$"):
        Recipe(planted=Planting(kinds=("rare",)))
