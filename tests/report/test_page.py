"""What a page holds, read as a file: the signature's own numbers, scripts that match the policy, data that come back as they were."""

import hashlib
import json
import re
import warnings
from base64 import b64decode, b64encode

import numpy as np
import pytest

import localize as lz
from localize.analysis.change import Change
from localize.analysis.rows import is_rough
from localize.errors import InputError, LocalizeError
from localize.plots.colouring import continuation_colourings, prefix_colourings
from localize.plots.figures.heads import scores
from localize.report.bundle import CARTESIAN, bundle_for
from localize.report.drawn import figure_json, plain_json
from localize.report.facts import option_words
from localize.report.folder import SIGNATURE_FILE, CommandResults
from localize.report.literal import link_name, readable, script_json
from localize.report.packed import packed_floats, packed_integers, packed_shares
from localize.report.sample import even_shares, sampled
from localize.report.tables import csv_of
from localize.report.together import shared_name

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")


def unpacked(packed):
    kind = {"i4": "<i4", "f4": "<f4", "share": "<u2"}[packed["kind"]]
    values = np.frombuffer(b64decode(packed["data"]), kind).reshape(packed["shape"])
    return values if packed["kind"] != "share" else np.where(values > 65534, np.nan, values / 65534)


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    return lz.report(run, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def page(path, parsed):
    return parsed(path)


@pytest.fixture(scope="module")
def data(page):
    return page.data("r0-data")


def test_only_the_pages_own_scripts_may_run_and_nothing_may_be_fetched(page):
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    running = [text for attrs, text in page.scripts if "type" not in attrs]
    hashes = [b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert rules == {
        "default-src": "'none'", "script-src": " ".join(f"'sha256-{digest}'" for digest in hashes),
        "style-src": "'unsafe-inline'", "img-src": "data: blob:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert len(running) == 2
    before = page.tags.index(next(tag for tag in page.tags if tag[1].get("http-equiv")))
    assert not {"script", "style", "link"} & {tag for tag, _ in page.tags[:before]}, (
        "something stands before the policy"
    )
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        for name in ("src", "href", "action", "srcset", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:,")), (tag, attrs)


def test_a_text_that_no_file_can_hold_is_still_shown(tmp_path, small_model, make_paragraphs, parsed):
    page = parsed(
        lz.report(lz.recall(small_model, make_paragraphs()), tmp_path / "half.html", title="half \ud800 a pair")
    )
    assert "half ⟨U+D800⟩ a pair" in (tmp_path / "half.html").read_text(encoding="utf-8")
    assert page.tables


def test_tables_hold_the_signatures_numbers(page, run):
    summary = run.signature.summary()
    rows = [row for row in page.tables["r0-summary"] if row]
    assert [(row[0][1], row[1][1]) for row in rows] == [
        (quantity, group.replace("_", " ").replace(" - ", " − ")) for quantity, group in summary.index
    ]
    for column, name in ((2, "estimate"), (3, "null"), (5, "p_value"), (6, "n")):
        np.testing.assert_array_equal([float(row[column][0] or "nan") for row in rows], summary[name])
    first = summary.iloc[0]
    mark = "~" * is_rough(first.to_dict())
    assert rows[0][2][1] == f"{first['estimate']:.3f} {mark}[{first['low']:.3f}, {first['high']:.3f}]"
    comparison = run.signature.compare("memorized", "not_memorized")
    strongest = comparison.strongest(len(comparison)).drop_duplicates("variable").dropna(subset="estimate")
    rows = [row for row in page.tables["r0-strongest"] if row]
    assert [row[0][1].removeprefix("rise of ").split(" ")[0] for row in rows] == strongest["variable"].tolist()
    np.testing.assert_array_equal([float(row[2][0] or "nan") for row in rows], strongest["estimate"])
    np.testing.assert_array_equal([float(row[8][0] or "nan") for row in rows], strongest["q_overall"])
    rough = [bool(row["rough"]) and not np.isnan(row["low"]) for row in strongest.to_dict("records")]
    assert ["~[" in row[2][1] for row in rows] == rough
    assert any(rough)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = run.signature.distinguish("memorized", "not_memorized")
    rows = [row for row in page.tables["r0-distinguish"] if row]
    auc, gain = (told.loc[quantity, "estimate"] for quantity in ("AUC", "gain in AUC"))
    assert [row[0][1] for row in rows] == auc.index.tolist()
    np.testing.assert_array_equal([float(row[1][0]) for row in rows], auc)
    np.testing.assert_array_equal([float(row[4][0] or "nan") for row in rows], gain.reindex(auc.index))
    assert len([row for row in page.tables["r0-variables"] if row]) == len(run.signature.variables)


def test_no_note_was_left_unfilled(path):
    words = path.read_text(encoding="utf-8").split("<script")[0]
    assert "~ marks" in words and "{ROUGH}" not in words


def test_every_row_of_the_summary_says_what_its_null_is(page):
    for row in page.tables["r0-summary"]:
        if row and row[3][1] != "·":
            assert row[4][1], row
            assert ("landmark" in row[4][1]) == ("[" not in row[3][1]), row


def test_tokens_and_what_colours_them_come_back_as_they_were_measured(data, run):
    dataset = run.signature.dataset
    ids = np.array(data["vocabularyIds"])[unpacked(data["tokens"])]
    np.testing.assert_array_equal(ids, dataset["unperturbed_tokens"].values)
    copies = np.array(data["vocabularyIds"])[unpacked(data["copies"])]
    np.testing.assert_array_equal(copies, dataset["copy_tokens"].isel(kind=0).values)
    words = ["lost exact match", "NLL rise", "NLL", "made wrong by a replacement"]
    assert [colouring["words"] for colouring in data["colourings"]] == words
    for row in (0, 5, 23):
        own = prefix_colourings(dataset, row, None) + continuation_colourings(dataset, row, None)
        for packed, colouring in zip(data["colourings"], own, strict=True):
            np.testing.assert_array_equal(unpacked(packed["values"])[row], np.float32(colouring.values))
            assert packed["beside"][row] == colouring.beside
            if colouring.spread is not None:
                np.testing.assert_array_equal(unpacked(packed["spread"])[row], np.float32(colouring.spread))


def test_attention_is_that_of_the_heads_named(data, run):
    attention = run.signature.dataset["prefix_attention"]
    assert [part["query"] for part in data["attention"]] == ["last_prefix", "continuation"]
    for part in data["attention"]:
        values = unpacked(part["values"])
        for row in (0, 11):
            changed = data["changed"][row]
            whole = attention.sel(query=part["query"]).isel(paragraph=row)
            looked = [whole.sel(layer=int(n[1]), head=int(n[4])).values for n in part["names"][row]]
            np.testing.assert_allclose(values[row, : len(looked)], looked, atol=1 / 131068)
            first = [head[changed] for head in looked[:6]]
            assert first == sorted(first, reverse=True)
            assert first[0] == whole.isel(prefix_position=changed).max()
            assert set(part["always"]) <= set(part["names"][row])


def test_a_paragraphs_heads_are_its_strongest_beside_their_null(data, run):
    dataset = run.signature.dataset
    score, null = scores(dataset)
    rare, gradient, removed = data["heads"]
    for row in (0, 9):
        above = score[row] - null[row]
        best = np.unravel_index(np.argsort(-above, axis=None, kind="stable")[:5], above.shape)
        assert [cells[0] for cells in rare["rows"][row]] == [f"L{a}.H{b}" for a, b in zip(*best, strict=True)]
        np.testing.assert_allclose(
            [cells[1:] for cells in rare["rows"][row]], np.stack([score[row][best], null[row][best]], 1), rtol=1e-3
        )
        rise = dataset["ablated_nll"].values[row] - dataset["unperturbed_nll"].values[row]
        np.testing.assert_allclose(
            [cells[1] for cells in removed["rows"][row]], np.sort(rise.ravel())[::-1][:5], rtol=1e-3
        )
        np.testing.assert_allclose(removed["rows"][row][0][2], rise.mean(), rtol=1e-3)
        cells = dataset["head_gradient_max"].isel(paragraph=row)
        mlp = dataset["gradient_max"].isel(paragraph=row).sel(component=["W_in", "W_out"])
        whole = float(cells.sum() + mlp.sum())
        words, share, even = gradient["rows"][row][0]
        assert even == pytest.approx(100 / (cells.size + mlp.size), rel=1e-3)
        assert share == pytest.approx(100 * max(float(cells.max()), float(mlp.max())) / whole, rel=1e-3)
        place = re.fullmatch(r"L(\d)\.H(\d), (W_.)", words)
        if place:
            at = {"layer": int(place[1]), "head": int(place[2]), "attention_component": place[3]}
            assert 100 * float(cells.sel(at)) / whole == pytest.approx(share, rel=1e-3)


def test_packed_numbers_come_back():
    whole, real = np.array([[0, 5], [-7, 2**31 - 1]]), np.array([0.1, np.nan, -3e30])
    np.testing.assert_array_equal(unpacked(packed_integers(whole)), whole)
    np.testing.assert_array_equal(unpacked(packed_floats(real)), np.float32(real))
    shares = np.array([0, 1, 0.5, np.nan, 1e-6])
    np.testing.assert_allclose(unpacked(packed_shares(shares)), shares, atol=1 / 131068)
    assert np.isnan(unpacked(packed_shares(shares))[3])


def test_json_in_a_script_comes_back_and_cannot_end_it():
    content = {"</script><!--": ["<b>&amp;", "\u2028\u2029\ud800\x00", 1.5, None]}
    written = script_json(content)
    assert json.loads(written) == content
    assert not set("<>&\u2028\u2029\ud800\x00") & set(written)
    with pytest.raises(ValueError):
        script_json([float("nan")])


def test_figures_are_rounded_and_have_no_links():
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Scatter(
            x=np.array([1.23456789e-7, np.nan, 2.0]), y=np.array([1, 2, 123456789]), name='a <A href="x">b</a> <b>c</b>'
        )
    )
    trace = json.loads(figure_json(figure))["data"][0]
    assert (trace["x"], trace["y"]) == ([1.2346e-7, None, 2], [1, 2, 123456789])
    assert trace["name"] == 'a &lt;A href="x">b&lt;/a> <b>c</b>'
    grid = plain_json(go.Figure(go.Heatmap(z=np.arange(6.0).reshape(2, 3) / 3)).to_plotly_json()["data"])[0]["z"]
    assert grid == [[0, 0.33333, 0.66667], [1, 1.3333, 1.6667]]
    assert plain_json({1: (True, np.float32(0.1), float("inf"))}) == {"1": [True, 0.1, None]}


def test_the_smaller_plotly_is_taken_where_it_draws_all(run):
    import plotly.graph_objects as go

    from localize.plots.catalogue import figures_of

    figures = [drawn.figure for drawn in figures_of(run.signature, tokenizer=run.tokenizer).values()]
    assert {trace.type for figure in figures for trace in figure.data} <= CARTESIAN
    small, whole = bundle_for(figures), bundle_for([*figures, go.Figure(go.Scatter3d())])
    assert len(small) < 2e6 < len(whole)
    assert "plotly.js (cartesian - minified)" in small[:200]
    for script in (small, whole):
        assert "</script" not in script.lower() and "<!--" not in script and "\r" not in script


def test_groups_are_sampled_evenly_and_the_memorized_are_not_lost():
    group = np.array(["not_memorized"] * 900 + ["memorized"] * 40 + ["partial"] * 60)
    rows = sampled(group, 200, 0)
    names, counts = np.unique(group[rows], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "memorized": 40,
        "partial": 60,
        "not_memorized": 100,
    }
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, sampled(group, 200, 0))
    assert not np.array_equal(rows, sampled(group, 200, 1))
    assert group[sampled(group, 1, 0)].tolist() == ["memorized"]
    np.testing.assert_array_equal(sampled(group, 1000, 0), np.arange(1000))
    assert even_shares(np.array([100, 3, 50]), 20).tolist() == [9, 3, 8]
    assert even_shares(np.array([2, 1]), 50).tolist() == [2, 1]


def test_what_cannot_be_seen_is_written_as_its_code():
    assert readable("  a\n\tb\u00a0c\u202e \x00\ud800") == "a b c⟨U+202E⟩ ⟨U+0000⟩⟨U+D800⟩"
    assert link_name("planted-1x-0") == "planted-1x-0"
    long = [link_name("x" * 100_000 + end) for end in "ab"]
    assert long[0] != long[1] and max(map(len, long)) <= 120
    assert link_name("a\nb") != "a b"


def test_options_are_told_in_words():
    assert option_words([0, 1, 2, 3, 7, 9]) == "0–3, 7, 9"
    assert option_words({"a": True, "b": None, "c": ["q", "k"]}) == "(a yes, b none, c q, k)"
    assert len(option_words(list("ab") * 1000)) == 300


def test_a_spreadsheet_takes_no_text_for_a_formula():
    import pandas as pd

    written = csv_of(pd.DataFrame({"a": ["=cmd()", "b,c", "-1"], "n": [-0.1, 1 / 3, np.nan]}), index=False)
    assert written == f"a,n\r\n'=cmd(),-0.1\r\n\"b,c\",{1 / 3!r}\r\n'-1,\r\n"


def test_runs_share_a_quantity_whatever_head_they_chose():
    assert shared_name("rare-token score of head L1.H2") == ("rare-token score of the strongest head", "L1.H2")
    assert shared_name("NLL rise without head L0.H11") == ("NLL rise without that head", "L0.H11")
    name = "share of the gap restored by head activation L0.H3.v"
    assert shared_name(name) == ("share of the gap restored by the strongest head activation", "L0.H3.v")
    assert shared_name("low-layer share of the gradient") == ("low-layer share of the gradient", "")


def test_edits_are_told_with_their_table_their_figures_and_recall_after(signature, tokenizer, tmp_path, parsed):
    kept = {"exact_match", "nll", "token_nll"}
    dataset = signature.dataset.drop_vars(set(signature.variables) - kept).copy(deep=True)
    dataset["reference_exact_match"] = dataset["exact_match"] * 0 + 8
    group = np.where(dataset["group"].values == "partial", "forget", dataset["group"].values)
    before = type(signature)(dataset.assign_coords(group=("paragraph", group)))
    dataset = before.dataset.copy(deep=True)
    dataset["nll"] = dataset["nll"] + 1
    dataset["token_nll"] = dataset["token_nll"] + 1
    change = Change(before, type(signature)(dataset))
    results = CommandResults(
        tmp_path / "edit", None, {"top": [change], "random": [Change(before, before)]}, ("random",), tokenizer=tokenizer
    )
    page = parsed(lz.report(results, tmp_path / "edit.html"))
    rows = {(row[0][1], row[1][1], row[2][1]): row for row in page.tables["r0-edits"] if row}
    assert float(rows["top", "NLL (nats per token)", "memorized"][5][0]) == pytest.approx(1)
    assert float(rows["random (control)", "NLL (nats per token)", "memorized"][5][0]) == 0
    told = page.data("r0-data")
    np.testing.assert_allclose(told["after"]["nll"], np.array(told["nll"]) + 1, rtol=1e-3)
    rise = next(c for c in told["colourings"] if c["words"] == "NLL rise by the edit")
    np.testing.assert_allclose(unpacked(rise["values"]), 1, atol=1e-5)


def test_recall_alone_makes_a_page(small_model, make_paragraphs, tmp_path, parsed):
    page = parsed(lz.report(lz.recall(small_model, make_paragraphs(9, ("one", "two"))), tmp_path / "recall.html"))
    data = page.data("r0-data")
    assert (data["count"], data["heads"], data["attention"], data["copies"]) == (9, [], [], None)
    assert "r0-summary" not in page.tables
    assert len(page.tables["r0-groups"]) == 3


def test_the_file_goes_into_the_first_folder_and_old_ones_are_kept_on_failure(
    small_model, make_paragraphs, tmp_path, monkeypatch
):
    folder = tmp_path / "results"
    lz.recall(small_model, make_paragraphs()).save(folder / SIGNATURE_FILE)
    assert lz.report(folder) == folder / "report.html"
    assert lz.report(folder / SIGNATURE_FILE, tmp_path / "deep" / "page.html") == tmp_path / "deep" / "page.html"
    old = (folder / "report.html").read_bytes()
    monkeypatch.setattr("localize.report.page._environment", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lz.report(folder)
    assert (folder / "report.html").read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", SIGNATURE_FILE]


def test_the_page_is_small(path):
    assert path.stat().st_size < 2.5e6


@pytest.mark.parametrize(
    ("results", "options", "told"),
    [
        ([], {}, "report: results is empty; at least one run is needed."),
        (["run"], {"max_paragraphs": 0}, "report: max_paragraphs=0 must be at least 1, one for each of the runs."),
        (["run"], {"path": "."}, "report: . is a folder; the name of a file is needed."),
        (["signature"], {}, "report: path=None needs a folder or a file to lie in; give a signature's report a path."),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_one_line(run, results, options, told):
    given = {"run": run, "signature": run.signature}
    with pytest.raises(LocalizeError) as error:
        lz.report([given[name] for name in results], **options)
    assert str(error.value) == told


def test_a_folder_without_anything_finished_is_refused(tmp_path):
    with pytest.raises(InputError) as error:
        lz.report(CommandResults(tmp_path), tmp_path / "page.html")
    assert str(error.value) == (
        f"{tmp_path}: holds no results; one that a finished `localize run` or `localize edit` wrote is needed."
    )
    assert list(tmp_path.iterdir()) == []
