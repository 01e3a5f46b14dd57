"""The figure ``flops``: what every method scored against what its training cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.calibration import looks
from analysis.names import pair_title
from analysis.results import over_seeds, write_numbers
from analysis.tables.costs import costs_frame, unit_of
from tad.experiment.config import Suite
from tad.methods import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEP = 0.05
"""Between methods of one cost, as a share of the axis."""

KEYS = ["stage", "pair", "method"]


def flops_frame(suite: Suite, root: Path) -> pd.DataFrame:
    """One row a stage, pair and method: petaflops, score and its half (95% t interval over seeds),
    seeds, score_of, and best (no method scored as much for less). Raises RecordError."""
    runs = costs_frame(suite, root)
    found = over_seeds(runs, KEYS, "score").rename(columns={"mean": "score"})
    means = runs.groupby(KEYS, sort=False).agg(petaflops=("petaflops", "mean"),
                                               score_of=("score_of", "first"))  # fmt: skip
    found = found.merge(means.reset_index(), on=KEYS)
    best = pd.Series(False, index=found.index)
    for _, part in found.groupby(KEYS[:2]):
        best |= found.index.isin(pareto(part))
    return found.assign(best=best)


def pareto(part: pd.DataFrame) -> list:
    """The rows, by growing cost, that score more than every cheaper one."""
    kept, most = [], float("-inf")
    for at, row in part.sort_values(["petaflops", "score"], ascending=[True, False]).iterrows():
        if row["score"] > most:
            kept.append(at)
            most = row["score"]
    return kept


def figure(frame: pd.DataFrame, titles: Mapping[tuple[str, str], str]) -> Figure:
    """A panel each stage and pair, under its title."""
    chosen = looks([Method.parse(name) for name in dict.fromkeys(frame["method"])])
    page, axes = style.panels(titles, 2.1, more=1.0)
    for (stage, pair), axis in axes.items():
        _panel(axis, frame[(frame["stage"] == stage) & (frame["pair"] == pair)], chosen)
    told = f"steps: most for the cost; bars: {style.over(frame['seeds'])}"
    page.legend(*style.entries(axes.values()), loc="outside lower center", title=told,
                ncols=4 if len(axes) > 1 else 2)  # fmt: skip
    return page


def _panel(axis: Axes, rows: pd.DataFrame, chosen: Mapping[Method, Mapping]) -> None:
    unit, factor = unit_of(rows["petaflops"].max())
    rows = rows.assign(cost=factor * rows["petaflops"])
    line = rows[rows["best"]].sort_values("cost")
    axis.plot(line["cost"], line["score"], color=style.GREY, lw=0.8, zorder=1,
              drawstyle="steps-post")  # fmt: skip
    for row, place in zip(rows.to_dict("records"), _side_by_side(rows["cost"]), strict=True):
        method = Method.parse(row["method"])
        half = row["half"] if row["half"] == row["half"] else None
        axis.errorbar(place, row["score"], yerr=half, ls="", elinewidth=0.7, label=method.label,
                      **chosen[method])  # fmt: skip
    axis.set_xscale("log")
    style.few_log_ticks(axis, rows["cost"])
    axis.margins(x=0.12, y=0.12)
    axis.set(xlabel=f"training, {unit}", ylabel=rows["score_of"].iloc[0])


def _side_by_side(costs: pd.Series) -> pd.Series:
    """Places for methods that cost the same (to 1%), around their cost in the order of rows."""
    same = np.log10(costs).round(2)
    order = costs.groupby(same).cumcount() - (costs.groupby(same).transform("size") - 1) / 2
    return costs * (costs.max() / costs.min()) ** (STEP * order)


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises RecordError for a missing record."""
    frame = flops_frame(suite, root)
    keys = dict.fromkeys(zip(frame["stage"], frame["pair"], strict=True))
    titles = {key: f"{pair_title(suite, key[1])} ({key[0]})" for key in keys}
    style.save(figure(frame, titles), root / "figures" / name)
    write_numbers(frame, root / "figures" / f"{name}.csv")
