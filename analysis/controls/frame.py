"""The frame that table and figure of controls are drawn from.

The *size* of a divergence is its value in the loss, weight included, over the held-out KL of the
same student, averaged over the evaluations on the way: about 1 for KL at weight 1, so that losses
of any shape can be set beside KL at a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.compare import differences
from analysis.claims.design import load_design
from analysis.claims.evidence import Evidence
from analysis.claims.metrics import KL
from analysis.claims.statistics import ALL, Part, benjamini_hochberg, find
from analysis.kinds import read_record
from analysis.results import over_seeds
from analysis.telling import average_margin, teacher_records, telling
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.methods import MATCHED_TO, Method
from tad.records import read_json_lines
from workflow.items import CONTROL_ITEMS, RECORDS

WEIGHT, PARAMETER, RATE, OTHERS = "weight", "β", "learning rate", "other divergences"
BLOCKS = (WEIGHT, PARAMETER, RATE, OTHERS)
REFERENCE = str(Method(MATCHED_TO))
"""What every row is compared with: TAD as the paper has it."""

METRICS = ("kl", "nll", "full_ece", "margin")
"""Columns: held-out KL (nats a token), NLL, Full-ECE (percent), few-shot margin (nats a character;
on the tasks that the teacher knows, NaN where the item has no few-shot record)."""


def controls_frame(suite: Suite, root: Path, *, shared_seeds: bool = False) -> pd.DataFrame:
    """One row a pair and method, in the order of blocks.

    Columns: pair, block, method, clm, divergence (their weights), size, seeds; each of METRICS with
    its ``_half`` (95% t interval over seeds); effect, low, high (held-out KL less that of TAD on
    the same seeds, percent), p, p_adjusted (Benjamini and Hochberg over all rows), both NaN
    where a primary claim makes the comparison, which is judged elsewhere. With ``shared_seeds`` the
    means are over the seeds that all rows of a pair have, so that rows can be compared by eye:
    other seeds are of another teacher too. Raises RecordError.
    """
    runs = _runs(suite)
    frame = pd.DataFrame(list(_rows(suite, Layout(root), runs)))
    if shared_seeds:
        frame = on_shared_seeds(frame)
    keys = ["pair", "method"]
    table = over_seeds(frame, keys, "size").rename(columns={"mean": "size"})
    table = table[[*keys, "size", "seeds"]]
    for metric in METRICS:
        means = over_seeds(frame, keys, metric).drop(columns="seeds")
        table = table.merge(means.rename(columns={"mean": metric, "half": f"{metric}_half"}))
    weights = [Method.parse(name).weights for name in table["method"]]
    table["clm"], table["divergence"] = np.transpose(weights)
    table["block"] = [_block(suite, name) for name in table["method"]]
    table = table.merge(_compared(suite, root, table), how="left", on=keys)
    order = [list(dict.fromkeys(run.pair for run in runs)), list(BLOCKS)]
    at = [
        [of.index(x) for x in table[key]] for of, key in zip(order, ("pair", "block"), strict=True)
    ]
    return table.iloc[np.lexsort(at[::-1])].reset_index(drop=True)


def on_shared_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each pair the rows of those seeds that all its methods have; all where there are none."""
    methods = frame.groupby("pair")["method"].transform("nunique")
    shared = frame.groupby(["pair", "seed"])["method"].transform("nunique") == methods
    return frame[shared | ~shared.groupby(frame["pair"]).transform("any")]


def _runs(suite: Suite) -> list[RunId]:
    items = [item for item in CONTROL_ITEMS if item in suite.select.items]
    return list(dict.fromkeys(run for item in items for run in suite.runs(item)))


def _rows(suite: Suite, layout: Layout, runs: Sequence[RunId]) -> Iterator[dict[str, Any]]:
    scored = {
        run
        for item in CONTROL_ITEMS
        if item in suite.select.items and "fewshot.json" in RECORDS[item]
        for run in suite.runs(item)
    }
    kept = {
        pair: telling(teacher_records(suite, layout, "primary", pair, "fewshot.json"))
        for pair in dict.fromkeys(run.pair for run in scored)
    }
    for run in runs:
        folder = layout.run(run)
        metrics = read_record(folder / "heldout.json")["metrics"]
        margin = math.nan
        if run in scored:
            margin = average_margin(read_record(folder / "fewshot.json"), kept[run.pair])
        yield {
            "pair": run.pair,
            "method": str(run.method),
            "seed": run.seed,
            "kl": metrics["kl"]["mean"],
            "nll": metrics["nll"]["mean"],
            "full_ece": 100 * read_record(folder / "calibration.json")["full_ece"],
            "margin": margin,
            "size": size(read_json_lines(folder / "train.jsonl")),
        }


def size(lines: Sequence[dict[str, Any]]) -> float:
    """The size of the divergence in a train.jsonl; 0 without one, NaN without a common point."""
    values = {line["step"]: line["divergence"] for line in lines if "divergence" in line}
    kl = {line["step"]: line["eval_kl"] for line in lines if "eval_kl" in line}
    if not values:
        return 0.0
    ratios = [values[step] / kl[step] for step in kl if step in values and kl[step] > 0]
    return float(np.mean(ratios)) if ratios else math.nan


def _block(suite: Suite, name: str) -> str:
    """Where a row stands: with the weights, unless something else is what it varies."""
    method = Method.parse(name)
    listed = [item for item in CONTROL_ITEMS if name in suite.items[item].methods]
    if method.shared["r"] != 1:
        return RATE
    if listed == ["divergences"]:
        return OTHERS
    return (
        WEIGHT
        if method.control or not method.values or method == Method(method.name)
        else PARAMETER
    )


def _compared(suite: Suite, root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Held-out KL of each row less that of TAD, in percent, on the seeds of both."""
    evidence, rows = Evidence(suite, root), []
    runs = evidence.runs(CONTROL_ITEMS, KL.record)
    primary = {
        (pair, claim.theirs)
        for claim in load_design().claims.values()
        for pair in claim.pairs
        if (claim.metric, claim.ours) == ("kl", REFERENCE)
    }
    for name in dict.fromkeys(table["method"]):
        if name == REFERENCE:
            continue
        for pair, estimate in differences(evidence, KL, runs, name, REFERENCE).items():
            found = find([Part("", {ALL: estimate}, 1)], ALL, "%", percent=True)
            row = {"pair": pair, "method": name, "effect": found.effect}
            p = math.nan if (pair, name) in primary else found.p
            rows.append(row | {"low": found.low, "high": found.high, "p": p})
    frame = pd.DataFrame(rows, columns=["pair", "method", "effect", "low", "high", "p"])
    return frame.assign(p_adjusted=benjamini_hochberg(frame["p"].tolist()))
