"""Small real signatures, the same with hostile texts in every place, and a headless Chromium that keeps account of what a page does."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import localize as lz
from localize.report.folder import Results
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
    return Results(path, signature, tokenizer=tokenizer, command="localize run small p.jsonl")


@pytest.fixture(scope="session")
def hostile(small_model, tokenizer, tmp_path_factory):
    """The same measurements with texts, ids, groups, names, skipped rows and command that would like to be more than text."""
    paragraphs = random_paragraphs(names=NAMES)
    clean = measured(small_model, paragraphs).dataset.copy()
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
    return Results(
        path, MemorizationSignature(clean), tokenizer=tokenizer, command=f"localize run '{HOSTILE[1]}' {HOSTILE[0]}"
    )


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


@pytest.fixture
def opened(browser):
    """`opened(path, hash="", **size)`: the page in a new window; afterwards it must have asked for nothing, and complained of nothing."""
    windows = []

    def open_page(path, place="", width=1200, height=900):
        page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.asked, page.told = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.told.append(message.text))
        page.on("pageerror", lambda error: page.told.append(str(error)))
        page.on("dialog", lambda dialog: (page.told.append("dialog"), dialog.dismiss()))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.log('refused ' + e.violatedDirective))"
        )
        page.goto(path.as_uri() + place)
        windows.append((page, path))
        return page

    yield open_page
    for page, path in windows:
        asked, told, ran = page.asked, page.told, page.evaluate("window.ran")
        page.close()
        assert {url.split("#")[0] for url in asked if not url.startswith(("data:", "blob:"))} <= {path.as_uri()}
        assert told == []
        assert ran is None
