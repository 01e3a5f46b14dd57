"""Histogram of MiniPLM's difference scores, from the folders that ``tad.baselines.selection`` writes.

    python -m analysis.figures.selection --out work/smoke/figures/selection \\
        phi2_1b=work/smoke/selection/phi2_1b qwen1.5-1.8b_0.5b=work/smoke/selection/...

Writes ``.pdf``, ``.png`` and ``.csv``; the CSV holds every number that is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from tad.command import UserError, command_line, exit_code
from tad.methods import Method
from tad.records import read_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN = 0.995
"""Central share of the scores on the axis; the outermost bins hold what lies beyond."""


class SelectionFigureError(UserError, ValueError):
    """A selection that is missing or named twice; the message names it."""


def selection_frame(folder: Path) -> pd.DataFrame:
    """One row a candidate sequence, in training order: index, teacher, reference, score, chosen.

    Log-probabilities and scores are means in nats a token. Raises RecordError or
    SelectionFigureError for a folder without a finished selection.
    """
    record = read_json(folder / "selection.json")
    path = folder / "scores.npz"
    if not path.is_file():
        raise SelectionFigureError(f"{path}: missing; make it with tad select")
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


def selection_figure(frames: dict[str, pd.DataFrame]) -> Figure:
    """Difference scores of every pair, one panel each; what is kept is coloured.

    ``frames`` maps a pair to its ``selection_frame``.
    """
    import matplotlib.pyplot as plt

    columns = min(len(frames), 3)
    rows = -(-len(frames) // columns)
    width = style.TEXT_WIDTH * (1 if columns > 1 else 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=(width, 1.9 * rows + 0.2), squeeze=False)
    for axis, (pair, scores) in zip(axes.flat, frames.items(), strict=False):
        _draw(axis, scores)
        axis.set_title(pair.replace("_", " → ", 1))
    for axis in axes.flat[len(frames) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("sequences")
    for axis in axes[-1]:
        axis.set_xlabel("score (nats/token)")
    handles = axes.flat[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2)
    return figure


def _draw(axis: Axes, scores: pd.DataFrame) -> None:
    bins = histogram(scores)
    color = style.method_look(Method("miniplm"))["color"]
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


def draw(folders: dict[str, Path], out: Path) -> None:
    """Write the figure and its CSV to ``out`` with suffixes. Raises UserError."""
    frames = {pair: selection_frame(folder) for pair, folder in folders.items()}
    with style.paper_style():
        style.save(selection_figure(frames), out)
    bins = pd.concat({pair: histogram(frame) for pair, frame in frames.items()}, names=["pair"])
    text = bins.reset_index("pair").to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(out.with_suffix(".csv"), text)


def _folders(texts: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for text in texts:
        pair, sign, folder = text.partition("=")
        if not sign or pair in folders:
            raise SelectionFigureError(f"{text}: write PAIR=FOLDER, each pair once")
        folders[pair] = Path(folder)
    return folders


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the figure is written, 2 for bad input."""
    parser = command_line("analysis.figures.selection", __doc__)
    parser.add_argument(
        "selections", nargs="+", help="PAIR=FOLDER of tad.baselines.selection's --out"
    )
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    options = parser.parse_args(arguments)
    return exit_code(
        "analysis.figures.selection", lambda: draw(_folders(options.selections), options.out)
    )
