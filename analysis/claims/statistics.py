"""From replicates to verdicts: the statistics behind ``analysis.claims.judge``.

A claim is one statement or several that must all hold (``Part``), each about a mean over pairs of
what differs between two methods trained with the same seed. Variances are estimated within each
pair and added up (Welch and Satterthwaite), with the sampling error of the benchmark's items where
items are known. Where there is one seed, what differs is resampled over items, documents or
sequences instead (``analysis.resampled``), and the verdict says so. A claim of several parts is
supported only as far as its weakest part (intersection-union test) and contradicted as soon as one
part is, corrected for their number (Bonferroni). Primary claims state a margin, and "no difference
beyond it" is a verdict too, by two one-sided tests (Schuirmann, 1987). Over claims, p-values are
corrected by Holm's procedure (primary) or by Benjamini and Hochberg's (1995; exploratory).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from analysis.resampled import Resampled, pooled

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
SAME = "no difference beyond the margin"
DEPENDS = "depends on our reading"
NOT_TESTABLE = "not testable at this scale"
ON_ITEMS = " on these items, one run"
HERE = {verdict: verdict + ON_ITEMS for verdict in (SUPPORTED, CONTRADICTED, SAME)}
"""What is called so of one seed, by what the same would be called of several."""
ONE_RUN = " of one run"
"""How what an interval is over ends, of those that are not over seeds."""
LEVEL = 0.05
MIN_SEEDS = 3
ALL = "all"
"""The scope of a finding about the mean over pairs."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its squared standard error and that one's degrees of freedom.

    ``variance`` is NaN for one replicate without a known error, ``df`` infinite for a known error.
    ``n`` counts replicates (seeds, teachers).
    """

    mean: float
    variance: float
    df: float
    n: int

    def interval(self) -> tuple[float, float]:
        """The 95% interval; NaN for one replicate."""
        half = float(stats.t.ppf(1 - LEVEL / 2, self.df)) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half

    def above(self, bound: float) -> float:
        """One-sided p-value of a mean that is not above ``bound``: small where it is."""
        gap = self.mean - bound
        if self.variance == 0:  # every replicate alike
            return 0.5 if gap == 0 else float(gap < 0)
        return float(stats.t.sf(gap / math.sqrt(self.variance), self.df))

    @property
    def mirrored(self) -> Estimate:
        """The estimate of the opposite difference."""
        return Estimate(-self.mean, self.variance, self.df, self.n)


def beyond(found: Estimate | Resampled, margin: float) -> float:
    """p-value of a mean that is ``margin`` or more away from 0, on either side: small where it is
    nearer. The larger of two one-sided tests, each at the full level (TOST)."""
    return max(found.above(-margin), found.mirrored.above(-margin))


def estimate(values: Sequence[float], known: float = 0.0) -> Estimate:
    """The mean of replicates (n,); ``known`` is the standard error of what all of them share, as
    the items of a benchmark."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n == 1:
        variance = known**2 if known else math.nan
        return Estimate(float(values[0]), variance, math.inf if known else math.nan, 1)
    own = float(values.var(ddof=1)) / n
    variance = own + known**2
    df = (n - 1) * (variance / own) ** 2 if own else float(n - 1 if not known else math.inf)
    return Estimate(float(values.mean()), variance, df, n)


