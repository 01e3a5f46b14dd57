"""Sums that Full-ECE is made of, one row a sequence, and what follows from them.

    Full-ECE = (1/N) sum over bins of | labels in the bin - probability mass in the bin |

(Liu et al., 2024), N the number of positions. Sums are kept for each sequence, because tokens of
one text are not independent: the bootstrap resamples sequences. Sums of two models on the same
sequences give a paired comparison.

Shapes: S sequences, M bins.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tad.command import UserError

Interval = tuple[float, float]

FIELDS = ("mass", "labels", "entries", "confidence", "correct", "predictions")
"""Of each bin: probability mass, labels, entries; then the largest entry of each position: sum of
probabilities, how many were the label, how many there are."""

RESAMPLES_AT_ONCE = 100


class CalibrationError(UserError, ValueError):
    """Sums that cannot be read, merged or compared; the message says which and why."""


@dataclass
class SequenceSums:
    """Everything accumulated, by sequence. ``tables["10"]["mass"]`` is (S, M), and so on."""

    ids: np.ndarray  # (S,) int64
    positions: np.ndarray  # (S,) int64, positions counted
    fingerprint: np.ndarray  # (S,) uint64, of the labels: equal only for the same labels
    tables: dict[str, dict[str, np.ndarray]]
    noise: dict[str, np.ndarray] = field(default_factory=dict)  # (draws, M) int64, all sequences
    vocabulary: int = 0

    @classmethod
    def merged(cls, parts: Iterable[SequenceSums]) -> SequenceSums:
        """The sums of all parts; rows of the same sequence are added. Order does not matter."""
        parts = list(parts)
        if len({(part.vocabulary, *part.tables) for part in parts}) > 1:
            raise CalibrationError("sums over different vocabularies or bins cannot be merged")
        ids, where = np.unique(np.concatenate([part.ids for part in parts]), return_inverse=True)

        def add(arrays: list[np.ndarray]) -> np.ndarray:
            stacked = np.concatenate(arrays)
            total = np.zeros((len(ids), *stacked.shape[1:]), stacked.dtype)
            np.add.at(total, where, stacked)
            return total

        return cls(
            ids,
            add([part.positions for part in parts]),
            add([part.fingerprint for part in parts]),
            {
                key: {name: add([part.tables[key][name] for part in parts]) for name in FIELDS}
                for key in parts[0].tables
            },
            {key: sum(part.noise[key] for part in parts) for key in parts[0].noise},
            parts[0].vocabulary,
        )

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz, atomically; equal sums give equal bytes."""
        arrays = {name: getattr(self, name) for name in ("ids", "positions", "fingerprint")}
        arrays["vocabulary"] = np.array(self.vocabulary)
        for key, table in self.tables.items():
            arrays |= {f"bins/{key}/{name}": values for name, values in table.items()}
        arrays |= {f"noise/{key}": values for key, values in self.noise.items()}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
        np.savez_compressed(temporary, **arrays)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> SequenceSums:
        """Read what ``save`` wrote. Raises CalibrationError for a missing or foreign file."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            sums = cls(
                *(arrays.pop(name) for name in ("ids", "positions", "fingerprint")),
                {},
                vocabulary=int(arrays.pop("vocabulary")),
            )
        except FileNotFoundError:
            raise CalibrationError(f"{path}: no such file; make it: tad eval calibration") from None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise CalibrationError(f"{path}: not sums of tad eval calibration ({error})") from None
        for name, values in arrays.items():
            kind, key, *rest = name.split("/")
            if kind == "noise":
                sums.noise[key] = values
            else:
                sums.tables.setdefault(key, {})[rest[0]] = values
        return sums


@dataclass(frozen=True)
class Bin:
    """One bin, over all positions. Probabilities and frequencies are fractions."""

    lower: float
    upper: float
    mass: float  # sum of the probabilities in the bin
    labels: int  # how many positions have their label's probability in the bin
    entries: int  # how many of the N x V probabilities are in the bin
    labels_interval: Interval | None  # bootstrap over sequences
    confidence: float  # as mass, but only the largest probability of each position
    correct: int
    predictions: int

    @property
    def mean_p(self) -> float:
        """Mean probability of the bin's entries; NaN where there are none."""
        return self.mass / self.entries if self.entries else float("nan")

    @property
    def frequency(self) -> float:
        """Share of the bin's entries that are the label; NaN where there are none."""
        return self.labels / self.entries if self.entries else float("nan")


