"""The statistic of a loss at a larger budget: measured where it was trained, else extrapolated."""

from __future__ import annotations

import math

from scipy import stats

from analysis.claims.compare import Statistic
from analysis.claims.evidence import Evidence
from analysis.claims.metrics import LOSS, NotTestable
from analysis.claims.statistics import ALL, MIN_SEEDS, Estimate, Finding, Part, estimate, find
from analysis.results import row_name
from analysis.scaling_law.budgets import ITEM, Curve, Prediction, curves

EXTRAPOLATED = "extrapolated by the law of the smaller budgets"


def beyond(ours: str, theirs: str, factor: float) -> Statistic:
    """The loss of ``ours`` is below that of ``theirs`` at ``factor`` times a pair's tokens.

    Runs of that budget are compared seed by seed. Without them the laws of
    ``analysis.scaling_law.budgets`` are, as far as they go, their errors taken as independent.
    """

    def statistic(evidence: Evidence) -> list[Finding]:
        estimates, refused, remarks = {}, [], []
        for pair, by_method in _by_pair(evidence).items():
            if not {ours, theirs} <= set(by_method):
                continue
            both = [_at(by_method[name], factor) for name in (ours, theirs)]
            reasons = [one.refusal for one in both if one.refusal and not one.measured]
            if reasons:
                refused.append(f"{pair}: {reasons[0]}")
                continue
            estimates[pair], measured = _difference(*both)
            if not measured:
                remarks.append(EXTRAPOLATED)
        if not (estimates or refused):
            names = f"{row_name(ours)} and {row_name(theirs)}"
            raise NotTestable(f"scale {evidence.suite.scale} does not run both {names} in {ITEM}")
        if not estimates:
            raise NotTestable(f"no law goes that far ({refused[0]})")
        remarks = [*dict.fromkeys(remarks), *(f"no law for {reason}" for reason in refused)]
        part = Part(
            f"{row_name(ours)} − {row_name(theirs)}: CLM + KL at ×{factor:g} tokens", estimates, -1
        )
        scopes = [ALL, *(estimates if len(estimates) > 1 else [])]
        return [find([part], scope, LOSS.unit, remarks=remarks) for scope in scopes]

    return statistic


def _by_pair(evidence: Evidence) -> dict[str, dict[str, Curve]]:
    """The curves of all budgets by pair and method. Raises NotTestable without such runs."""
    suite = evidence.suite
    if ITEM not in suite.select.items or not suite.runs(ITEM):
        raise NotTestable(f"scale {suite.scale} does not train the runs of {ITEM}")
    found: dict[str, dict[str, Curve]] = {}
    for curve in curves(suite, evidence.root):
        found.setdefault(curve.pair, {})[curve.method] = curve
    return found


def _at(curve: Curve, factor: float) -> Prediction:
    there = [one for one in curve.predictions if one.factor == factor]
    return there[0] if there else Prediction(factor, 0, refusal=f"×{factor:g} is not foretold")


def _difference(ours: Prediction, theirs: Prediction) -> tuple[Estimate, bool]:
    """Ours less theirs, and whether that is measured."""
    seeds = [seed for seed in ours.measured if seed in theirs.measured]
    if seeds:
        return estimate([ours.measured[seed] - theirs.measured[seed] for seed in seeds]), True
    halves = [(one.high - one.low) / 2 / stats.norm.ppf(0.975) for one in (ours, theirs)]
    variance = sum(half**2 for half in halves)
    # An interval, not replicates: as many as a verdict takes.
    return Estimate(ours.value - theirs.value, variance, math.inf, MIN_SEEDS), False
