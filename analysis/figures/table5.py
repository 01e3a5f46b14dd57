"""The figure of Table 5: points, fitted curves, what separates the methods, and on what it rests.

One column a pair. Top: loss against tokens, dashed beyond the data. Middle: each method minus
Vanilla KD, paired. Bottom: the last extrapolation again, from parts of the points. Bands and bars
are 95% intervals.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.results import write_numbers
from analysis.scaling_law.curves import Curves, pair_curves
from analysis.scaling_law.tokens import Fit, FitError, difference, sensitivity
from tad.experiment.config import Suite
from tad.methods import BASELINE, Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIANTS = ("all", "without the first", "without the first 2", "without the first 25%",
            "without the first 50%", "without the last third")  # fmt: skip
"""The parts of the points that are drawn, of those of ``sensitivity``."""

GRID = 60


Repeated = Mapping[tuple[str, str], pd.DataFrame]
"""``sensitivity`` tables by pair and method."""


def figure(curves: Sequence[Curves], repeated: Repeated) -> Figure:
    """All panels. A method without a fit is left out; a pair without any says why, without axes."""
    import matplotlib.pyplot as plt

    width = style.TEXT_WIDTH * (0.7 if len(curves) == 1 else 1.0)
    height = 6.0 if any(curve.fitted for curve in curves) else 1.2
    page, axes = plt.subplots(
        3, len(curves), figsize=(width, height), squeeze=False, height_ratios=(2.2, 1.1, 1.5)
    )
    for column, curve in zip(axes.T, curves, strict=True):
        column[0].set_title(style.pair_title(curve.pair), pad=11)
        if not curve.fitted:
            _say_why(column, curve)
            continue
        _draw_losses(column[0], column[1], curve)
        _draw_variants(column[2], curve, repeated)
    axes[0, 0].set_ylabel("CLM + KL (nats/token)")
    axes[1, 0].set_ylabel(f"minus {Method.parse(BASELINE).label}")
    for at, axis in enumerate(axes[2]):
        axis.set_yticks(range(len(VARIANTS)), [""] * len(VARIANTS) if at else _variant_labels())
    _legend(page, axes)
    return page


def _say_why(column: np.ndarray, curve: Curves) -> None:
    """In place of the panels of a pair, why it has no fit: the reason of its first method."""
    for axis in column:
        axis.set_axis_off()
    reason = textwrap.fill(f"No fit: {next(iter(curve.fits.values()))}.", width=50)
    column[0].text(0.5, 0.9, reason, ha="center", va="top", transform=column[0].transAxes)


def _legend(figure: Figure, axes: np.ndarray) -> None:
    """One entry a method, without what is said of one pair's fit alone."""
    found = {}
    for axis in axes[0]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label.partition(" (not")[0], handle)
    if found:
        figure.legend(found.values(), found, loc="outside upper center", ncols=len(found))


def _draw_losses(losses: Axes, gaps: Axes, curve: Curves) -> None:
    end = max(curve.targets)
    for name, fit in curve.fitted.items():
        _draw_curve(losses, name, fit, end)
    points = np.concatenate([fit.loss for fit in curve.fitted.values()])
    ends = [fit.value(end) for fit in curve.fitted.values()]
    # An interval that says nothing may span decades; the axis follows points and curves.
    low, high = min([*points, *ends]), points.max()
    losses.set_ylim(low - 0.35 * (high - low), high + 0.05 * (high - low))
    comparable = _comparable(curve)
    if len(comparable) > 1:
        _draw_differences(gaps, comparable, BASELINE, end)
        values = [
            difference(fit, comparable[BASELINE], np.array([curve.budget, end]))[0]
            for name, fit in comparable.items()
            if name != BASELINE
        ]
        reach = 4 * np.abs(values).max()
        gaps.set_ylim(-reach, reach)
    for axis in (losses, gaps):
        for at in (curve.budget, *curve.targets):
            axis.axvline(at, color=style.GREY, lw=0.7, ls="-" if at == curve.budget else ":")
        axis.set_xscale("log")
    for at in curve.targets:
        losses.annotate(
            f"×{at / curve.budget:.0f}", (at, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 2), textcoords="offset points", ha="center", fontsize=6, color=style.GREY,
        )  # fmt: skip
    losses.set_xticklabels([])
    gaps.set_xlabel("training tokens")


def _grid(fit: Fit, end: float) -> np.ndarray:
    """Tokens to draw at, with one exactly at the last point, where solid turns to dashed."""
    last = fit.tokens.max()
    inside = np.geomspace(fit.tokens.min(), last, 60)
    return np.concatenate([inside, np.geomspace(last, end, 60)[1:]])


def _draw_curve(axis: Axes, name: str, fit: Fit, end: float) -> None:
    """Points of a method and its fitted curve, up to ``end`` tokens."""
    method = Method.parse(name)
    look = style.method_look(method)
    at = _grid(fit, end)
    _draw_band(axis, fit, at, (fit.value(at), *fit.band(at)), look["color"])
    marks = {"color": look["color"], "marker": look["marker"], "markersize": 3}
    axis.plot(fit.tokens, fit.loss, linestyle="none", alpha=0.6, **marks)
    label = method.label + ("" if fit.identified else " (not identified)")
    axis.plot([], [], label=label, **marks)


