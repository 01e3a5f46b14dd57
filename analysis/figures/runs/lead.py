"""The figure ``lead``: held-out KL of TAD less that of its controls, over training, in percent.

Differences are taken between runs of one seed, as the claims take them: ratios, averaged as
logarithms. The matched control is KL at the value that TAD has in every step: what is left of the
difference to it is due to the shape of TAD and not to its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.names import pair_title, short
from analysis.results import curve_frame, over_seeds, write_numbers
from tad.experiment.config import Suite
from tad.methods import BASELINE, MATCHED_TO, Method
from workflow.items import TARGETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = Method(MATCHED_TO)
CONTROLS = (Method(f"{BASELINE}_matched"), Method(BASELINE))


def lead_frame(suite: Suite, root: Path) -> pd.DataFrame:
    """One row a pair, control and evaluation: pair, control, tokens, mean, low, high (95% t
    interval over seeds; NaN of one), seeds; in percent of the control's KL. Raises RecordError."""
    items = [item for item in TARGETS["lead"].needs if item in suite.select.items]
    runs = dict.fromkeys(run for item in items for run in suite.runs(item))
    curves = curve_frame(root, [run for run in runs if run.method in (OURS, *CONTROLS)])
    keys = ["pair", "seed", "tokens"]
    curves = curves[curves["tokens"] > 0]  # all are the same model there
    parts = []
    for control in CONTROLS:
        ours, theirs = (curves[curves["method"] == str(m)] for m in (OURS, control))
        both = ours.merge(theirs, on=keys, suffixes=("", "_control"))
        both["gap"] = np.log(both["kl"] / both["kl_control"])
        if len(both):
            parts.append(over_seeds(both, ["pair", "tokens"], "gap").assign(control=str(control)))
    found = pd.concat(parts, ignore_index=True)
    for name, value in (
        ("low", found["mean"] - found["half"]),
        ("high", found["mean"] + found["half"]),
        ("mean", found["mean"]),
    ):
        found[name] = 100 * np.expm1(value)
    return found[["pair", "control", "tokens", "mean", "low", "high", "seeds"]]


def figure(frame: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """A panel a pair, a line a control."""
    page, axes = style.panels(titles, 2.2, more=0.5)
    for pair, axis in axes.items():
        axis.axhline(0, color=style.BLACK, lw=0.8)
        for name in dict.fromkeys(frame["control"]):
            line = frame[(frame["pair"] == pair) & (frame["control"] == name)]
            look = style.method_look(Method.parse(name))
            label = f"{OURS.label} less {Method.parse(name).label}"
            axis.plot(line["tokens"], line["mean"], label=label, **look)
            axis.fill_between(line["tokens"], line["low"], line["high"], color=look["color"],
                              alpha=0.15, lw=0)  # fmt: skip
        low, high = style.robust_limits(frame[frame["pair"] == pair], ("mean", "low", "high"))
        axis.set_ylim(low, high)
        style.clipped(axis, frame[frame["pair"] == pair], (low, high))
        axis.xaxis.set_major_formatter(lambda value, _: short(value))
        axis.set_xlabel("training tokens")
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel("held-out KL, difference (%)")
    handles = next(iter(axes.values())).get_legend_handles_labels()
    line = " " if len(axes) > 1 else "\n"  # the figure of one pair is narrow
    told = f"below 0: TAD is nearer to its teacher;{line}bands: {style.over(frame['seeds'])}"
    page.legend(*handles, loc="outside lower center", ncols=min(2, len(axes)), title=told)
    return page


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises RecordError for a missing record."""
    frame = lead_frame(suite, root)
    titles = {pair: pair_title(suite, pair) for pair in dict.fromkeys(frame["pair"])}
    style.save(figure(frame, titles), root / "figures" / name)
    write_numbers(frame, root / "figures" / f"{name}.csv")
