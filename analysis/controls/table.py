"""The table ``controls``: held-out KL, NLL, Full-ECE and few-shot margin against the weight of the
divergence, beta, the learning rate and other divergences (``analysis.controls.frame``)."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from analysis.claims.words import p_value
from analysis.controls.frame import BLOCKS, OTHERS, REFERENCE, controls_frame
from analysis.names import titled
from analysis.results import row_name
from analysis.writing.render import Table, blocks, plus_minus
from tad.experiment.config import Suite

COLUMNS = {"kl": ("KL(T||S)", 4), "nll": ("NLL", 4), "full_ece": ("Full-ECE, %", 2),
           "margin": ("margin", 4)}  # fmt: skip
"""Header and decimals of each metric."""


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table of a root. Raises RecordError for a missing record."""
    frame = controls_frame(suite, root)
    titled(suite, controls_table(suite, frame)).write(root / "tables", name, frame)


def controls_table(suite: Suite, frame: pd.DataFrame) -> Table:
    """One row a pair and method, a rule between blocks."""
    keys = list(zip(frame["pair"], frame["block"], strict=True))
    header = ["Pair", "Block", "Method", "Seeds", "Weight : CLM", "× KL"]
    header += [title for title, _ in COLUMNS.values()]
    reference = row_name(REFERENCE)
    rules = blocks(keys)
    rows = []
    for at, row in enumerate(frame.to_dict("records")):
        head = [row["pair"], row["block"]] if at in rules or not at else ["", ""]
        rows.append([*head, row_name(row["method"]), str(row["seeds"]), *_weights(row),
                     *_metrics(row), *_compared(row)])  # fmt: skip
    return Table(
        title=f"TAD and its controls (scale {suite.scale})",
        header=[*header, f"KL less that of {reference}", "95%", "p"],
        rows=rows,
        notes=_notes(reference, frame),
        left=3,
        blocks=rules,
    )


def _weights(row: dict) -> list[str]:
    """Weights of divergence and CLM, and the divergence's size in units of KL."""
    if not row["size"]:
        return ["0 : 1", ""]
    size = "" if math.isnan(row["size"]) else f"{row['size']:.2f}"
    return [f"{row['divergence']:g} : {row['clm']:g}", size]


def _metrics(row: dict) -> list[str]:
    return [
        plus_minus(row[key], row[f"{key}_half"], digits) for key, (_, digits) in COLUMNS.items()
    ]


def _compared(row: dict) -> list[str]:
    if math.isnan(row["effect"]):
        return ["", "", ""]
    interval = "" if math.isnan(row["low"]) else f"{row['low']:+.1f} to {row['high']:+.1f}"
    return [f"{row['effect']:+.1f}%", interval, p_value(row["p_adjusted"])]


def _notes(reference: str, frame: pd.DataFrame) -> list[str]:
    tested = int(frame["p"].notna().sum())
    there = [block for block in BLOCKS if block in set(frame["block"])]
    notes = [
        "Held-out text, nats a token; margin: log p of the right option less the highest of the "
        "others, nats a character, mean over items and few-shot tasks that the teacher knows. Mean "
        "and 95% t interval over seeds. Rows of more seeds are also of a second teacher: compare "
        "them by the differences, which are taken on the seeds of both.",
        "× KL: the divergence's value in the loss, with its weight, over the student's held-out KL "
        "at the same step, averaged over the evaluations on the way: about 1 for KL at weight 1. "
        "A row with another size than 1 : 1 gives distillation another weight against CLM, "
        "whatever its shape.",
        f"Everything here is exploratory: p (two-sided, of the difference to {reference}) is "
        f"corrected by Benjamini and Hochberg over the {tested} rows that have one; a difference "
        "without is a primary claim, judged in the table of claims, or of too few seeds. "
        f"Blocks: {', '.join(there)}; what a block does not vary is as in the rows above it.",
    ]
    if OTHERS in there:
        notes.append("Other divergences, exploratory as well: each as its paper has it, and "
                     "\"matched\" scaled step by step to the value of TAD.")  # fmt: skip
    return notes
