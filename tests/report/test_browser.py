"""The report in a real browser: it asks for nothing, runs nothing of others, and does what it offers, by mouse and by key."""

import csv
from itertools import pairwise

import numpy as np
import pytest
from playwright.sync_api import expect

import localize as lz
from localize.report.folder import CommandResults
from localize.report.literal import cut, link_name, readable

pytestmark = pytest.mark.filterwarnings("ignore:few effective clusters", "ignore:rough intervals")
FIRST_FIGURE = ".plot .main-svg"


@pytest.fixture(scope="module")
def page_file(run, tmp_path_factory):
    return lz.report(run, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def hostile_file(hostile, tmp_path_factory):
    return lz.report(hostile, tmp_path_factory.mktemp("page") / "hostile.html", title=hostile.command)


def names(page):
    return page.locator(".list .name").all_inner_texts()


def heading(page):
    return page.locator(".opened h4").inner_text()


def shows(page, paragraph):
    """Wait until it is open. `wait_for_function` evaluates text, which the page forbids from its second look on."""
    expect(page.locator(".opened h4")).to_have_text(f"Paragraph {paragraph}")


def draw_all(page):
    """Scroll past every figure and wait until each is drawn."""
    for place in page.locator(".run:not([hidden]) .plot").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for(timeout=30_000)


def test_hostile_texts_leave_no_markup_in_the_file(hostile_file, parsed):
    page = parsed(hostile_file)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"img", "svg", "iframe", "b", "form", "object", "embed", "textarea"}
    assert [attrs["type"] for attrs, _ in page.scripts if "type" in attrs] == ["application/json"] * (
        len(page.scripts) - 2
    )
    assert {attrs["href"][0] for tag, attrs in page.tags if tag == "a"} == {"#"}
    text = hostile_file.read_text(encoding="utf-8")
    for letter in "\x00\x07\u2028\u2029\u202e":
        assert letter not in text
    for attrs, script in page.scripts:
        if "type" in attrs:
            assert not set("<>&") & set(script), attrs


def test_hostile_texts_stay_text_in_every_view(hostile_file, hostile, opened):
    page = opened(hostile_file)
    draw_all(page)
    for box in page.locator("summary").all():
        box.click()
    for row in range(10):  # every hostile text, and the first one again in another group
        page.evaluate("row => browserOf(runs()[0]).open(row, true)", row)
        radios = "[...document.querySelectorAll('.opened input[type=radio]')]"
        assert page.evaluate(f"{radios}.map(radio => (radio.click(), radio.checked))") == [True] * page.evaluate(
            f"{radios}.length"
        )
    page.locator(".opened details summary").click()
    page.mouse.move(400, 400)
    assert page.locator("img, iframe, object, embed, form").count() == 0
    assert page.locator(".run a[href]:not([href^='#'])").count() == 0
    assert page.locator("svg a").count() == 0, "plotly makes links of texts"
    shown = page.locator("body").inner_text()
    for text in hostile.signature.dataset["text"].values[:4]:
        assert cut(readable(text), 60) in page.locator("[data-paragraphs]").inner_text() or readable(text) in shown
    assert page.title() == readable(hostile.command)
    assert "⟨U+202E⟩" in page.content() and "\u202e" not in page.content()


def test_the_pages_text_is_what_the_results_say(page_file, run, opened):
    page = opened(page_file)
    shown = page.locator("main").inner_text()
    model, about = run.signature.dataset.attrs["model"], run.signature.dataset.attrs["paragraphs"]
    for words in (run.command, model["weights_hash"], about["data_hash"], "2 × 4", "12 prefix + 8 continuation tokens"):
        assert words in shown
    page.get_by_text("variables, their axes and units").click()
    for name in run.signature.variables:
        assert page.locator("#table-r0-variables").get_by_text(name, exact=True).count() == 1


def test_every_figure_is_drawn_when_it_comes_near(page_file, run, opened):
    from localize.plots.catalogue import figures_of

    page = opened(page_file)
    drawn = figures_of(run.signature, tokenizer=run.tokenizer)
    assert page.locator("figure h4").all_inner_texts() == [each.title for each in drawn.values()]
    assert page.locator("figcaption").all_inner_texts() == [each.caption for each in drawn.values()]
    assert page.locator(FIRST_FIGURE).count() < 3 * len(drawn), "all were drawn at once"
    before = page.evaluate("document.documentElement.scrollHeight")
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollHeight") == before, "the page moved under the reader"
    assert page.locator(".plot").count() == page.locator(".plot:has(.main-svg)").count() == len(drawn)
    with page.expect_download() as download:
        page.locator("button.svg").first.click()
    assert download.value.suggested_filename == f"{next(iter(drawn))}.svg"


