"""What records say about a claim: metrics of runs, paired over seeds and, for benchmarks, items.

A statistic is a function of ``Evidence`` that returns findings, one for the mean over pairs
(scope ``all``) and one for each pair. Factories here (``compare``, ``chain``, ``beyond``) make
them from what a claim names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.claims.statistics import ALL, Estimate, Finding, Part, estimate, find
from analysis.paired import paired_items, read_items
from analysis.results import row_name, teacher_frame
from analysis.scaling_law.curves import ITEM, pair_curves
from analysis.scaling_law.tokens import Fit, difference
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.records import RecordError, read_json, read_json_lines
from workflow.items import OF_EVERY_RUN, RECORDS

LATEST = "/latest"
"""In place of a method: the latest checkpoint of an item."""

Statistic = Callable[["Evidence"], list[Finding]]


class NotTestable(Exception):
    """A claim that the records of this scale cannot decide, and why: an outcome, not a fault."""


@dataclass(frozen=True)
class Metric:
    """A number of a run: the file it is in, how to read it, and the scale it is compared on.

    ``read`` takes the content of ``record`` (an object, or a list of lines for .jsonl). With
    ``ratio`` two runs are compared by the logarithm of their ratio, shown in percent; otherwise by
    their difference in ``unit``. ``items`` says that results item by item lie beside the record.
    """

    name: str
    record: str
    read: Callable[[Any], float]
    unit: str
    ratio: bool = False
    items: bool = False


def _late_kl(lines: list[dict[str, Any]]) -> float:
    """Mean held-out KL of the second half of training."""
    points = [line["eval_kl"] for line in lines if "eval_kl" in line]
    return float(np.mean(points[len(points) // 2 :]))


def _last(name: str) -> Callable[[Any], float]:
    return lambda lines: [line[name] for line in lines if name in line][-1]


KL = Metric(
    "held-out KL(T||S)", "heldout.json", lambda record: record["metrics"]["kl"]["mean"], "%", True
)
LATE_KL = Metric("KL over the second half of training", "train.jsonl", _late_kl, "%", ratio=True)
LOSS = Metric("CLM + KL", "train.jsonl", _last("eval_loss"), "nats/token")
SPEED = Metric("tokens a second", "train.jsonl", _last("tokens_per_second"), "%", ratio=True)
MEMORY = Metric(
    "peak memory", "manifest.json", lambda record: record["peak_memory_bytes"], "%", ratio=True
)
FEWSHOT = Metric(
    "few-shot Avg", "fewshot.json", lambda record: 100 * record["average"], "points", items=True
)
FULL_ECE = Metric(
    "Full-ECE", "calibration.json", lambda record: record["full_ece"], "%", ratio=True
)
MATH = Metric("math Avg", "math.json", lambda record: record["average"]["compat"], "points")


@dataclass
class Evidence:
    """The records of one root, read once each."""

    suite: Suite
    root: Path
    _contents: dict[Path, Any] = field(default_factory=dict, repr=False)

    def runs(self, items: Sequence[str], record: str) -> Runs:
        """Runs that have ``record`` because a selected one of ``items`` asks for it.

        Raises NotTestable where there are none.
        """
        asked = [
            item
            for item in items
            if item in self.suite.select.items
            and (record in OF_EVERY_RUN or record in RECORDS.get(item, ()))
        ]
        found: Runs = {}
        for run in (run for item in asked for run in self.suite.runs(item)):
            of_method = found.setdefault(run.pair, {}).setdefault(str(run.method), [])
            if run not in of_method:
                of_method.append(run)
        if not found:
            scale, wanted = self.suite.scale, " or ".join(items)
            raise NotTestable(f"scale {scale} has no {record} for {wanted}")
        return found

    def value(self, folder: Path, metric: Metric) -> float:
        """A metric of a run or checkpoint. Raises RecordError, naming the file."""
        path = folder / metric.record
        try:
            value = float(metric.read(self.content(path)))
        except (KeyError, IndexError, TypeError) as error:
            raise RecordError(
                f"{path}: has no {metric.name} ({type(error).__name__}: {error}); make it again"
            ) from None
        if not math.isfinite(value) or (metric.ratio and value <= 0):
            raise RecordError(f"{path}: {metric.name} is {value}; the run did not end well")
        return value

    def content(self, path: Path) -> Any:
        """A record, read once. Raises RecordError."""
        if path not in self._contents:
            read = read_json_lines if path.suffix == ".jsonl" else read_json
            self._contents[path] = read(path)
        return self._contents[path]

    @cached_property
    def layout(self) -> Layout:
        """The paths below the root."""
        return Layout(self.root)

    def items(self, path: Path) -> pd.DataFrame:
        """Results item by item, read once. Raises ItemsError, naming the file."""
        if path not in self._contents:
            self._contents[path] = read_items(path)
        return self._contents[path]


# --- Two methods on the same seeds ---------------------------------------------------------------

Runs = dict[str, dict[str, list[RunId]]]
"""By pair and method id, in the order of seeds."""


def compare(
    metric: Metric,
    items: Sequence[str],
    ours: Sequence[str],
    theirs: Sequence[str],
    sign: int,
    *,
    margin: float = 0.0,
    within: float | None = None,
) -> Statistic:
    """Each of ``ours`` against each of ``theirs``, all of which must hold.

    ``sign`` +1: ours is larger, by more than ``-margin``; -1: smaller, by more than ``-margin``
    (so a positive margin asks for "not worse by more than"). ``within`` asks instead that the two
    differ by less than that, either way. Both are in the metric's unit. Methods are ids of runs,
    ``model/checkpoint`` or LATEST. A scale need not run all of ``ours`` and ``theirs``, one of each
    will do; the finding names those it lacks.
    """

    def statistic(evidence: Evidence) -> list[Finding]:
        runs = evidence.runs(items, metric.record)
        mine, lacking = _present(evidence, runs, ours, items)
        other, also_lacking = _present(evidence, runs, theirs, items)
        parts = []
        for a, b in [(a, b) for a in mine for b in other if a != b]:
            parts += _parts(evidence, metric, runs, a, b, sign, margin, within)
        return _findings(parts, metric, lacking + also_lacking)

    return statistic


def chain(metric: Metric, items: Sequence[str], methods: Sequence[str], sign: int) -> Statistic:
    """The metric grows (``sign`` +1) or falls (-1) from each of ``methods`` to the next.

    At least two of them must run at the scale.
    """

    def statistic(evidence: Evidence) -> list[Finding]:
        runs = evidence.runs(items, metric.record)
        present, lacking = _present(evidence, runs, methods, items)
        if len(present) < 2:
            raise NotTestable(f"only {row_name(present[0])} runs at scale {evidence.suite.scale}")
        parts = []
        for before, after in itertools.pairwise(present):
            parts += _parts(evidence, metric, runs, after, before, sign)
        return _findings(parts, metric, lacking)

    return statistic


def _parts(
    evidence: Evidence,
    metric: Metric,
    runs: Runs,
    ours: str,
    theirs: str,
    sign: int,
    margin: float = 0.0,
    within: float | None = None,
) -> list[Part]:
    """What must hold of two methods; nothing where no pair runs both."""
    estimates = _differences(evidence, metric, runs, ours, theirs)
    what = f"{row_name(ours)} − {row_name(theirs)}: {metric.name}"
    bound = margin if within is None else within
    if metric.ratio:
        bound = math.log1p(bound / 100)
    if not estimates:
        return []
    if within is None:
        return [Part(what, estimates, sign, -sign * bound)]
    return [Part(what, estimates, -1, bound), Part(what, estimates, 1, -bound)]


def _findings(parts: list[Part], metric: Metric, lacking: Sequence[str]) -> list[Finding]:
    """Findings over all pairs, then for each pair that every part has."""
    if not parts:
        raise NotTestable("no pair runs both methods")
    names = ", ".join(map(row_name, dict.fromkeys(lacking)))
    remarks = [f"without {names}, which this scale does not run"] if names else []
    pairs = [pair for pair in parts[0].estimates if all(pair in part.estimates for part in parts)]
    scopes = [ALL, *pairs]
    return [find(parts, s, metric.unit, percent=metric.ratio, remarks=remarks) for s in scopes]


def _present(
    evidence: Evidence, runs: Runs, methods: Sequence[str], items: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The methods that some pair has, and those that none has. Raises NotTestable if none do."""
    suite = evidence.suite
    if LATEST in methods:
        latest = suite.items[items[0]].checkpoints[-1]
        methods = [latest if method == LATEST else method for method in methods]
    known = {method for of_pair in runs.values() for method in of_pair}
    for item in set(items) & set(suite.select.items):
        known |= {"/".join(point) for point in suite.checkpoints(item)}
    present = [method for method in methods if method in known]
    if not present:
        names, wanted = " or ".join(map(row_name, methods)), " or ".join(items)
        raise NotTestable(f"scale {suite.scale} does not run {names} for {wanted}")
    return present, [method for method in methods if method not in known]


