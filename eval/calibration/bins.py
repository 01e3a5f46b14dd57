"""Where each probability of a row falls: the arithmetic under ``eval.calibration.measure``.

Full-ECE (Liu et al., 2024) pools all V probabilities of every position. Binning them one by one
would cost far more than the softmax, and is not needed: with M equal bins at most M entries of a
row reach 1/M, so bins 1..M-1 follow from a few large entries and bin 0 is the rest of a total of 1.

Shapes: R rows (positions), V vocabulary, M bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from eval.calibration.sums import CalibrationError

EDGE_SLACK = 1e-6
"""A probability this close (in bin widths) below an edge counts as on it. Softmax rounds: a true
1/2 may come out one unit below, and rounding should not decide its bin."""

TAIL_BINS = 11
TAIL_EDGES = (0.0, *(4.0 ** (power - 10) for power in range(TAIL_BINS)))
"""Edges of the tail diagnostic: 0, then powers of 4 from 4^-10 (about 1e-6) to 1."""

BLOCK = 64
HEAVY = 0.02
"""Entries of at least this probability are taken in float64. What the float32 exponentials of the
others err by (3e-8 each, of either sign) then comes to 1e-9 or so of a row, less over many."""

CACHED_ELEMENTS = 2**19
"""Exponentials made at a time: 2 MiB, so that summing them finds them in the processor's cache."""


@dataclass(frozen=True)
class RowTable:
    """One binning of R rows: all their entries, the label's and the largest."""

    mass: Tensor  # (R, M) float64, sum of the probabilities in each bin; rows sum to 1
    entries: Tensor  # (R, M) int64, number of entries in each bin; rows sum to V
    label_bin: Tensor  # (R,) int64, bin of the label's probability
    top_bin: Tensor  # (R,) int64, bin of the largest probability
    top_p: Tensor  # (R,) float64, the largest probability
    correct: Tensor  # (R,) bool, whether the first entry of largest probability is the label


@dataclass(frozen=True)
class _Row:
    """What every binning of the same rows shares."""

    normaliser: Tensor  # (R,) float64, log of the sum of exponentials
    label_p: Tensor  # (R,) float64
    top_p: Tensor  # (R,) float64
    correct: Tensor  # (R,) bool


def equal_bins(p: Tensor, n_bins: int) -> Tensor:
    """Index of the equal-width bin of each probability: left-closed, the last one closed."""
    return (p * n_bins + EDGE_SLACK).long().clamp_(max=n_bins - 1)


def tail_bins(log_p: Tensor) -> Tensor:
    """Index of the log-spaced bin (TAIL_EDGES) of each log probability: left-closed, 1 included."""
    index = (log_p * (1 / math.log(4)) + (TAIL_BINS + EDGE_SLACK)).floor_()
    return index.clamp_(0, TAIL_BINS - 1).long()


def bin_rows(
    logits: Tensor, labels: Tensor, n_bins: tuple[int, ...], *, tail: bool = False
) -> dict[str, RowTable]:
    """Bin the softmax of ``logits`` (R, V) in every way asked for, keyed "10", "15", ..., "tail".

    ``labels`` (R,) are int64 in [0, V). Raises CalibrationError for a label out of range and for
    rows without a finite softmax (NaN, +inf, or -inf throughout).
    """
    rows, vocabulary = logits.shape
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < vocabulary):
        raise CalibrationError(
            f"labels from {int(labels.min())} to {int(labels.max())} with {vocabulary} logits a "
            "row; ignored positions are -100 or masked"
        )
    row, heavy_row, heavy_p = _normalise(logits, labels, smallest=0.5 / max(n_bins))
    tables = {}
    for bins in n_bins:
        index = equal_bins(heavy_p, bins)
        upper = index > 0
        key = (heavy_row * bins + index)[upper]
        mass = torch.bincount(key, weights=heavy_p[upper], minlength=rows * bins).view(rows, bins)
        entries = torch.bincount(key, minlength=rows * bins).view(rows, bins)
        mass[:, 0] = 1 - mass.sum(-1)
        entries[:, 0] = vocabulary - entries.sum(-1)
        tables[str(bins)] = _table(row, mass, entries, lambda p, m=bins: equal_bins(p, m))
    if tail:
        tables["tail"] = _tail_table(row, logits)
    return tables


def _table(row: _Row, mass: Tensor, entries: Tensor, binning: Callable) -> RowTable:
    return RowTable(mass, entries, binning(row.label_p), binning(row.top_p), row.top_p, row.correct)


