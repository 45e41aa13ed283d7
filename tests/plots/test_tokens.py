"""A paragraph as text: every token there, coloured by what was measured, and nothing in it that the page would obey."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from localize import plots
from localize.errors import LocalizeError
from localize.plots.colouring import Colouring
from localize.plots.shades import HUES, contrast, shade
from localize.plots.token_text import token_texts, visible
from localize.signature.signature import MemorizationSignature

HOSTILE = [
    "</style><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    "\u202eabc",
    "{{ 7*7 }}",
    "&amp;",
]


class Words:
    """A tokenizer of made-up words; the first ids are hostile."""

    def decode(self, ids):
        return HOSTILE[ids[0]] if ids[0] < len(HOSTILE) else f" w{ids[0]}"


class Tags(HTMLParser):
    """Collects every tag with its attributes, and the text outside style."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += "" if "style" in self.open else data

    def spans(self, wanted):
        return [attrs for _, attrs in self.tags if wanted in attrs.get("class", "").split()]


@pytest.fixture(scope="module")
def view(made):
    return plots.tokens(made, 0, tokenizer=Words())


def test_every_token_is_a_span_with_its_numbers_in_a_tooltip(made, view):
    spans = [attrs for attrs in Tags(view.html).spans("tok") if "style" in attrs]
    assert len(spans) == 16
    ids = made["tokens"].values[0]
    lost = 6 - made["perturbed_exact_match"].values[0, 0]  # (draw, prefix_position)
    rise = made["perturbed_nll"].values[0, 0] - made["unperturbed_nll"].values[0]
    for place in range(10):
        told = spans[place]["title"]
        assert told.startswith(f"token {place}, ␣w{ids[place]}, id {ids[place]}; lost exact match ")
        assert f"lost exact match {lost[:, place].mean():.3g} tokens" in told
        assert f"NLL rise {rise[:, place].mean():.3g} nats per token (draws {rise[:, place].min():.3g} to " in told
    nll = made["unperturbed_token_nll"].values[0]
    assert f"NLL {nll[3]:.3g} nats; made wrong by a replacement" in spans[13]["title"]


def test_colours_grow_darker_with_the_number_and_what_was_not_measured_has_none(made):
    view = plots.tokens(made, 2, kind="second_choice", tokenizer=Words())
    spans = [attrs for attrs in Tags(view.html).spans("tok") if "style" in attrs]
    lost = 6 - made["perturbed_exact_match"].values[2, 1].mean(0)
    assert "--b0" not in spans[0]["style"]
    assert "lost exact match, second choice put: not measured" in spans[0]["title"]
    darkest = int(np.nanargmax(lost))
    assert f"--b0:{HUES['effect'][-1]};" in spans[darkest]["style"]
    for place in range(1, 10):
        assert f"--b0:{shade('effect', lost[place] / lost[darkest])[0]};" in spans[place]["style"]


@pytest.mark.parametrize("hue", HUES)
def test_letters_can_be_read_on_every_colour_and_lightness_only_falls(hue):
    shares = np.linspace(0, 1, 101)
    assert all(contrast(*shade(hue, share)) >= 4.5 for share in shares)
    over_black = [contrast("#000000", shade(hue, share)[0]) for share in shares]
    assert (np.diff(over_black) < 0).all()
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)


def test_buttons_of_one_view_are_radio_inputs_in_a_form_of_their_own_with_names_from_the_content(made, view):
    tags = Tags(view.html)
    inputs = [attrs for tag, attrs in tags.tags if tag == "input"]
    assert {attrs["type"] for attrs in inputs} == {"radio"}
    names = {attrs["name"] for attrs in inputs}
    assert len(names) == 2
    assert sum("checked" in attrs for attrs in inputs) == 2
    other = {attrs["name"] for tag, attrs in Tags(plots.tokens(made, 1, tokenizer=Words()).html).tags if tag == "input"}
    assert not names & other
    assert tags.tags[0] == ("form", {"class": "localize-tokens", "method": "dialog", "autocomplete": "off"})
    assert not any("id" in attrs for _, attrs in tags.tags)
    # a rule for each button but the first of either part, which needs none
    rules = re.findall(r':has\(\.by-(\w+) input\[value="(\d+)"\]:checked\) \.text', view.html)
    assert rules == [("prefix", str(n)) for n in range(1, 10)] + [("continuation", "1")]


