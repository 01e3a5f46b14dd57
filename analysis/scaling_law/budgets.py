"""What separate budgets say of larger ones: what Table 5, its figure and its claims rest on.

Every point is a run of its own, trained for its budget and measured at its end: CLM + KL(teacher ||
student) on the whole validation split, for every method alike. The largest budget is held out: the
law of the smaller ones foretells it, and its truth is known. Only a law that has foretold it may
go further, and never further (in log tokens) than its own points reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.results import heldout_frame
from analysis.scaling_law.fit import Fit, FitError, fit_law
from tad.command import UserError
from tad.experiment.config import Suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.methods import Method

ITEM = "budgets"
FACTORS = (5, 50, 500)
"""Multiples of a pair's tokens that the paper extrapolates to (2B to 10B, 100B, 1T)."""

MIN_DECADES = 1.5
LOSS = ("nll", "kl")
"""What Equation 1 adds up, by its name in heldout.json."""


class BudgetsError(UserError, ValueError):
    """Runs that make no Table 5."""


@dataclass(frozen=True)
class Prediction:
    """The loss at ``factor`` times the pair's tokens, foretold by runs of smaller budgets.

    ``value``, ``low`` and ``high`` (95%, nats a token) are NaN where ``refusal`` says why there is
    no number. ``measured`` is the end loss of each seed that was trained for that budget, if any;
    ``seeds`` counts those that foretold it.
    """

    factor: float
    tokens: float
    seeds: int
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    refusal: str = ""
    measured: dict[int, float] = field(default_factory=dict)

    @property
    def truth(self) -> float:
        """Mean of what was measured; NaN if nothing was."""
        return float(np.mean(list(self.measured.values()))) if self.measured else math.nan

    @property
    def foretold(self) -> bool:
        """Whether the truth is known and within the interval."""
        return bool(self.low <= self.truth <= self.high)


@dataclass(frozen=True)
class Curve:
    """The budgets of one pair and method (its id without a budget).

    ``points`` has a row a run: factor, tokens, seed, loss (nats a token). ``fit`` is the law of all
    budgets, None where there is none; ``held_out`` the largest, foretold by the others;
    ``beyond`` those of FACTORS that are larger still.
    """

    pair: str
    method: str
    points: pd.DataFrame = field(repr=False)
    fit: Fit | None
    held_out: Prediction
    beyond: tuple[Prediction, ...]

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """All of them, by growing budget."""
        return (self.held_out, *self.beyond)

    def at(self, factor: float) -> Prediction | None:
        """The prediction at a multiple of the pair's tokens; None where there is none."""
        return next((one for one in self.predictions if one.factor == factor), None)


def curves(suite: Suite, root: Path) -> list[Curve]:
    """The budgets of every pair and method that a suite runs, in the order of its runs.

    Raises BudgetsError for a suite without such runs, RecordError for a missing ``heldout.json``.
    """
    runs = suite.runs(ITEM)
    if not runs:
        raise BudgetsError(f"scale {suite.scale} selects no pair and method of item {ITEM}")
    groups: dict[tuple[str, str], list[RunId]] = {}
    for run in runs:
        groups.setdefault((run.pair, str(without_budget(run.method))), []).append(run)
    largest = max(run.method.shared["x"] for run in runs)
    return [_curve(*key, points(suite, root, own), largest) for key, own in groups.items()]


def without_budget(method: Method) -> Method:
    """The same method at the pair's own budget."""
    return Method.of(method.name, **method.parameters, **{**method.shared, "x": 1.0})


def points(suite: Suite, root: Path, runs: Sequence[RunId]) -> pd.DataFrame:
    """The ``points`` of a curve, from the runs of one pair and method. Raises RecordError."""
    frame = heldout_frame(root, runs)
    wide = frame.pivot(index=["method", "seed"], columns="metric", values="mean")
    rows = [
        {
            "factor": run.method.shared["x"],
            "tokens": run_spec(suite, run).optimisation.tokens,
            "seed": run.seed,
            "loss": sum(wide.loc[(str(run.method), run.seed), name] for name in LOSS),
        }
        for run in runs
    ]
    return pd.DataFrame(rows).sort_values(["tokens", "seed"], ignore_index=True)


def _curve(pair: str, method: str, points: pd.DataFrame, largest: float) -> Curve:
    own = points["tokens"] / points["factor"]
    budget = float(own[points["factor"].idxmax()])  # the whole steps of the largest round least
    held_out = predict(points, largest, largest * budget)
    farther = [factor for factor in FACTORS if factor > largest]
    beyond = tuple(_beyond(points, held_out, factor, factor * budget) for factor in farther)
    try:
        fit = fit_law(points["tokens"], points["loss"])
    except FitError:
        fit = None
    return Curve(pair, method, points, fit, held_out, beyond)


def _beyond(points: pd.DataFrame, held_out: Prediction, factor: float, tokens: float) -> Prediction:
    """A prediction of what was never trained, by a law that has foretold what was."""
    found = predict(points, factor, tokens)
    missed = "" if held_out.foretold else f"the law did not foretell ×{held_out.factor:g}"
    reason = found.refusal if held_out.refusal else missed or found.refusal
    reason = reason or missed or fit_law(points["tokens"], points["loss"]).unidentified
    return Prediction(factor, tokens, found.seeds, refusal=reason) if reason else found


def predict(points: pd.DataFrame, factor: float, tokens: float) -> Prediction:
    """The loss at ``tokens`` from the points of smaller ``factor``, or why it is refused.

    The interval is that of the mean of as many runs as were measured there, one if none was.
    Refused is what ``fit_law`` and ``Fit.refusal`` refuse, and budgets over fewer than MIN_DECADES,
    the held-out one counted in.
    """
    below, at = points[points["factor"] < factor], points[points["factor"] == factor]
    measured = dict(zip(at["seed"], at["loss"], strict=True))
    found = Prediction(factor, tokens, below["seed"].nunique(), measured=measured)
    try:
        fit = fit_law(below["tokens"], below["loss"])
    except FitError as refusal:
        return replace(found, refusal=str(refusal))
    runs = max(len(at), 1)
    decades = math.log10(points["tokens"].max() / below["tokens"].min())
    refusal = fit.refusal(tokens, runs)
    if decades < MIN_DECADES:
        refusal = f"the budgets span {decades:.2g} decades of tokens, not {MIN_DECADES}"
    if refusal:
        return replace(found, refusal=refusal)
    low, high = fit.interval(tokens, runs)
    return replace(found, value=float(fit.value(tokens)), low=low, high=high)
