"""The statistic of the loss at budgets beyond the pair's own (Table 5)."""

from __future__ import annotations

import math

from scipy import stats

from analysis.claims.compare import Statistic
from analysis.claims.evidence import Evidence
from analysis.claims.metrics import LOSS, NotTestable
from analysis.claims.statistics import ALL, Estimate, Finding, Part, estimate, find
from analysis.results import row_name
from analysis.scaling_law.budgets import ITEM, Curve, Prediction, curves


def beyond(ours: str, theirs: str, factor: float) -> Statistic:
    """The loss of ``ours`` is below that of ``theirs`` at ``factor`` times the pair's tokens.

    Measured where that budget was trained, paired over seeds; otherwise by the predictions of
    ``analysis.scaling_law.budgets``, where neither is refused.
    """

    def statistic(evidence: Evidence) -> list[Finding]:
        estimates, refused, told = {}, [], []
        for pair, found in _table5(evidence).items():
            both = [found[name].at(factor) for name in (ours, theirs) if name in found]
            if len(both) < 2 or None in both:
                continue
            reason = next((one.refusal for one in both if one.refusal and not one.measured), "")
            if reason:
                refused.append(f"{pair}: {reason}")
            else:
                estimates[pair] = _gap(*both)
                told += [] if both[0].measured else ["extrapolated by the law of smaller budgets"]
        if not (estimates or refused):
            names = f"{row_name(ours)} and {row_name(theirs)}"
            raise NotTestable(f"scale {evidence.suite.scale} does not run both {names}")
        if not estimates:
            raise NotTestable(f"no prediction: {refused[0]}")
        what = f"{row_name(ours)} − {row_name(theirs)}: CLM + KL at ×{factor:g} tokens"
        part = Part(what, estimates, -1)
        remarks = [*dict.fromkeys(told), *(f"no prediction for {reason}" for reason in refused)]
        scopes = [ALL, *(estimates if len(estimates) > 1 else [])]
        return [find([part], s, LOSS.unit, remarks=remarks) for s in scopes]

    return statistic


def _table5(evidence: Evidence) -> dict[str, dict[str, Curve]]:
    """The budgets of Table 5 by pair and method, read once. Raises NotTestable without them."""
    suite, key = evidence.suite, evidence.root / ITEM
    if ITEM not in suite.select.items or not suite.runs(ITEM):
        raise NotTestable(f"scale {suite.scale} does not train the runs of Table 5")
    if key not in evidence._contents:
        found: dict[str, dict[str, Curve]] = {}
        for curve in curves(suite, evidence.root):
            found.setdefault(curve.pair, {})[curve.method] = curve
        evidence._contents[key] = found
    return evidence._contents[key]


def _gap(ours: Prediction, theirs: Prediction) -> Estimate:
    """The difference of two losses at one budget as an estimate."""
    seeds = sorted(set(ours.measured) & set(theirs.measured))
    if seeds:
        return estimate([ours.measured[seed] - theirs.measured[seed] for seed in seeds])
    # Both intervals as if independent: wider than a paired one.
    half = [max(one.value - one.low, one.high - one.value) for one in (ours, theirs)]
    variance = sum((each / stats.norm.ppf(0.975)) ** 2 for each in half)
    return Estimate(ours.value - theirs.value, variance, math.inf, ours.seeds)
