"""Fits of the loss curves of Table 5's runs: what its table, its figure and its claims rest on.

The loss is CLM + KL(teacher || student) on the validation split, for every method alike, so RKL is
scored on what Vanilla KD trains on. The learning rate is constant, so the points along one run
stand for budgets; a stage whose rate decays is refused. The paper goes from 2B tokens to 10B, 100B
and 1T; a smaller scale goes as far beyond its own budget by factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.results import curve_frame
from analysis.scaling_law.tokens import Fit, FitError, fit_tokens
from tad.command import UserError
from tad.experiment.config import Suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec

ITEM = "table5"
PAPER_TARGETS = (1e10, 1e11, 1e12)
FACTORS = (5, 50, 500)
"""How far beyond the largest budget, as those of the paper are."""

MIN_BUDGETS = 6
"""Fewer leave so few degrees of freedom that an interval, however narrow, means nothing."""


class CurvesError(UserError, ValueError):
    """Runs of which no curves can be fitted."""


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

    Raises CurvesError for a suite without such runs, RecordError for a missing ``train.jsonl``.
    """
    runs = suite.runs(ITEM)
    if not runs:
        raise CurvesError(f"scale {suite.scale} selects no pair and method of Table 5")
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
