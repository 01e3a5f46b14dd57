"""Histogram of MiniPLM's difference scores, from the folders that ``tad select`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.kinds import read_record
from analysis.names import pair_title
from analysis.results import write_numbers
from tad.experiment.config import Suite
from tad.methods import ROWS
from tad.records import RecordError
from workflow.items import selection_folder, selection_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN = 0.995
"""Central share of the scores on the axis; the outermost bins hold what lies beyond."""


def selection_frame(folder: Path) -> pd.DataFrame:
    """One row a candidate sequence, in training order: index, teacher, reference, score, chosen.

    Log-probabilities and scores are means in nats a token. Raises RecordError
    for a folder without a finished selection.
    """
    record = read_record(folder / "selection.json")
    path = folder / "scores.npz"
    if not path.is_file():
        raise RecordError(f"{path}: missing; make it with tad select")
    with np.load(path) as scores:
        frame = pd.DataFrame({name: scores[name] for name in scores.files})
    # By rank and not by threshold: of sequences with equal scores, some may be left out.
    order = np.argsort(-frame["score"].to_numpy(), kind="stable")
    chosen = np.zeros(len(frame), bool)
    chosen[order[: record["number"]]] = True
    return frame.assign(chosen=chosen)


def histogram(scores: pd.DataFrame) -> pd.DataFrame:
    """Counts of one pair's scores: columns low, high (edges in nats a token), kept, dropped.

    About sqrt(N) bins, at most 40, over the central DRAWN of the scores; the rest counts in the
    first and last bin, so that all candidates are there. The lowest kept score is an edge.
    """
    values = scores["score"].to_numpy()
    low, high = np.quantile(values, [(1 - DRAWN) / 2, (1 + DRAWN) / 2])
    threshold = values[scores["chosen"]].min()
    low, high = min(low, threshold), max(high, threshold)
    width = (high - low or 1.0) / np.clip(np.sqrt(len(values)), 5, 40)
    first, last = np.floor((low - threshold) / width), np.ceil((high - threshold) / width)
    edges = threshold + width * np.arange(min(first, -1), max(last, 1) + 1)
    counts = {}
    for name, chosen in (("kept", True), ("dropped", False)):
        part = values[scores["chosen"] == chosen]
        counts[name] = np.histogram(part.clip(edges[0], edges[-1]), edges)[0]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], **counts})


def selection_figure(frames: dict[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """Difference scores of every pair, one panel each; what is kept is coloured.

    ``frames`` maps a pair to its ``selection_frame``, ``titles`` to what stands above its panel.
    """
    figure, axes = style.panels(titles, 2.0, 0.2)
    for pair, axis in axes.items():
        _draw(axis, frames[pair])
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel("sequences")
        if axis.get_subplotspec().is_last_row():
            axis.set_xlabel("score (nats/token)")
    handles = next(iter(axes.values())).get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2)
    return figure


def _draw(axis: Axes, scores: pd.DataFrame) -> None:
    bins = histogram(scores)
    color = next(row.colour for row in ROWS.values() if row.rows == "selected")
    place, width = bins["low"], bins["high"] - bins["low"]
    axis.bar(place, bins["kept"], width, align="edge", color=color, label="kept")
    dropped = {"bottom": bins["kept"], "color": "#D9D9D9", "label": "dropped"}
    axis.bar(place, bins["dropped"], width, align="edge", **dropped)
    threshold = scores["score"][scores["chosen"]].min()
    axis.axvline(threshold, color=style.BLACK, linewidth=0.8, linestyle="--")
    where = {"xytext": (3, -2), "textcoords": "offset points", "ha": "left", "va": "top"}
    text = f"best {scores['chosen'].mean():.0%}\n≥ {threshold:.3f}".replace("-", "−")
    where |= {"xycoords": ("data", "axes fraction"), "fontsize": 7}
    axis.annotate(text, (threshold, 1), **where)
    axis.grid(visible=False, axis="x")
    axis.set_ylim(top=1.3 * (bins["kept"] + bins["dropped"]).max())


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the selections of a scale, of its first seed. Raises RecordError."""
    frames, titles = {}, {}
    for run in selection_runs(suite):
        first = run.stage == next(iter(suite.stages))
        key = run.pair if first else f"{run.pair}-{run.stage}"
        titles[key] = pair_title(suite, run.pair) + ("" if first else f" ({run.stage})")
        frames[key] = selection_frame(root / selection_folder(run))
    style.save(selection_figure(frames, titles), root / "figures" / name)
    bins = pd.concat({pair: histogram(frame) for pair, frame in frames.items()}, names=["pair"])
    write_numbers(bins.reset_index("pair"), root / "figures" / f"{name}.csv")
