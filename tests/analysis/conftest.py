"""Invented records for the runs and teachers of the smoke scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tad.experiment.config import load_suite

CONFIG = Path(__file__).parents[2] / "config"
SUITE = load_suite(CONFIG / "smoke.yaml")


def fill(root, suite):
    """Invented train.jsonl and heldout.json of every run and teacher of a suite."""
    rng = np.random.default_rng(0)
    for run in suite.runs():
        folder = root / "runs" / str(run)
        folder.mkdir(parents=True)
        values = {
            name: {"mean": float(rng.uniform(1, 2)), "se": 0.01}
            for name in ("nll", "kl", "reverse_kl")
        }
        (folder / "heldout.json").write_text(json.dumps({"metrics": values}))
        lines = [
            {
                "step": step,
                "tokens": 100 * step,
                "eval_nll": 3.0,
                "eval_kl": 2.0 / (1 + step),
                "eval_loss": 3.0 + 2.0 / (1 + step),
            }
            for step in range(4)
        ] + [{"step": 2, "tokens": 200, "loss": 3.5}]
        (folder / "train.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    for teacher in suite.teachers("figure2"):
        folder = root / "models" / teacher / "final"
        folder.mkdir(parents=True)
        metrics = {"mismatch": {"mean": 0.6, "se": 0.01}}
        for k in (1, 2, 5, 10, 20, 50):
            row = {"mean": 0.5 / k, "se": 0.001, "q25": 0.3 / k, "q50": 0.5 / k, "q75": 0.7 / k}
            metrics[f"alpha_{k}"] = row
        (folder / "heldout.json").write_text(json.dumps({"metrics": metrics}))
    return root


@pytest.fixture
def root(tmp_path):
    """Invented records for every run and teacher of the smoke scale."""
    return fill(tmp_path, SUITE)