def combine(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent means, each with its own variance."""
    if len(estimates) == 1:
        return estimates[0]
    variances = np.array([e.variance for e in estimates])
    total = float(variances.sum())
    shares = sum(e.variance**2 / e.df for e in estimates)
    df = total**2 / shares if shares else float(sum(e.df for e in estimates))
    return Estimate(
        mean=float(np.mean([e.mean for e in estimates])),
        variance=total / len(estimates) ** 2,
        df=df,
        n=min(e.n for e in estimates),
    )


@dataclass(frozen=True)
class Part:
    """One statement: the mean is above ``bound`` (``sign`` +1) or below it (-1).

    ``estimates`` are by scope (pair), on the scale that is tested. ``what`` says what is measured.
    ``sampled`` are the same over items or documents, for the pairs of one seed, or all if one is;
    ``unsampled`` says why there are none.
    """

    what: str
    estimates: Mapping[str, Estimate]
    sign: int
    bound: float = 0.0
    sampled: Mapping[str, Resampled] = field(default_factory=dict)
    unsampled: str = ""

    def over(self, scope: str) -> Estimate | Resampled:
        """The estimate of a pair, or of the mean over all: over seeds, or where there is one, over
        items or documents as far as they are known."""
        pairs = self._pairs(scope)
        if self.replicates(scope) == 1 and all(pair in self.sampled for pair in pairs):
            return pooled([self.sampled[pair] for pair in pairs])
        return combine([self.estimates[pair] for pair in pairs])

    def replicates(self, scope: str) -> int:
        """How many seeds (teachers) there are, of the pair that has the fewest."""
        return min(self.estimates[pair].n for pair in self._pairs(scope))

    def _pairs(self, scope: str) -> list[str]:
        return list(self.estimates) if scope == ALL else [scope]

    def support(self, scope: str) -> float:
        """One-sided p-value for the statement: small where it holds."""
        return self._above(scope, self.sign)

    def opposition(self, scope: str) -> float:
        """One-sided p-value against the statement: small where the contrary holds."""
        return self._above(scope, -self.sign)

    def _above(self, scope: str, sign: int) -> float:
        found = self.over(scope)
        return (found if sign > 0 else found.mirrored).above(sign * self.bound)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is found of a claim in one scope, before the correction for many claims.

    ``effect``, ``low``, ``high`` and ``bound`` are in ``unit``, of the part that decides, of
    ``parts``. ``p_same`` tests "no difference beyond ``margin``", where one is stated. ``outcome``
    is the verdict on what is computed, not sampled; ``reason`` says why none can be given.
    ``replicates`` is how many seeds, or of what else ``kind`` names, stand behind it. ``one_run``:
    the interval is over items, documents or sequences of one run, and holds for no other.
    """

    scope: str
    what: str = ""
    unit: str = ""
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    bound: float = 0.0
    margin: float = math.nan
    p: float = math.nan
    p_same: float = math.nan
    direction: int = 0
    parts: int = 1
    replicates: int = 0
    kind: str = "seeds"
    one_run: bool = False
    outcome: str = ""
    reason: str = ""
    remarks: tuple[str, ...] = field(default=())


def find(
    parts: Sequence[Part],
    scope: str,
    unit: str,
    *,
    percent: bool = False,
    margin: float = math.nan,
    kind: str = "seeds",
    remarks: Sequence[str] = (),
) -> Finding:
    """A claim whose ``parts`` must all hold, in one scope.

    ``percent``: the parts are logarithms of ratios, shown as percent of change. ``margin``, in
    ``unit``, is the smallest difference that counts, of a claim of one part; as a ratio it is
    1 + margin either way. With fewer than MIN_SEEDS replicates there is an effect, but neither
    interval nor p-value, unless there is one and every part is known over items or documents.
    """
    support = [part.support(scope) for part in parts]
    estimates = [part.over(scope) for part in parts]
    # Without a variance there is no p-value: the effect nearest to the contrary is shown then.
    slack = [part.sign * (e.mean - part.bound) for part, e in zip(parts, estimates, strict=True)]
    weakest = int(np.argmin(slack)) if np.isnan(support).any() else int(np.argmax(support))
    part, found = parts[weakest], estimates[weakest]
    reason = _too_few(parts, estimates, kind)
    one_run = isinstance(found, Resampled) and not reason
    if one_run:
        kind = found.kind + ONE_RUN
        remarks = [f"over {found.n:,} {kind}: does not hold for other seeds", *remarks]
    compared = len({each.what for each in parts})
    what = part.what if compared == 1 else f"{part.what} (weakest of {compared})"
    shown = {"scope": scope, "what": what, "unit": unit, "kind": kind, "remarks": tuple(remarks)}
    shown |= {"effect": _shown(found.mean, percent), "margin": margin, "one_run": one_run}
    shown |= {"bound": _shown(part.bound, percent) + 0.0, "parts": len(parts)}
    if reason:
        return Finding(**shown, replicates=part.replicates(scope), reason=reason)
    for_it = max(support)
    against = min(1.0, len(parts) * min(part.opposition(scope) for part in parts))
    low, high = (_shown(end, percent) for end in found.interval())
    direction = 1 if for_it <= against else -1
    p = min(1.0, 2 * min(for_it, against))
    p_same = math.nan
    if not math.isnan(margin):
        p_same = beyond(found, math.log1p(margin / 100) if percent else margin)
    tested = {"p": p, "p_same": p_same, "direction": direction}
    return Finding(**shown, replicates=found.n, low=low, high=high, **tested)


def _too_few(parts: Sequence[Part], estimates: Sequence[Estimate | Resampled], kind: str) -> str:
    """Why replicates do not decide a claim; empty where they do, or items or documents."""
    for part, found in zip(parts, estimates, strict=True):
        if isinstance(found, Resampled) or found.n >= MIN_SEEDS:
            continue
        told = f"{found.n} {kind[:-1] if found.n == 1 else kind}; {MIN_SEEDS} needed"
        if found.n == 1 and part.unsampled:
            told += f", and no interval over items or documents: {part.unsampled}"
        return told
    return ""


def _shown(value: float, percent: bool) -> float:
    return 100 * math.expm1(value) if percent else value


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given; NaN stays NaN and counts for nothing."""
    adjusted = [math.nan] * len(p_values)
    order = [at for at in np.argsort(p_values, kind="stable") if not math.isnan(p_values[at])]
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the rate of false discoveries, in the order given; NaN stays NaN."""
    adjusted = [math.nan] * len(p_values)
    order = [at for at in np.argsort(p_values, kind="stable") if not math.isnan(p_values[at])]
    least = 1.0
    for rank in range(len(order), 0, -1):
        at = order[rank - 1]
        least = min(least, len(order) / rank * p_values[at])
        adjusted[at] = least
    return adjusted


def verdict(finding: Finding, adjusted: float, adjusted_same: float = math.nan) -> str:
    """The verdict on a finding with the p-values that the correction left it.

    A difference that is there and yet within the margin is "no difference beyond the margin". What
    rests on one run is called by words of its own (HERE).
    """
    if finding.reason:
        return NOT_TESTABLE
    if finding.outcome:
        return finding.outcome
    if adjusted_same < LEVEL:
        found = SAME
    elif adjusted >= LEVEL:
        return UNDECIDED
    else:
        found = SUPPORTED if finding.direction > 0 else CONTRADICTED
    return HERE[found] if finding.one_run else found
