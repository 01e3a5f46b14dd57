"""The figure of Table 5: the end of every run, the law of the smaller budgets, and the truth.

One row a pair. Left: loss against tokens; the law is solid within the budgets that it was fitted to
and dashed up to the held-out one, with its 95% interval. Filled markers were fitted, one a seed;
hollow ones held out. Right: what was foretold and what was measured there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.names import pair_title, short
from analysis.results import write_numbers
from analysis.scaling_law.budgets import Curve, curves
from analysis.scaling_law.fit import Fit, FitError, fit_law
from tad.experiment.config import Suite
from tad.methods import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 60


def figure(found: Sequence[Curve], titles: Mapping[str, str]) -> Figure:
    """Both panels of every pair, under its title."""
    import matplotlib.pyplot as plt

    pairs = list(dict.fromkeys(curve.pair for curve in found))
    page, axes = plt.subplots(
        len(pairs), 2, figsize=(style.TEXT_WIDTH, 0.3 + 2.5 * len(pairs)), squeeze=False,
        width_ratios=(2.2, 1),
    )  # fmt: skip
    for (left, right), pair in zip(axes, pairs, strict=True):
        own = [curve for curve in found if curve.pair == pair]
        for curve in own:
            _draw_curve(left, curve)
        # An interval that says nothing may span decades; the axis follows the points.
        losses = np.concatenate([curve.points["loss"] for curve in own])
        margin = 0.08 * (np.ptp(losses) or 0.1)
        ends = losses.min() - margin, losses.max() + margin
        left.set_ylim(*ends)
        for curve in own:
            _mark_clipped(left, curve, ends)
        left.set_title(titles[pair], loc="left")
        left.set(xscale="log", ylabel="CLM + KL (nats/token)")
        left.minorticks_off()
        ticks = sorted({tokens for curve in own for tokens in curve.points["tokens"]})
        left.set_xticks(ticks, [short(float(f"{tick:.2g}")) for tick in ticks])
        _draw_held_out(right, own)
    axes[-1, 0].set_xlabel("training tokens of a run")
    page.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(own),
                title="bands and bars: 95% interval of the law; marks: one a seed")  # fmt: skip
    return page


def law(curve: Curve) -> Fit | None:
    """The law of the budgets below the held-out one, which foretells it."""
    below = curve.points[curve.points["factor"] < curve.held_out.factor]
    try:
        return fit_law(below["tokens"], below["loss"])
    except FitError:
        return None


def _draw_curve(axis: Axes, curve: Curve) -> None:
    method, factor = Method.parse(curve.method), curve.points["factor"]
    look = style.method_look(method)
    color, mark = look["color"], {"linestyle": "none", "marker": look["marker"], "markersize": 4}
    below, beyond = (curve.points[at] for at in (factor < factor.max(), factor == factor.max()))
    axis.plot(below["tokens"], below["loss"], color=color, label=f"{method.label}, fitted", **mark)
    axis.plot(beyond["tokens"], beyond["loss"], color=color, markerfacecolor="none",
              label=f"{method.label}, held out", **mark)  # fmt: skip
    fit = law(curve)
    if fit is None:
        return
    grid = _grid(curve, fit)
    low, high = np.transpose([fit.interval(at) for at in grid])
    value, inside = fit.value(grid), grid <= fit.tokens.max()
    axis.fill_between(grid, low, high, color=color, alpha=0.15, lw=0)
    axis.plot(grid[inside], value[inside], color=color)
    axis.plot(grid[~inside], value[~inside], color=color, linestyle="--")


def _mark_clipped(axis: Axes, curve: Curve, ends: tuple[float, float]) -> None:
    """Arrows where the interval of the law, at a budget, goes on beyond the axis."""
    fit = law(curve)
    if fit is not None:
        tokens = curve.points["tokens"].drop_duplicates()
        low, high = np.transpose([fit.interval(at) for at in tokens])
        color = style.method_look(Method.parse(curve.method))["color"]
        frame = pd.DataFrame({"tokens": tokens, "low": low, "high": high})
        style.clipped(axis, frame, ends, color)


def _grid(curve: Curve, fit: Fit) -> np.ndarray:
    """Tokens to draw at, from the first budget to the held-out one, the last fitted one twice."""
    last = fit.tokens.max()
    inside = np.geomspace(fit.tokens.min(), last, GRID)
    return np.r_[inside, last * 1.0001, np.geomspace(last, curve.held_out.tokens, GRID)[1:]]


def _draw_held_out(axis: Axes, own: Sequence[Curve]) -> None:
    """The interval foretold and the seeds measured, one place a method."""
    for place, curve in enumerate(own):
        one, look = curve.held_out, style.method_look(Method.parse(curve.method))
        mark = {"color": look["color"], "marker": look["marker"], "markersize": 4}
        if one.refusal:
            above = (place, max(one.measured.values()))
            axis.annotate("refused", above, (0, 5), textcoords="offset points", ha="center",
                          fontsize=7)  # fmt: skip
        else:
            axis.vlines(place - 0.12, one.low, one.high, color=look["color"])
            axis.plot(place - 0.12, one.value, **mark | {"marker": "_", "markersize": 7})
        seeds = list(one.measured.values())
        axis.plot(
            [place + 0.12] * len(seeds), seeds, linestyle="none", markerfacecolor="none", **mark
        )
    axis.set_title(f"×{own[0].held_out.factor:g}: foretold, measured")
    axis.set_xticks(range(len(own)), [Method.parse(c.method).row.label for c in own])
    axis.set_xlim(-0.6, len(own) - 0.4)
    axis.margins(y=0.15)
    axis.grid(visible=False, axis="x")


def figure_numbers(found: Sequence[Curve]) -> pd.DataFrame:
    """Every number drawn: pair, method, kind, tokens, seed, loss, low, high.

    ``kind`` is ``fitted``, ``held out``, ``law`` (of the budgets below) or ``foretold``.
    """
    frames = []
    for curve in found:
        factor = curve.points["factor"]
        kinds = np.where(factor < curve.held_out.factor, "fitted", "held out")
        parts = [curve.points[["tokens", "seed", "loss"]].assign(kind=kinds)]
        fit = law(curve)
        if fit is not None:
            grid = _grid(curve, fit)
            low, high = np.transpose([fit.interval(at) for at in grid])
            drawn = {"tokens": grid, "loss": fit.value(grid), "low": low, "high": high}
            parts.append(pd.DataFrame({"kind": "law", **drawn}))
        one = curve.held_out
        ends = {"tokens": [one.tokens], "loss": one.value, "low": one.low, "high": one.high}
        parts.append(pd.DataFrame({"kind": "foretold", **ends}))
        frames.append(pd.concat(parts).assign(pair=curve.pair, method=curve.method))
    columns = ["pair", "method", "kind", "tokens", "seed", "loss", "low", "high"]
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises UserError for records that are missing or broken."""
    found = curves(suite, root)
    titles = {curve.pair: pair_title(suite, curve.pair) for curve in found}
    style.save(figure(found, titles), root / "figures" / name)
    write_numbers(figure_numbers(found), root / "figures" / f"{name}.csv")
