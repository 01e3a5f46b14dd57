"""Figures of calibration: where Full-ECE comes from, and the tail that it cannot see.

Both draw calibration.json of every student of Table 4, all seeds: a point is the mean over seeds,
its bar reaches from the lowest to the highest; of one seed it is the 95% bootstrap interval over
sequences. Within a bin the students stand side by side in the order of the legend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures.style import BLACK, TEXT_WIDTH, method_look, paper_style, save, shade
from analysis.kinds import read_record
from analysis.names import pair_title
from analysis.results import spread, write_numbers
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.methods import Method
from tad.records import RecordError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "sDP^vX"
"""Of one method with several settings, in their order."""

MIN_LABELS = 10
"""Labels a seed below which a share or ratio is left out: it would be noise."""

SPREAD = 0.8
"""Share of a bin's width that its points take."""

Records = Mapping[Method, Sequence[Mapping[str, Any]]]
"""Of each method the calibration.json of every seed."""


def bins_frame(records: Records, part: str) -> pd.DataFrame:
    """One row a method and bin of ``part`` (``bins`` or ``tail`` of a record).

    Columns: method, bin, lower, upper, seeds, labels (mean over seeds), mass (share of all),
    probability (mean within the bin), and four numbers with ``_low`` and ``_high``: ``gap`` (share
    of entries that are the next token, minus probability), ``points`` (what the bin adds to
    Full-ECE, in points, with its sign) and ``ratio`` (labels found over expected). Bins without
    entries are left out. Raises RecordError for a record without ``part``.
    """
    rows = []
    for method, seeds in records.items():
        if not all(record.get(part) for record in seeds):
            raise RecordError(f"{method}: a calibration.json without {part!r}; measure it again")
        for number, same in enumerate(zip(*(record[part] for record in seeds), strict=True)):
            if all(entry["entries"] for entry in same):
                counts = [record["positions"] for record in seeds]
                rows.append({"method": str(method), "bin": number, **_bin(same, counts)})
    return pd.DataFrame(rows)


def _bin(same: Sequence[Mapping[str, Any]], positions: Sequence[int]) -> dict[str, float]:
    """One bin of all seeds of a method."""
    of = {key: np.array([entry[key] for entry in same]) for key in ("mass", "labels", "entries")}
    row = {
        "lower": same[0]["lower"],
        "upper": same[0]["upper"],
        "seeds": len(same),
        "labels": of["labels"].mean(),
        "mass": (of["mass"] / positions).mean(),
        "probability": (of["mass"] / of["entries"]).mean(),
    }
    numbers = {
        "gap": lambda labels: (labels - of["mass"]) / of["entries"],
        "points": lambda labels: 100 * (labels - of["mass"]) / positions,
        "ratio": lambda labels: labels / of["mass"],
    }
    ends = same[0].get("labels_interval") if len(same) == 1 else None
    for name, number in numbers.items():
        values = number(of["labels"])
        reach = number(np.array(ends)) if ends else values
        row |= {name: values.mean(), f"{name}_low": reach.min(), f"{name}_high": reach.max()}
    return row


def reliability_figure(records: Records, title: str) -> Figure:
    """How far each bin is from calibrated (share found minus probability), and what it adds to
    Full-ECE, over the 10 equal-width bins of probability. The first leaves out bins with fewer than
    MIN_LABELS labels a seed. Raises RecordError."""
    frame = bins_frame(records, "bins")
    with paper_style():
        figure, (above, below) = _two_panels([1, 1])
        labels = {
            method: f"{method.label}: {_percent([record['full_ece'] for record in seeds])}"
            for method, seeds in records.items()
        }
        _points(above, frame[frame["labels"] >= MIN_LABELS], "gap", labels)
        _points(below, frame, "points", {})
        for axis in (above, below):
            axis.axhline(0, color=BLACK, linewidth=0.8, zorder=1)
        first = next(iter(records.values()))
        edges = sorted({entry["lower"] for entry in first[0]["bins"]} | {1.0})
        below.set_xticks(np.arange(len(edges)) - 0.5, [f"{edge:g}" for edge in edges])
        below.set_xlim(-0.5, len(edges) - 1.5)
        above.set_ylabel("found − probability")
        below.set(ylabel="part of Full-ECE (points)", xlabel="probability p (bins)")
        counted = spread(record["positions"] for seeds in records.values() for record in seeds)
        _finish(figure, above, records, f"{title}; {counted} positions", "Full-ECE: ")
    return figure


