"""Statistics that a claim names: functions of ``Evidence`` that return findings.

One finding is for the mean over pairs (scope ``all``); where there are several, each has its own.
Two methods are compared on the same seeds, so with the same teacher, data and initialisation, and
in benchmarks on the same items. Where there is one seed, the same items or documents are resampled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.claims.evidence import Evidence, Runs
from analysis.claims.metrics import LOSS, Metric, NotTestable, eval_points, kl_at
from analysis.claims.statistics import ALL, Estimate, Finding, Part, estimate, find
from analysis.paired import paired_items
from analysis.resampled import NotResampledError, Resampled, difference
from analysis.results import TASKS, row_name, teacher_frame
from analysis.scaling_law.budgets import ITEM, Curve, Prediction, curves
from tad.experiment.run_id import RunId

LATEST = "/latest"
"""In place of a method: the latest checkpoint of an item."""

Statistic = Callable[[Evidence], list[Finding]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a difference, ours less theirs, in the metric's unit.

    ``sign`` +1: it is above ``-margin``; -1: below ``margin`` (so a positive margin asks for "not
    worse by more than"). ``within`` asks instead that it is smaller than that, either way.
    ``counts`` is the smallest difference that counts, of a primary claim.
    """

    sign: int
    margin: float = 0.0
    within: float | None = None
    counts: float = math.nan

    def parts(
        self, what: str, estimates: dict[str, Estimate], ratio: bool, **sampled: Any
    ) -> list[Part]:
        """What must hold of the estimates; nothing where there are none. ``sampled`` as in Part."""
        bound = self.margin if self.within is None else self.within
        bound = math.log1p(bound / 100) if ratio else bound
        if not estimates:
            return []
        if self.within is None:
            return [Part(what, estimates, self.sign, -self.sign * bound, **sampled)]
        both = ((-1, bound), (1, -bound))
        return [Part(what, estimates, sign, end, **sampled) for sign, end in both]


# --- Two methods on the same seeds ---------------------------------------------------------------


def compare(
    metric: Metric | Sequence[Metric],
    items: Sequence[str],
    ours: Sequence[str],
    theirs: Sequence[str],
    sign: int,
    *,
    pairs: Sequence[str] | None = None,
    **bounds: float,
) -> Statistic:
    """Each of ``ours`` against each of ``theirs`` (in each metric), all of which must hold.

    ``sign`` and ``bounds`` are those of ``Asked``. Methods are ids of runs, ``model/checkpoint`` or
    LATEST. A scale need not run all of them, one couple will do; the finding names those it lacks.
    ``pairs`` are those to judge, where not all are.
    """
    couples = [(a, b) for a in ours for b in theirs if a != b]
    return compare_couples(metric, items, couples, sign, pairs=pairs, **bounds)


def compare_couples(
    metric: Metric | Sequence[Metric],
    items: Sequence[str],
    couples: Sequence[tuple[str, str]],
    sign: int,
    *,
    pairs: Sequence[str] | None = None,
    **bounds: float,
) -> Statistic:
    """As ``compare``, of (ours, theirs) couple by couple."""
    metrics = [metric] if isinstance(metric, Metric) else list(metric)
    asked = Asked(sign=sign, **bounds)

    def statistic(evidence: Evidence) -> list[Finding]:
        runs = _of_pairs(evidence, evidence.runs(items, metrics[0].record), pairs)
        known = _known(evidence, runs, items)
        named = [tuple(_named(evidence, m, items) for m in couple) for couple in couples]
        there = [couple for couple in named if set(couple) <= known]
        lacking = [m for couple in named for m in couple if m not in known]
        if not there:
            raise _does_not_run(evidence, lacking, items)
        parts = []
        for each, couple in itertools.product(metrics, there):
            parts += _parts(evidence, each, runs, *couple, asked)
        several = len(metrics) * len(there) > 1
        told = [] if several else _by_teacher(evidence, metrics[0], runs, *there[0])
        told += _left_out(evidence, metrics[0], runs)
        return _findings(parts, metrics[0], lacking, asked.counts, told)

    return statistic


