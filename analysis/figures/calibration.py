"""Figures of calibration: the reliability diagram behind Full-ECE, and the tail it cannot see.

Both draw from calibration.json, one entry a student. Nothing is computed here but shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.figures.style import BLACK, CYCLE, TEXT_WIDTH, method_look, paper_style, save
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.methods import Method
from tad.records import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
Looks = Mapping[str, Mapping[str, Any]]
MARKERS = "osD^vPX"


def reliability_figure(
    records: Mapping[str, Record], *, n_bins: int = 10, looks: Looks | None = None
) -> Figure:
    """How often entries of probability p are the next token, against p; mass by bin underneath.

    Bars are 95% bootstrap intervals over sequences. ``looks`` gives a label's colour and marker
    (``style.method_look``).
    Raises ValueError for a record without ``n_bins`` bins.
    """
    with paper_style():
        figure, above, below = _two_panels()
        for index, (label, record) in enumerate(records.items()):
            table = _table(record, n_bins, label)
            look = _look(index, label, looks)
            bins = [b for b in table["bins"] if b["entries"]]
            p = [b["mass"] / b["entries"] for b in bins]
            share = [b["labels"] / b["entries"] for b in bins]
            bounds = [_scaled(b["labels_interval"], b["entries"]) for b in bins]
            text = f"{label}: {100 * table['full_ece']:.2f}%"
            _points(above, p, share, bounds, label=text, **look)
            _steps(below, table, record["positions"], look)
        above.plot([0, 1], [0, 1], color=BLACK, linewidth=0.8, zorder=0)
        above.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
        positions = sorted({record["positions"] for record in records.values()})
        counted = " / ".join(f"{n:,}" for n in positions)
        above.set_title(f"Full-ECE, {n_bins} bins, {counted} positions", fontsize=8)
        figure.legend(loc="outside lower center", ncols=3, fontsize=7)
        above.set_ylabel("share that is the next token")
        below.set(ylabel="mass", ylim=(0, 1), xlabel="probability p")
    return figure


def tail_figure(records: Mapping[str, Record], *, looks: Looks | None = None) -> Figure:
    """Labels found over labels expected, by probability in log-spaced bins; mass underneath.

    A diagnostic of ours, not a published metric: Full-ECE takes everything below p = 1/M as one
    number. 1 is calibrated; above it the model gives such tokens too little probability. A bin
    without a label is left out; bars are 95% bootstrap intervals over sequences. Raises ValueError
    for a record without a tail.
    """
    with paper_style():
        figure, above, below = _two_panels()
        for index, (label, record) in enumerate(records.items()):
            if not record["tail"]:
                raise ValueError(f"{label}: measured without the tail diagnostic")
            look = _look(index, label, looks)
            bins = [b for b in record["tail"] if b["mass"] > 0 and b["labels"]]
            p = [b["mass"] / b["entries"] for b in bins]
            ratio = [b["labels"] / b["mass"] for b in bins]
            bounds = [_scaled(b["labels_interval"], b["mass"]) for b in bins]
            _points(above, p, ratio, bounds, label=label, **look)
            tail = {"bins": record["tail"]}
            _steps(below, tail, record["positions"], look)
        above.axhline(1, color=BLACK, linewidth=0.8, zorder=0)
        above.set(xscale="log", yscale="log", ylabel="labels found / expected")
        figure.legend(loc="outside lower center", ncols=3, fontsize=7)
        below.set(ylabel="mass", ylim=(0, None), xlabel="probability p (log-spaced bins, ours)")
    return figure


def _two_panels() -> tuple[Figure, Axes, Axes]:
    """A tall and a low panel over one x axis. No pyplot: figures are not kept anywhere."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.8 * TEXT_WIDTH, 0.75 * TEXT_WIDTH), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    return figure, above, below


def _look(index: int, label: str, looks: Looks | None) -> dict[str, Any]:
    default = {"color": CYCLE[index % len(CYCLE)], "marker": MARKERS[index % len(MARKERS)]}
    chosen = (looks or {}).get(label, default)
    return {name: chosen[name] for name in ("color", "marker")}


def _table(record: Record, n_bins: int, label: str) -> Record:
    if record["n_bins"] == n_bins:
        return record
    others = {int(key): table for key, table in record["others"].items()}
    if n_bins not in others:
        found = sorted({record["n_bins"], *others})
        raise ValueError(f"{label}: measured with {found} bins, not {n_bins}")
    return others[n_bins]


def _scaled(interval: list[float] | None, by: float) -> tuple[float, float] | None:
    return None if interval is None else (interval[0] / by, interval[1] / by)


def _points(axes: Axes, x: list[float], y: list[float], bounds: list, **look: Any) -> None:
    """Points with their intervals; the lower end of one that reaches 0 is left off a log axis."""
    axes.plot(x, y, linestyle="", **look)
    for at, value, bound in zip(x, y, bounds, strict=True):
        if bound is not None:
            low = bound[0] if bound[0] > 0 else value
            axes.plot([at, at], [low, bound[1]], color=look["color"], linewidth=0.9)


def _steps(axes: Axes, table: Record, positions: int, look: Mapping[str, Any]) -> None:
    """Share of the mass in each bin. The lowest reaches down to 0, drawn as 1% of its top."""
    bins = table["bins"]
    edges = [bins[0]["lower"] or bins[0]["upper"] / 100, *(b["upper"] for b in bins)]
    shares = [b["mass"] / positions for b in bins]
    axes.stairs(shares, edges, color=look["color"])


# --- The students of a scale ---------------------------------------------------------------------


def shown(methods: Sequence[Method]) -> dict[Method, dict[str, Any]]:
    """The methods that are drawn, with their look: of one with several settings the usual one and
    the first, which gets a look of its own. More would not be told apart."""
    looks = {}
    for method in methods:
        if method == Method(method.name):
            looks[method] = method_look(method)
        elif method.name not in {seen.name for seen in looks}:
            looks[method] = {"color": BLACK, "marker": "p"}
    return looks


def draw(name: str, suite: Suite, root: Path) -> None:
    """Both figures of every pair of Table 4, of the first seed. Raises RecordError."""
    runs = [run for run in suite.runs("table4") if run.seed == suite.seeds[0]]
    for pair in dict.fromkeys(run.pair for run in runs):
        own = {run.method: run for run in runs if run.pair == pair}
        looks = {method.label: look for method, look in shown(list(own)).items()}
        records = {
            method.label: read_json(Layout(root).run(own[method]) / "calibration.json")
            for method in shown(list(own))
        }
        for kind, make in (("reliability", reliability_figure), ("tail", tail_figure)):
            save(make(records, looks=looks), root / "figures" / f"{kind}_{pair}")