@dataclass(frozen=True)
class CalibrationResult:
    """Calibration of one model with one number of bins. All values are fractions, not percent.

    ``full_ece`` is in [0, 2], ``ece`` (top label) in [0, 1]. ``noise_floor`` is the Full-ECE that
    a perfectly calibrated model would show on so many positions: the mean over draws of the labels
    from the model's own probabilities, ``noise_floor_sd`` the deviation between draws. Intervals
    are 95% by default; None where there are fewer than two sequences. ``tail_gap`` is Full-ECE's
    sum over log-spaced bins (``tail``): our own diagnostic, not the published metric.
    """

    n_bins: int
    positions: int
    sequences: int
    vocabulary: int
    full_ece: float
    full_ece_interval: Interval | None
    noise_floor: float | None
    noise_floor_sd: float | None
    ece: float
    ece_interval: Interval | None
    bins: tuple[Bin, ...]
    others: dict[int, CalibrationResult] = field(default_factory=dict)
    tail_gap: float | None = None
    tail: tuple[Bin, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Full-ECE of model A less that of model B on the same positions, in fractions.

    ``p_value`` is two-sided, from the same paired resamples of sequences as ``interval``, and the
    larger of the two that the two kinds of interval imply.
    """

    n_bins: int
    positions: int
    sequences: int
    full_ece_a: float
    full_ece_b: float
    difference: float
    interval: Interval
    p_value: float


def gap(counted: np.ndarray, expected: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(1/N) sum over bins |counted - expected|: (..., M), (..., M), (...,) to (...,)."""
    return np.abs(counted - expected).sum(-1) / positions


def resamples(sequences: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each sequence is drawn, in batches of (up to 100, S): the same for equal seeds."""
    generator = np.random.default_rng(seed)
    even = np.full(sequences, 1 / sequences)
    for start in range(0, draws, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, draws - start)
        yield generator.multinomial(sequences, even, size=size).astype(np.float64)


def interval_around(value: float, drawn: np.ndarray, level: float) -> Interval:
    """Bootstrap interval of a value: the percentile and the basic interval taken together.

    A sum of absolute values only grows when noise is added, so resampled values lie above the
    estimate. Near the noise floor the percentile interval then misses the truth from above;
    elsewhere the basic one (the same, reflected about the value) may miss it from below. In
    simulated text either alone covered the truth in fewer than 60% of cases in some setting.
    """
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return min(float(low), float(2 * value - high)), max(float(high), float(2 * value - low))


def summarise(
    sums: SequenceSums, edges: dict[str, tuple[float, ...]], *, draws: int, seed: int, level: float
) -> dict[str, dict]:
    """Values, intervals and bins of every table, keyed as ``sums.tables``."""
    total = int(sums.positions.sum())
    drawn: dict[str, list[dict[str, np.ndarray]]] = {key: [] for key in sums.tables}
    if len(sums.ids) > 1:
        for weights in resamples(len(sums.ids), draws, seed):
            positions = weights @ sums.positions
            for key, table in sums.tables.items():
                by_name = {name: weights @ values for name, values in table.items()}
                drawn[key].append(
                    {
                        "full_ece": gap(by_name["labels"], by_name["mass"], positions),
                        "ece": gap(by_name["correct"], by_name["confidence"], positions),
                        "labels": by_name["labels"] / positions[:, None] * total,
                    }
                )
    return {key: _summary(sums, key, total, edges[key], drawn[key], level) for key in sums.tables}


def _summary(
    sums: SequenceSums, key: str, total: int, edges: tuple[float, ...], drawn: list, level: float
) -> dict:
    table = {name: values.sum(0) for name, values in sums.tables[key].items()}
    full_ece = float(gap(table["labels"], table["mass"], total))
    ece = float(gap(table["correct"], table["confidence"], total))
    intervals: dict[str, Interval | None] = {"full_ece": None, "ece": None}
    label_intervals: list[Interval | None] = [None] * len(table["mass"])
    if drawn:
        for name, value in (("full_ece", full_ece), ("ece", ece)):
            low, high = interval_around(
                value, np.concatenate([part[name] for part in drawn]), level
            )
            intervals[name] = max(0.0, low), high
        labels = np.concatenate([part["labels"] for part in drawn])
        low, high = np.quantile(labels, [(1 - level) / 2, (1 + level) / 2], axis=0)
        label_intervals = list(zip(low.tolist(), high.tolist(), strict=True))
    floor = None
    if key in sums.noise:
        floor = gap(sums.noise[key], table["mass"], total)  # (draws,)
    bins = tuple(
        Bin(
            edges[m],
            edges[m + 1],
            float(table["mass"][m]),
            int(table["labels"][m]),
            int(table["entries"][m]),
            label_intervals[m],
            float(table["confidence"][m]),
            int(table["correct"][m]),
            int(table["predictions"][m]),
        )
        for m in range(len(edges) - 1)
    )
    return {
        "full_ece": full_ece,
        "full_ece_interval": intervals["full_ece"],
        "ece": ece,
        "ece_interval": intervals["ece"],
        "noise_floor": None if floor is None else float(floor.mean()),
        "noise_floor_sd": None if floor is None else float(floor.std(ddof=1)),
        "bins": bins,
    }


def compare(
    a: SequenceSums, b: SequenceSums, n_bins: int = 10, *, draws: int = 2000, seed: int = 0,
    level: float = 0.95,
) -> Difference:  # fmt: skip
    """Paired bootstrap over sequences of the difference of two models' Full-ECE.

    Raises CalibrationError unless both were measured on the same positions with ``n_bins`` bins.
    """
    key = str(n_bins)
    for name, sums in (("first", a), ("second", b)):
        if key not in sums.tables:
            raise CalibrationError(f"the {name} model has no {n_bins}-bin sums: {[*sums.tables]}")
    if not (
        np.array_equal(a.ids, b.ids)
        and np.array_equal(a.positions, b.positions)
        and np.array_equal(a.fingerprint, b.fingerprint)
    ):
        raise CalibrationError(
            f"not the same positions: {a.positions.sum()} in {len(a.ids)} sequences and "
            f"{b.positions.sum()} in {len(b.ids)}, or other labels; only the same text compares"
        )
    if len(a.ids) < 2:
        raise CalibrationError("one sequence: there is nothing to resample")
    tables = [sums.tables[key] for sums in (a, b)]
    total = a.positions.sum()
    values = [float(gap(t["labels"].sum(0), t["mass"].sum(0), total)) for t in tables]
    difference = values[0] - values[1]
    drawn = []
    for weights in resamples(len(a.ids), draws, seed):
        positions = weights @ a.positions
        first, second = (gap(weights @ t["labels"], weights @ t["mass"], positions) for t in tables)
        drawn.append(first - second)
    differences = np.concatenate(drawn)
    p_value = max(_two_sided(differences), _two_sided(2 * difference - differences))
    interval = interval_around(difference, differences, level)
    return Difference(n_bins, int(total), len(a.ids), *values, difference, interval, p_value)


def _two_sided(drawn: np.ndarray) -> float:
    """How unusual 0 is among the resampled differences, the observed one counted in."""
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, float(2 * (beyond + 1) / (len(drawn) + 1)))
