"""Which tasks can tell methods apart: those on which the teacher is better than guessing.

A student cannot learn from its teacher what the teacher does not know, so a task on which the
teacher guesses adds noise to an average and nothing else. It is shown, and left out of ``average``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from analysis.kinds import read_record
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.specs import last_checkpoint

LEVEL = 0.05

Record = Mapping[str, Any]
"""A fewshot.json or a math.json."""


def teacher_records(suite: Suite, layout: Layout, item: str, pair: str, kind: str) -> list[Record]:
    """``kind`` ("fewshot.json" or "math.json") of the teachers of an item's runs of a pair, in the
    order of their seeds. Raises RecordError for one that is missing."""
    seeds = [run.seed for run in suite.runs(item) if run.pair == pair] or [suite.seeds[0]]
    models = dict.fromkeys(suite.teacher(pair, seed) for seed in seeds)
    folders = [layout.model(model, last_checkpoint(suite, model)) for model in models]
    return [read_record(folder / kind) for folder in folders]


def telling(teachers: Sequence[Record]) -> list[str]:
    """The tasks, or math sets, on which each of these teachers is above guessing.

    By a one-sided exact binomial test over items, against choosing an option at random; of a math
    set, whose answers are mostly open, against always giving the commonest answer.
    """
    found = [_above(record) for record in teachers]
    return [name for name in found[0] if all(name in names for names in found)]


def _above(record: Record) -> list[str]:
    if "datasets" in record:
        counts = {
            name: (entry["compat"]["correct"], entry["items"], _floor(entry) / 100)
            for name, entry in record["datasets"].items()
        }
    else:
        counts = {
            name: (round(task["accuracy"] * task["n"]), task["n"], task["chance"])
            for name, task in record["tasks"].items()
        }
    return [
        name
        for name, (right, n, floor) in counts.items()
        if stats.binomtest(right, n, floor, alternative="greater").pvalue < LEVEL
    ]


def _floor(entry: Record) -> float:
    return max(entry["chance"], entry["commonest"])


def average(record: Record, names: Sequence[str]) -> float:
    """Mean accuracy over these tasks or sets, in percent; NaN for none."""
    if "datasets" in record:
        values = [record["datasets"][name]["compat"]["accuracy"] for name in names]
    else:
        values = [100 * record["tasks"][name]["accuracy"] for name in names]
    return float(np.mean(values)) if values else float("nan")


def average_margin(record: Record, names: Sequence[str]) -> float:
    """Mean margin of a fewshot.json over these tasks, in nats a character; NaN for none."""
    values = [record["tasks"][name]["margin"] for name in names]
    return float(np.mean(values)) if values else float("nan")
