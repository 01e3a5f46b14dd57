"""Table 5: the loss of Eq. 1, extrapolated far beyond the budget trained (Section 3.2.2).

Fits are those of ``analysis.scaling_law.curves``; no number stands without its interval, and where
there is no fit its reason does.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures.style import short
from analysis.reported import values as reported
from analysis.scaling_law.cli import number
from analysis.scaling_law.curves import FACTORS, PAPER_TARGETS, Curves, pair_curves
from analysis.scaling_law.tokens import Fit, FitError, difference, extrapolate
from analysis.tables.render import Table, blocks
from tad.experiment.config import Suite
from tad.methods import BASELINE, Method


def table5_frame(curves: list[Curves]) -> pd.DataFrame:
    """One row a pair, method and target.

    Columns: pair, method, seeds, points, budget, tokens (the target), factor, loss, low, high (95%,
    nats a token), minus_kd with its paired interval (``minus_kd_low``, ``minus_kd_high``), E, beta
    with intervals, identified, warnings (the fit's lines) and refusal (empty where there is a fit).
    """
    rows = []
    for curve in curves:
        for name, fit in curve.fits.items():
            keys = {"pair": curve.pair, "method": name, "budget": curve.budget}
            if isinstance(fit, str):
                rows += [{**keys, "tokens": at, "refusal": fit} for at in curve.targets]
                continue
            shared = {**keys, **_parameters(fit), "refusal": ""}
            base = curve.fits.get(BASELINE)
            gaps = _gaps(fit, base, curve.targets) if name != BASELINE else {}
            table = extrapolate(fit, curve.targets)
            for at, cell in enumerate(table.to_dict("records")):
                gap = {key: float(values[at]) for key, values in gaps.items()}
                rows.append({**shared, **cell, **gap})
    return pd.DataFrame(rows)


def _parameters(fit: Fit) -> dict[str, object]:
    return {
        "seeds": int(fit.runs.max()) + 1,
        "points": len(fit.tokens),
        "E": fit.E,
        "E_low": fit.E_interval[0],
        "E_high": fit.E_interval[1],
        "beta": fit.beta,
        "beta_low": fit.beta_interval[0],
        "beta_high": fit.beta_interval[1],
        "identified": fit.identified,
        "warnings": " | ".join(fit.warnings),
    }


def _gaps(fit: Fit, base: Fit | str | None, targets: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Loss minus Vanilla KD's at the targets; empty where that has no fit on the same points."""
    if not isinstance(base, Fit):
        return {}
    try:
        gap = difference(fit, base, np.asarray(targets))
    except FitError:
        return {}
    return dict(zip(("minus_kd", "minus_kd_low", "minus_kd_high"), gap, strict=True))


def table5(suite: Suite, frame: pd.DataFrame) -> Table:
    """The table to read, from ``table5_frame``; printed values beside ours at paper scale."""
    paper = suite.scale == "paper"
    targets = [short(at) for at in PAPER_TARGETS] if paper else [f"×{at:g}" for at in FACTORS]
    header = ["Pair", "Method", *targets, f"{targets[-1]} minus {Method.parse(BASELINE).label}"]
    header += ["E", "exponent", "Fit"]
    printed = _printed() if paper else {}
    rows, keys = [], []
    for (pair, method), group in frame.groupby(["pair", "method"], sort=False):
        rows.append([pair, Method.parse(method).label, *_cells(group)])
        keys.append(pair)
        if (pair, method) in printed:
            values = [f"{value:.2f}" for value in printed[pair, method]]
            rows.append(["", "  as printed", *values, "", "", "", ""])
            keys.append(pair)
    return Table(
        title=f"{suite.items['table5'].title} (scale {suite.scale})",
        header=header,
        rows=rows,
        notes=_notes(suite, frame),
        left=2,
        blocks=blocks(keys),
    )


def _cells(group: pd.DataFrame) -> list[str]:
    """Extrapolations, the last one's difference, E and exponent, each with its interval."""
    first, last = group.iloc[0], group.iloc[-1]
    if first["refusal"]:
        return [*["refused"] * len(group), "", "", "", "see note"]
    cells = [_interval(row["loss"], row["low"], row["high"]) for _, row in group.iterrows()]
    gap = ""
    if pd.notna(last.get("minus_kd")):
        gap = _interval(last["minus_kd"], last["minus_kd_low"], last["minus_kd_high"])
    cells += [gap, _interval(first["E"], first["E_low"], first["E_high"])]
    cells.append(_interval(first["beta"], first["beta_low"], first["beta_high"]))
    return [*cells, "identified" if first["identified"] else "not identified"]


def _interval(value: float, low: float, high: float) -> str:
    shown = [number(at, high - low) for at in (value, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _printed() -> dict[tuple[str, str], list[float]]:
    """The paper's values of each pair and method, by growing budget."""
    found: dict[tuple[str, str], list[float]] = {}
    for _, rows in reported.table(5).groupby("tokens"):
        for key, row in reported.by_row(rows).items():
            found.setdefault(key, []).append(row["val_loss_predicted"])
    return found


def _notes(suite: Suite, frame: pd.DataFrame) -> list[str]:
    """What a reader must know before any number: loss, budgets, intervals, refusals, warnings."""
    budgets = ", ".join(
        f"{pair} {value / 1e6:.4g}M"
        for pair, value in frame.drop_duplicates("pair")[["pair", "budget"]].to_numpy()
    )
    notes = [
        "Loss of Eq. 1 on the validation split, CLM + KL(teacher || student), nats a token, with "
        "its 95% interval; it is no cross-entropy, and tokenizers differ between pairs. Fit: "
        "L(D) = E + B / D^exponent, Huber loss of log residuals, over all seeds "
        f"({len(suite.seeds)}). The learning rate is constant, so points along a run, after the "
        "warm-up, serve as budgets; a run annealed at that budget would end lower.",
        f"Largest budget in tokens: {budgets}.",
    ]
    if suite.scale != "paper":
        notes.append(
            "Columns are factors beyond the largest budget, the paper's own (2B tokens to 10B, "
            "100B, 1T). Its values are for other models and data, so none stands here."
        )
    notes.append(
        "×50 is beyond what such a fit can be trusted with, ×500 beyond any support: there the "
        "interval holds only if the law does. Not identified: the points do not determine E and "
        "the exponent. The difference is paired over seeds or points; an interval that holds 0 "
        "means: not distinguishable."
    )
    for (pair, method), group in frame.groupby(["pair", "method"], sort=False):
        first, name = group.iloc[0], Method.parse(method).label
        if first["refusal"]:
            notes.append(f"{pair}, {name}: refused, because {first['refusal']}.")
        elif first["warnings"]:
            text = textwrap.shorten(first["warnings"].replace(" | ", "; "), 600)
            notes.append(f"{pair}, {name}: {text}.")
    return notes


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table of a root. Raises UserError for records that are missing or broken."""
    frame = table5_frame(pair_curves(suite, root))
    table5(suite, frame).write(root / "tables", name, frame)
