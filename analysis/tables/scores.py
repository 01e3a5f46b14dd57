"""Tables 1, 2, 4, 6 (few-shot tasks) and 7, 8 (math sets) from the records below a root.

Records become one frame of scores in percent, that becomes means with 95% t intervals over seeds,
and those the paper's rows and columns with what has to be said under them; printed values stand
beside ours at paper scale. The teacher's row and those of guessing say what the tasks can tell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.kinds import read_record
from analysis.names import pair_title, titled
from analysis.notes import math_notes, setting_notes, silent_notes
from analysis.reported import values as reported
from analysis.results import TASKS, half_width, row_name, spread
from analysis.telling import average, teacher_records, telling
from analysis.writing.render import Table, blocks, control_note, is_control, plus_minus
from tad.command import UserError
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.specs import reference_source
from tad.methods import BASELINE, Method
from workflow.items import RECORDS

WITH_REL = ("table1", "table2", "table4")
F_ECE = "F-ECE"
TELLING = "Avg (telling)"
MARGIN = "Margin"
DECIMALS = {F_ECE: 2, MARGIN: 3}
"""Decimals of the columns that have not 1."""

TEACHER = "floor/teacher"
FLOORS = {"chance": "floor/chance", "commonest": "floor/commonest answer"}
"""Rows to compare with, never in bold; those of guessing are of no pair ("")."""

ALIKE = 0.4
"""Points within which Table 1's caption marks a value like the best. It would mark nearly all of
F-ECE, so there, and in the math tables, only the best itself is marked."""

Row = tuple[str, str]
"""A pair and a method id, or in its place model/checkpoint, references/name or floor/name."""


class ScoresError(UserError, ValueError):
    """Scores that make no table: missing or not finite; the message names them."""


@dataclass(frozen=True)
class Scores:
    """Means over seeds with the half-width of their 95% t interval, NaN where there is one seed.

    Frames have the rows asked for, in their order; ``seeds`` counts.
    """

    mean: pd.DataFrame
    half: pd.DataFrame
    seeds: pd.Series
    notes: tuple[str, ...] = ()


def write(name: str, suite: Suite, root: Path) -> None:
    """Write ``{root}/tables/{name}.{csv,md,html,tex}``.

    Raises RecordError for a missing record, ScoresError for scores that make no table.
    """
    rows, layout, kind = item_rows(suite, name), Layout(root), RECORDS[name][0]
    fewshot = kind == "fewshot.json"
    found = list(_records(suite, layout, name, rows))
    pairs = dict.fromkeys(pair for pair, _ in rows)
    teachers = {pair: teacher_records(suite, layout, name, pair, kind) for pair in pairs}
    kept = {pair: telling(records) for pair, records in teachers.items()}
    taught = [((p, TEACHER, i), r) for p, rs in teachers.items() for i, r in enumerate(rs)]
    values = {key: _values(record, kept[key[0]]) for key, record in [*taught, *found]}
    values |= {("", row, 0): _floor(found[0][1], key) for key, row in FLOORS.items()}
    rows = [row for pair in pairs for row in ((pair, TEACHER), *(r for r in rows if r[0] == pair))]
    rows += [("", floor) for floor in FLOORS.values()]
    scores = summarise(values, rows, rel=name in WITH_REL)
    printed = _printed(suite, name) if suite.is_paper and name != "table2" else {}
    of_kind = _fewshot_notes if fewshot else _math_notes
    notes = [*scores.notes, *of_kind(suite, name, [record for _, record in found])]
    left_out = {pair: _left_out(records[0], kept[pair]) for pair, records in teachers.items()}
    named = {pair_title(suite, pair): columns for pair, columns in left_out.items()}
    notes.append(_telling_note(named, fewshot))
    notes += [*control_note(row for _, row in rows), *setting_notes(suite, suite.runs(name))]
    missing = [m for m in suite.items[name].methods if m not in suite.select.methods]
    if missing and _of_paper(suite, name):
        notes.append(f"Rows of the paper that this scale does not run: {', '.join(missing)}.")
    if not fewshot:
        notes += _reference_notes(suite, name)
    title = f"{suite.items[name].title} ({_kind(suite, fewshot)})"
    if name == "table2":
        table = _by_beta(title, scores, notes)
    else:
        marked = {((pair, TEACHER), c) for pair, columns in left_out.items() for c in columns}
        within = ALIKE if fewshot else 0.0
        table = _by_task(title, scores, notes, printed, within=within, marked=marked)
    halves = scores.mean.join(scores.half.add_suffix("_half")).reset_index()
    numbers = _bounds(scores, printed) if fewshot else halves
    titled(suite, table).write(root / "tables", name, numbers)


def _of_paper(suite: Suite, name: str) -> bool:
    """Whether a selected pair of an item is one of the paper's."""
    pairs = [pair for pair in suite.items[name].pairs if pair in suite.select.pairs]
    return any(suite.pairs[pair].printed for pair in pairs)


