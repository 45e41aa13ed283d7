"""Small real signatures, the same with hostile texts in every place, and a headless Chromium that keeps account of what a page does."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import localize as lz
from localize.report.folder import CommandResults
from localize.signature.signature import MemorizationSignature
from localize.train.loop import build_model
from localize.train.recipe import Shape

RUN = "window.ran = (window.ran || 0) + 1"
HOSTILE = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"' onmouseover='{RUN}' style='position:fixed;inset:0",
    "{{ 7 * 7 }} ${7 * 7} $\\frac{1}{2}$ &lt;b&gt; <b>bold</b>",
    f'<a href="javascript:{RUN}">here</a> <a href="https://example.org">there</a>',
    "</title></style></textarea></table><!-- <svg onload=1>",
    "line\u2028and\u2029paragraph, \u202eturned\u202c, nul\x00, bell\x07, tab\t, \ufeff",
    "x" * 20_000,
)
NAMES = ("memorized", HOSTILE[0], HOSTILE[5], "not_memorized")
PREFIX, LENGTH, COUNT = 12, 20, 24


class Page(HTMLParser):
    """Tags, the text of each script, and the cells of each table."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.scripts, self.tables, self._in = [], [], {}, None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "script":
            self.scripts.append([attrs, ""])
            self._in = "script"
        elif tag == "table":
            self.rows = self.tables[attrs.get("id", "").removeprefix("table-")] = []
        elif tag == "tr" and self.tables:
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append([attrs.get("data-value"), ""])
            self._in = "td"

    def handle_endtag(self, tag):
        if tag == self._in:
            self._in = None

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1][1] += data
        elif self._in == "td":
            self.rows[-1][-1][1] += data

    def data(self, name):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == name))


def random_model(tokenizer=None, **shape):
    model = build_model(Shape(window=6, **shape), 280, 0)
    for parameter in model.hf.parameters():
        parameter.data.mul_(3)
    return lz.HookedModel(model.hf, tokenizer, name="small")


def random_paragraphs(count=COUNT, names=("memorized", "partial", "not_memorized")):
    tokens = torch.randint(0, 270, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[1] = tokens[0]  # near-duplicates
    loaded = lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)
    groups = [names[row % len(names)] for row in range(count)]
    texts = tuple(f"The text of paragraph {row}." for row in range(count))
    return replace(loaded.with_groups(groups), duplicates=tuple(row % 5 for row in range(count)), texts=texts)


def measured(model, paragraphs):
    parts = (
        lz.gradients(model, paragraphs),
        lz.rare_token_heads(model, paragraphs, null_draws=2),
        lz.ablate(model, paragraphs),
        lz.perturb_prefix(model, paragraphs, draws=2),
        lz.prefix_attention(model, paragraphs),
    )
    whole = parts[0]
    for part in parts[1:]:
        whole = whole | part
    return whole


@pytest.fixture
def make_paragraphs():
    """`make_paragraphs(count=24, names=...)`: of 12 + 8 tokens, groups by turns, the first two alike."""
    return random_paragraphs


@pytest.fixture(scope="session")
def small_model(tokenizer):
    """GPT-Neo, 2 layers of 4 heads, with a tokenizer."""
    return random_model(tokenizer, d_model=16, heads=4, layers=2)


@pytest.fixture(scope="session")
def signature(small_model):
    """24 paragraphs of 12 + 8 tokens in three groups, measured by nearly everything."""
    return measured(small_model, random_paragraphs())


@pytest.fixture(scope="session")
def run(signature, tokenizer, tmp_path_factory):
    """What `localize run` would have left of it."""
    path = tmp_path_factory.mktemp("results") / "a run"
    return CommandResults(path, signature, tokenizer=tokenizer, command="localize run small p.jsonl")


@pytest.fixture(scope="session")
def hostile(small_model, tokenizer, tmp_path_factory):
    """The same measurements with texts, ids, groups, names, skipped rows and command that would like to be more than text."""
    clean = measured(small_model, random_paragraphs(names=NAMES)).dataset.copy()
    texts = [HOSTILE[row % len(HOSTILE)] for row in range(COUNT)]
    clean = clean.assign_coords(
        paragraph=("paragraph", np.array([f"{row}{text}" for row, text in enumerate(texts)], dtype=object)),
        text=("paragraph", np.array([f"{text} {row}" for row, text in enumerate(texts)], dtype=object)),
    )
    clean.attrs["model"] = dict(clean.attrs["model"], name=HOSTILE[1], revision=HOSTILE[2], weights_hash=HOSTILE[3])
    skipped = [f"row {row}: {text}" for row, text in enumerate(HOSTILE)]
    clean.attrs["paragraphs"] = dict(
        clean.attrs["paragraphs"], source=HOSTILE[2], skipped=skipped, data_hash=HOSTILE[6]
    )
    clean.attrs["calls"] = [dict(call, counts=HOSTILE[4], **{HOSTILE[6]: HOSTILE[1]}) for call in clean.attrs["calls"]]
    path = tmp_path_factory.mktemp("results") / "<img src=x onerror=alert(1)> & more"
    return CommandResults(
        path, MemorizationSignature(clean), tokenizer=tokenizer, command=f"localize run '{HOSTILE[1]}' {HOSTILE[0]}"
    )


@pytest.fixture(scope="session")
def parsed():
    """`parsed(path)`: a page's tags, scripts and tables."""
    return Page


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; a test that asks for it is skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH: the report is not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def window(browser):
    """One window for all pages: to start one for each takes longer than what is tested in it."""
    page = browser.new_page(accept_downloads=True)
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.log('refused ' + e.violatedDirective))"
    )
    return page


@pytest.fixture
def opened(window):
    """`opened(path, place="", **size)`: the page, instead of the one before; each must have asked for nothing and complained of nothing."""
    asked, told, paths = [], [], []
    listeners = {
        "request": lambda request: asked.append(request.url),
        "console": lambda message: told.append(message.text),
        "pageerror": lambda error: told.append(str(error)),
        "dialog": lambda dialog: (told.append("dialog"), dialog.dismiss()),
    }

    def leave():
        if not paths:
            return
        ran = window.evaluate("window.ran")
        window.goto("about:blank")  # else an address with another place only moves
        assert {url.split("#")[0] for url in asked if not url.startswith(("data:", "blob:"))} <= {paths[-1].as_uri()}
        assert told == []
        assert ran is None
        asked.clear()

    def open_page(path, place="", width=1200, height=900):
        leave()
        paths.append(path)
        window.set_viewport_size({"width": width, "height": height})
        window.mouse.move(0, 0)
        window.goto(path.as_uri() + place)
        return window

    for event, listen in listeners.items():
        window.on(event, listen)
    yield open_page
    try:
        leave()
    finally:
        for event, listen in listeners.items():
            window.remove_listener(event, listen)
