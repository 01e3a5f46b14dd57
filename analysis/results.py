"""Reading records: every metric of the runs below a root, as tidy pandas frames.

A root is ``work/{scale}`` or ``results/{scale}``. Nothing is skipped: a record that is missing,
broken or not finite is an error that names its file.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from tad.experiment.config import Suite, load_suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import last_checkpoint
from tad.records import RecordError, read_json, read_json_lines


def add_root(parser: argparse.ArgumentParser) -> None:
    """The options that say which records a command reads: ``--root`` and ``--config``."""
    root = Path("work/smoke")
    parser.add_argument("--root", type=Path, default=root, help=f"where records are ({root})")
    parser.add_argument("--config", help="scale file (default: config/{name of root}.yaml)")


def suite_of(options: argparse.Namespace) -> Suite:
    """The suite whose runs lie below the root. Raises ConfigError."""
    return load_suite(options.config or f"config/{options.root.name}.yaml")


def heldout_frame(root: Path, runs: Iterable[RunId]) -> pd.DataFrame:
    """Held-out metrics of runs: one row a run and metric, columns stage, pair, method, seed,
    metric, mean, se. Raises RecordError for a missing record or a value that is not finite."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        path = Layout(root).run(run) / "heldout.json"
        rows += [{**_keys(run), **row} for row in _metrics(path)]
    return pd.DataFrame(rows)


def teacher_frame(root: Path, suite: Suite, teachers: Iterable[str]) -> pd.DataFrame:
    """Held-out metrics of teachers: columns teacher, metric, mean, se and, for tail masses, the
    quartiles over tokens. Raises RecordError."""
    rows: list[dict[str, Any]] = []
    for teacher in teachers:
        folder = Layout(root).model(teacher, last_checkpoint(suite, teacher))
        rows += [{"teacher": teacher, **row} for row in _metrics(folder / "heldout.json")]
    return pd.DataFrame(rows)


def curve_frame(root: Path, runs: Iterable[RunId]) -> pd.DataFrame:
    """Held-out curves: columns stage, pair, method, seed, tokens, nll, kl, loss (nats a token)."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        path = Layout(root).run(run) / "train.jsonl"
        points = [line for line in read_json_lines(path) if "eval_kl" in line]
        if not points:
            raise RecordError(f"{path}: no held-out point; train the run again")
        for point in points:
            values = {name: point[f"eval_{name}"] for name in ("nll", "kl", "loss")}
            _finite(path, values)
            rows.append({**_keys(run), "tokens": point["tokens"], **values})
    return pd.DataFrame(rows)


def over_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean of ``value`` in each group and the half-width of its 95% t interval over seeds.

    Columns: ``by``, mean, half (NaN for one seed, which has no interval), seeds.
    """

    def summary(values: pd.Series) -> pd.Series:
        n = len(values)
        half = math.nan
        if n > 1:
            half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
        return pd.Series({"mean": values.mean(), "half": half, "seeds": n})

    grouped = frame.groupby(by, sort=False)[value].apply(summary).unstack()
    return grouped.reset_index().astype({"seeds": int})


def _keys(run: RunId) -> dict[str, Any]:
    return {"stage": run.stage, "pair": run.pair, "method": str(run.method), "seed": run.seed}


def _metrics(path: Path) -> list[dict[str, Any]]:
    record = read_json(path)
    if "metrics" not in record:
        raise RecordError(f"{path}: has no key 'metrics'; delete it and rerun")
    rows = []
    for name, values in record["metrics"].items():
        _finite(path, values)
        rows.append({"metric": name, **values})
    return rows


def _finite(path: Path, values: dict[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise RecordError(f"{path}: {name} is {value}; the run did not end well")
