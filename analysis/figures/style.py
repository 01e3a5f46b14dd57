"""How every figure looks: print size, one look a method, colours safe for colour-blind readers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from analysis.results import spread
from tad.methods import Method
from tad.records import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Key = TypeVar("Key")

TEXT_WIDTH = 5.5
"""Width of a text column in inches (ICLR, NeurIPS); figures are drawn at the size they print."""

CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito (2008), as in ``tad.methods``, for what is no method."""

MARKERS = "os^Dv*P"
BLACK, GREY = "#000000", "#7F7F7F"
SETTINGS = {
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 8),
    "legend.title_fontsize": 7,
    **dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), 7),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow", "figure.constrained_layout.use"), True),
    **dict.fromkeys(("pdf.fonttype", "ps.fonttype"), 42),  # submission checks refuse Type 3
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "svg.hashsalt": "tad",
}


def method_look(method: Method) -> dict[str, Any]:
    """Colour, line style and marker of a method, the same in every figure."""
    row = method.row
    return {"color": row.colour, "linestyle": row.line, "marker": row.marker}


@contextmanager
def paper_style() -> Iterator[None]:
    """A matplotlib context for figures at print size, with fonts that submission checks accept."""
    import matplotlib

    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    try:
        with matplotlib.rc_context(SETTINGS):
            yield
    finally:
        matplotlib.use(backend)


def shade(color: str, share: float) -> tuple[float, float, float]:
    """A colour at a share (0 to 1) of the way from its light to its dark form."""
    from matplotlib.colors import to_rgb

    light = 0.55 - share  # towards white above 0, towards black below
    return tuple(c + light * (1 - c) if light > 0 else c * (1 + light) for c in to_rgb(color))


def panels(
    titles: Mapping[Key, str], height: float, more: float = 0.0
) -> tuple[Figure, dict[Key, Axes]]:
    """A panel for each pair, by id with its title, at most three in a row of ``height`` inches."""
    from matplotlib.figure import Figure

    columns = min(len(titles), 3)
    rows = -(-len(titles) // columns)
    size = (TEXT_WIDTH * (1 if columns > 1 else 0.6), height * rows + more)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    found = dict(zip(titles, axes.flat, strict=False))
    for pair, axis in found.items():
        axis.set_title(wrapped(titles[pair], columns))
    return figure, found


def wrapped(title: str, columns: int) -> str:
    """A title in lines that a panel, one of so many in a row, has room for."""
    return textwrap.fill(title, {1: 40, 2: 40, 3: 23}.get(columns, 14))


def over(seeds: Iterable[int], kind: str = "95% t interval") -> str:
    """What a band or bar is, in words: of how many seeds, or that one seed has none."""
    counts = sorted(set(seeds))
    if counts == [1]:
        return "none, one seed"
    return f"{kind} over {spread(count for count in counts if count > 1)} seeds"


def entries(axes: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Handles and labels of a legend for several panels, each label once."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= zip(labels, handles, strict=True)
    return list(found.values()), list(found)


def plain_log_labels(axis: Axes) -> None:
    """A short log axis labelled 1, 2, 5 instead of one lone power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def interval(
    axis: Axes, place: float, low: float, high: float, limits: tuple[float, float], color: str
) -> None:
    """A horizontal bar from ``low`` to ``high`` at height ``place``, as far as it is within
    ``limits``, the ends of the axis; an arrow says that it goes on beyond them."""
    first, last = limits
    axis.hlines(place, max(low, first), min(high, last), color=color, linewidth=0.9)
    for end, marker, beyond in ((first, "<", low < first), (last, ">", high > last)):
        if beyond:
            axis.plot(end, place, marker=marker, color=color, markersize=3.5, clip_on=False, ls="")


def robust_limits(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[float, float]:
    """Ends of an axis that holds 0, the first of ``columns`` whole, and of the others (ends of
    intervals) what is not more than twice as far."""
    center = frame[columns[0]].abs().max()
    values = frame[[*columns]].clip(-3 * center, 3 * center).to_numpy()
    low, high = min(0.0, np.nanmin(values)), max(0.0, np.nanmax(values))
    margin = 0.06 * (high - low or 1.0)
    return low - margin, high + margin


def clipped(
    axis: Axes, frame: pd.DataFrame, limits: tuple[float, float], color: str = GREY
) -> None:
    """Arrows at the ends of the y axis where an interval (tokens, low, high) goes on."""
    first, last = limits
    for end, marker, beyond in (
        (first, "v", frame["low"] < first),
        (last, "^", frame["high"] > last),
    ):
        if beyond.any():
            place = frame["tokens"][beyond]
            axis.plot(place, [end] * len(place), marker, color=color, markersize=3.5, clip_on=False)


def few_log_ticks(axis: Axes, values: Iterable[float]) -> None:
    """Two or three round ticks on a short log x axis, where matplotlib labels one or twenty."""
    low, high = min(values), max(values)
    ticks = [
        lead * 10.0**power
        for power in range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
        for lead in (1, 1.5, 2, 3, 5, 7)
    ]
    ticks = [tick for tick in ticks if low / 1.1 <= tick <= high * 1.1]
    ticks = ticks[:: max(1, -(-len(ticks) // 3))]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` as PDF and PNG (200 dpi), each whole or not at all.

    ``path`` has no suffix. The dates that matplotlib would write are left out, so that the same
    figure gives the same bytes.
    """
    dates = {"pdf": {"CreationDate": None, "Producer": None}, "png": {"Software": None}}
    for kind, metadata in dates.items():
        content = io.BytesIO()
        dpi = 200 if kind == "png" else "figure"
        figure.savefig(content, format=kind, metadata=metadata, dpi=dpi)
        write_bytes(path.with_name(f"{path.name}.{kind}"), content.getvalue())
