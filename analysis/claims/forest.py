"""The claims as forest plots: difference, 95% interval, margin and verdict, one row a claim."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.claims.listed import PRIMARY
from analysis.claims.statistics import (
    CONTRADICTED,
    DEPENDS,
    HERE,
    LEVEL,
    NOT_TESTABLE,
    ONE_RUN,
    SAME,
    SUPPORTED,
    UNDECIDED,
)
from analysis.claims.words import p_value
from analysis.figures import style
from analysis.results import write_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {
    SUPPORTED: ("#0072B2", "o", True),
    CONTRADICTED: ("#D55E00", "X", True),
    SAME: ("#009E73", "s", True),
    HERE[SUPPORTED]: ("#0072B2", "o", False),
    HERE[CONTRADICTED]: ("#D55E00", "X", False),
    HERE[SAME]: ("#009E73", "s", False),
    UNDECIDED: (style.GREY, "o", False),
    DEPENDS: ("#CC79A7", "D", False),
    NOT_TESTABLE: (style.GREY, "|", True),
}
"""Colour, marker and whether it is filled, by verdict; what rests on one run is hollow."""

COLUMNS = ["family", "id", "statistic", "unit", "effect", "low", "high", "margin", "p_adjusted",
           "verdict"]  # fmt: skip
"""Of the numbers drawn."""

ROW, AROUND = 0.16, 0.35
"""Inches of a row, and of what stands around the rows of a block."""

LETTERS = 58
"""Of a row's name, beyond which it is cut."""

BEYOND = 4.0
"""An axis reaches at most so many times as far as the median interval of its block."""


def figure(numbers: pd.DataFrame, *, primary: bool) -> Figure:
    """``numbers`` is that of ``judge.frame``, of which the claims with an effect are drawn.

    Primary claims stand in one block, in multiples of their margins; others in a block for each
    family and unit.
    """
    from matplotlib.figure import Figure

    rows = drawn(numbers, primary=primary)
    groups = (
        [rows] if primary else [part for _, part in rows.groupby(["family", "unit"], sort=False)]
    )
    groups = [part for part in groups if len(part)]
    heights = [AROUND + ROW * (len(part) + 1) for part in groups] or [0.5]
    page = Figure(figsize=(1.25 * style.TEXT_WIDTH, sum(heights) + 0.4), layout="constrained")
    if groups:
        axes = page.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axis, part in zip(axes, groups, strict=True):
            _block(axis, part, primary=primary)
        _legend(page, rows)
    else:
        told = _left_out(numbers, primary=primary)
        page.text(0.5, 0.5, f"Nothing to draw: {told}", ha="center", va="center", fontsize=8)
    return page


def drawn(numbers: pd.DataFrame, *, primary: bool) -> pd.DataFrame:
    """The claims that have an effect of runs, with the numbers of the axis: at, from, to."""
    own = numbers[(numbers["family"] == PRIMARY) == primary]
    rows = own[own["effect"].notna() & (own["of"] != "exact")]
    per = rows["margin"] if primary else 1.0
    return rows.assign(
        at=rows["effect"] / per, **{"from": rows["low"] / per, "to": rows["high"] / per}
    )


def limits(rows: pd.DataFrame, *, primary: bool) -> tuple[float, float]:
    """The ends of a block's axis: 0 and all effects, unless a few lie far beyond the others."""
    ends = rows[["at", "from", "to"]].abs().max(axis=1)
    reach = min(ends.max(), BEYOND * ends.median())
    inside = rows[["at", "from", "to"]].clip(-reach, reach).to_numpy()
    least = 1.0 if primary else 0.0
    low, high = min(-least, np.nanmin(inside)), max(least, np.nanmax(inside))
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin


def _block(axis: Axes, rows: pd.DataFrame, *, primary: bool) -> None:
    low, high = limits(rows, primary=primary)
    if primary:
        axis.axvspan(-1, 1, color="#EEEEEE", lw=0)
    axis.axvline(0, color=style.BLACK, lw=0.8)
    for place, row in enumerate(rows.to_dict("records")):
        color, marker, filled = LOOKS[row["verdict"]]
        if not math.isnan(row["from"]):
            style.interval(axis, place, row["from"], row["to"], (low, high), color=color)
        elif not low <= row["at"] <= high:
            style.interval(axis, place, row["at"], row["at"], (low, high), color=color)
        if low <= row["at"] <= high:
            face = color if filled else "white"
            axis.plot(row["at"], place, marker=marker, color=color, markerfacecolor=face, ls="")
        p = p_value(row["p_adjusted"])
        told = f"{row['_effect']}  {row['_interval']}" + (f"  p {p}" if p else "")
        axis.annotate(
            told, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=6
        )
    axis.set_yticks(range(len(rows)), names(rows), fontsize=6)
    axis.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    first = rows.iloc[0]
    axis.locator_params(axis="x", nbins=6)
    if primary:
        axis.set_xlabel("difference in multiples of the margin (grey: within it)", fontsize=7)
    else:
        unit = f"in {first['unit']}" if first["unit"] else "no unit"
        axis.set_title(f"{first['family']}, {unit}", loc="left", fontsize=7)


def names(rows: pd.DataFrame) -> list[str]:
    """What is compared; of a primary claim its id, which says by what and where, and of those that
    compare the same elsewhere the place in the paper."""
    found = []
    same = Counter(rows["statistic"])
    for row in rows.to_dict("records"):
        name = row["statistic"].replace("weakest of ", "of ")
        if row["family"] == PRIMARY:
            name = f"{row['id'].removeprefix('primary-')}:  {name.partition(':')[0]}"
        elif same[row["statistic"]] > 1:
            name = f"{row['section'].rpartition(', ')[2]}:  {name}"
        found.append(name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…")
    return found


def _legend(page: Figure, rows: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for verdict, (color, marker, filled) in LOOKS.items():
        count = int((rows["verdict"] == verdict).sum())
        if count:
            face = color if filled else "white"
            handles.append(Line2D([], [], color=color, marker=marker, markerfacecolor=face, ls="",
                                  label=f"{verdict} ({count})"))  # fmt: skip
    page.legend(handles=handles, loc="outside lower center", ncols=3,
                title=f"bars: 95% intervals{over(rows)}; verdicts: corrected p < {LEVEL:g}",
                title_fontsize=7)  # fmt: skip


def over(rows: pd.DataFrame) -> str:
    """What the intervals are over, where that is not seeds."""
    one_run = rows.loc[rows["low"].notna(), "of"].str.endswith(ONE_RUN)
    if not one_run.any():
        return ""
    some = "" if one_run.all() else ", some"
    return f"{some} over items or documents{ONE_RUN}, not over seeds"


def _left_out(numbers: pd.DataFrame, *, primary: bool) -> str:
    own = numbers[(numbers["family"] == PRIMARY) == primary]
    counts = Counter(own["verdict"])
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "no claims"


def draw(numbers: pd.DataFrame, root: Path) -> None:
    """Write both plots of a root, with the numbers drawn."""
    for name, primary in (("forest_primary", True), ("forest_exploratory", False)):
        with style.paper_style():
            style.save(figure(numbers, primary=primary), root / "figures" / name)
        shown = drawn(numbers, primary=primary)[COLUMNS]
        write_numbers(shown, root / "figures" / f"{name}.csv")