def _differences(
    evidence: Evidence, metric: Metric, runs: Runs, ours: str, theirs: str
) -> dict[str, Estimate]:
    """Ours less theirs by pair, over the seeds that both have; log ratios for ``ratio`` metrics."""
    found = {}
    for pair, methods in runs.items():
        mine, other = (_folders(evidence, methods, method) for method in (ours, theirs))
        seeds = [seed for seed in mine if seed in other or None in other]
        if not seeds:
            continue
        couples = [(mine[seed], other.get(seed) or other[None]) for seed in seeds]
        values = np.array([[evidence.value(f, metric) for f in couple] for couple in couples])
        if metric.ratio:
            values = np.log(values)
        known = item_error(evidence, couples) if metric.items else 0.0
        found[pair] = estimate(values[:, 0] - values[:, 1], known)
    return found


def _folders(
    evidence: Evidence, methods: dict[str, list[RunId]], method: str
) -> dict[int | None, Path]:
    """Folders by seed; of a checkpoint, one folder for any seed (None)."""
    model, _, point = method.partition("/")
    if point:
        return {None: evidence.layout.model(model, point)}
    return {run.seed: evidence.layout.run(run) for run in methods.get(method, ())}


def item_error(evidence: Evidence, couples: Sequence[tuple[Path, Path]]) -> float:
    """Standard error, in points, that the benchmark's items give the average of the differences.

    All seeds are scored on the same items, so differences are averaged over seeds before their
    spread over items is taken, task by task. 0 where results are not stored item by item.
    Raises ItemsError where they are for some runs alone, or of other items.
    """
    name = "fewshot.items.jsonl.gz"
    if not any((folder / name).is_file() for couple in couples for folder in couple):
        return 0.0
    frames = [paired_items(*(evidence.items(f / name) for f in couple)) for couple in couples]
    joined = pd.concat(frames)
    gap = (joined["a"] - joined["b"]).groupby([joined["task"], joined["item"]]).mean()
    variances = gap.groupby(level="task").agg(lambda items: items.var(ddof=1) / len(items))
    return 100 * math.sqrt(variances.sum()) / len(variances)


# --- Extrapolation (Table 5) ---------------------------------------------------------------------


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
        return [find([part], s, LOSS.unit, remarks=remarks) for s in (ALL, *estimates)]

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