def test_the_legend_of_every_colouring_has_scale_unit_and_what_it_is_held_against(made, view):
    text = Tags(view.html).text
    lost = (6 - made["perturbed_exact_match"].values[0, 0]).mean(0)
    assert f"tokens; null: positions permuted, {lost.mean():.3g} tokens at each" in text
    assert re.findall(r"null: even attention, ([\d.]+)<", view.html) == ["0.1"] * 8 + ["0.100"]
    assert f"{lost.max():.3g}" in text
    assert len(Tags(view.html).spans("legend")) == 2 + 8 + 2 + 1


def test_the_most_changed_position_is_outlined_and_the_copy_marks_what_differs(made, view):
    tags, at = Tags(view.html), int(made["copy_position"].values[0, 0])
    outlined = tags.spans("changed")
    assert len(outlined) == 2  # in the prefix and in the copy
    ids, copy = made["tokens"].values[0], made["copy_tokens"].values[0, 0]
    assert outlined[0]["title"].startswith(f"token {at}, ")
    was, now = token_texts([int(ids[at]), int(copy[at])], Words())
    assert outlined[1]["title"] == f"token {at}, {now}, was {was}"
    marked = [attrs for tag, attrs in tags.tags if tag == "mark" and "title" in attrs]
    assert [attrs["title"].split(",")[0] for attrs in marked] == ["token 12"]
    assert "exact match 2 tokens" in tags.text


def test_the_grid_has_the_heads_that_look_most_at_the_most_changed_position(made, view):
    attention = made["prefix_attention"].values[0, 0]  # (layer, head, prefix_position)
    at = int(made["copy_position"].values[0, 0])
    order = sorted(((attention[a, b, at], a, b) for a in range(4) for b in range(4)), reverse=True)[:8]
    found = re.findall(r'<tr><th scope="row">(L\d\.H\d)</th>', view.html)
    assert found == [f"L{a}.H{b}" for _, a, b in order]
    _, a, b = order[0]
    assert f"L{a}.H{b} pays {attention[a, b, at]:.3f} of its attention to token {at}, " in view.html
    assert f'<span class="unseen">{attention[a, b, at]:.3f}</span>' in view.html
    three = plots.tokens(made, 0, heads=3, query="continuation").html
    assert len(re.findall(r'<th scope="row">L', three)) == 3


def test_every_number_stands_in_a_table_too(made, view):
    text = re.sub(r"\s+", " ", Tags(view.html).text)
    nll = made["unperturbed_token_nll"].values[0]
    wrong = made["perturbed_token_error"].values[0, 0]
    token = token_texts([int(made["tokens"].values[0, 12])], Words())[0]
    assert f"12{token}{nll[2]:.3f}{wrong[2]:.3f}" in text


def test_the_models_own_tokens_are_shown_as_far_as_they_are_known(made):
    row = 9  # not memorized, exact match 2: of the model's own continuation only two tokens are the true ones
    html = plots.tokens(made, row).html
    assert html.count("not in the signature") == 4
    assert "holds 12 tokens of 16" in Tags(html).text
    own = made["tokens"].values.copy()
    own[:, -6:] = [1, 2, 3, 4, 5, 6]
    known = (("paragraph", "position"), own, {"continuation": "own"})
    told = plots.tokens(MemorizationSignature(made.dataset.assign(unperturbed_tokens=known)), row).html
    assert "not in the signature" not in told
    assert 'title="token 15, 6;' in told
    other = (("paragraph", "position"), own, {"continuation": "true"})
    assert plots.tokens(MemorizationSignature(made.dataset.assign(unperturbed_tokens=other)), row).html == html


def test_without_a_tokenizer_ids_are_shown_and_without_measurements_only_recall(made):
    bare = MemorizationSignature(
        made.dataset.drop_vars([name for name in made.variables if name not in ("exact_match", "nll", "token_nll")])
    )
    html = plots.tokens(bare, "p5").html
    tags = Tags(html)
    assert "Token ids are shown" in tags.text
    assert [attrs["title"].split("; ")[0] for attrs in tags.spans("tok")][
        2
    ] == f"token 2, {made['tokens'].values[5, 2]}"
    assert len([1 for tag, _ in tags.tags if tag == "input"]) == 1
    assert not tags.spans("changed")