# --- From records to means -----------------------------------------------------------------------


def item_rows(suite: Suite, name: str) -> list[Row]:
    """Rows as the paper has them: of each pair the first checkpoint, its methods, other
    checkpoints (Table 6), models of others."""
    item, rows = suite.items[name], []
    methods = list(dict.fromkeys(m for m in item.methods if m in suite.select.methods))
    for pair in [pair for pair in item.pairs if pair in suite.select.pairs]:
        start = suite.pairs[pair].student.model
        points = [f"{model}/{at}" for model, at in suite.checkpoints(name) if model == start]
        others = [f"references/{other}" for own, other in suite.references_of(name) if own == pair]
        paper, controls = ([m for m in methods if is_control(m) == c] for c in (False, True))
        rows += [(pair, row) for row in (*points[:1], *paper, *points[1:], *others, *controls)]
    run = {(run.pair, str(run.method)) for run in suite.runs(name)}
    return [row for row in rows if "/" in row[1] or row in run]


def _records(
    suite: Suite, layout: Layout, name: str, rows: Sequence[Row]
) -> Iterator[tuple[tuple[str, str, int], dict[str, Any]]]:
    """((pair, row, seed), record), row by row; Full-ECE is put into the few-shot record."""
    kind, *more = RECORDS[name]
    seeds: dict[Row, list] = {}
    for run in suite.runs(name):
        seeds.setdefault((run.pair, str(run.method)), []).append(run)
    for pair, row in rows:
        model, _, point = row.partition("/")
        if model == "references":
            yield (pair, row, 0), read_record(layout.reference(point) / kind)
        elif point:
            yield (pair, row, 0), read_record(layout.model(model, point) / kind)
        for run in seeds.get((pair, row), ()):
            record = read_record(layout.run(run) / kind)
            if "calibration.json" in more:
                calibration = read_record(layout.run(run) / "calibration.json")
                record["full_ece"] = calibration["full_ece"]
            yield (pair, row, run.seed), record


def _values(record: Mapping[str, Any], kept: Sequence[str]) -> dict[str, float]:
    """Column to percent (margin: nats a character) of a fewshot.json or math.json, of which the
    tasks ``kept`` can tell."""
    if "datasets" in record:
        found = {x["column"]: x["compat"]["accuracy"] for x in record["datasets"].values()}
        return {**found, "Avg": record["average"]["compat"], TELLING: average(record, kept)}
    tasks = record["tasks"]
    found = {_column(task, tasks[task]): 100 * tasks[task]["accuracy"] for task in _order(tasks)}
    found["Avg"] = float(np.mean(list(found.values())))
    found |= {TELLING: average(record, kept), MARGIN: record["avg_margin"]}
    if "full_ece" in record:
        found[F_ECE] = 100 * record["full_ece"]
    return found


def _order(tasks: Iterable[str]) -> list[str]:
    """Tasks in the order of the paper's columns, others behind."""
    return [*(task for task in TASKS if task in tasks), *(x for x in tasks if x not in TASKS)]


def _floor(record: Mapping[str, Any], key: str) -> dict[str, float]:
    """Column to percent of guessing: ``key`` is chance or commonest."""
    entries, unit = (record["tasks"], 100) if "tasks" in record else (record["datasets"], 1)
    found = {_column(name, entries[name]): unit * entries[name][key] for name in _order(entries)}
    return {**found, "Avg": float(np.mean(list(found.values())))}


def _left_out(record: Mapping[str, Any], kept: Sequence[str]) -> list[str]:
    """The columns of the tasks that are not among ``kept``."""
    entries = record.get("tasks") or record["datasets"]
    return [_column(name, entries[name]) for name in entries if name not in kept]


