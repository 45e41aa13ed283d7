"""How long a report of 260 and of 500 paragraphs takes to make and to open, and how large it is: the embedded ones, then unseen ones.

    python tests/benchmarks/report.py

Opening is from the start of navigation to a filled list with an open paragraph, and to the first figure, drawn though it stands
further down. Chromium is watched through its debugger, which makes starting plotly slower than it is for a reader.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

import localize as lz
from localize.report.folder import CommandResults

OPENINGS = 7
WATCH = """
window.times = {};
new MutationObserver(() => {
  if (!times.list && document.querySelector('.list li') && document.querySelector('.opened .tok')) times.list = performance.now();
  if (!times.figure && document.querySelector('.plot .main-svg')) times.figure = performance.now();
}).observe(document, { childList: true, subtree: true });
addEventListener('DOMContentLoaded', () => document.querySelector('.plot').scrollIntoView());
"""


def paragraphs(model, count):
    """So many, of all groups; unseen ones where the embedded ones do not suffice."""
    embedded = lz.load_paragraphs(None, model)
    if count <= len(embedded):
        return embedded.spaced(count)
    unseen = lz.unseen_paragraphs(model, count - len(embedded))
    parts = (("embedded", embedded), ("unseen", unseen))
    rows = [{"id": f"{name} {i}", "text": text} for name, part in parts for i, text in enumerate(part.texts)]
    return lz.load_paragraphs(rows, model)


def measured(count):
    """A run of so many paragraphs by all that a page shows."""
    model = lz.load_model()
    read = paragraphs(model, count)
    own = read.with_own_continuation(model)
    signature = lz.gradients(model, read) | lz.rare_token_heads(model, read) | lz.ablate(model, own)
    signature = signature | lz.perturb_prefix(model, own) | lz.prefix_attention(model, read)
    return CommandResults(Path(f"{count} paragraphs"), signature, tokenizer=model.tokenizer)


def openings(path):
    """Times in ms of each opening, each in a browser of its own."""
    found = []
    for _ in range(OPENINGS):
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto("about:blank")
            page.add_init_script(WATCH)
            page.goto(path.as_uri())
            page.wait_for_function("window.times.figure")
            found.append(page.evaluate("window.times"))
            browser.close()
    return found


def main():
    """Print a line for each number of paragraphs."""
    with tempfile.TemporaryDirectory() as folder:
        for count in (260, 500):
            results, started = measured(count), time.perf_counter()
            path = lz.report(results, Path(folder) / f"{count}.html")
            made = time.perf_counter() - started
            times = openings(path)
            told = [
                f"{name} {statistics.median(t[name] for t in times):.0f} ms (best {min(t[name] for t in times):.0f})"
                for name in ("list", "figure")
            ]
            print(f"{count} paragraphs: made in {made:.0f} s, {path.stat().st_size / 1e6:.1f} MB; {', '.join(told)}")


if __name__ == "__main__":
    main()
