"""Figure 1: held-out KL against training tokens, one panel a pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.figures import style
from analysis.names import pair_title, short
from analysis.results import curve_frame, over_seeds, write_numbers
from tad.experiment.config import Suite
from tad.methods import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure1(curves: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """``curves`` has columns pair, method, tokens, mean, half, seeds, as ``over_seeds`` gives them;
    ``titles`` are those of its pairs.

    A band is the 95% t interval over seeds; with one seed there is none.
    """
    figure, axes = style.panels(titles, 2.2, more=0.4)
    for pair, axis in axes.items():
        _draw_curves(axis, curves[curves["pair"] == pair])
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel("held-out KL (nats/token)")
    handles = next(iter(axes.values())).get_legend_handles_labels()
    told = f"bands: {style.over(curves['seeds'])}"
    figure.legend(*handles, loc="outside lower center", ncols=2, title=told)
    return figure


def _draw_curves(axis: Axes, curves: pd.DataFrame) -> None:
    for text in dict.fromkeys(curves["method"]):
        method = Method.parse(text)
        line = curves[curves["method"] == text].sort_values("tokens")
        look = style.method_look(method)
        axis.plot(line["tokens"], line["mean"], label=method.label, **look)
        if line["half"].notna().all():
            low, high = line["mean"] - line["half"], line["mean"] + line["half"]
            axis.fill_between(line["tokens"], low, high, color=look["color"], alpha=0.15, lw=0)
    axis.set_yscale("log")
    style.plain_log_labels(axis)
    axis.xaxis.set_major_formatter(lambda value, _: short(value))
    axis.set_xlabel("training tokens")


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure from the records below ``root``. Raises RecordError for a missing one."""
    frame = curve_frame(root, suite.runs(name))
    data = over_seeds(frame, ["pair", "method", "tokens"], "kl")
    titles = {pair: pair_title(suite, pair) for pair in dict.fromkeys(data["pair"])}
    style.save(figure1(data, titles), root / "figures" / name)
    write_numbers(data, root / "figures" / f"{name}.csv")
