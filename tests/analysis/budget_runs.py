"""Invented end losses of a known law, for the runs of Table 5."""

from __future__ import annotations

import json

import numpy as np

from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.experiment.specs import run_spec

from .conftest import CONFIG

LAWS = {"vanilla_kd": (3.5, 22.0, 0.33), "rkl": (3.6, 22.0, 0.33), "tad": (3.4, 22.0, 0.33)}
"""E, B and exponent of the law that each method's ends follow."""


def suite_of(scale="mini", seeds=(0, 1), **select):
    """A scale with the item ``budgets`` alone, over other seeds."""
    suite = load_suite(CONFIG / f"{scale}.yaml")
    item = suite.items["budgets"].model_copy(update={"seeds": list(seeds)})
    chosen = suite.select.model_copy(update={"items": ["budgets"], **select})
    return suite.model_copy(update={"select": chosen, "items": suite.items | {"budgets": item}})


def law(name, tokens):
    E, B, beta = LAWS[name]
    return E + B / np.asarray(tokens, dtype=float) ** beta


def write_ends(root, suite, *, noise=1e-3, off=0.0):
    """A ``heldout.json`` for every run; ``off`` is added to the loss of the largest budget."""
    rng = np.random.default_rng(0)
    runs = suite.runs("budgets")
    largest = max(run.method.shared["x"] for run in runs)
    for run in runs:
        tokens = run_spec(suite, run).optimisation.tokens
        loss = float(law(run.method.name, tokens) * np.exp(rng.normal(0, noise)))
        loss += off * (run.method.shared["x"] == largest)
        metrics = {"nll": {"mean": loss - 0.1, "se": 0.01}, "kl": {"mean": 0.1, "se": 0.001}}
        path = Layout(root).run(run) / "heldout.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"metrics": metrics}))
    return root
