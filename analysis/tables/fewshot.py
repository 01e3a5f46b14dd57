"""Tables 1, 2, 4 and 6 from the records below a root, as CSV, Markdown, HTML and LaTeX.

The numbers are those of ``analysis.paired``; here they get the paper's rows and columns,
what has to be said under them, and at paper scale the printed values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.style import row_name
from analysis.paired import (
    BASELINE,
    DECIMALS,
    TASKS,
    FewshotTable,
    Row,
    beta_table,
    fewshot_table,
    rows_in_order,
    score_rows,
)
from analysis.reported import values as reported
from analysis.tables.render import Table, plus_minus
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.methods import Method
from tad.records import read_json
from workflow.items import RECORDS

TITLES = {
    "table1": "Table 1. Few-shot accuracy of Qwen1.5 students",
    "table2": "Table 2. Average accuracy and Rel against β (K = 10)",
    "table4": "Table 4. Few-shot accuracy and Full-ECE of larger pairs",
    "table6": "Table 6. Few-shot accuracy after continued pre-training",
}
_PRINTED = {**dict(zip(TASKS.values(), reported.TASKS, strict=True)), "Avg": "avg", "Rel": "rel"}
_PRINTED["F-ECE"] = "f_ece"


def write_fewshot(suite: Suite, root: Path, name: str) -> None:
    """Write ``{root}/tables/{name}.{csv,md,html,tex}``.

    Raises RecordError for a missing record, TableError for scores that make no table.
    """
    records = list(_records(suite, root, name))
    scores = pd.DataFrame([row for record in records for row in record["rows"]])
    rows = _rows(suite, name)
    table = fewshot_table(scores, rows, rel=name != "table6")
    notes = [*table.notes, *_notes(suite, name, [record["fewshot"] for record in records])]
    if name == "table2":
        rendered, numbers = _by_beta(suite, table, notes)
    else:
        rendered, numbers = _by_task(suite, name, table, notes)
    rendered.write(root / "tables", name, numbers)


def _rows(suite: Suite, name: str) -> list[Row]:
    """The selected rows of a table, in the paper's order."""
    item = suite.items[name]
    pairs = [pair for pair in item.pairs if pair in suite.select.pairs]
    methods = [method for method in item.methods if method in suite.select.methods]
    points = ["/".join(point) for point in suite.checkpoints(name)]
    return rows_in_order(pairs, methods, points)


def _records(suite: Suite, root: Path, name: str) -> Iterator[dict[str, Any]]:
    """The scores of every run and checkpoint of a table, with the record that they are from."""
    layout = Layout(root)
    for run in suite.runs(name):
        folder = layout.run(run)
        fewshot, calibration = read_json(folder / "fewshot.json"), None
        if "calibration.json" in RECORDS[name]:
            calibration = read_json(folder / "calibration.json")
        keys = {"pair": run.pair, "method": str(run.method), "seed": run.seed}
        yield {"fewshot": fewshot, "rows": score_rows(fewshot, calibration=calibration, **keys)}
    pairs = [pair for pair in suite.items[name].pairs if pair in suite.select.pairs]
    for model, point in suite.checkpoints(name):
        fewshot = read_json(layout.model(model, point) / "fewshot.json")
        rows = [
            row
            for pair in pairs
            for row in score_rows(fewshot, pair=pair, method=f"{model}/{point}", seed=0)
        ]
        yield {"fewshot": fewshot, "rows": rows}


def _by_task(
    suite: Suite, name: str, table: FewshotTable, notes: Sequence[str]
) -> tuple[Table, pd.DataFrame]:
    """One row a pair and method, one column a task, then Avg, Rel and F-ECE."""
    columns, rows, bold, blocks = list(table.mean.columns), [], set(), set()
    printed = _printed(name) if suite.scale == "paper" else {}
    last = None
    for key in table.mean.index:
        if last is not None and key[0] != last:
            blocks.add(len(rows))
        last = key[0]
        marked = [i for i, column in enumerate(columns) if (key, column) in table.bold]
        bold |= {(len(rows), 2 + i) for i in marked}
        rows.append([key[0], row_name(key[1]), *_cells(table, key, columns)])
        if key in printed:
            values = [printed[key].get(_PRINTED[column], math.nan) for column in columns]
            cells = [
                plus_minus(value, math.nan, DECIMALS.get(column, 1))
                for value, column in zip(values, columns, strict=True)
            ]
            rows.append(["", "  as printed", *cells])
    title = f"{TITLES[name]} ({_kind(suite)})"
    header = ["Pair", "Method", *columns]
    rendered = Table(
        title=title,
        header=header,
        rows=rows,
        notes=notes,
        left=2,
        bold=frozenset(bold),
        blocks=frozenset(blocks),
    )
    return rendered, _numbers(table, printed)


