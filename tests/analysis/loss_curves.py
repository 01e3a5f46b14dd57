"""Invented loss curves of a known law, for the runs of Table 5."""

from __future__ import annotations

import json

import numpy as np

from tad.experiment.config import load_suite
from tad.experiment.layout import Layout

from .conftest import CONFIG

PAIRS = ("phi2_1b", "qwen2.5-3b_1b")
LAWS = {"vanilla_kd": (3.0, 60, 0.33), "rkl": (3.1, 60, 0.33), "tad-k10-b2": (2.9, 60, 0.33)}
"""E, B and exponent of the law that each method's curve follows."""


def suite_of(scale="mini", pairs=PAIRS, seeds=(0, 1, 2), **stage):
    """The suite of a scale with other pairs, seeds and values of its training stage."""
    suite = load_suite(CONFIG / f"{scale}.yaml")
    methods = [*dict.fromkeys([*suite.select.methods, *LAWS])]
    select = suite.select.model_copy(update={"pairs": list(pairs), "methods": methods})
    stages = suite.stages | {"scratch": suite.stages["scratch"].model_copy(update=stage)}
    # Every pair with the budget of one that the scale runs: it decides where warm-up ends.
    tokens = {"tokens": suite.pairs[PAIRS[0]].tokens}
    budgets = {name: pair.model_copy(update=tokens) for name, pair in suite.pairs.items()}
    changes = {"seeds": list(seeds), "select": select, "stages": stages, "pairs": budgets}
    return suite.model_copy(update=changes)


def law(method, tokens):
    E, B, beta = LAWS[method]
    return E + B / np.asarray(tokens, dtype=float) ** beta


def write_curves(root, suite, *, points=16, first=2e4, budget=2e6, noise=1e-3):
    """A ``train.jsonl`` for every run of Table 5, with a start at 0 tokens far off the law."""
    rng = np.random.default_rng(0)
    tokens = [0, *np.geomspace(first, budget, points).astype(int)]
    for run in suite.runs("table5"):
        losses = [9.0, *law(str(run.method), tokens[1:]) * np.exp(rng.normal(0, noise, points))]
        lines = [
            {"tokens": int(t), "eval_nll": x - 0.1, "eval_kl": 0.1, "eval_loss": float(x)}
            for t, x in zip(tokens, losses, strict=True)
        ]
        path = Layout(root).run(run) / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
