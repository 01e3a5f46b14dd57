"""The figure ``controls``: metrics against the weight of the divergence, one row of panels a pair,
and below them held-out KL against beta and against the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.controls.frame import OTHERS, PARAMETER, RATE, WEIGHT, controls_frame
from analysis.figures import style
from analysis.names import pair_title
from analysis.results import write_numbers
from tad.experiment.config import Suite
from tad.methods import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"kl": "held-out KL", "nll": "held-out NLL", "full_ece": "Full-ECE (%)",
          "margin": "few-shot margin"}  # fmt: skip
TICKS = (1, 2, 5, 10, 20)
OUTSIDE = 1.6
"""Factor by which a row without divergence, or without CLM, stands off the others."""


def figure(frame: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """``frame`` is that of ``controls_frame``; bars are 95% t intervals over seeds.

    A filled mark is a row of the paper or another paper's divergence, a hollow one a control.
    """
    from matplotlib.figure import Figure

    metrics = [metric for metric in LABELS if frame[metric].notna().any()]
    grids = [at for at in (PARAMETER, RATE) if (frame["block"] == at).any()]
    rows = len(titles) + bool(grids)
    page = Figure(figsize=(style.TEXT_WIDTH, 1.9 * rows + 1.2), layout="constrained")
    parts = page.subfigures(rows, 1, squeeze=False)[:, 0]
    for part, (pair, title) in zip(parts, titles.items(), strict=False):
        part.suptitle(title, fontsize=8)
        panels = part.subplots(1, len(metrics), squeeze=False)[0]
        for axis, metric in zip(panels, metrics, strict=True):
            _against_weight(axis, frame[frame["pair"] == pair], metric)
    if grids:
        panels = parts[-1].subplots(1, len(grids), squeeze=False)[0]
        for axis, block in zip(panels, grids, strict=True):
            _against_parameter(axis, frame, block)
    _legend(page, frame)
    return page


def positions(frame: pd.DataFrame) -> pd.Series:
    """Where rows stand: size over the weight of CLM; off the ends without divergence or CLM."""
    ratio = frame["size"] / frame["clm"].where(frame["clm"] > 0)
    inside = ratio[ratio > 0]
    low, high = (inside.min(), inside.max()) if len(inside) else (1.0, 1.0)
    found = ratio.where(ratio > 0, low / OUTSIDE)
    return found.where(frame["clm"] > 0, high * OUTSIDE)


def _against_weight(axis: Axes, frame: pd.DataFrame, metric: str) -> None:
    """One metric of a pair's rows that have the parameters and the rate of the paper."""
    there = frame[frame["block"].isin([WEIGHT, OTHERS]) & frame[metric].notna()]
    there = there.assign(at=positions(there))
    _draw(axis, there, metric, joined=there["clm"] > 0)
    low, high = there["at"].min(), there["at"].max()
    inside = there["at"][(there["size"] > 0) & (there["clm"] > 0)]
    within = [x for x in TICKS if inside.min() / 1.1 <= x <= 1.1 * inside.max()]
    named = {float(x): f"{x}" for x in within}
    if (there["size"] == 0).any():
        named[low] = "0"
    if (there["clm"] == 0).any():
        named[high] = "∞"
    axis.set_xticks(list(named), list(named.values()))
    axis.set_title(LABELS[metric])
    axis.set_xlabel("divergence : CLM")
    if metric == "kl":
        axis.set_yscale("log")
        style.plain_log_labels(axis)
        axis.yaxis.get_major_locator().set_params(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


def _against_parameter(axis: Axes, frame: pd.DataFrame, block: str) -> None:
    """Held-out KL of each method against the number that a block varies, its default included."""
    methods = frame["method"].map(Method.parse)
    names = methods.map(lambda method: method.name)
    own = frame["block"] == block
    plain = methods.map(lambda method: method == Method(method.name))
    varied = names.isin(names[own]) & frame["pair"].isin(frame["pair"][own])
    rows = frame[own | (plain & varied)]
    rate = block == RATE
    rows = rows.assign(
        at=[m.shared["r"] if rate else m["beta"] for m in methods[rows.index]],
    )
    for _, of_pair in rows.groupby("pair", sort=False):
        _draw(axis, of_pair, "kl", joined=of_pair["at"] > 0)
    ticks = sorted(set(rows["at"]))
    axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axis.set_xlabel("learning rate, multiple of the stage's" if rate else "β")
    axis.set_ylabel(LABELS["kl"])


def _draw(axis: Axes, rows: pd.DataFrame, metric: str, joined: pd.Series) -> None:
    """Rows at ``at`` on a log axis; those of one method that are ``joined`` by a line."""
    methods = {name: Method.parse(name) for name in rows["method"]}
    lines = rows[joined].sort_values("at")
    for _, line in lines.groupby(lines["method"].map(lambda name: methods[name].name)):
        look = style.method_look(methods[line["method"].iloc[0]])
        axis.plot(line["at"], line[metric], color=look["color"], ls=look["linestyle"], lw=0.8)
    for row in rows.to_dict("records"):
        method, half = methods[row["method"]], row[f"{metric}_half"]
        look = style.method_look(method)
        face = "none" if method.control else look["color"]
        axis.errorbar(
            row["at"], row[metric], yerr=None if np.isnan(half) else half, ls="none",
            color=look["color"], marker=look["marker"], markerfacecolor=face, markeredgewidth=0.9,
            elinewidth=0.7, label=method.row.label if method == Method(method.name) else None,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.minorticks_off()


def _legend(page: Figure, frame: pd.DataFrame) -> None:
    """One entry a method of any panel, below all of them."""
    found = {}
    for axis in page.get_axes():
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    told = f"hollow: controls; bars: {style.over(frame['seeds'])}"
    page.legend(found.values(), found, loc="outside lower center", ncols=3, title=told)


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises RecordError for a missing record."""
    frame = controls_frame(suite, root, shared_seeds=True)
    titles = {pair: pair_title(suite, pair) for pair in dict.fromkeys(frame["pair"])}
    style.save(figure(frame, titles), root / "figures" / name)
    write_numbers(frame, root / "figures" / f"{name}.csv")
