"""Table 5: the loss of Eq. 1, extrapolated far beyond the budget trained (Section 3.2.2).

    python -m analysis.tables.table5 --root work/mini

Writes ``{root}/tables/table5.{csv,md,html,tex}`` and ``{root}/figures/table5.{png,pdf,csv}``. The
loss is CLM + KL(teacher || student) on the validation split, for every method alike, so RKL is
scored on what Vanilla KD trains on. The learning rate is constant, so the points along one run
stand for budgets; a stage whose rate decays is refused. The paper goes from 2B tokens to 10B, 100B
and 1T; a smaller scale goes as far beyond its own budget by factor: x5, x50, x500.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.scaling import FACTORS
from analysis.figures.table5 import draw, figure_numbers
from analysis.reported import values as reported
from analysis.results import add_root, curve_frame, suite_of
from analysis.scaling_law.cli import number
from analysis.scaling_law.tokens import (
    Fit,
    FitError,
    difference,
    extrapolate,
    fit_tokens,
    sensitivity,
)
from analysis.tables.render import Table
from tad.command import UserError, command_line, exit_code
from tad.experiment.config import Suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.methods import Method
from tad.records import write_text

ITEM = "table5"
PAPER_TARGETS = (1e10, 1e11, 1e12)
BASELINE = "vanilla_kd"
MIN_BUDGETS = 6
"""Fewer leave so few degrees of freedom that an interval, however narrow, means nothing."""


class Table5Error(UserError, ValueError):
    """Runs of which no Table 5 can be made."""


@dataclass(frozen=True)
class Curves:
    """The fits of one pair: a Fit of each method, or in its place the reason why there is none.

    ``targets`` are the token counts to extrapolate to, ``budget`` the largest that was trained.
    """

    pair: str
    budget: float
    targets: tuple[float, ...]
    fits: dict[str, Fit | str]

    @property
    def fitted(self) -> dict[str, Fit]:
        """The methods that have a fit."""
        return {name: fit for name, fit in self.fits.items() if isinstance(fit, Fit)}


def pair_curves(suite: Suite, root: Path) -> list[Curves]:
    """Fits of every pair of Table 5 that a suite runs, over all seeds, in the paper's order.

    Raises Table5Error for a suite without such runs, RecordError for a missing ``train.jsonl``.
    """
    runs = suite.runs(ITEM)
    if not runs:
        raise Table5Error(f"scale {suite.scale} selects no pair and method of Table 5")
    frame = curve_frame(root, runs)
    frame = frame[frame["tokens"] > 0]
    found = []
    for pair in dict.fromkeys(run.pair for run in runs):
        own = [run for run in runs if run.pair == pair]
        points = frame[frame["pair"] == pair]
        budget = float(points["tokens"].max())
        paper = suite.scale == "paper"
        targets = PAPER_TARGETS if paper else tuple(factor * budget for factor in FACTORS)
        methods = dict.fromkeys(str(run.method) for run in own)
        fits = {
            name: _fit(suite, [r for r in own if str(r.method) == name], points) for name in methods
        }
        found.append(Curves(pair, budget, targets, fits))
    return found


def _fit(suite: Suite, runs: list[RunId], points: pd.DataFrame) -> Fit | str:
    """The fit to all seeds of a method, or why there is none. Points of the warm-up are left out:
    there the rate is not the constant one."""
    values = run_spec(suite, runs[0]).optimisation
    if values.schedule != "constant":
        return (
            f"the learning rate decays ({values.schedule}): a point along a run is not what a run "
            "of that budget would reach"
        )
    warm_up = round(values.warmup_fraction * values.steps) * values.batch_size * values.context
    own = points[(points["method"] == str(runs[0].method)) & (points["tokens"] > warm_up)]
    budgets = own["tokens"].nunique()
    if budgets < MIN_BUDGETS:
        return (
            f"{budgets} budgets are too few to judge a law of three unknowns by; {MIN_BUDGETS} or "
            f"more are wanted (stages.{runs[0].stage}.evaluations)"
        )
    try:
        return fit_tokens(own["tokens"], own["loss"], runs=list(own["seed"]))
    except FitError as refusal:
        return str(refusal)


# --- The table -----------------------------------------------------------------------------------


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
    targets = [f"{at:.0e}" for at in PAPER_TARGETS] if paper else [f"×{at:g}" for at in FACTORS]
    names = {"1e+10": "10B", "1e+11": "100B", "1e+12": "1T"}
    header = ["Pair", "Method", *(names.get(at, at) for at in targets)]
    header += [f"{names.get(targets[-1], targets[-1])} minus Vanilla KD", "E", "exponent", "Fit"]
    printed = _printed() if paper else {}
    rows, blocks, last = [], set(), None
    for (pair, method), group in frame.groupby(["pair", "method"], sort=False):
        if last not in (None, pair):
            blocks.add(len(rows))
        last = pair
        rows.append([pair, Method.parse(method).label, *_cells(group)])
        if (pair, method) in printed:
            values = [f"{value:.2f}" for value in printed[pair, method]]
            rows.append(["", "  as printed", *values, "", "", "", ""])
    title = f"Table 5. Extrapolated validation loss (scale {suite.scale})"
    notes = _notes(suite, frame)
    return Table(
        title=title, header=header, rows=rows, notes=notes, left=2, blocks=frozenset(blocks)
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
    found = {}
    for (pair, name), group in reported.table(5).groupby(["pair", "method"]):
        method = "tad-k10-b2" if name == "tad" else name
        found[pair, method] = list(group.sort_values("tokens")["val_loss_predicted"])
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


def write(suite: Suite, root: Path) -> None:
    """Write table and figure of a root. Raises UserError for records that are missing or broken."""
    curves = pair_curves(suite, root)
    frame = table5_frame(curves)
    table5(suite, frame).write(root / "tables", ITEM, frame)
    repeated = {
        (curve.pair, name): sensitivity(fit, curve.targets)
        for curve in curves
        for name, fit in curve.fitted.items()
    }
    with style.paper_style():
        style.save(draw(curves, repeated), root / "figures" / ITEM)
    numbers = figure_numbers(curves, repeated)
    text = numbers.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(root / "figures" / f"{ITEM}.csv", text)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is written, 2 for bad input."""
    parser = command_line("analysis.tables.table5", __doc__)
    add_root(parser)
    options = parser.parse_args(arguments)
    return exit_code("analysis.tables.table5", lambda: write(suite_of(options), options.root))