def _by_beta(suite: Suite, table: FewshotTable, notes: Sequence[str]) -> tuple[Table, pd.DataFrame]:
    """Two rows a pair, Avg and Rel; one column a beta."""
    methods = dict.fromkeys(table.mean.index.get_level_values("method"))
    betas = {name: Method.parse(name)["beta"] for name in methods if name != BASELINE}
    turned = beta_table(table, betas)
    rows = []
    for pair, value in turned["mean"].index:
        mean, low = turned["mean"].loc[(pair, value)], turned["low"].loc[(pair, value)]
        cells = [plus_minus(m, m - lo, 1) for m, lo in zip(mean, low, strict=True)]
        rows.append([pair if value == "Avg" else "", value, *cells])
    header = ["Pair", "", *(f"β = {beta:g}" for beta in turned["mean"].columns)]
    title = f"{TITLES['table2']} ({_kind(suite)})"
    blocks = frozenset(range(2, len(rows), 2))
    rendered = Table(title=title, header=header, rows=rows, notes=notes, left=2, blocks=blocks)
    return rendered, _numbers(table, {})


def _cells(table: FewshotTable, key: Row, columns: Sequence[str]) -> list[str]:
    return [
        plus_minus(
            table.mean.loc[key, column],
            table.mean.loc[key, column] - table.low.loc[key, column],
            DECIMALS.get(column, 1),
        )
        for column in columns
    ]


def _numbers(table: FewshotTable, printed: dict[Row, Any]) -> pd.DataFrame:
    """Mean, low and high of every column, one row a pair and method; printed values beside."""
    frame = table.mean.add_suffix("")
    for column in table.mean.columns:
        frame[f"{column}_low"], frame[f"{column}_high"] = table.low[column], table.high[column]
        if printed:
            values = [printed.get(key, {}).get(_PRINTED[column], math.nan) for key in frame.index]
            frame[f"{column}_printed"] = values
    frame.insert(0, "seeds", table.seeds)
    return frame.reset_index()


def _printed(name: str) -> dict[Row, Any]:
    points = {"1T": "tinyllama-1.1b/1t", "2T": "tinyllama-1.1b/2t"}
    return reported.by_row(int(name[-1]), lambda row: points[row["tokens"]])


def _kind(suite: Suite) -> str:
    settings = suite.evaluation.fewshot
    analogue = settings is None or settings.suite != "paper"
    return f"analogue tasks, scale {suite.scale}" if analogue else f"scale {suite.scale}"


def _notes(suite: Suite, name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader has to know: data, metric, shots, seeds, and how it departs from the paper."""
    first = records[0]
    tasks = first["tasks"].values()
    items, shots = {task["n"] for task in tasks}, {task["shots"] for task in tasks}
    normalised = [TASKS[t] for t, task in first["tasks"].items() if task["metric"] == "acc_norm"]
    notes = []
    if first["analogue"]:
        notes.append(
            "Analogue: the items of each task are made from held-out text of the corpus, in the "
            "format, number of options and metric of the task whose column they stand in. They "
            "are not the benchmarks, and the values are not comparable with the paper's."
        )
    notes.append(
        f"Accuracy in percent by lm-eval {first['lm_eval']}; acc_norm in "
        f"{', '.join(normalised)}, acc elsewhere; {_spread(items)} items a task; "
        f"{_spread(shots)} shots (the paper says few-shot, the rows it quotes are zero-shot). "
        + (
            f"Mean and 95% t interval over {len(suite.seeds)} seeds."
            if len(suite.seeds) > 1
            else "One seed, so no interval."
        )
    )
    if name != "table6":
        notes.append(f"Rel: 100 × mean over tasks of log10(accuracy / that of {BASELINE}).")
    if name == "table1":
        notes.append(
            "The paper quotes the baselines of its Table 1 from another paper, with another corpus "
            "and budget. Here every row is a run of this project under one setting."
        )
    if name == "table4":
        notes.append(
            "F-ECE: Full-ECE in percent, 10 bins, lower is better; its intervals and noise floor "
            "are in the table of calibration. CLM (Mat.) trains on as many tokens as have the "
            "FLOPs of TAD."
        )
    if name != "table2":
        notes.append("Bold: the best of a pair and column, and what is within 0.4 of it.")
    missing = [m for m in suite.items[name].methods if m not in suite.select.methods]
    if missing:
        notes.append(f"Rows of the paper that this scale does not run: {', '.join(missing)}.")
    return notes


def _spread(values: set[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
