"""Scores kept beside the truth that they are of: a benchmark that is stopped, or asked for more localizers, goes on where it was."""

import json
from hashlib import sha256
from pathlib import Path

from localize.bench.results import plain, with_nan
from localize.bench.scoring import TextScore, score_localizer
from localize.code import code_of
from localize.localizers import Localizer
from localize.storage import read_json, write_json
from localize.truths.truth import Truth

FOLDER = "scores"


def kept_scores(localizer: Localizer, truth: Truth, place: Path | None) -> list[TextScore]:
    """What `score_localizer` gives, read from the truth's folder if the same code put it there on the same kind of device.

    Only the package's own localizers are kept: what somebody else's function gives may depend on more than its source.

    Args:
        localizer: To score.
        truth: To score it on.
        place: The truth's folder in the cache; None keeps nothing.
    """
    if place is None or not localizer.function.__module__.startswith("localize.localizers."):
        return score_localizer(localizer, truth)
    held = truth.model or truth.base
    depends = [code_of(score_localizer), code_of(localizer.function), held.device.type if held else ""]
    file = place / FOLDER / f"{localizer.name}-{sha256(json.dumps(depends).encode()).hexdigest()[:16]}.json"
    if file.is_file():
        return [TextScore(**with_nan(TextScore, told)) for told in read_json(file)["scores"]]
    found = score_localizer(localizer, truth)
    file.parent.mkdir(exist_ok=True)
    write_json(file, {"scores": plain(found)})
    return found