def chain(metric: Metric, items: Sequence[str], methods: Sequence[str], sign: int) -> Statistic:
    """The metric grows (``sign`` +1) or falls (-1) from each of ``methods`` to the next.

    At least two of them must run at the scale.
    """

    def statistic(evidence: Evidence) -> list[Finding]:
        runs = evidence.runs(items, metric.record)
        known = _known(evidence, runs, items)
        present = [method for method in methods if method in known]
        lacking = [method for method in methods if method not in known]
        if not present:
            raise _does_not_run(evidence, lacking, items)
        if len(present) < 2:
            raise NotTestable(f"only {row_name(present[0])} runs at scale {evidence.suite.scale}")
        parts = []
        for before, after in itertools.pairwise(present):
            parts += _parts(evidence, metric, runs, after, before, Asked(sign=sign))
        return _findings(parts, metric, lacking)

    return statistic


def throughout(items: Sequence[str], ours: str, theirs: str, sign: int) -> Statistic:
    """``compare`` of held-out KL at every evaluation of the second half of training at once."""

    def statistic(evidence: Evidence) -> list[Finding]:
        runs = evidence.runs(items, "train.jsonl")
        both = [of[m] for of in runs.values() for m in (ours, theirs) if m in of]
        paths = [evidence.layout.run(run) / "train.jsonl" for runs_of in both for run in runs_of]
        points = min((len(eval_points(evidence.content(path))) for path in paths), default=0)
        metrics = [kl_at(from_end) for from_end in range(max(points // 2, 1))]
        return compare(metrics, items, [ours], [theirs], sign)(evidence)

    return statistic


def of_one(metric: Metric, items: Sequence[str], method: str, sign: int) -> Statistic:
    """A number of one method's runs is above 0 (``sign`` +1) or below it (-1)."""

    def statistic(evidence: Evidence) -> list[Finding]:
        runs = evidence.runs(items, metric.record)
        if method not in _known(evidence, runs, items):
            raise _does_not_run(evidence, [method], items)
        estimates = {
            pair: estimate([evidence.value(f, metric) for f in folders.values()])
            for pair, of_pair in runs.items()
            if (folders := _folders(evidence, of_pair, method))
        }
        parts = Asked(sign=sign).parts(f"{row_name(method)}: {metric.name}", estimates, False)
        return _findings(parts, metric, [])

    return statistic


def _parts(
    evidence: Evidence, metric: Metric, runs: Runs, ours: str, theirs: str, asked: Asked
) -> list[Part]:
    """What must hold of two methods; nothing where no pair runs both."""
    what = f"{row_name(ours)} − {row_name(theirs)}: {metric.name}"
    estimates = differences(evidence, metric, runs, ours, theirs)
    sampled: dict[str, Any] = {}
    if any(each.n == 1 for each in estimates.values()):
        found, why = resampled(evidence, metric, runs, ours, theirs)
        sampled = {"sampled": found, "unsampled": why}
    return asked.parts(what, estimates, metric.ratio, **sampled)


def _findings(
    parts: list[Part],
    metric: Metric,
    lacking: Sequence[str],
    margin: float = math.nan,
    told: Sequence[str] = (),
) -> list[Finding]:
    """A finding over all pairs, and where there are several for each pair that every part has."""
    if not parts:
        raise NotTestable("no pair runs both methods, on a task that its teacher knows")
    names = ", ".join(map(row_name, dict.fromkeys(lacking)))
    remarks = [*told, *([f"without {names}, which this scale does not run"] if names else [])]
    pairs = [pair for pair in parts[0].estimates if all(pair in part.estimates for part in parts)]
    if len(pairs) == 1 and math.isnan(margin):
        remarks.append(f"one pair, {pairs[0]}")
    shown = {"percent": metric.ratio, "margin": margin, "remarks": remarks}
    scopes = [ALL, *(pairs if len(pairs) > 1 else [])]
    return [find(parts, scope, metric.unit, **shown) for scope in scopes]


def _of_pairs(evidence: Evidence, runs: Runs, pairs: Sequence[str] | None) -> Runs:
    """The runs of ``pairs``, all of which must be there. Raises NotTestable."""
    if pairs is None:
        return runs
    lost = [pair for pair in pairs if pair not in runs]
    if lost:
        raise NotTestable(f"scale {evidence.suite.scale} does not run {', '.join(lost)} for it")
    return {pair: runs[pair] for pair in pairs}


def _known(evidence: Evidence, runs: Runs, items: Sequence[str]) -> set[str]:
    """The methods that some pair runs, and the checkpoints of selected items."""
    known = {method for of_pair in runs.values() for method in of_pair}
    for item in set(items) & set(evidence.suite.select.items):
        known |= {"/".join(point) for point in evidence.suite.checkpoints(item)}
    return known


def _named(evidence: Evidence, method: str, items: Sequence[str]) -> str:
    return evidence.suite.items[items[0]].checkpoints[-1] if method == LATEST else method


def _does_not_run(evidence: Evidence, methods: Sequence[str], items: Sequence[str]) -> NotTestable:
    names = " or ".join(map(row_name, dict.fromkeys(methods)))
    return NotTestable(
        f"scale {evidence.suite.scale} does not run {names} for {' or '.join(items)}"
    )


def differences(
    evidence: Evidence, metric: Metric, runs: Runs, ours: str, theirs: str
) -> dict[str, Estimate]:
    """Ours less theirs by pair, over the seeds that both have; log ratios for ``ratio`` metrics.

    Without the pairs in which no task of a benchmark tells methods apart.
    """
    found = {}
    for pair, couples in _couples(evidence, runs, ours, theirs).items():
        on_pair = _on_pair(evidence, metric, pair, couples)
        if on_pair is None:
            continue
        known = item_error(evidence, list(couples.values()), on_pair.tasks) if metric.items else 0.0
        found[pair] = estimate(_gaps(evidence, on_pair, couples), known)
    return found


def resampled(
    evidence: Evidence, metric: Metric, runs: Runs, ours: str, theirs: str
) -> tuple[dict[str, Resampled], str]:
    """The same by pair as ``differences``, over the items or documents that the runs were measured
    on, and why a pair has none."""
    found, why = {}, ""
    for pair, couples in _couples(evidence, runs, ours, theirs).items():
        on_pair = _on_pair(evidence, metric, pair, couples)
        if on_pair is None:
            continue
        mean = float(_gaps(evidence, on_pair, couples).mean())
        try:
            samples = [[evidence.sample(f, on_pair) for f in both] for both in couples.values()]
            found[pair] = difference(mean, samples, on_pair.tasks, ratio=metric.ratio)
        except NotResampledError as reason:
            why = why or str(reason)
    return found, why


def _on_pair(evidence: Evidence, metric: Metric, pair: str, couples: Couples) -> Metric | None:
    """The metric of a benchmark on the tasks that a pair's teachers know; any other as it is."""
    if metric.over is None:
        return metric
    return metric.on(evidence.telling(pair, couples, metric.record))


def _left_out(evidence: Evidence, metric: Metric, runs: Runs) -> list[str]:
    """Which tasks of a benchmark do not count for a pair, in words."""
    told = []
    for pair in runs if metric.over else ():
        run = next(run for of in runs[pair].values() for run in of)
        record = evidence.content(evidence.layout.run(run) / metric.record)
        names = record.get("tasks") or record["datasets"]
        seeds = [run.seed for of in runs[pair].values() for run in of]
        lost = set(names) - set(evidence.telling(pair, seeds, metric.record))
        if lost:
            shown = ", ".join(TASKS.get(name, name) for name in names if name in lost)
            told.append(f"without {shown}, on which the teacher of {pair} guesses")
    return told


Couples = dict[int, tuple[Path, Path]]
"""The folders of two methods by seed."""


def _couples(evidence: Evidence, runs: Runs, ours: str, theirs: str) -> dict[str, Couples]:
    """By pair, where both methods share a seed."""
    found = {}
    for pair, methods in runs.items():
        mine, other = (_folders(evidence, methods, method) for method in (ours, theirs))
        seeds = [seed for seed in mine if seed in other or None in other]
        if seeds:
            found[pair] = {seed: (mine[seed], other.get(seed) or other[None]) for seed in seeds}
    return found


def _gaps(evidence: Evidence, metric: Metric, couples: Couples) -> np.ndarray:
    """Ours less theirs of each seed."""
    values = np.array([[evidence.value(f, metric) for f in both] for both in couples.values()])
    values = np.log(values) if metric.ratio else values
    return values[:, 0] - values[:, 1]


def _by_teacher(
    evidence: Evidence, metric: Metric, runs: Runs, ours: str, theirs: str
) -> list[str]:
    """Means of the seeds of each teacher, where the seeds of a pair have several."""
    told = []
    for pair, couples in _couples(evidence, runs, ours, theirs).items():
        of_seed = [evidence.suite.teacher(pair, seed) for seed in couples if seed is not None]
        teachers = dict.fromkeys(of_seed)
        if len(teachers) > 1:
            on_pair = _on_pair(evidence, metric, pair, couples)
            if on_pair is None:
                continue
            gaps = _gaps(evidence, on_pair, couples)
            means = [gaps[[t == teacher for t in of_seed]].mean() for teacher in teachers]
            shown = [100 * math.expm1(mean) if metric.ratio else mean for mean in means]
            unit = f" {metric.unit}".replace(" %", "%")
            told.append(f"by teacher of {pair}: {', '.join(f'{x:+.3g}{unit}' for x in shown)}")
    return told


def _folders(
    evidence: Evidence, methods: dict[str, list[RunId]], method: str
) -> dict[int | None, Path]:
    """Folders by seed; of a checkpoint, one folder for any seed (None)."""
    model, _, point = method.partition("/")
    if point:
        return {None: evidence.layout.model(model, point)}
    return {run.seed: evidence.layout.run(run) for run in methods.get(method, ())}


def item_error(
    evidence: Evidence, couples: Sequence[tuple[Path, Path]], tasks: Sequence[str] = ()
) -> float:
    """Standard error, in points, that the benchmark's items give the average of the differences.

    All seeds are scored on the same items, so differences are averaged over seeds before their
    spread over items is taken, task by task (``tasks``: those alone). 0 where results are not
    stored item by item. Raises ItemsError where they are for some runs alone, or of other items.
    """
    name = "fewshot.items.jsonl.gz"
    if not any((folder / name).is_file() for couple in couples for folder in couple):
        return 0.0
    frames = [paired_items(*(evidence.items(f / name) for f in couple)) for couple in couples]
    joined = pd.concat(frames)
    if tasks:
        joined = joined[joined["task"].isin(tasks)]
    gap = (joined["a"] - joined["b"]).groupby([joined["task"], joined["item"]]).mean()
    variances = gap.groupby(level="task").agg(lambda items: items.var(ddof=1) / len(items))
    return 100 * math.sqrt(variances.sum()) / len(variances)


# --- Teachers (Figure 2) -------------------------------------------------------------------------


def teacher_metrics(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Held-out means of each teacher of Figure 2, by teacher and metric.

    Raises NotTestable where the scale does not make Figure 2, RecordError for a missing record.
    """
    suite = evidence.suite
    if "figure2" not in suite.select.items:
        raise NotTestable(f"scale {suite.scale} does not make figure2")
    frame = teacher_frame(evidence.root, suite, suite.teachers("figure2"))
    return {
        teacher: dict(zip(rows["metric"], rows["mean"], strict=True))
        for teacher, rows in frame.groupby("teacher", sort=False)
    }


def over_teachers(
    what: str, unit: str, value: Callable[[dict[str, float]], float], sign: int
) -> Statistic:
    """A number of each teacher is positive (``sign`` +1) or negative, by its mean over teachers."""

    def statistic(evidence: Evidence) -> list[Finding]:
        values = [value(metrics) for metrics in teacher_metrics(evidence).values()]
        part = Part(what, {ALL: estimate(values)}, sign)
        return [find([part], ALL, unit, kind="teachers")]

    return statistic


# --- Budgets beyond the pair's own (Table 5) ---


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
