"""Reading records: every metric of the runs below a root, as tidy pandas frames.

A root is ``work/{scale}`` or ``results/{scale}``. Nothing is skipped: a record that is missing,
broken or not finite is an error that names its file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.kinds import read_record
from tad.command import command_line, exit_code
from tad.experiment.config import Suite, load_suite, scale_options
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import last_checkpoint
from tad.methods import Method
from tad.records import RecordError, read_json_lines, write_text

PROJECT = Path(__file__).parents[1]
TASKS = {
    "hellaswag": "HS",
    "winogrande": "WG",
    "openbookqa": "OBQA",
    "arc_easy": "ARC-E",
    "arc_challenge": "ARC-C",
    "piqa": "PIQA",
    "siqa": "SIQA",
    "storycloze": "Story",
}
"""Few-shot task to column, in the paper's order; others stand below their own name."""


def draw_command(
    name: str,
    text: str | None,
    arguments: Sequence[str] | None,
    draw: Callable[..., None],
    names: Iterable[str] = (),
) -> int:
    """The command ``tad NAME [WHAT] --root --config``: draws below a root from its records.

    ``draw`` takes WHAT (one of ``names``, if there are any), the suite and the root. The scale file
    is by default config/{name of root}.yaml.
    """
    parser = command_line(name, text)
    names = list(names)
    if names:
        parser.add_argument("what", choices=names, metavar="NAME", help=", ".join(names))
    root = Path("work/smoke")
    parser.add_argument("--root", type=Path, default=root, help=f"where records are ({root})")
    scale_options(parser, required=False)
    options = parser.parse_args(arguments)
    config = options.config or f"config/{options.root.name}.yaml"
    what = [options.what] if names else []
    scale = (config, options.overrides)
    return exit_code(name, lambda: draw(*what, load_suite(*scale), options.root))


@cache
def paper_suite() -> Suite:
    """The paper's own models, pairs and budgets (config/paper.yaml)."""
    return load_suite(PROJECT / "config" / "paper.yaml")


def paper_pairs(item: str) -> list[str]:
    """The pairs of an item that the paper itself has: those with a printed name."""
    suite = paper_suite()
    return [pair for pair in suite.items[item].pairs if suite.pairs[pair].printed]


def pair_name(pair: str) -> str:
    """What the paper calls a pair's student; the id of one that is not in the paper."""
    entry = paper_suite().pairs.get(pair)
    return entry.printed if entry and entry.printed else pair


def row_name(row: str) -> str:
    """How tables call a method id, or in its place a checkpoint (``model/checkpoint``), a model of
    others (``references/name``) or a row to compare with (``floor/name``)."""
    model, _, point = row.partition("/")
    if not point:
        return Method.parse(row).label
    if model == "floor":
        return point.capitalize()
    if model == "references":
        return point
    return model if point == "final" else f"{model} at {point.upper()}"


def heldout_frame(root: Path, runs: Iterable[RunId]) -> pd.DataFrame:
    """Held-out metrics of runs: one row a run and metric, columns stage, pair, method, seed,
    metric, mean, se. Raises RecordError for a missing record or a value that is not finite."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        path = Layout(root).run(run) / "heldout.json"
        rows += [{**run_keys(run), **row} for row in _metrics(path)]
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
            rows.append({**run_keys(run), "tokens": point["tokens"], **values})
    return pd.DataFrame(rows)


def over_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean of ``value`` in each group and the half-width of its 95% t interval over seeds.

    Columns: ``by``, mean, half (NaN for one seed, which has no interval), seeds.
    """
    grouped = frame.groupby(by, sort=False)[value]
    found = grouped.agg(mean="mean", half="var", seeds="size")
    found["half"] = half_width(found["half"] / found["seeds"], found["seeds"] - 1)
    return found.reset_index()


def half_width(variance: Any, df: Any) -> Any:
    """Half of the 95% t interval of a mean with this squared error; NaN where ``df`` is 0."""
    return stats.t.ppf(0.975, df) * np.sqrt(variance)


def write_numbers(frame: pd.DataFrame, path: Path, digits: int = 6) -> None:
    """The numbers of a table or figure as CSV."""
    text = frame.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")
    write_text(path, text)


def spread(values: Iterable[float]) -> str:
    """``1,000`` where all are alike, else ``500 to 1,000``."""
    values = list(values)
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def run_keys(run: RunId) -> dict[str, Any]:
    """The columns that say which run a row is of."""
    return {"stage": run.stage, "pair": run.pair, "method": str(run.method), "seed": run.seed}


def _metrics(path: Path) -> list[dict[str, Any]]:
    record = read_record(path)
    if not record.get("metrics"):
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
