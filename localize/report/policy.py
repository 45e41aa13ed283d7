"""The content-security policy of a page: its own scripts and nothing else run, and nothing is fetched."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence


def content_policy(scripts: Sequence[str]) -> str:
    """What a browser may do with the page: run exactly these scripts, and show images that are in it.

    Styles may stand in the page, because plotly sets its own there; no script, image, font or request may come from elsewhere.
    """
    hashes = " ".join(f"'sha256-{script_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )


def script_hash(script: str) -> str:
    """SHA-256 of a script as it stands between its tags, in base64."""
    return b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
