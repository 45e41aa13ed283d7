"""Recall of the localizers that have constants to choose, by setting, on truths of development seeds: what the constants were frozen by.

    python tests/benchmarks/tune_localizers.py [--seeds 100] [--kinds route inj] [--truths FOLDER] [--texts 4]
        [--localizers ratio slimming hard_concrete] [--rates ...] [--penalties ...] [--steps 500]

The protocol: rates, penalties and steps of the grids below, each setting on the first texts of every truth; where the best lies at an
edge, the grid goes on there until it does not. The setting with the highest mean of recall over kinds and seeds is taken, a simpler
or cheaper one where it is within .01. Seeds 0 to 10 are for the benchmark and are not planted here.
Recall at |truth|: the share of a text's live units among as many of the highest scores, its dead own units left out; mean over texts.
Truths are planted in the embedded model, or read from the folder and kept there.
"""

import argparse
from itertools import islice, product
from pathlib import Path

import numpy as np

import localize as lz
from localize.localizers.hard_concrete import gating as hard_concrete
from localize.localizers.integrated_gradients import path_effects
from localize.localizers.slimming import gating as slimming
from localize.measure.unit_effects import unit_effects
from localize.measure.unit_gates import gate_stages
from localize.measure.unit_ratio import effect_ratio

FLOORS = (0.03, 0.1, 0.3, 1.0, 3.0)
RATES = {"slimming": (0.001, 0.003, 0.01, 0.03, 0.1), "hard_concrete": (0.01, 0.03, 0.1, 0.3)}
PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2)
STAGES = (10, 30, 100, 200, 300, 500, 1000)
"""Steps after which what is learned is looked at."""


def truth_of(model, pool, kind, seed, folder):
    """The truth of a kind and seed, planted once."""
    path = None if folder is None else folder / f"{kind}-{seed}"
    if path is not None and path.exists():
        return lz.load_truth(path)
    truth = lz.plant(model, pool, kind, seed=seed, texts=8 if kind == "inj" else 16)
    if path is not None:
        truth.save(path)
    return truth


def recall(truth, row, scores):
    """Of one text: scores are (layer, unit)."""
    live, candidates = truth.live[row], truth.candidates[row]
    ranked = np.argsort(-np.where(candidates, scores, -np.inf).flatten(), kind="stable")
    return live.flatten()[ranked[: live.sum()]].mean()


def parts_of(truth, texts):
    """Each planted model with the first texts that it holds."""
    for model, rows in truth.models():
        if len(rows := rows[rows < texts]):
            yield model, rows


def by_setting(truth, texts, settings):
    """Mean recall of each setting; `settings(model, paragraphs, others)` yields a setting's name and (paragraph, layer, unit) scores."""
    found = {}
    for model, rows in parts_of(truth, texts):
        for name, scores in settings(model, truth.paragraphs[rows], truth.others):
            found.setdefault(name, []).extend(
                recall(truth, row, own) for row, own in zip(rows, scores.numpy(), strict=True)
            )
    return {name: float(np.mean(each)) for name, each in found.items()}


def floors(effects):
    """The ratio of some effects, by its floor."""

    def settings(model, paragraphs, others):
        own, of_others = effects(model, paragraphs).mlp, effects(model, others).mlp
        yield "no ratio", own
        for floor in FLOORS:
            yield f"f {floor:g}", effect_ratio(own, of_others, floor)

    return settings


def learned(gating, rate, penalty, steps):
    """Gates, by how many steps they were learned."""

    def settings(model, paragraphs, others):
        stages = gate_stages(model, paragraphs, **gating(penalty), learning_rate=rate)
        for step, scores in enumerate(islice(stages, steps), start=1):
            if step in STAGES:
                yield f"rate {rate:g} penalty {penalty:g} steps {step}", scores.mlp

    return settings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--kinds", nargs="+", default=["route", "inj"])
    parser.add_argument("--truths", type=Path)
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--localizers", nargs="+", default=["ratio", "slimming", "hard_concrete"])
    parser.add_argument("--rates", type=float, nargs="+", help="in place of those of the grid")
    parser.add_argument("--penalties", type=float, nargs="+", default=PENALTIES)
    parser.add_argument("--steps", type=int, default=500)
    asked = parser.parse_args()
    model, pool = lz.load_model(), lz.load_paragraphs()
    truths = {
        (kind, seed): truth_of(model, pool, kind, seed, asked.truths)
        for kind, seed in product(asked.kinds, asked.seeds)
    }
    for place, truth in truths.items():
        print(*place, truth, flush=True)
    for name in asked.localizers:
        if name in RATES:
            gating = {"slimming": slimming, "hard_concrete": hard_concrete}[name]
            pairs = product(asked.rates or RATES[name], asked.penalties)
            tried = [learned(gating, rate, penalty, asked.steps) for rate, penalty in pairs]
        else:
            tried = [
                floors({"ratio": lambda *given: unit_effects(*given), "integrated_gradients_ratio": path_effects}[name])
            ]
        for settings in tried:
            found = [by_setting(truth, asked.texts, settings) for truth in truths.values()]
            for setting in found[0]:
                each = [by[setting] for by in found]
                told = "  ".join(f"{kind} {seed} {value:.3f}" for (kind, seed), value in zip(truths, each, strict=True))
                print(f"{name:14} {setting:36} {told}  mean {np.mean(each):.3f}", flush=True)


if __name__ == "__main__":
    main()