def test_a_table_is_sorted_by_mouse_and_key_with_missing_numbers_last(page_file, run, opened):
    page = opened(page_file)
    head = page.locator("#table-r0-summary th").nth(3)
    cells = page.locator("#table-r0-summary td:nth-child(4)")
    summary = run.signature.summary()
    wanted = np.sort(summary["null"].to_numpy())  # nan last
    known = int((~np.isnan(wanted)).sum())
    assert 0 < known < len(wanted)

    def values():
        return [float(cell.get_attribute("data-value") or "nan") for cell in cells.all()]

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    np.testing.assert_array_equal(values(), [*wanted[:known][::-1], *wanted[known:]])
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    np.testing.assert_array_equal(values(), wanted)
    page.locator("#table-r0-summary th").nth(0).locator("button").press("Space")
    assert page.locator("#table-r0-summary th[aria-sort]").count() == 1
    words = sorted(summary.index.get_level_values(0), key=str.lower)
    assert page.locator("#table-r0-summary td:first-child").all_inner_texts() == words


def test_a_long_table_shows_its_first_rows_and_all_when_asked(page_file, opened):
    page = opened(page_file)
    table, button = page.locator("#table-r0-strongest"), page.locator("[data-table=table-r0-strongest]")
    rows = table.locator("tbody tr")
    assert (table.locator("tbody tr:visible").count(), button.get_attribute("aria-expanded")) == (12, "false")
    table.locator("th").nth(8).locator("button").click()
    assert table.locator("tbody tr:visible").count() == 12
    button.click()
    assert table.locator("tbody tr:visible").count() == rows.count() > 12
    button.click()
    assert table.locator("tbody tr:visible").count() == 12


def test_a_table_is_saved_with_all_its_digits(page_file, run, opened):
    page = opened(page_file)
    with page.expect_download() as download:
        page.locator("[data-csv=r0-summary]").click()
    assert download.value.suggested_filename == "r0-summary.csv"
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    estimates = run.signature.summary()["estimate"].to_numpy()
    np.testing.assert_array_equal([float(row["estimate"]) for row in rows], estimates)


def test_the_list_is_searched_in_text_and_id(page_file, run, opened):
    page = opened(page_file)
    ids = run.signature.dataset["paragraph"].values
    assert len(names(page)) == len(ids) == 24
    page.get_by_label("Search in text and ids").fill("PARAGRAPH 17.")
    assert names(page) == [ids[17]]
    page.get_by_label("Search in text and ids").fill(str(ids[5]))
    assert ids[5] in names(page)
    page.get_by_label("Search in text and ids").fill("nowhere")
    assert page.locator(".found").inner_text() == "0 of 24 paragraphs"
    page.get_by_label("Search in text and ids").fill("cluster:0")
    assert sorted(names(page)) == sorted(ids[:2])


def test_the_list_is_filtered_by_group_and_sorted_by_numbers(page_file, run, opened):
    page = opened(page_file)
    dataset = run.signature.dataset
    group, ids = dataset["group"].values, dataset["paragraph"].values
    page.locator(".tools").get_by_label("partial").uncheck()
    assert set(names(page)) == set(ids[group != "partial"])
    page.locator(".tools").get_by_label("partial").check()
    for key, variable in (
        ("nll", "nll"),
        ("duplicates", "duplicates"),
        ("cluster", "cluster"),
        ("exactMatch", "exact_match"),
    ):
        page.get_by_label("Sort by").select_option(key)
        order = np.argsort(-dataset[variable].values.astype(float), kind="stable")
        assert names(page) == ids[order].tolist()
    page.get_by_label("Sort by").select_option("nll")
    page.get_by_role("button", name="highest first").click()
    assert names(page) == ids[np.argsort(dataset["nll"].values, kind="stable")].tolist()


def test_a_paragraph_is_opened_by_mouse_key_and_address(page_file, run, opened):
    ids = run.signature.dataset["paragraph"].values
    page = opened(page_file, f"#p={ids[7]}")
    shows(page, ids[7])
    page.locator(".list .name").get_by_text(str(ids[3]), exact=True).click()
    shows(page, ids[3])
    expect(page.locator(".opened h4")).to_be_focused()
    order = names(page)
    at = order.index(str(ids[3]))
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('.list') !== null")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    shows(page, order[at + 1])
    page.get_by_role("button", name="next").click()
    shows(page, order[at + 2])
    assert page.url.endswith(f"#p={order[at + 2]}")
    page.go_back()
    shows(page, order[at + 1])


