"""What every method cost here beside what it reached: FLOPs, time and memory of the runs.

FLOPs are those of ``tad.experiment.flops`` for the tokens trained on, as executed (causal
attention, frozen matrices as built), of student, teacher, reference model and generation together.
Times are wall clock of the training process, and of the scoring, writing or teacher's states before
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.kinds import read_record
from analysis.names import titled
from analysis.results import over_seeds, run_keys
from analysis.writing.render import Table, control_note, controls_last, plus_minus
from tad.experiment.config import Suite
from tad.experiment.flops import EXECUTED, Assumptions, model_account, pair_account
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.methods import Method
from workflow.items import RECORDS, TARGETS, offline_record

SCORES = {"fewshot.json": "few-shot Avg, %", "math.json": "math Avg, %"}
PLAIN = "clm"
"""What costs are multiples of."""


def petaflops(suite: Suite, run: RunId, tokens: float) -> float:
    """PetaFLOPs of a run that trained on so many tokens, with what was done ahead of it."""
    # One pass over what is written and one over the corpus, as tad.train.on_policy does.
    assumptions = Assumptions(minillm_epochs=1, minillm_corpus=1.0)
    if run.method.row.rows == "selected":
        chosen = suite.baselines.miniplm
        reference = model_account(suite, chosen.reference[run.stage])
        assumptions = Assumptions(delta=chosen.delta, reference=reference)
    cost = pair_account(suite, run.pair).cost(
        run.method.name,
        context=suite.stages[run.stage].context,
        conventions=EXECUTED,
        assumptions=assumptions,
    )
    return cost.total * tokens / 1e15


def costs_frame(suite: Suite, root: Path) -> pd.DataFrame:
    """One row a run: what it is, tokens, petaflops, seconds, ahead, memory (GB) and score."""
    return pd.DataFrame(_rows(suite, root))


def _rows(suite: Suite, root: Path) -> Iterator[dict[str, Any]]:
    items = [item for item in TARGETS["costs"].needs if item in suite.select.items]
    found = {run: RECORDS[item][0] for item in reversed(items) for run in suite.runs(item)}
    for run in dict.fromkeys(run for item in items for run in suite.runs(item)):
        record, folder = found[run], Layout(root).run(run)
        manifest = read_record(folder / "manifest.json")
        average = read_record(folder / record)["average"]
        yield {
            **run_keys(run),
            "tokens": manifest["tokens"],
            "petaflops": petaflops(suite, run, manifest["tokens"]),
            "seconds": manifest["wall_seconds"],
            "resumed": manifest["resumed_from_step"],
            "ahead": _ahead(root, run, manifest),
            "memory": manifest["peak_memory_bytes"] / 1e9,
            "score": average["compat"] if isinstance(average, dict) else 100 * average,
            "score_of": SCORES[record],
        }


def _ahead(root: Path, run: RunId, manifest: dict[str, Any]) -> float:
    """Seconds of scoring, writing, or computing the teacher's states that a run read."""
    path = offline_record(run)
    if path is None:
        return manifest.get("states_seconds", 0.0)
    record = read_record(root / path)
    return float(record.get("generation", record)["wall_seconds"])


def costs_table(suite: Suite, frame: pd.DataFrame) -> Table:
    """Means over seeds, one row a pair and method."""
    keys = ["stage", "pair", "method"]
    values = ("tokens", "petaflops", "seconds", "ahead", "memory", "score")
    means = {name: over_seeds(frame, keys, name).set_index(keys) for name in values}
    unit, factor = unit_of(frame["petaflops"].max())
    header = ["Stage", "Pair", "Method", "tokens, k", unit, "× CLM", "training, s"]
    header += ["ahead, s", "memory, GB", "score"]
    # Methods in one order for all pairs.
    order = [list(dict.fromkeys(frame[key])) for key in keys]
    named, rows = list(means["tokens"].index), []
    named.sort(key=lambda key: [of.index(part) for of, part in zip(order, key, strict=True)])
    sorted_frame, rules = controls_last(pd.DataFrame(named, columns=keys), keys[:2])
    named = list(sorted_frame.itertuples(index=False, name=None))
    for key in named:
        mean = {name: table.loc[key, "mean"] for name, table in means.items()}
        plain = means["petaflops"]["mean"].get((*key[:2], PLAIN))
        ratio = f"{mean['petaflops'] / plain:.2f}" if plain else "–"
        rows.append(
            [
                *key[:2],
                Method.parse(key[2]).label,
                f"{mean['tokens'] / 1e3:,.0f}",
                f"{factor * mean['petaflops']:.3g}",
                ratio,
                f"{mean['seconds']:.0f}",
                f"{mean['ahead']:.0f}" if mean["ahead"] else "",
                f"{mean['memory']:.2f}",
                plus_minus(mean["score"], means["score"].loc[key, "half"], 1),
            ]
        )
    return Table(
        title=f"Cost of every method, as run here (scale {suite.scale})",
        header=header,
        rows=rows,
        notes=[*_notes(frame), *control_note(frame["method"])],
        left=3,
        blocks=rules,
    )


def unit_of(petaflops: float) -> tuple[str, float]:
    """A unit in which this many PetaFLOPs is a number of ordinary size, and its factor."""
    units = (("PFLOPs", 1.0), ("TFLOPs", 1e3), ("GFLOPs", 1e6))
    return next((unit for unit in units if petaflops * unit[1] >= 1), units[-1])


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = [
        "FLOPs: matrix products of all models involved, counted from their shapes (attention "
        "causal, frozen matrices as built). Score: few-shot average of Tables 1 and 4, compat "
        "average of Table 7 in the stage math, in percent.",
        "Seconds are wall clock of a process, with loading, evaluation on the way and whatever "
        "else the machine did at the time; FLOPs are the fairer comparison. Ahead: scoring, "
        "writing, or the teacher's states on the rows, which runs may share. MiniLLM trains on a "
        "share of the budget (token_share), by this project's on-policy stand-in.",
    ]
    resumed = frame[frame["resumed"] > 0]
    if len(resumed):
        notes.append(f"{len(resumed)} runs were resumed; their seconds are of the last part alone.")
    return notes


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table of a root. Raises RecordError for a missing record."""
    frame = costs_frame(suite, root)
    titled(suite, costs_table(suite, frame)).write(root / "tables", name, frame)
