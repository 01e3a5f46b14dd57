"""Figures of the scaling fits: loss against tokens far beyond the data, and what that rests on.

Data in, matplotlib Figure out; ``analysis.figures.style.paper_style`` is set by the caller, who also saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import style
from analysis.scaling_law.tokens import Fit, FitError, difference
from tad.methods import Method

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTORS = (5, 50, 500)
"""How far beyond the largest budget: Table 5 goes from 2B tokens to 10B, 100B and 1T."""


def extrapolation(
    fits: Mapping[str, Fit],
    *,
    baseline: str | None = None,
    factors: Sequence[float] = FACTORS,
    loss_name: str = "loss",
) -> Figure:
    """Loss against tokens with fitted curves, residuals, and differences to a baseline (Table 5).

    ``fits`` maps method ids to fits. Curves are solid where there are points and dashed beyond;
    bands are 95% intervals. With ``baseline`` (a key of ``fits``) a third panel shows each other
    method's loss minus the baseline's, with its paired interval. Raises FitError for an unknown
    baseline, or one that was not trained on the same token counts.
    """
    import matplotlib.pyplot as plt

    if baseline is not None and baseline not in fits:
        raise FitError(f"baseline {baseline!r} is not among {', '.join(fits)}")
    heights = (3.0, 0.9, 1.3)[: 2 + (baseline is not None)]
    size = (style.TEXT_WIDTH, 0.4 + 0.95 * sum(heights))
    figure, axes = plt.subplots(len(heights), 1, figsize=size, sharex=True, height_ratios=heights)
    last = max(fit.tokens.max() for fit in fits.values())
    for name, fit in fits.items():
        draw_curve(axes[0], name, fit, last * max(factors))
        _draw_residuals(axes[1], name, fit)
    axes[0].set_ylabel(f"{loss_name} (nats/token)")
    axes[0].legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")
    axes[1].axhline(0, color=style.BLACK, lw=0.6)
    axes[1].set_ylabel("off the\ncurve (%)")
    if baseline is not None:
        draw_differences(axes[2], fits, baseline, last * max(factors))
    mark_factors(axes, last, factors)
    axes[-1].set_xscale("log")
    axes[-1].set_xlabel("training tokens")
    figure.align_ylabels(axes)
    return figure


def _grid(fit: Fit, end: float) -> np.ndarray:
    """Tokens to draw at, with one exactly at the last point, where solid turns to dashed."""
    last = fit.tokens.max()
    inside = np.geomspace(fit.tokens.min(), last, 60)
    return np.concatenate([inside, np.geomspace(last, end, 60)[1:]])


def draw_curve(axis: Axes, name: str, fit: Fit, end: float) -> None:
    """Points of a method and its fitted curve with its 95% band, dashed up to ``end`` tokens."""
    method = Method.parse(name)
    look = style.method_look(method)
    at = _grid(fit, end)
    low, high = fit.band(at)
    inside = at <= fit.tokens.max()
    beyond = at >= fit.tokens.max()
    label = method.label + ("" if fit.identified else " (not identified)")
    axis.fill_between(at, low, high, color=look["color"], alpha=0.15, lw=0)
    axis.plot(at[inside], fit.value(at[inside]), color=look["color"])
    axis.plot(at[beyond], fit.value(at[beyond]), color=look["color"], linestyle="--")
    axis.plot(
        fit.tokens, fit.loss, color=look["color"], marker=look["marker"],
        linestyle="none", alpha=0.6, markersize=3,
    )  # fmt: skip
    axis.plot([], [], color=look["color"], marker=look["marker"], markersize=3, label=label)


def _draw_residuals(axis: Axes, name: str, fit: Fit) -> None:
    look = style.method_look(Method.parse(name))
    percent = 100 * (fit.loss / fit.value(fit.tokens) - 1)
    axis.plot(
        fit.tokens, percent, color=look["color"], marker=look["marker"], linestyle="none",
        markersize=3, alpha=0.8,
    )  # fmt: skip


def draw_differences(axis: Axes, fits: Mapping[str, Fit], baseline: str, end: float) -> None:
    """Loss of each other method minus the baseline's, with its paired 95% band."""
    for name, fit in fits.items():
        if name == baseline:
            continue
        look = style.method_look(Method.parse(name))
        at = _grid(fit, end)
        value, low, high = difference(fit, fits[baseline], at)
        inside = at <= fit.tokens.max()
        beyond = at >= fit.tokens.max()
        axis.fill_between(at, low, high, color=look["color"], alpha=0.15, lw=0)
        axis.plot(at[inside], value[inside], color=look["color"])
        axis.plot(at[beyond], value[beyond], color=look["color"], linestyle="--")
    axis.axhline(0, color=style.BLACK, lw=0.6)
    axis.set_ylabel(f"minus\n{Method.parse(baseline).label}")


def mark_factors(axes: Sequence[Axes], last: float, factors: Sequence[float]) -> None:
    """Lines at the last point and at each factor beyond it, named above the first panel."""
    for factor in (1, *factors):
        for axis in axes:
            axis.axvline(last * factor, color=style.GREY, lw=0.7, ls="-" if factor == 1 else ":")
        text = "last point" if factor == 1 else f"×{factor:g}"
        axes[0].annotate(
            text, (last * factor, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", fontsize=7, color=style.GREY,
        )  # fmt: skip


def dropped_points(tables: Mapping[str, pd.DataFrame], target: float) -> Figure:
    """How beta and the extrapolated loss depend on the points that are used.

    ``tables`` maps method ids to the tables of ``analysis.scaling_law.tokens.sensitivity``; ``target`` is
    one of its token counts. Bars are 95% intervals; a variant that could not be fitted has none.
    """
    import matplotlib.pyplot as plt

    variants = list(next(iter(tables.values()))["variant"])
    size = (style.TEXT_WIDTH, 0.7 + 0.27 * len(variants))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True)
    panels = (("beta", "beta_low", "beta_high"),) + (
        (f"loss_at_{target:g}", f"low_at_{target:g}", f"high_at_{target:g}"),
    )
    for order, (name, table) in enumerate(tables.items()):
        method = Method.parse(name)
        look = style.method_look(method) | {"linestyle": "none"}
        rows = table.set_index("variant").reindex(variants)
        height = np.arange(len(variants)) + 0.22 * (order - (len(tables) - 1) / 2)
        for axis, (value, low, high) in zip(axes, panels, strict=True):
            error = [rows[value] - rows[low], rows[high] - rows[value]]
            label = method.label
            axis.errorbar(rows[value], height, xerr=error, label=label, elinewidth=0.9, **look)
    axes[0].set_yticks(range(len(variants)), variants)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("exponent β")
    axes[1].set_xlabel(f"loss at {short(target)} tokens (nats/token)")
    if len(tables) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    for axis in axes:
        axis.grid(visible=False, axis="y")
    return figure


def short(tokens: float) -> str:
    """2e9 as 2B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{letter}"
    return f"{tokens:.3g}"
