"""Tables 7 and 8: accuracy on the eight math sets, from the math.json below a root."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.style import row_name
from analysis.reported import values as reported
from analysis.results import over_seeds
from analysis.tables.render import Table, plus_minus
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.specs import reference_source
from tad.records import read_json

TITLES = {
    "table7": "Table 7. Mathematical reasoning after adaptation to mathematical text",
    "table8": "Table 8. Mathematical reasoning after supervised distillation",
}
Row = tuple[str, str]


def write_math(suite: Suite, root: Path, name: str) -> None:
    """Write ``{root}/tables/{name}.{csv,md,html,tex}``: compat accuracies in percent.

    Avg is the mean over the sets within a seed; the interval is over seeds. Raises RecordError for
    a missing record.
    """
    records = list(_records(suite, root, name))
    columns = [entry["column"] for entry in records[0][1]["datasets"].values()]
    scores = pd.DataFrame([row for key, record in records for row in _scores(key, record)])
    table = over_seeds(scores, ["pair", "method", "column"], "value")
    wide = {
        value: table.pivot(index=["pair", "method"], columns="column", values=value)
        for value in ("mean", "half")
    }
    keys = list(dict.fromkeys(key[:2] for key, _ in records))
    columns = [*columns, "Avg"]
    rows, blocks, bold = _rows(suite, name, keys, wide, columns)
    rendered = Table(
        title=f"{TITLES[name]} ({_kind(suite)})",
        header=["Pair", "Method", *columns],
        rows=rows,
        notes=_notes(suite, name, [record for _, record in records]),
        left=2,
        blocks=frozenset(blocks),
        bold=frozenset(bold),
    )
    numbers = wide["mean"].loc[keys, columns]
    numbers = numbers.join(wide["half"].loc[keys, columns].add_suffix("_half")).reset_index()
    rendered.write(root / "tables", name, numbers)


def _records(suite: Suite, root: Path, name: str) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """((pair, row, seed), math.json): of each pair checkpoints, then runs, then references.

    A row is a method id, model/checkpoint or references/name.
    """
    layout, runs = Layout(root), suite.runs(name)
    for pair in [pair for pair in suite.items[name].pairs if pair in suite.select.pairs]:
        for model, point in suite.checkpoints(name):
            if suite.pairs[pair].student.model == model:
                record = read_json(layout.model(model, point) / "math.json")
                yield (pair, f"{model}/{point}", 0), record
        order = suite.items[name].methods
        own = [run for run in runs if run.pair == pair]
        for run in sorted(own, key=lambda run: (order.index(str(run.method)), run.seed)):
            record = read_json(layout.run(run) / "math.json")
            yield (pair, str(run.method), run.seed), record
        for below, reference in suite.references_of(name):
            if below == pair:
                record = read_json(layout.reference(reference) / "math.json")
                yield (pair, _reference(reference), 0), record


def _reference(name: str) -> str:
    return f"references/{name}"


def _scores(key: tuple[str, str, int], record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    keys = dict(zip(("pair", "method", "seed"), key, strict=True))
    for entry in record["datasets"].values():
        yield {**keys, "column": entry["column"], "value": entry["compat"]["accuracy"]}
    yield {**keys, "column": "Avg", "value": record["average"]["compat"]}


def _rows(
    suite: Suite, name: str, keys: Sequence[Row], wide: dict[str, pd.DataFrame], columns: list[str]
) -> tuple[list[list[str]], set[int], set[tuple[int, int]]]:
    """Cells, rows that begin a pair, and the best of each pair and column among our own."""
    printed = _printed(suite, name) if suite.scale == "paper" else {}
    others = {_reference(reference) for reference in suite.references}
    rows, blocks, bold, last = [], set(), set(), None
    own = wide["mean"].loc[[key for key in keys if key[1] not in others], columns]
    best = own.round(1).groupby(level="pair").max()
    for key in keys:
        if last is not None and key[0] != last:
            blocks.add(len(rows))
        last = key[0]
        mean, half = wide["mean"].loc[key], wide["half"].loc[key]
        for index, column in enumerate(columns):
            if key[1] not in others and round(mean[column], 1) == best.loc[key[0], column] > 0:
                bold.add((len(rows), 2 + index))
        cells = [plus_minus(mean[c], half[c], 1) for c in columns]
        rows.append([key[0], row_name(key[1]), *cells])
        in_print = printed.get(("", key[1]) if key[1] in others else key)
        if in_print is not None:
            values = [in_print.get(c, math.nan) for c in (*reported.MATH_TASKS, "avg")]
            cells = [plus_minus(value, math.nan, 1) for value in values]
            rows.append(["", "  as printed", *cells])
    return rows, blocks, bold


def _printed(suite: Suite, name: str) -> dict[Row, Any]:
    points = {"TinyLlama-1.1B": "tinyllama-1.1b/2.5t", "Llama2-7B": "llama2-7b/final"}
    points |= {entry.printed: _reference(ref) for ref, entry in suite.references.items()}
    return reported.by_row(int(name[-1]), lambda row: points[row["model"]])


def _kind(suite: Suite) -> str:
    settings = suite.evaluation.math
    analogue = settings is None or settings.suite != "paper"
    return f"generated analogues, scale {suite.scale}" if analogue else f"scale {suite.scale}"


def _notes(suite: Suite, name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """What the sets are, how they were graded, and how the two ways of grading differ."""
    first, notes = records[0], []
    entries = [entry for record in records for entry in record["datasets"].values()]
    items = sum(entry["items"] for entry in entries)
    differ = sum(entry["differ"] for entry in entries)
    truncated = sum(entry["truncated"] for entry in entries)
    if first["analogue"]:
        notes.append(
            "Analogue: generated word problems in the shape of each set, with numbers small enough "
            "for tiny models. They are not the benchmarks, and the values are not comparable with "
            "the paper's."
        )
    chance = ", ".join(f"{e['column']} {e['chance']:.0f}" for e in first["datasets"].values())
    counts = {entry["items"] for entry in entries}
    spread = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    seeds = len(suite.seeds)
    over = f"mean and 95% interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"
    notes.append(
        f"Accuracy in percent, greedy decoding, {spread} items a set; {over}. Always giving the "
        f"commonest answer would score: {chance}."
    )
    notes.append(
        f"Graded as the reference protocol does (compat). A strict grader disagrees on {differ} of "
        f"{items} answers; {truncated} answers were cut off by the cap on their length."
    )
    missing = [m for m in suite.items[name].methods if m not in suite.select.methods]
    if missing:
        notes.append(f"Rows of the paper that this scale does not run: {', '.join(missing)}.")
    notes += _reference_notes(suite, name)
    if name == "table8":
        notes.append(
            "Every row but the checkpoint's starts from the run of Table 7 by the same method "
            "(CLM + SFT: from its CLM run)."
        )
    return notes


def _reference_notes(suite: Suite, name: str) -> list[str]:
    """Where the models of others come from, and which of the paper's are left out."""
    shown = list(dict.fromkeys(reference for _, reference in suite.references_of(name)))
    sources = [f"{ref} ({reference_source(suite, ref)})" for ref in shown]
    listed = [ref for names in suite.items[name].references.values() for ref in names]
    absent = [suite.references[ref].printed for ref in listed if ref not in shown]
    notes = []
    if sources:
        notes.append(f"Models of others, as released, never in bold: {', '.join(sources)}.")
    if absent:
        notes.append(f"Models of others that this scale does not evaluate: {', '.join(absent)}.")
    return notes
