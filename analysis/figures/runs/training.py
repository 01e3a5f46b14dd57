"""The figure ``training``: the terms of the training loss over tokens, one column a pair.

Terms are as they stand in the loss, each with what it was scaled by and without its weight; a
point is the mean over one of POINTS equal parts of the tokens, so nothing else is smoothed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.names import pair_title, short
from analysis.results import run_keys, write_numbers
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.methods import BASELINE, MATCHED_TO, Method
from tad.records import RecordError, read_json_lines
from workflow.items import TARGETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TERMS = {"clm": "CLM", "divergence": "divergence", "cosine": "cosine term"}
"""What a train.jsonl may log of the loss."""

METHODS = (Method(BASELINE), Method(f"{BASELINE}_matched"), Method(MATCHED_TO))
POINTS = 60


def training_frame(suite: Suite, root: Path) -> pd.DataFrame:
    """One row a pair, method, term and part of the tokens.

    Columns: pair, method, term, tokens, mean, low, high (over seeds, nats a token), seeds. Raises
    RecordError for a record that is missing or without a step.
    """
    items = [item for item in TARGETS["training"].needs if item in suite.select.items]
    runs = dict.fromkeys(run for item in items for run in suite.runs(item))
    parts = []
    for run in (run for run in runs if run.method in METHODS):
        path = Layout(root).run(run) / "train.jsonl"
        lines = pd.DataFrame([line for line in read_json_lines(path) if "loss" in line])
        if lines.empty:
            raise RecordError(f"{path}: no training step; train the run again")
        terms = [term for term in TERMS if term in lines]
        last = lines["tokens"].max()
        part = np.ceil(lines["tokens"] / last * POINTS).clip(upper=POINTS)
        means = lines[["tokens", *terms]].groupby(part).mean()
        parts.append(means.melt("tokens", var_name="term").assign(**run_keys(run)))
    frame = pd.concat(parts, ignore_index=True)
    keys = ["pair", "method", "term", "tokens"]
    values = frame.groupby(keys, sort=False)["value"]
    return values.agg(mean="mean", low="min", high="max", seeds="size").reset_index()


def figure(frame: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """A row of panels a term, a column a pair."""
    from matplotlib.figure import Figure

    terms = [term for term in TERMS if (frame["term"] == term).any()]
    width = style.TEXT_WIDTH * (1.0 if len(titles) > 1 else 0.7)
    page = Figure(figsize=(width, 1.6 * len(terms) + 0.8), layout="constrained")
    axes = page.subplots(len(terms), len(titles), squeeze=False, sharex="col")
    for term, row in zip(terms, axes, strict=True):
        for pair, axis in zip(titles, row, strict=True):
            own = frame[(frame["term"] == term) & (frame["pair"] == pair)]
            for name in dict.fromkeys(own["method"]):
                line = own[own["method"] == name].sort_values("tokens")
                method = Method.parse(name)
                look = {k: v for k, v in style.method_look(method).items() if k != "marker"}
                axis.plot(line["tokens"], line["mean"], lw=1, label=method.label, **look)
                axis.fill_between(line["tokens"], line["low"], line["high"], color=look["color"],
                                  alpha=0.15, lw=0)  # fmt: skip
            axis.set_visible(len(own) > 0)
        row[0].set_ylabel(f"{TERMS[term]} (nats/token)" if term != "cosine" else TERMS[term])
    for axis, title in zip(axes[0], titles.values(), strict=True):
        axis.set_title(style.wrapped(title, len(titles)))
    for axis in axes[-1]:
        axis.xaxis.set_major_formatter(lambda value, _: short(value))
        axis.set_xlabel("training tokens")
    seeds = style.over(frame["seeds"], "range")
    page.legend(*style.entries(axes.flat), loc="outside lower center", ncols=3,
                title=f"bands: {seeds}")  # fmt: skip
    return page


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises RecordError for a missing record."""
    frame = training_frame(suite, root)
    titles = {pair: pair_title(suite, pair) for pair in dict.fromkeys(frame["pair"])}
    style.save(figure(frame, titles), root / "figures" / name)
    write_numbers(frame, root / "figures" / f"{name}.csv")