def test_hostile_tokens_stay_text(made):
    tokens = made["tokens"].values.copy()
    tokens[0, :6] = range(6)
    dataset = made.dataset.assign_coords(
        tokens=(("paragraph", "position"), tokens), group=("paragraph", ["<b>g</b>"] * 14), paragraph=["<i>p</i>", *map(str, range(13))]
    )  # fmt: skip
    view = plots.tokens(MemorizationSignature(dataset), 0, tokenizer=Words())
    for page in (view.html, view.page):
        tags = Tags(page)
        assert not {"script", "img", "b", "i", "svg", "iframe", "link", "a"} & {tag for tag, _ in tags.tags}
        assert not [name for _, attrs in tags.tags for name in attrs if name.startswith("on")]
        assert page.count("</style>") == (1 if page is view.html else 2)
        assert "\u202e" not in page
        for shown in (
            "</style><script>alert(1)</script>",
            "<img␣src=x␣onerror=alert(2)>",
            "⟨U+202E⟩abc",
            "&amp;",
            "{{␣7*7␣}}",
        ):
            assert shown in tags.text
        assert "<b>g</b>" in tags.text


def test_a_saved_page_is_whole_offline_and_replaces_what_was_there(view, tmp_path):
    path = tmp_path / "new" / "view.html"
    view.save(path)
    view.save(str(path))
    page = path.read_text(encoding="utf-8")
    assert page == view.page
    assert [file.name for file in path.parent.iterdir()] == ["view.html"]
    assert page.startswith("<!doctype html>")
    assert not re.search(r"https?://|url\(|@import|src=", page)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert view._repr_html_() == view.html
    assert view.html in page


def test_the_view_has_its_own_colours_whatever_the_notebooks_theme(view):
    rules = dict(re.findall(r"^(\.localize-tokens[^{]*) \{ ([^}]*) \}", view.html, flags=re.MULTILINE))
    for part in (".localize-tokens", ".localize-tokens table", ".localize-tokens table tr"):
        assert "background: #fff !important; color: #1a1a1a !important" in rules[part]
    assert "color: #1a1a1a !important" in rules[".localize-tokens table th, .localize-tokens table td"]
    assert all(
        name.startswith(".localize-tokens") for name in re.findall(r"^(\S+).*\{.*\}$", view.html, flags=re.MULTILINE)
    )


def test_the_same_signature_gives_the_same_view(made, view):
    assert plots.tokens(made, 0, tokenizer=Words()) == view
    assert plots.tokens(made, "p0", tokenizer=Words()) == view


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the\n", "␣the⏎"),
        ("\t\r\x00", "⇥␍⟨U+0000⟩"),
        ("a\u2066b\u200b\xa0", "a⟨U+2066⟩b⟨U+200B⟩⟨U+00A0⟩"),
        ("\u0301x", "◌\u0301x"),
        ("日本", "日本"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert visible(text) == shown


def test_split_characters_are_shown_as_their_bytes(tokenizer):
    ids = tokenizer.encode("☃")
    shown = token_texts([int(i) for i in getattr(ids, "ids", ids)], tokenizer)
    assert "".join(shown).replace("⟩⟨", " ") == "⟨E2 98 83⟩"
    assert "\ufffd" not in "".join(shown)
    assert token_texts([10**6, -1], tokenizer) == ["⟨1000000⟩", "·"]


def test_a_model_stands_for_its_tokenizer(tokenizer):
    class Model:
        pass

    model = Model()
    model.tokenizer = tokenizer
    assert token_texts([5, 9], model) == token_texts([5, 9], tokenizer)
    assert token_texts([5, 9], None) == ["5", "9"]


def test_a_colouring_without_anything_has_one_pale_swatch():
    empty = Colouring("x", "tokens", "effect", np.zeros(3))
    assert empty.swatches == [(*shade("effect", 0.0), "0")]
    assert empty.colours(0.0) == shade("effect", 0.0)
    assert empty.colours(np.nan) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paragraph": -1}, "plots.tokens: paragraph=-1 must lie in 0..13, or be an id."),
        ({"paragraph": "p99"}, "plots.tokens: no paragraph 'p99'; the ids are p0, p1, p2, ...."),
        (
            {"kind": "neutral"},
            "plots.tokens: kind='neutral' was not measured; the signature has uniform, second_choice.",
        ),
        ({"query": "first"}, "plots.tokens: query='first' is not one of last_prefix, continuation."),
        ({"heads": 0}, "plots.tokens: heads=0 must be at least 1."),
        (
            {"tokenizer": 3},
            "plots.tokens: tokenizer is of type int, which cannot decode; give model.tokenizer, or None to see token ids.",
        ),
    ],
)
def test_what_is_not_there_is_named(made, options, message):
    with pytest.raises(LocalizeError) as error:
        plots.tokens(made, **options)
    assert str(error.value) == message