def _tail_table(row: _Row, logits: Tensor) -> RowTable:
    """All V entries of each row in log-spaced bins, a few rows at a time to stay in the cache."""
    if logits.dtype != torch.float64:
        logits = logits.float()
    step = max(1, len(logits))
    if logits.device.type == "cpu":
        step = max(2, CACHED_ELEMENTS // 4 // logits.shape[1])
    parts = []
    for start in range(0, len(logits), step):
        log_p = logits[start : start + step]
        log_p = log_p - row.normaliser[start : start + step, None].to(logits.dtype)
        count = len(log_p)
        key = tail_bins(log_p) + torch.arange(count, device=log_p.device)[:, None] * TAIL_BINS
        weights = log_p.exp().double().flatten()
        mass = torch.bincount(key.flatten(), weights=weights, minlength=count * TAIL_BINS)
        entries = torch.bincount(key.flatten(), minlength=count * TAIL_BINS)
        parts.append((mass.view(count, TAIL_BINS), entries.view(count, TAIL_BINS)))
    mass, entries = (torch.cat(part) for part in zip(*parts, strict=True))
    return _table(row, mass, entries, lambda p: tail_bins(p.log()))


def _normalise(logits: Tensor, labels: Tensor, smallest: float) -> tuple[_Row, Tensor, Tensor]:
    """Softmax of the entries that matter: (row facts, rows (H,), probabilities (H,) float64).

    The H entries are all of at least ``smallest``. One pass of exponentials touches all V columns
    and leaves the sum of each block of 64; only blocks that can hold a large entry are looked into.
    """
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    full = logits.shape[1] // BLOCK * BLOCK
    shift = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    sums = _block_sums(logits[:, :full])
    rest = logits[:, full:].double()  # (R, V % 64)
    unshifted = sums.sum(-1) + rest.exp().sum(-1)
    if not bool((torch.isfinite(unshifted) & (unshifted > 1e-18)).all()):
        # Overflow, or small terms lost. Multiples of 16, because subtracting one from a float32 of
        # like size is exact; subtracting the maximum itself would round.
        shift = 16 * (logits.amax(-1).double() / 16).floor()
        sums = _block_sums(logits[:, :full] - shift[:, None].to(logits.dtype))
    rest = torch.exp(rest - shift[:, None])
    total = sums.sum(-1, dtype=torch.float64) + rest.sum(-1)
    cut = (total * min(HEAVY, smallest)).log() + shift

    row, column, total = _large_entries(logits[:, :full], cut, shift, sums)
    value = logits[row, column].double()
    rest_row, rest_column = (logits[:, full:] >= cut[:, None]).nonzero(as_tuple=True)
    total += rest.sum(-1)
    total.index_add_(0, row, torch.exp(value - shift[row]))
    if not bool((torch.isfinite(total) & (total > 0)).all()):
        raise CalibrationError(
            "rows of logits without a finite softmax (NaN, +inf, or -inf throughout)"
        )
    normaliser = total.log() + shift

    row, column = torch.cat([row, rest_row]), torch.cat([column, rest_column + full])
    value = torch.cat([value, logits[rest_row, rest_column + full].double()])
    top_logit, top = _top(logits, row, column, value)
    label_logit = logits.gather(1, labels[:, None])[:, 0].double()
    facts = _Row(
        normaliser,
        torch.exp(label_logit - normaliser),
        torch.exp(top_logit - normaliser),
        top == labels,
    )
    p = torch.exp(value - normaliser[row])
    large = p >= smallest
    return facts, row[large], p[large]


def _large_entries(
    logits: Tensor, cut: Tensor, shift: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of all logits of at least ``cut`` (R,), and the total of the others (R,).

    ``sums`` (R, V // 64), used up, are the block sums: only blocks whose sum allows for a large
    entry are looked into. What stays of these is summed anew, so that nothing small is rounded
    away beside something large.
    """
    row, block = (sums >= torch.exp(cut - shift).to(sums.dtype)[:, None]).nonzero(as_tuple=True)
    entries = logits.unflatten(1, (sums.shape[1], BLOCK))[row, block]  # (H, 64)
    large = entries >= cut.to(logits.dtype)[row, None]
    small = entries.masked_fill_(large, -math.inf).sub_(shift.to(logits.dtype)[row, None]).exp_()
    sums[row, block] = 0
    total = sums.sum(-1, dtype=torch.float64)
    total.index_add_(0, row, small.sum(-1, dtype=torch.float64))
    which, at = large.nonzero(as_tuple=True)
    return row[which], block[which] * BLOCK + at, total


def _block_sums(logits: Tensor) -> Tensor:
    """Sum of exp(logits) over each block of columns: (R, V) to (R, V // 64)."""
    rows, columns = logits.shape
    step = max(1, CACHED_ELEMENTS // max(1, columns)) if logits.device.type == "cpu" else rows
    buffer = torch.empty((step, columns), dtype=logits.dtype, device=logits.device)
    sums = torch.empty((rows, columns // BLOCK), dtype=logits.dtype, device=logits.device)
    for start in range(0, rows, step):
        part = logits[start : start + step]
        exponentials = torch.exp(part, out=buffer[: len(part)])
        blocks = exponentials.unflatten(1, (columns // BLOCK, BLOCK))
        torch.sum(blocks, -1, out=sums[start : start + step])
    return sums


def _top(logits: Tensor, row: Tensor, column: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's largest logit (float64) and the first column that has it, both (R,).

    The candidates, with their logits ``value``, are all large entries; rows with none are searched
    whole.
    """
    rows, vocabulary = logits.shape
    top = torch.full((rows,), -math.inf, dtype=torch.float64, device=logits.device)
    top.scatter_reduce_(0, row, value, "amax")
    first = torch.full((rows,), vocabulary, device=logits.device)
    first.scatter_reduce_(0, row, torch.where(value == top[row], column, vocabulary), "amin")
    flat = (first == vocabulary).nonzero()[:, 0]
    if len(flat):
        first[flat] = logits[flat].argmax(-1)
        top[flat] = logits[flat, first[flat]].double()
    return top, first