def test_a_hostile_id_has_an_address(hostile_file, hostile, opened):
    from urllib.parse import quote

    ids = hostile.signature.dataset["paragraph"].values
    for row in (0, 7, 8):
        page = opened(hostile_file, f"#p={quote(link_name(ids[row]), safe='')}")
        assert heading(page) == f"Paragraph {cut(readable(ids[row]), 120)}"
    page = opened(hostile_file, "#p=%E0%A4%A")  # cannot be decoded
    assert heading(page).startswith("Paragraph")


def test_colours_and_numbers_of_tokens_are_those_that_were_measured(page_file, run, opened):
    from localize.plots.colouring import continuation_colourings, prefix_colourings
    from localize.plots.token_text import token_texts

    row, dataset = 4, run.signature.dataset
    page = opened(page_file, f"#p={dataset['paragraph'].values[row]}")
    effect, rise = prefix_colourings(dataset, row, None)
    nll = continuation_colourings(dataset, row, None)[0]
    prefix, rest = page.locator("[data-part=prefix].text .tok"), page.locator("[data-part=continuation].text .tok")
    assert (prefix.count(), rest.count()) == (12, 8)
    told = token_texts(dataset["tokens"].values[row, :12].tolist(), run.tokenizer)
    assert [text.replace("\n", "") for text in prefix.all_inner_texts()] == told

    def behind(place):
        return place.evaluate("e => getComputedStyle(e).backgroundColor")

    def rgb(colours):
        return "rgb({}, {}, {})".format(*(int(colours[0][i : i + 2], 16) for i in (1, 3, 5)))

    most = int(np.nanargmax(effect.values))
    assert behind(prefix.nth(most)) == rgb(effect.colours(effect.values[most]))
    assert f"lost exact match {effect.values[most]:.3g} tokens" in prefix.nth(most).get_attribute("title")
    page.get_by_label("NLL rise", exact=True).check()
    most = int(np.nanargmax(rise.values))
    assert behind(prefix.nth(most)) == rgb(rise.colours(rise.values[most]))
    most = int(np.argmax(nll.values))
    assert behind(rest.nth(most)) == rgb(nll.colours(nll.values[most]))
    rest.nth(most).hover()
    assert f"NLL {nll.values[most]:.3g} nats" in page.locator(".readout").inner_text()


def test_the_attention_of_a_chosen_head_colours_the_prefix(page_file, run, opened):
    row, dataset = 2, run.signature.dataset
    page = opened(page_file, f"#p={dataset['paragraph'].values[row]}")
    page.get_by_label("attention from the continuation", exact=True).check()
    choice = page.get_by_label("head, attention from the continuation")
    choice.select_option(index=3)
    head = choice.input_value()
    layer, number = int(head[1]), int(head[4])
    values = dataset["prefix_attention"].sel(query="continuation", layer=layer, head=number).values[row]
    title = page.locator("[data-part=prefix].text .tok").nth(int(values.argmax())).get_attribute("title")
    assert f"attention of {head} {float(f'{values.max():.3g}'):g} of its attention from the continuation" in title
    page.get_by_role("button", name="next").click()
    assert page.get_by_label("attention from the continuation", exact=True).is_checked(), "the choice is kept"


def test_tokens_are_walked_by_arrow_keys(page_file, opened):
    page = opened(page_file)
    first = page.locator("[data-part=prefix].text .tok").first
    first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".readout").inner_text().startswith("token 1, ")
    page.keyboard.press("End")
    assert page.locator(".readout").inner_text().startswith("token 11, ")
    assert page.locator("[data-part=prefix].text .tok[tabindex='0']").count() == 1


def test_the_copy_marks_what_differs(page_file, run, opened):
    row, dataset = 6, run.signature.dataset
    page = opened(page_file, f"#p={dataset['paragraph'].values[row]}")
    copy = dataset["copy_tokens"].isel(kind=0).values[row]
    own = dataset["unperturbed_tokens"].values[row]
    marked = page.locator("[data-part=copy] mark")
    assert marked.count() == int((copy[12:] != own[12:]).sum())
    assert page.locator("[data-part=copy] .changed").count() == 1
    replaced = page.locator("[data-part=copy] .tok").nth(int(dataset["copy_position"].values[row, 0]))
    assert replaced.get_attribute("class").endswith("changed")


