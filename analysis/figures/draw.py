"""Figures 1 and 2, and of calibration: ``tad figures figure1 --root work/smoke``.

Writes ``{root}/figures/figureN.{pdf,png,csv}``; the CSV holds every number that is drawn. Those of
calibration draw what calibration.json holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.figures.calibration import reliability_figure, tail_figure
from analysis.figures import style
from analysis.results import add_root, curve_frame, over_seeds, suite_of, teacher_frame
from tad.command import command_line, exit_code
from tad.experiment.config import ConfigError, Suite
from tad.experiment.layout import Layout
from tad.methods import Method
from tad.records import read_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CALIBRATION_K = (1, 10)
"""The K whose TAD students are shown beside the other methods: more would not be told apart."""


def figure1(curves: pd.DataFrame) -> Figure:
    """Held-out KL against training tokens, one panel a pair (Figure 1).

    ``curves`` has columns pair, method, tokens, mean, half, seeds, as ``over_seeds`` gives them.
    A band is the 95% t interval over seeds; with one seed there is none.
    """
    import matplotlib.pyplot as plt

    pairs = list(dict.fromkeys(curves["pair"]))
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    width = style.TEXT_WIDTH * (1 if columns > 1 else 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=(width, 2.1 * rows), squeeze=False)
    for axis, pair in zip(axes.flat, pairs, strict=False):
        _draw_curves(axis, curves[curves["pair"] == pair])
        axis.set_title(pair.replace("_", " → ", 1))
    for axis in axes.flat[len(pairs) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("held-out KL (nats/token)")
    axes.flat[0].legend()
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
    _plain_log_labels(axis)
    axis.xaxis.set_major_formatter(lambda value, _: _tokens(value))
    axis.set_xlabel("training tokens")


def _plain_log_labels(axis: Axes) -> None:
    """A short log axis labelled 1, 2, 5 instead of one lone power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _tokens(value: float) -> str:
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def figure2(teachers: pd.DataFrame) -> Figure:
    """Tail mass against K, and next-token against mode mismatch, a teacher (Figure 2).

    ``teachers`` has columns teacher, metric, mean, se, q25, q75 (quartiles over tokens).
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
        left.plot(sizes, tail["mean"], color=color, marker=marker, label=name)
        left.fill_between(sizes, tail["q25"], tail["q75"], color=color, alpha=0.12, lw=0)
        mismatch = teachers[(teachers["teacher"] == name) & (teachers["metric"] == "mismatch")]
        percent = 100 * mismatch["mean"].item()
        error = 100 * 1.96 * mismatch["se"].item()
        right.barh(index, percent, xerr=error, color=color, height=0.4, error_kw={"lw": 0.8})
        right.text(percent + error, index, f" {percent:.1f}", va="center", fontsize=7)
    left.set(xscale="log", yscale="log", xlabel="K", ylabel="teacher tail mass $\\alpha_K$")
    left.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    left.xaxis.set_minor_locator(NullLocator())
    _plain_log_labels(left)
    left.legend()
    right.set_yticks(range(len(names)), names)
    right.set(xlim=(0, 100), ylim=(-0.6, len(names) - 0.4))
    right.invert_yaxis()
    right.grid(visible=False, axis="y")
    right.set_xlabel("next token is not the mode (%)")
    return figure


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw one figure from the records below ``root``. Raises RecordError for a missing one."""
    if name == "figure1":
        frame = curve_frame(root, suite.runs("figure1"))
        data = over_seeds(frame, ["pair", "method", "tokens"], "kl")
    else:
        data = teacher_frame(root, suite, suite.teachers("figure2"))
    with style.paper_style():
        figure = {"figure1": figure1, "figure2": figure2}[name](data)
        style.save(figure, root / "figures" / name)
    text = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(root / "figures" / f"{name}.csv", text)


def calibration_look(method: Method) -> dict[str, Any]:
    """The look of a method where two K stand side by side: TAD with K = 1 has one of its own."""
    if method.name == "tad" and method["k"] == CALIBRATION_K[0]:
        return {"color": style.BLACK, "marker": "p"}
    return style.method_look(method)


def draw_calibration(pair: str, suite: Suite, root: Path) -> None:
    """Reliability diagram and tail diagnostic of a pair's students, of the first seed.

    Raises RecordError for a missing record, ConfigError for a pair that Table 4 does not have.
    """
    runs = [run for run in suite.runs("table4") if run.pair == pair]
    runs = [run for run in runs if run.seed == suite.seeds[0]]
    if not runs:
        raise ConfigError(f"pair {pair!r} has no run of table4 at scale {suite.scale}")
    shown = [run for run in runs if run.method.name != "tad" or run.method["k"] in CALIBRATION_K]
    records = {
        run.method.label: read_json(Layout(root).run(run) / "calibration.json") for run in shown
    }
    looks = {run.method.label: calibration_look(run.method) for run in shown}
    for name, make in (("reliability", reliability_figure), ("tail", tail_figure)):
        style.save(make(records, looks=looks), root / "figures" / f"{name}_{pair}")


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the figure is written, 2 for bad input."""
    parser = command_line("figures", __doc__)
    parser.add_argument("figure", choices=["figure1", "figure2", "calibration"])
    parser.add_argument("--pair", help="calibration: whose students")
    add_root(parser)
    options = parser.parse_args(arguments)
    if (options.figure == "calibration") != (options.pair is not None):
        parser.error("--pair goes with calibration, and with nothing else")

    def job() -> None:
        suite = suite_of(options)
        if options.pair:
            draw_calibration(options.pair, suite, options.root)
        else:
            draw(options.figure, suite, options.root)

    return exit_code("figures", job)
