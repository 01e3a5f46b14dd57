"""The statistic of an extrapolated loss (Table 5)."""

from __future__ import annotations

from typing import Any

from scipy import stats

from analysis.claims.compare import Statistic
from analysis.claims.evidence import Evidence
from analysis.claims.metrics import LOSS, NotTestable
from analysis.claims.statistics import ALL, Estimate, Finding, Part, find
from analysis.results import row_name
from analysis.scaling_law.curves import ITEM, pair_curves
from analysis.scaling_law.tokens import Fit, difference


def beyond(ours: str, theirs: str, factor: float) -> Statistic:
    """The loss of ``ours`` is below that of ``theirs`` at ``factor`` times the largest budget.

    By the fits of ``analysis.scaling_law.curves`` and their paired difference; its interval is
    taken for that of a t statistic with one degree of freedom less than there are seeds.
    """

    def statistic(evidence: Evidence) -> list[Finding]:
        estimates, refused = {}, []
        for curve in _table5(evidence):
            if not {ours, theirs} <= set(curve.fits):
                continue
            bad = [fit for name in (ours, theirs) if isinstance(fit := curve.fits[name], str)]
            if bad:
                refused.append(f"{curve.pair}: {bad[0]}")
            else:
                at = curve.budget * factor
                estimates[curve.pair] = _gap(curve.fits[ours], curve.fits[theirs], at)
        if not (estimates or refused):
            names = f"{row_name(ours)} and {row_name(theirs)}"
            raise NotTestable(f"scale {evidence.suite.scale} does not run both {names}")
        if not estimates:
            raise NotTestable(f"no fit: {refused[0]}")
        what = f"{row_name(ours)} − {row_name(theirs)}: CLM + KL at ×{factor:g} tokens"
        part = Part(what, estimates, -1)
        remarks = [f"no fit for {reason}" for reason in refused]
        if factor > 100:
            remarks.append("no data speak for the law that far out")
        scopes = [ALL, *(estimates if len(estimates) > 1 else [])]
        return [find([part], s, LOSS.unit, remarks=remarks) for s in scopes]

    return statistic


def _table5(evidence: Evidence) -> list[Any]:
    """The fits of Table 5's runs, made once. Raises NotTestable where its runs are not."""
    suite, key = evidence.suite, evidence.root / ITEM
    if not suite.runs(ITEM) or not set(suite.runs(ITEM)) <= set(suite.runs()):
        raise NotTestable(f"scale {suite.scale} does not train the runs of Table 5")
    if key not in evidence._contents:
        evidence._contents[key] = pair_curves(suite, evidence.root)
    return evidence._contents[key]


def _gap(ours: Fit, theirs: Fit, tokens: float) -> Estimate:
    """The paired difference of two fits as an estimate."""
    value, low, high = difference(ours, theirs, tokens)
    seeds = int(ours.runs.max()) + 1
    df = max(seeds - 1, 1)
    # The wider side stands for both, so that no interval is taken for narrower than it is.
    half = max(value - low, high - value)
    return Estimate(value, (half / stats.t.ppf(0.975, df)) ** 2, df, seeds)