def _column(task: str, entry: Mapping[str, Any]) -> str:
    """The column of a task, which its record names; records of before leave it to ``TASKS``."""
    return entry.get("column") or TASKS.get(task, task)


def summarise(
    values: Mapping[tuple[str, str, int], Mapping[str, float]],
    rows: Sequence[Row],
    *,
    rel: bool = False,
) -> Scores:
    """The table of ``rows`` from scores by pair, row and seed, and by column.

    ``rel`` adds Rel, ``100 * mean over tasks of log10(value / baseline)`` against the baseline of
    the same pair and seed: the logarithm that the paper's printed values fit. It is taken within a
    seed, then averaged. Raises ScoresError.
    """
    index = pd.MultiIndex.from_tuples(values, names=["pair", "method", "seed"])
    wide = pd.DataFrame(list(values.values()), index=index)
    beside = ("Avg", TELLING, MARGIN, F_ECE)
    tasks = [column for column in wide if column not in beside]
    needed = wide.drop(columns=[TELLING, MARGIN, F_ECE], errors="ignore")
    for key, column in zip(*np.nonzero(~np.isfinite(needed.to_numpy(float))), strict=True):
        pair, method, seed = wide.index[key]
        name, value = needed.columns[column], needed.iloc[key, column]
        raise ScoresError(f"{pair}/{method}/seed{seed}: the score of {name} is {value}")
    notes = []
    if rel:
        wide.insert(wide.columns.get_loc("Avg") + 1, "Rel", _relative(wide[tasks]))
        if (wide[tasks] <= 0).any(axis=None):
            notes.append("Rel is left out where an accuracy is 0: it has no logarithm.")
    grouped = wide.groupby(level=["pair", "method"])
    count = grouped.count()
    half = half_width(grouped.var(ddof=1) / count, count - 1)
    index = pd.MultiIndex.from_tuples(rows, names=["pair", "method"])
    lost = index.difference(count.index)
    if len(lost):
        raise ScoresError(f"no scores of {lost[0][1]} for {lost[0][0]}")
    mean, half = (frame.reindex(index) for frame in (grouped.mean(), half))
    return Scores(mean, half, grouped.size().reindex(index), tuple(notes))


def _relative(wide: pd.DataFrame) -> list[float]:
    """Rel of every pair, row and seed; NaN for the baseline itself and where a value is 0."""
    found = []
    for pair, method, seed in wide.index:
        if method.startswith("floor/"):
            found.append(math.nan)
            continue
        if "/" not in method and (pair, BASELINE, seed) not in wide.index:
            raise ScoresError(f"Rel of {pair}/{method}/seed{seed} needs {BASELINE} of that seed")
        ours, theirs = (wide.loc[(pair, each, seed)] for each in (method, BASELINE))
        usable = method != BASELINE and (ours > 0).all() and (theirs > 0).all()
        found.append(100 * float(np.log10(ours / theirs).mean()) if usable else math.nan)
    return found


def best_cells(mean: pd.DataFrame, within: float) -> set[tuple[Row, str]]:
    """The cells to mark: in each pair and column the best of our own, and what is within reach.

    Judged on values as printed, as a reader would. Lower is better in F-ECE alone.
    """
    bold = set()
    own = mean[[not row.startswith(("references/", "floor/")) for _, row in mean.index]]
    for column in mean.columns:
        printed = own[column].round(DECIMALS.get(column, 1)) * (-1 if column == F_ECE else 1)
        reach = 0.0 if column == F_ECE else within
        for _, block in printed.groupby(level="pair", sort=False):
            near = block[block >= block.max() - reach - 1e-9]
            bold |= {(row, column) for row in near[(near != 0) | (reach > 0)].index}
    return bold


# --- The tables ----------------------------------------------------------------------------------


