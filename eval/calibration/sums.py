"""Sums that Full-ECE is made of, one row a sequence, and what follows from them.

    Full-ECE = (1/N) sum over bins of | labels in the bin - probability mass in the bin |

(Liu et al., 2024), N the number of positions. Sums are kept for each sequence, because tokens of
one text are not independent: the bootstrap resamples sequences. What is kept on disk is the
difference in each bin, which gives a paired comparison of two models on the same sequences.

Shapes: S sequences, M bins.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tad.command import UserError
from tad.records import write_bytes

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

    def gaps(self, n_bins: int) -> SequenceGaps:
        """What a paired comparison needs of them. Raises CalibrationError for other bins."""
        if str(n_bins) not in self.tables:
            raise CalibrationError(f"no {n_bins}-bin sums: {[*self.tables]}")
        table = self.tables[str(n_bins)]
        text = hashlib.sha256()
        for values in (self.ids, self.positions, self.fingerprint):
            text.update(np.ascontiguousarray(values).tobytes())
        gap = (table["labels"] - table["mass"]).astype(np.float32)
        return SequenceGaps(self.positions, gap, text.hexdigest())


@dataclass(frozen=True)
class SequenceGaps:
    """Labels less probability mass in each bin, by sequence: all that Full-ECE is made of.

    In single precision, whose rounding moves a Full-ECE by 1e-8 or so.
    """

    positions: np.ndarray  # (S,) int64, positions counted
    gap: np.ndarray  # (S, M) float32
    text: str  # a hash: equal only for the same sequences, positions and labels

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz, atomically; equal sums give equal bytes."""
        content = io.BytesIO()
        np.savez_compressed(content, **vars(self))
        write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> SequenceGaps:
        """Read what ``save`` wrote. Raises CalibrationError for a missing or foreign file."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = cls(archive["positions"], archive["gap"], str(archive["text"]))
                if found.gap.shape[:1] != found.positions.shape or found.gap.ndim != 2:
                    raise ValueError(f"shapes {found.positions.shape} and {found.gap.shape}")
        except FileNotFoundError:
            raise CalibrationError(f"{path}: no such file; make it: tad eval calibration") from None
        except (OSError, LookupError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            reason = " ".join(str(error).split())
            raise CalibrationError(
                f"{path}: not sums of tad eval calibration ({reason}); measure the model again"
            ) from None
        return found


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


def full_ece(gap: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(1/N) sum over bins |counted - expected|, the ``gap``: (..., M) and (...,) to (...,)."""
    return np.abs(gap).sum(-1) / positions


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
                        "full_ece": full_ece(by_name["labels"] - by_name["mass"], positions),
                        "ece": full_ece(by_name["correct"] - by_name["confidence"], positions),
                        "labels": by_name["labels"] / positions[:, None] * total,
                    }
                )
    return {key: _summary(sums, key, total, edges[key], drawn[key], level) for key in sums.tables}


def _summary(
    sums: SequenceSums, key: str, total: int, edges: tuple[float, ...], drawn: list, level: float
) -> dict:
    table = {name: values.sum(0) for name, values in sums.tables[key].items()}
    values = {
        "full_ece": float(full_ece(table["labels"] - table["mass"], total)),
        "ece": float(full_ece(table["correct"] - table["confidence"], total)),
    }
    intervals: dict[str, Interval | None] = {"full_ece": None, "ece": None}
    label_intervals: list[Interval | None] = [None] * len(table["mass"])
    if drawn:
        for name, value in values.items():
            low, high = interval_around(
                value, np.concatenate([part[name] for part in drawn]), level
            )
            intervals[name] = max(0.0, low), high
        labels = np.concatenate([part["labels"] for part in drawn])
        low, high = np.quantile(labels, [(1 - level) / 2, (1 + level) / 2], axis=0)
        label_intervals = list(zip(low.tolist(), high.tolist(), strict=True))
    floor = None
    if key in sums.noise:
        floor = full_ece(sums.noise[key] - table["mass"], total)  # (draws,)
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
        **values,
        "full_ece_interval": intervals["full_ece"],
        "ece_interval": intervals["ece"],
        "noise_floor": None if floor is None else float(floor.mean()),
        "noise_floor_sd": None if floor is None else float(floor.std(ddof=1)),
        "bins": bins,
    }


def compare(
    a: SequenceGaps, b: SequenceGaps, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Difference:
    """Paired bootstrap over sequences of the difference of two models' Full-ECE.

    Raises CalibrationError unless both were measured on the same positions, in the same bins.
    """
    if a.text != b.text:
        raise CalibrationError(
            f"not the same positions: {a.positions.sum()} in {len(a.positions)} sequences and "
            f"{b.positions.sum()} in {len(b.positions)}, or other labels; only the same text "
            "compares"
        )
    if a.gap.shape != b.gap.shape:
        raise CalibrationError(f"{a.gap.shape[1]} bins and {b.gap.shape[1]}: measure both alike")
    if len(a.positions) < 2:
        raise CalibrationError("one sequence: there is nothing to resample")
    gaps, total = [sums.gap.astype(np.float64) for sums in (a, b)], a.positions.sum()
    values = [float(full_ece(gap.sum(0), total)) for gap in gaps]
    difference = values[0] - values[1]
    drawn = []
    for weights in resamples(len(a.positions), draws, seed):
        positions = weights @ a.positions
        first, second = (full_ece(weights @ gap, positions) for gap in gaps)
        drawn.append(first - second)
    differences = np.concatenate(drawn)
    p_value = max(_two_sided(differences), _two_sided(2 * difference - differences))
    interval = interval_around(difference, differences, level)
    size = {"n_bins": a.gap.shape[1], "positions": int(total), "sequences": len(a.positions)}
    return Difference(**size, full_ece_a=values[0], full_ece_b=values[1], difference=difference,
                      interval=interval, p_value=p_value)  # fmt: skip


def _two_sided(drawn: np.ndarray) -> float:
    """How unusual 0 is among the resampled differences, the observed one counted in."""
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, float(2 * (beyond + 1) / (len(drawn) + 1)))
