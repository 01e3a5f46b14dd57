"""The figure ``sweeps``: few-shot average and held-out KL against K and against beta.

One colour a pair. K is varied at the default beta, and beta at the default K. The baseline is a
band of its 95% interval, or a line of one seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.figures import style
from analysis.kinds import read_record
from analysis.names import pair_title
from analysis.results import over_seeds, run_keys, write_numbers
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.methods import BASELINE, Method
from workflow.items import RECORDS, TARGETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = {"kl": "held-out KL", "fewshot": "few-shot Avg (%)"}
RECORD = {"kl": "heldout.json", "fewshot": "fewshot.json"}
SYMBOLS = {"k": "K", "beta": "β"}
"""The parameters that are varied, as the axis calls them."""


def sweeps_frame(suite: Suite, root: Path) -> pd.DataFrame:
    """One row a pair, metric, parameter and value.

    Columns: pair, metric, parameter (``baseline``: the row to compare with), value, mean, half
    (95% t interval over seeds), seeds. Raises RecordError.
    """
    frame = pd.DataFrame(list(_rows(suite, root)))
    found = over_seeds(frame, ["pair", "metric", "parameter", "at"], "found")
    return found.rename(columns={"at": "value"})


def _rows(suite: Suite, root: Path) -> Iterator[dict[str, Any]]:
    items = [item for item in TARGETS["sweeps"].needs if item in suite.select.items]
    for metric, record in RECORD.items():
        own = [item for item in items if record in RECORDS[item]]
        for run in dict.fromkeys(run for item in own for run in suite.runs(item)):
            places = list(_places(run.method))
            if places:
                content = read_record(Layout(root).run(run) / record)
                found = (
                    content["metrics"]["kl"]["mean"] if metric == "kl" else 100 * content["average"]
                )
                for parameter, value in places:
                    yield {**run_keys(run), "metric": metric, "parameter": parameter,
                           "at": value, "found": found}  # fmt: skip


def _places(method: Method) -> Iterator[tuple[str, float]]:
    """The axes that a method stands on: all of its other parameters have their default."""
    if method == Method(BASELINE):
        yield "baseline", 0.0
    elif not method.control and set(SYMBOLS) <= set(method.parameters):
        default = Method(method.name)
        for name in SYMBOLS:
            if method == Method.of(method.name, **{**default.parameters, name: method[name]}):
                yield name, method[name]


def figure(frame: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """A row of panels a metric and pair, whose levels differ; a column a parameter, those that are
    varied if any is."""
    from matplotlib.figure import Figure

    values = frame.groupby("parameter")["value"].nunique()
    names = [name for name in SYMBOLS if values.get(name, 0) > 1] or list(SYMBOLS)
    places = [(metric, pair) for metric in METRICS for pair in titles]
    rows = {at: frame[(frame[["metric", "pair"]] == at).all(axis=1)] for at in places}
    rows = {at: own for at, own in rows.items() if len(own)}
    size = (style.TEXT_WIDTH, 1.3 * len(rows) + 0.7)
    page = Figure(figsize=size, layout="constrained")
    axes = page.subplots(len(rows), len(names), squeeze=False, sharex="col", sharey="row")
    for ((metric, pair), own), row in zip(rows.items(), axes, strict=True):
        order = list(titles).index(pair)
        for name, axis in zip(names, row, strict=True):
            ticks = sorted(set(frame[frame["parameter"] == name]["value"]))
            _panel(axis, own, name, ticks, order, titles[pair])
        row[0].set_ylabel(METRICS[metric])
    page.align_ylabels(axes[:, 0])
    for name, axis in zip(names, axes[-1], strict=True):
        axis.set_xlabel(SYMBOLS[name])
    told = f"{Method(BASELINE).label}: dashed; bars and bands: {style.over(frame['seeds'])}"
    page.legend(*style.entries(axes.flat), loc="outside lower center", ncols=2, title=told)
    return page


def _panel(
    axis: Axes, own: pd.DataFrame, name: str, ticks: Sequence[float], order: int, title: str
) -> None:
    """One metric of one pair against one parameter."""
    line = own[own["parameter"] == name].sort_values("value")
    color, marker = (of[order % len(of)] for of in (style.CYCLE, style.MARKERS))
    half = line["half"].fillna(0.0)
    axis.errorbar(line["value"], line["mean"], yerr=half, color=color, marker=marker, lw=0.6,
                  elinewidth=0.9, label=title)  # fmt: skip
    for _, base in own[own["parameter"] == "baseline"].iterrows():
        axis.axhline(base["mean"], color=color, ls="--", lw=0.8)
        if base["half"] == base["half"]:
            low, high = base["mean"] - base["half"], base["mean"] + base["half"]
            axis.axhspan(low, high, color=color, alpha=0.1, lw=0)
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises RecordError for a missing record."""
    frame = sweeps_frame(suite, root)
    titles = {pair: pair_title(suite, pair) for pair in dict.fromkeys(frame["pair"])}
    style.save(figure(frame, titles), root / "figures" / name)
    write_numbers(frame, root / "figures" / f"{name}.csv")