def test_all_numbers_stand_in_a_table_made_when_asked(page_file, run, opened):
    row, dataset = 0, run.signature.dataset
    page = opened(page_file, f"#p={dataset['paragraph'].values[row]}")
    page.get_by_text("All numbers, token by token").click()
    table = page.locator(".opened details table").nth(1)
    table.locator("td").first.wait_for()  # made by the click
    nll = dataset["unperturbed_token_nll"].values[row]
    shown = [float(cell.get_attribute("data-value")) for cell in table.locator("td:nth-child(3)").all()]
    np.testing.assert_array_equal(np.float32(shown), nll)


def test_several_runs_stand_side_by_side_and_one_is_shown_at_a_time(small_model, make_paragraphs, tmp_path, opened):
    signature = lz.recall(small_model, make_paragraphs())
    run = CommandResults(tmp_path / "a run", signature, tokenizer=small_model.tokenizer)
    other = CommandResults(tmp_path / "other", signature)
    page = opened(lz.report([run, other], tmp_path / "both.html"))
    assert page.locator(".runs a").all_inner_texts() == ["a run", "other"]
    assert page.locator("#table-together th").all_inner_texts() == ["quantity", "group", "a run", "other"]
    assert page.locator(".run:visible").count() == 1
    page.locator(".runs a").nth(1).click()
    expect(page.locator(".run:visible h2")).to_have_text("other")
    assert page.get_by_text("Token ids are shown: the run kept no tokenizer.").is_visible()
    draw_all(page)
    name = signature.dataset["paragraph"].values[9]
    page.evaluate("hash => { location.hash = hash; }", f"#run=0&p={name}")
    expect(page.locator(".run:visible .opened h4")).to_have_text(f"Paragraph {name}")


def test_a_sampled_run_says_so_and_a_long_list_grows(small_model, make_paragraphs, tmp_path, opened):
    many = lz.recall(small_model, make_paragraphs(200))
    page = opened(lz.report(many, tmp_path / "many.html", max_paragraphs=150))
    assert "150 of 200 paragraphs are shown here" in page.locator("main").inner_text()
    assert page.locator(".found").inner_text() == "150 of 150 paragraphs"
    shown = len(names(page))
    assert 0 < shown < 150, "all were put on the page at once"
    page.locator(".list").evaluate("e => e.scrollTo(0, e.scrollHeight)")
    expect(page.locator(".list .name").nth(shown)).to_be_attached()
    for _ in range(4):
        page.locator(".list").evaluate("e => e.scrollTo(0, e.scrollHeight)")
        page.wait_for_timeout(100)
    assert len(names(page)) == 150


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(page_file, opened, width):
    page = opened(page_file, width=width)
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_headings_landmarks_and_labels_are_in_order(page_file, opened):
    page = opened(page_file)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [page.locator(tag).count() for tag in ("main", "header", "footer")] == [1, 1, 1]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    unnamed = "e => !e.textContent.trim() && !e.labels?.length && !e.ariaLabel"
    nameless = page.evaluate(f"[...document.querySelectorAll('input,select,button')].filter({unnamed}).length")
    assert nameless == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_real_paragraphs_of_the_pile_stay_text(shared_data, tmp_path, opened):
    """Half of them are web pages, with scripts."""
    from transformers import GPT2TokenizerFast

    from localize.train.loop import build_model
    from localize.train.recipe import Shape

    pile = shared_data / "pile-gpt-neo-125M" / "mem_strings.csv"
    tokenizer = GPT2TokenizerFast.from_pretrained(str(shared_data / "tokenizer-gpt2"))
    model = lz.HookedModel(build_model(Shape(window=32, d_model=8, heads=2, layers=1), len(tokenizer), 0).hf, tokenizer)
    paragraphs = lz.load_paragraphs(pile, tokenizer)
    signature = lz.recall(model, paragraphs)
    page = opened(lz.report(CommandResults(tmp_path / "pile", signature, tokenizer=tokenizer), tmp_path / "pile.html"))
    assert page.locator(".found").inner_text() == "430 of 430 paragraphs"
    page.get_by_label("Search in text and ids").fill("<script")
    found = len(names(page))
    assert found == sum("<script" in readable(text).lower() for text in paragraphs.texts) > 0
    for _ in range(found - 1):
        before = heading(page)
        page.get_by_role("button", name="next").click()
        expect(page.locator(".opened h4")).not_to_have_text(before)
        assert page.locator(".opened script, .opened a").count() == 0
    shown = (
        page.locator("[data-part=prefix].text").inner_text()
        + page.locator("[data-part=continuation].text").inner_text()
    )
    assert "<script" in shown.replace("\n", "")