def _by_task(
    title: str,
    scores: Scores,
    notes: Sequence[str],
    printed: Mapping[Row, Any],
    *,
    within: float,
    marked: Collection[tuple[Row, str]],
) -> Table:
    """One row a pair and method, one column a task, then Avg, Rel and F-ECE; † where ``marked``."""
    columns, rows, keys, bold = list(scores.mean.columns), [], [], set()
    best = best_cells(scores.mean, within)
    for key in scores.mean.index:
        bold |= {(len(rows), 2 + i) for i, column in enumerate(columns) if (key, column) in best}
        cells = zip(_cells(scores.mean, scores.half, key, columns), columns, strict=True)
        cells = [cell + "†" * ((key, column) in marked) for cell, column in cells]
        rows.append([key[0], row_name(key[1]), *cells])
        keys.append((key[0], is_control(key[1])))
        if (theirs := _print_of(printed, key)) is not None:
            cells = [_cell(theirs.get(_print_name(c), math.nan), math.nan, c) for c in columns]
            rows.append(["", "  as printed", *cells])
            keys.append(keys[-1])
    return Table(
        title=title,
        header=["Pair", "Method", *columns],
        rows=rows,
        notes=notes,
        left=2,
        bold=frozenset(bold),
        blocks=blocks(keys),
    )


def _by_beta(title: str, scores: Scores, notes: Sequence[str]) -> Table:
    """Table 2: rows a pair, Avg and Rel and more; one column a beta, other methods, guessing."""
    ids = list(dict.fromkeys(scores.mean.index.get_level_values("method")))
    methods = [Method.parse(text) for text in ids if text != BASELINE and "/" not in text]
    swept = [m for m in methods if "beta" in m.parameters and m.name == methods[0].name]
    columns = {f"β = {m['beta']:g}": str(m) for m in sorted(swept, key=lambda m: m["beta"])}
    columns |= {m.label: str(m) for m in methods if m not in swept}
    columns |= {row_name(row): row for row in (TEACHER, *FLOORS.values())}
    rows, keys = [], []
    for pair in filter(None, dict.fromkeys(scores.mean.index.get_level_values("pair"))):
        for value in ("Avg", "Rel", TELLING, MARGIN):
            found = [
                (pair if (pair, row) in scores.mean.index else "", row) for row in columns.values()
            ]
            cells = [
                _cells(scores.mean, scores.half, key, [value])[0]
                if key in scores.mean.index
                else "–"
                for key in found
            ]
            rows.append([pair if value == "Avg" else "", value, *cells])
            keys.append(pair)
    header = ["Pair", "", *columns]
    return Table(title=title, header=header, rows=rows, notes=notes, left=2, blocks=blocks(keys))


def _cells(mean: pd.DataFrame, half: pd.DataFrame, key: Row, columns: Sequence[str]) -> list[str]:
    return [_cell(mean.loc[key, column], half.loc[key, column], column) for column in columns]


def _cell(mean: float, half: float, column: str) -> str:
    return plus_minus(mean, half, DECIMALS.get(column, 1))


def _bounds(scores: Scores, printed: Mapping[Row, Any]) -> pd.DataFrame:
    """Mean, low and high of every column, one row a pair and method; printed values beside."""
    frame = scores.mean.copy()
    for column in scores.mean.columns:
        frame[f"{column}_low"] = scores.mean[column] - scores.half[column]
        frame[f"{column}_high"] = scores.mean[column] + scores.half[column]
        if printed:
            theirs = [_print_of(printed, key) for key in frame.index]
            name = _print_name(column)
            frame[f"{column}_printed"] = [math.nan if t is None else t.get(name) for t in theirs]
    frame.insert(0, "seeds", scores.seeds)
    return frame.reset_index()


def _printed(suite: Suite, name: str) -> dict[Row, pd.Series]:
    """The printed rows by ours; models of others have the pair ""."""
    others = {entry.printed: ref for ref, entry in suite.references.items()}
    points = [point.split("/") for point in suite.items[name].checkpoints]

    def released(row: pd.Series) -> str:
        """A row of no method: a checkpoint of the pair's student, or a model of others."""
        if row["model"] in others:
            return f"references/{others[row['model']]}"
        model = suite.pairs[row["pair"]].student.model
        own = [point for of, point in points if of == model]
        named = [point for point in own if point == str(row.get("tokens")).lower()]
        return f"{model}/{(named or own)[0]}"

    return reported.by_row(reported.table(int(name.removeprefix("table"))), released)


def _print_of(printed: Mapping[Row, Any], key: Row) -> Any:
    return printed.get(("", key[1]) if key[1].startswith("references/") else key)


def _print_name(column: str) -> str:
    """The column of the printed table: ``ARC-E`` is ``arc_e`` there."""
    return column.lower().replace("-", "_")


# --- Notes ---------------------------------------------------------------------------------------


