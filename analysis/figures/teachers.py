"""Figure 2: the teachers' tail mass against K, and how often the next token is not their mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.figures import style
from analysis.names import made_here, model_title
from analysis.reported.values import quantity
from analysis.results import teacher_frame, write_numbers
from tad.experiment.config import Suite

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure2(
    teachers: pd.DataFrame, titles: Mapping[str, str], printed: tuple[float, float] | None = None
) -> Figure:
    """``teachers`` has columns teacher, metric, mean, se, q25, q75 (quartiles over tokens).

    ``printed`` is the range of mismatch (percent) that the paper prints for its own teachers.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    size = (style.TEXT_WIDTH, 2.3)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(1.25, 1))
    names = list(dict.fromkeys(teachers["teacher"]))
    markers = "os^Dv*P"
    for index, name in enumerate(names):
        tail = teachers[(teachers["teacher"] == name) & teachers["metric"].str.startswith("alpha_")]
        sizes = tail["metric"].str.removeprefix("alpha_").astype(int)
        color = style.CYCLE[index % len(style.CYCLE)]
        marker = markers[index % len(markers)]
        left.plot(sizes, tail["mean"], color=color, marker=marker, label=titles[name])
        left.fill_between(sizes, tail["q25"], tail["q75"], color=color, alpha=0.12, lw=0)
        mismatch = teachers[(teachers["teacher"] == name) & (teachers["metric"] == "mismatch")]
        percent = 100 * mismatch["mean"].item()
        error = 100 * 1.96 * mismatch["se"].item()
        right.barh(index, percent, xerr=error, color=color, height=0.4, error_kw={"lw": 0.8})
        right.text(percent + error, index, f" {percent:.1f}", va="center", fontsize=7)
    left.set(xscale="log", yscale="log", xlabel="K", ylabel="teacher tail mass $\\alpha_K$")
    left.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    left.xaxis.set_minor_locator(NullLocator())
    style.plain_log_labels(left)
    left.legend(title="bands: quartiles over tokens")
    if printed:
        range_of_paper = f"paper's teachers: {printed[0]:.0f} to {printed[1]:.0f}%"
        right.axvspan(*printed, color="0.85", lw=0, zorder=0, label=range_of_paper)
        right.legend(loc="lower right")
    right.set_yticks(range(len(names)), [titles[n].replace(" arch", "\narch") for n in names])
    right.set(xlim=(0, 100), ylim=(-0.6, len(names) - 0.4))
    right.invert_yaxis()
    right.grid(visible=False, axis="y")
    right.set_xlabel("next token is not the mode (%)\nbars: 95% interval over tokens")
    return figure


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure from the records below ``root``. Raises RecordError for a missing one."""
    data = teacher_frame(root, suite, suite.teachers(name))
    titles = {teacher: model_title(suite, teacher) for teacher in suite.teachers(name)}
    # Tiny teachers of this project are not beside the paper's: they predict far less.
    loaded = not any(made_here(suite, teacher) for teacher in titles)
    printed = quantity("fig2_mismatch_min"), quantity("fig2_mismatch_max")
    figure = figure2(data, titles, printed if loaded else None)
    style.save(figure, root / "figures" / name)
    write_numbers(data, root / "figures" / f"{name}.csv")