def tail_figure(records: Records, title: str) -> Figure:
    """Labels found over labels expected, by probability in log-spaced bins; mass underneath.

    A diagnostic of ours, not a published metric: Full-ECE takes everything below p = 1/M as one
    number. 1 is calibrated; above it the model gives such tokens too little probability. Bins with
    fewer than MIN_LABELS labels a seed are left out. Raises RecordError for a record without one.
    """
    frame = bins_frame(records, "tail")
    with paper_style():
        figure, (above, below) = _two_panels([3, 1])
        kept = frame[frame["labels"] >= MIN_LABELS]
        _points(above, kept, "ratio", {method: method.label for method in records})
        above.axhline(1, color=BLACK, linewidth=0.8, zorder=1)
        above.set(yscale="log", ylabel="labels found / expected")
        _plain_ratios(above, kept)
        mass = frame.groupby("bin")["mass"].agg(["mean", "min", "max"])
        error = [mass["mean"] - mass["min"], mass["max"] - mass["mean"]]
        error = np.maximum(error, 0.0)  # a mean of equal values rounds
        below.bar(mass.index, mass["mean"], SPREAD, color="#D9D9D9", yerr=error,
                  error_kw={"linewidth": 0.8})  # fmt: skip
        upper = frame.groupby("bin")["upper"].first()
        edges = [at - 0.5 for at in upper.index] + [upper.index[-1] + 0.5]
        names = [_edge(frame["lower"].min()), *(_edge(value) for value in upper)]
        below.set_xticks(edges, names)
        below.set_xlim(edges[0], edges[-1])
        below.set(ylabel="mass", xlabel="probability p (log-spaced bins, ours)")
        _finish(figure, above, records, title, "")
    return figure


def _two_panels(heights: Sequence[float]) -> tuple[Figure, tuple[Axes, Axes]]:
    """Two panels over one x axis. No pyplot: figures are not kept anywhere."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TEXT_WIDTH, 0.85 * TEXT_WIDTH), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    return figure, (above, below)


def _points(axis: Axes, frame: pd.DataFrame, value: str, labels: Mapping[Method, str]) -> None:
    """Means with their bars, the methods of a bin side by side."""
    methods = [Method.parse(text) for text in dict.fromkeys(frame["method"])]
    chosen = looks(methods)
    for order, method in enumerate(methods):
        rows = frame[frame["method"] == str(method)]
        place = rows["bin"] + SPREAD * ((order + 0.5) / len(methods) - 0.5)
        axis.vlines(place, rows[f"{value}_low"], rows[f"{value}_high"],
                    color=chosen[method]["color"], linewidth=0.9)  # fmt: skip
        axis.plot(place, rows[value], linestyle="", label=labels.get(method), **chosen[method])


def _finish(figure: Figure, axis: Axes, records: Records, title: str, of: str) -> None:
    """Title and legend, which say what a bar is."""
    seeds = spread(len(each) for each in records.values())
    bars = "one seed, bars: 95% bootstrap over sequences"
    if seeds != "1":
        bars = f"mean of {seeds} seeds, bars: their range"
    axis.set_title(f"{title}\n{of}{bars}", fontsize=8)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)


def _plain_ratios(axis: Axes, frame: pd.DataFrame) -> None:
    """Ticks of a log axis at plain numbers, over what is drawn."""
    from matplotlib.ticker import NullFormatter, NullLocator

    low, high = frame["ratio_low"].min(), frame["ratio_high"].max()
    ticks = [
        t for t in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if low / 1.3 < t < 1.3 * high
    ]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())


def _edge(p: float) -> str:
    return f"{p:.0e}".replace("e-0", "e-") if 0 < p < 0.01 else f"{p:.2g}"


def _percent(values: Sequence[float]) -> str:
    """``3.1% [2.4, 3.6]``: mean and range; the value alone of one seed."""
    mean, low, high = (100 * f(values) for f in (np.mean, min, max))
    return f"{mean:.2f}%" + (f" [{low:.1f}, {high:.1f}]" if len(values) > 1 else "")


def looks(methods: Sequence[Method]) -> dict[Method, dict[str, Any]]:
    """Colour and marker of each method; several settings of one are shades."""
    found = {}
    for method in methods:
        family = [other for other in methods if other.name == method.name]
        look = {key: method_look(method)[key] for key in ("color", "marker")}
        if len(family) > 1:
            at = family.index(method)
            look = {"color": shade(look["color"], at / (len(family) - 1)),
                    "marker": MARKERS[at % len(MARKERS)]}  # fmt: skip
        found[method] = look
    return found


# --- The students of a scale ---------------------------------------------------------------------


def draw(name: str, suite: Suite, root: Path) -> None:
    """Both figures of every pair of Table 4, with the numbers drawn. Raises RecordError."""
    runs = suite.runs("table4")
    for pair in dict.fromkeys(run.pair for run in runs):
        records: dict[Method, list] = {}
        for run in (run for run in runs if run.pair == pair):
            record = read_record(Layout(root).run(run) / "calibration.json")
            records.setdefault(run.method, []).append(record)
        for kind, make, part in (
            ("reliability", reliability_figure, "bins"),
            ("tail", tail_figure, "tail"),
        ):
            path = root / "figures" / f"{kind}_{pair}"
            save(make(records, pair_title(suite, pair)), path)
            write_numbers(bins_frame(records, part), path.with_name(f"{path.name}.csv"))