def _kind(suite: Suite, fewshot: bool) -> str:
    settings = suite.evaluation.fewshot if fewshot else suite.evaluation.math
    kind = "analogue tasks, " if fewshot else "generated analogues, "
    analogue = settings is None or settings.suite != "paper"
    return f"{kind if analogue else ''}scale {suite.scale}"


def _fewshot_notes(suite: Suite, name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader has to know: data, metric, shots, seeds, and how it departs from the paper."""
    first = records[0]
    tasks = first["tasks"].values()
    entries = first["tasks"].items()
    normalised = [_column(name, task) for name, task in entries if task["metric"] == "acc_norm"]
    notes = []
    if first["analogue"]:
        notes.append(
            "Analogue: the items of each task are made from held-out text of the corpus, in the "
            "format, number of options and metric of the task whose column they stand in. They "
            "are not the benchmarks, and the values are not comparable with the paper's."
        )
    seeds = len(suite.seeds_of(name))
    over = (
        f"Mean and 95% t interval over {seeds} seeds." if seeds > 1 else "One seed, so no interval."
    )
    notes.append(
        f"Accuracy in percent by lm-eval {first['lm_eval']}; acc_norm in "
        f"{', '.join(normalised)}, acc elsewhere; {spread(task['n'] for task in tasks)} items a "
        f"task; {spread(task['shots'] for task in tasks)} shots (the paper says few-shot, the rows "
        f"it quotes are zero-shot). {over}"
    )
    notes.append(
        f"{MARGIN}: log p of the right option less the highest of the others, in nats a character, "
        "mean over items, then tasks; of the tasks with acc the option's log p as a whole, divided "
        "by its characters."
    )
    if name in WITH_REL:
        notes.append(f"Rel: 100 × mean over tasks of log10(accuracy / that of {BASELINE}).")
    if name == "table1" and _of_paper(suite, name):
        notes.append(
            "The paper quotes the baselines of its Table 1 from another paper, with another corpus "
            "and budget. Here all rows are runs of one corpus and, but for those named, one budget."
        )
    if name == "table4":
        notes.append(
            "F-ECE: Full-ECE in percent, 10 bins, lower is better; its intervals and noise floor "
            "are in the table of calibration."
        )
    if name != "table2":
        notes.append(f"Bold: the best of a pair and column, and what is within {ALIKE} of it.")
    return [*notes, *silent_notes(task for record in records for task in record["tasks"].values())]


def _math_notes(suite: Suite, name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """What the sets are, how they were graded, and how the two ways of grading differ."""
    first, notes = records[0], []
    entries = [
        entry | {key: record[key] for key in ("dtype",) if key in record}
        for record in records
        for entry in record["datasets"].values()
    ]
    items, differ, truncated = (
        sum(entry[key] for entry in entries) for key in ("items", "differ", "truncated")
    )
    if first["analogue"]:
        notes.append(
            "Analogue: generated word problems in the shape of each set, with numbers small enough "
            "for tiny models. They are not the benchmarks, and the values are not comparable with "
            "the paper's."
        )
    seeds = len(suite.seeds_of(name))
    over = f"mean and 95% interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"
    counts = spread(entry["items"] for entry in entries).replace(",", "")
    notes.append(f"Accuracy in percent, greedy decoding, {counts} items a set; {over}.")
    notes.append(
        f"Graded as the reference protocol does (compat). A strict grader disagrees on {differ} of "
        f"{items} answers; {truncated} answers were cut off by the cap on their length."
    )
    return [*notes, *math_notes(records), *silent_notes(entries)]


def _telling_note(left_out: Mapping[str, Sequence[str]], fewshot: bool) -> str:
    """What guessing is, and on which tasks the teacher does no better."""
    floor = "chance" if fewshot else "the commonest answer"
    lost = "; ".join(f"{pair}: {', '.join(found)}" for pair, found in left_out.items() if found)
    return (
        "Chance: an option at random, where an item has options; commonest answer: always giving "
        f"the set's commonest. {TELLING}: mean over the tasks on which the teacher is above "
        f"{floor} (one-sided exact binomial test over items, 5%), which claims use. "
        + (f"Left out, and marked †: {lost}." if lost else "None is left out.")
    )


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
    if suite.stages[suite.items[name].stage].after:
        notes.append(
            "Every row but the checkpoint's starts from the run of Table 7 by the same method "
            "(CLM + SFT: from its CLM run)."
        )
    return notes