def _draw_differences(axis: Axes, fits: Mapping[str, Fit], baseline: str, end: float) -> None:
    """Loss of each other method minus the baseline's, with its paired 95% band."""
    for name, fit in fits.items():
        if name != baseline:
            at = _grid(fit, end)
            gap = difference(fit, fits[baseline], at)
            _draw_band(axis, fit, at, gap, style.method_look(Method.parse(name))["color"])
    axis.axhline(0, color=style.BLACK, lw=0.6)


def _draw_band(
    axis: Axes, fit: Fit, at: np.ndarray, drawn: tuple[np.ndarray, ...], color: str
) -> None:
    """A curve with its band (value, low, high), solid up to the last point and dashed beyond."""
    value, low, high = drawn
    inside, beyond = at <= fit.tokens.max(), at >= fit.tokens.max()
    axis.fill_between(at, low, high, color=color, alpha=0.15, lw=0)
    axis.plot(at[inside], value[inside], color=color)
    axis.plot(at[beyond], value[beyond], color=color, linestyle="--")


def _comparable(curve: Curves) -> dict[str, Fit]:
    """Vanilla KD and the fits on the same token counts and runs as its; empty without it."""
    base = curve.fitted.get(BASELINE)
    if base is None:
        return {}
    same = {BASELINE: base}
    for name, fit in curve.fitted.items():
        try:
            difference(fit, base, curve.budget, resamples=10)
        except FitError:
            continue
        same[name] = fit
    return same


def _draw_variants(axis: Axes, curve: Curves, repeated: Repeated) -> None:
    target = max(curve.targets)
    value, low, high = (f"{name}_at_{target:g}" for name in ("loss", "low", "high"))
    for order, name in enumerate(curve.fitted):
        rows = repeated[curve.pair, name].set_index("variant").reindex(VARIANTS)
        if value not in rows:
            continue
        look = style.method_look(Method.parse(name)) | {"linestyle": "none"}
        height = np.arange(len(VARIANTS)) + 0.22 * (order - (len(curve.fitted) - 1) / 2)
        error = [rows[value] - rows[low], rows[high] - rows[value]]
        axis.errorbar(rows[value], height, xerr=error, elinewidth=0.8, **look)
    axis.set_ylim(len(VARIANTS) - 0.4, -0.6)
    axis.set_xlim(*_reach(curve, repeated, value))
    axis.grid(visible=False, axis="y")
    axis.set_xlabel(f"loss at {style.short(target)} tokens")


def _reach(curve: Curves, repeated: Repeated, value: str) -> tuple[float, float]:
    """Limits that hold every estimate; bars that run out of them say nothing more."""
    tables = [repeated[curve.pair, name].set_index("variant") for name in curve.fitted]
    values = [float(x) for t in tables if value in t for x in t[value].reindex(VARIANTS).dropna()]
    low, high = min(values), max(values)
    margin = 0.5 * max(high - low, 0.02 * high)
    return low - margin, high + margin


def _variant_labels() -> list[str]:
    return ["all points" if name == "all" else name for name in VARIANTS]


def figure_numbers(curves: Sequence[Curves], repeated: Repeated) -> pd.DataFrame:
    """Every number that is drawn: pair, method, kind, variant, tokens, loss, low, high.

    ``kind`` is ``point``, ``curve``, ``minus Vanilla KD`` or ``part of the points`` (``variant``).
    """
    frames = []
    for curve in curves:
        comparable = _comparable(curve)
        for name, fit in curve.fitted.items():
            at = np.geomspace(fit.tokens.min(), max(curve.targets), GRID)
            shown = {"curve": (fit.value(at), *fit.band(at))}
            if name in comparable and name != BASELINE:
                gap = difference(fit, comparable[BASELINE], at)
                shown[f"minus {Method.parse(BASELINE).label}"] = gap
            parts = [pd.DataFrame({"kind": "point", "tokens": fit.tokens, "loss": fit.loss})]
            parts += [
                pd.DataFrame({"kind": kind, "tokens": at, "loss": value, "low": low, "high": high})
                for kind, (value, low, high) in shown.items()
            ]
            parts.append(_parts_of_points(repeated[curve.pair, name], curve.targets))
            frames.append(pd.concat(parts).assign(pair=curve.pair, method=name))
    columns = ["pair", "method", "kind", "variant", "tokens", "loss", "low", "high"]
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def _parts_of_points(table: pd.DataFrame, targets: Sequence[float]) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        for target in targets:
            values = {key: row.get(f"{key}_at_{target:g}") for key in ("loss", "low", "high")}
            rows.append({"variant": row["variant"], "tokens": target, **values})
    return pd.DataFrame(rows).assign(kind="part of the points")


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw the figure of a root. Raises UserError for records that are missing or broken."""
    curves = pair_curves(suite, root)
    repeated = {
        (curve.pair, method): sensitivity(fit, curve.targets)
        for curve in curves
        for method, fit in curve.fitted.items()
    }
    style.save(figure(curves, repeated), root / "figures" / name)
    write_numbers(figure_numbers(curves, repeated), root / "figures" / f"{name}.csv")
