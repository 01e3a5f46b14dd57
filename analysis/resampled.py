"""Intervals over the items, documents or sequences that runs were measured on, by bootstrap.

For a difference of which there is one seed. A resample draws units with replacement, within each
task or text, and draws the same ones for every run that was measured on them, so that two runs are
compared item by item, and pairs of models that share a benchmark share its resamples. What comes
out is the error of these units alone: another seed gives other runs, and nothing here tells how far
away they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from analysis.paired import HASH, read_items
from eval.calibration.sums import SequenceGaps, full_ece, interval_around, resamples
from tad.records import RecordError, fingerprint, read_json

DRAWS = 4000
"""Resamples: the smallest p-value of two sides is 2 / (DRAWS + 1)."""

MIN_UNITS = 20
"""Below so many units a bootstrap is too narrow to be shown."""

LEVEL = 0.95
AT_ONCE = 200


class NotResampledError(Exception):
    """Why a difference has no interval over items or documents: an outcome, not a fault."""


@dataclass(frozen=True)
class Stratum:
    """The units of one task or text, as one run was measured on them.

    ``key`` (hex) is equal only for the same units in the same order. ``value`` maps how often each
    unit counts, (draws, units), to the metric (draws,), in points or nats.
    """

    kind: str
    key: str
    units: int
    value: Callable[[np.ndarray], np.ndarray]

    @cached_property
    def drawn(self) -> np.ndarray:
        """The metric in each resample, (DRAWS,)."""
        counts = weights(self.units, self.key)
        parts = [counts[at : at + AT_ONCE] for at in range(0, len(counts), AT_ONCE)]
        return np.concatenate([self.value(part.astype(np.float64)) for part in parts])


Sample = Mapping[str, Stratum]
"""By task, in the order of the record; of a text one, by the name of its metric."""


@lru_cache(maxsize=32)
def weights(units: int, key: str) -> np.ndarray:
    """How often each unit is in each resample, (DRAWS, units) uint8: the same for equal keys."""
    drawn = resamples(units, DRAWS, int(key[:16], 16))
    return np.concatenate([part.astype(np.uint8) for part in drawn])


# --- What records hold ---------------------------------------------------------------------------


def fewshot_items(folder: Path) -> Sample:
    """Accuracies in points, of a run's fewshot.items.jsonl.gz. Raises ItemsError for a broken one,
    NotResampledError for none."""
    path = folder / "fewshot.items.jsonl.gz"
    if not path.is_file():
        raise NotResampledError(f"{path.name} is not there")
    found = {}
    for task, rows in read_items(path).groupby("task", sort=False):
        key = fingerprint([task, rows["item"].tolist(), rows["doc_hash"].str[:HASH].tolist()])
        found[task] = _right(key, rows["correct"].to_numpy(dtype=float))
    return found


def math_items(folder: Path) -> Sample:
    """Accuracies in points of the grader *compat*, of a run's math.json. Raises RecordError,
    NotResampledError for a record that does not say which items are right."""
    found = {}
    for name, entry in read_json(folder / "math.json")["datasets"].items():
        if "right" not in entry["compat"]:
            raise NotResampledError(_old(folder / "math.json", "item by item"))
        right = np.array([float(letter) for letter in entry["compat"]["right"]])
        found[name] = _right(fingerprint([name, entry["items_hash"]]), right)
    return found


def documents(name: str) -> Callable[[Path], Sample]:
    """The mean over tokens of a value ("kl", "nll") of heldout.json, document by document."""

    def sample(folder: Path) -> Sample:
        path = folder / "heldout.json"
        record = read_json(path)
        if name not in record.get("documents", {}):
            raise NotResampledError(_old(path, "document by document"))
        tokens, means = (_numbers(path, record["documents"][key]) for key in ("tokens", name))
        if tokens.shape != means.shape:
            raise RecordError(f"{path}: documents.{name}: {len(means)} values of {len(tokens)}")
        sums = tokens * means
        key = fingerprint([record["data_fingerprint"], record["documents"]["tokens"]])
        size = len(tokens)
        text = Stratum("documents", key, size, lambda counts: (counts @ sums) / (counts @ tokens))
        return {name: text}

    return sample


def sequences(folder: Path) -> Sample:
    """Full-ECE in points, of a run's calibration.npz. Raises CalibrationError for a broken one,
    NotResampledError for none."""
    path = folder / "calibration.npz"
    if not path.is_file():
        raise NotResampledError(f"{path.name} is not there")
    sums = SequenceGaps.load(path)
    gap, positions = sums.gap.astype(np.float64), sums.positions
    key, size = fingerprint(sums.text), len(positions)
    text = Stratum(
        "sequences", key, size, lambda counts: 100 * full_ece(counts @ gap, counts @ positions)
    )
    return {"full_ece": text}


def _right(key: str, right: np.ndarray) -> Stratum:
    """Items of a task: ``right`` (n,) is 0 or 1."""
    return Stratum("items", key, len(right), lambda counts: 100 * (counts @ right) / len(right))


def _old(path: Path, how: str) -> str:
    return f"{path.name} does not hold its values {how}, as records of today do"


def _numbers(path: Path, text: str) -> np.ndarray:
    try:
        return np.array(text.split(), dtype=float)
    except ValueError as error:
        raise RecordError(f"{path}: documents: {error}; delete it and rerun") from None


# --- What follows from them ----------------------------------------------------------------------


@dataclass(frozen=True)
class Resampled:
    """A difference, ``mean``, with its resamples ``drawn`` (DRAWS,), over ``units`` of a ``kind``
    ("items", "documents", "sequences"): how many by key."""

    mean: float
    drawn: np.ndarray
    units: Mapping[str, int]
    kind: str

    @property
    def n(self) -> int:
        """How many units there are."""
        return sum(self.units.values())

    @property
    def mirrored(self) -> Resampled:
        """The same with the two runs exchanged."""
        return Resampled(-self.mean, -self.drawn, self.units, self.kind)

    def interval(self) -> tuple[float, float]:
        """The 95% interval: percentile and basic one together (``interval_around``)."""
        return interval_around(self.mean, self.drawn, LEVEL)

    def above(self, bound: float) -> float:
        """One-sided p-value of a mean that is not above ``bound``: small where it is. The larger of
        those that the two kinds of interval imply."""
        below = [(drawn <= bound).sum() for drawn in (self.drawn, 2 * self.mean - self.drawn)]
        return float(1 + max(below)) / (len(self.drawn) + 1)


def difference(
    mean: float, couples: Sequence[tuple[Sample, Sample]], tasks: Sequence[str], *, ratio: bool
) -> Resampled:
    """Ours less theirs, ``mean``, over the units of ``tasks`` (all where there are none).

    ``couples`` are the samples of both runs, a couple a seed, over which differences are averaged;
    with ``ratio`` they are of logarithms. Raises NotResampledError for too few units, for two runs
    that were not measured on the same, and where a resample has no ratio.
    """
    names = list(tasks or couples[0][0])
    strata = [[[of.get(name) for name in names] for of in couple] for couple in couples]
    first = strata[0][0]
    keys = {tuple(one and one.key for one in each) for couple in strata for each in couple}
    if len(keys) > 1 or None in first:
        raise NotResampledError("the runs were not measured on the same items or documents")
    few = min(first, key=lambda one: one.units)
    if few.units < MIN_UNITS:
        raise NotResampledError(f"{few.units} {few.kind}; {MIN_UNITS} needed")
    drawn = np.mean([_values(ours, ratio) - _values(theirs, ratio) for ours, theirs in strata], 0)
    if not np.isfinite(drawn).all():
        raise NotResampledError("the value is 0 in a resample, which has no ratio")
    if first[0].kind == "items":
        drawn = drawn + np.mean([_unseen(one) for one in first], 0)
    return Resampled(mean, drawn, {one.key: one.units for one in first}, first[0].kind)


def _values(strata: Sequence[Stratum], ratio: bool) -> np.ndarray:
    """A run's value in each resample: the mean of its tasks."""
    value = np.mean([one.drawn for one in strata], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(value) if ratio else value


def _unseen(task: Stratum) -> np.ndarray:
    """What one more item would do, that either run may have right alone: points, (DRAWS,).

    Two runs that agree on all items of a task would else differ by exactly nothing in every
    resample, as if no item could ever tell them apart. As half an item that each has right alone,
    which is what Agresti and Min (2005) add to the counts of discordant pairs.
    """
    generator = np.random.default_rng([int(task.key[:16], 16), 1])
    ours, theirs = generator.poisson(0.5, (2, DRAWS))
    return 100 * (ours - theirs) / task.units


def pooled(found: Sequence[Resampled]) -> Resampled:
    """The mean of differences of several pairs of models, resample by resample: pairs measured on
    the same units share them."""
    units = {key: count for each in found for key, count in each.units.items()}
    means = [each.mean for each in found]
    drawn = np.mean([each.drawn for each in found], 0)
    return Resampled(math.fsum(means) / len(means), drawn, units, found[0].kind)
