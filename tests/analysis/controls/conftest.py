"""Invented records of TAD and its controls."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.experiment.specs import last_checkpoint
from tad.methods import Method
from workflow.items import CONTROL_ITEMS

from ..conftest import CONFIG
from ..invented import put

TAD_SIZE = 2.5
"""What TAD's divergence is in units of KL."""


def kl_of(method: Method) -> float:
    """Held-out KL that depends on the size of the divergence alone, and a little on the rate."""
    return 0.1 + 0.2 / (1 + size_of(method)) + 0.01 * abs(np.log2(method.shared["r"]))


def size_of(method: Method) -> float:
    if not method.row.needs_teacher:
        return 0.0
    shaped = method.matched_to or (method if "beta" in method.parameters else None)
    return method.weights[1] * (TAD_SIZE * shaped["beta"] / 2 if shaped else 1.0)


@pytest.fixture(scope="session")
def suite():
    """The mini scale."""
    return load_suite(CONFIG / "mini.yaml")


@pytest.fixture(scope="session")
def records(suite, tmp_path_factory):
    """Records of every run that table and figure read."""
    root, rng = tmp_path_factory.mktemp("controls"), np.random.default_rng(0)
    items = [item for item in CONTROL_ITEMS if item in suite.select.items]
    for run in dict.fromkeys(run for item in items for run in suite.runs(item)):
        folder, kl, size = Layout(root).run(run), kl_of(run.method), size_of(run.method)
        kl *= 1 + 0.002 * rng.normal()
        put(folder / "heldout.json", {"metrics": {"kl": {"mean": kl}, "nll": {"mean": 3.8 + kl}}})
        put(folder / "calibration.json", {"full_ece": 0.03 + 0.001 * rng.normal()})
        put(folder / "fewshot.json", {"tasks": {"piqa": {"margin": -kl}, "siqa": {"margin": 9}}})
        lines = [{"step": 0, "eval_kl": 9.0}]
        for step in (5, 10):
            logged = {"divergence": size * 2 * kl} if size else {"loss": 1.0}
            lines += [{"step": step, **logged}, {"step": step, "eval_kl": 2 * kl}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "train.jsonl").write_text(text)
    for pair in suite.items["primary"].pairs:
        for model in {suite.teacher(pair, seed) for seed in range(6)}:
            record = {"tasks": {"piqa": task(0.9), "siqa": task(0.5)}}
            put(Layout(root).model(model, last_checkpoint(suite, model)) / "fewshot.json", record)
    return root


def task(accuracy):
    """What the teacher's record says of a task of two options."""
    return {"accuracy": accuracy, "n": 100, "chance": 0.5}
