"""Full-ECE (Liu et al., 2024) and top-label ECE of a language model: the F-ECE column of Table 4.

    tad eval calibration --model DIR --data work/smoke/data/general/phi --context 128
    tad eval calibration compare A/calibration.npz B/calibration.npz

In: model folders (or hub ids) and a packed corpus in their tokens. Out, by default in the model's
folder: ``calibration.json`` and beside it the gaps of every sequence (.npz), from which ``compare``
tests two models on the same positions. JSON values are fractions; tables print percent. The paper
states neither bins, edges nor the number of positions: we take equal-width, left-closed bins, 10
and 15 of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.calibration.sums import (
    FIELDS,
    CalibrationError,
    CalibrationResult,
    SequenceGaps,
    SequenceSums,
    compare,
    summarise,
)
from eval.options import at_least, device_of, outputs, writable
from eval.rows import batches, check_tokenizer, pieces, positions_at_once
from tad.command import command_line, exit_code

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100
ROW_ELEMENTS = {"cpu": 2**25, "cuda": 2**27}
"""Logits binned at a time: 128 MiB on a CPU, 512 MiB on a GPU."""

BATCH_SIZE = 16
"""Sequences that pass through the model together."""


class FullECE:
    """Streaming Full-ECE, the same in any chunks and order; ``SequenceSums.merged`` joins ranks.

    ``n_bins`` are the numbers of equal-width bins to keep; the first is the one ``compute`` puts
    in front. ``tail`` adds the log-spaced diagnostic, which on a CPU costs 7 softmaxes a row.
    ``noise_draws`` (a multiple of 4) labels a position are drawn from the model for the noise
    floor, reproducibly from ``seed``.

    >>> import torch
    >>> logits = torch.log(torch.tensor([[0.9, 0.05, 0.03, 0.02], [0.85, 0.1, 0.03, 0.02]]))
    >>> metric = FullECE(n_bins=5)
    >>> metric.update(logits, torch.tensor([0, 3]))
    >>> round(metric.compute().full_ece, 6)
    0.75
    """

    def __init__(
        self,
        n_bins: int | Sequence[int] = (10, 15),
        *,
        tail: bool = False,
        noise_draws: int = 20,
        seed: int = 0,
    ) -> None:
        self.n_bins = (n_bins,) if isinstance(n_bins, int) else tuple(n_bins)
        if not self.n_bins or min(self.n_bins) < 1 or len(set(self.n_bins)) < len(self.n_bins):
            raise CalibrationError(
                f"n_bins={n_bins}: one or more different numbers, each at least 1"
            )
        if noise_draws % 4 or noise_draws < 0:
            raise CalibrationError(f"noise_draws={noise_draws} must be a multiple of 4")
        self.tail, self.noise_draws, self.seed = tail, noise_draws, seed
        self._parts: list[SequenceSums] = []
        self._seen: dict[int, int] = {}
        self._named: bool | None = None

    def update(
        self,
        logits: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        *,
        sequences: Sequence[int] | None = None,
    ) -> None:
        """Add positions: logits (B, N, V) or (N, V), labels and mask of the same leading shape.

        ``labels[..., t]`` is the token that row t predicts (already shifted). Rows with label -100
        or a false mask are left out before any arithmetic, NaN or not. Logits are those that the
        softmax takes: after any soft-capping, with all rows of a padded head. ``sequences`` names
        the B texts (one int each), so that text seen in pieces, on other ranks or by another model
        is known to be the same; without it every call brings new ones. Raises CalibrationError
        for shapes that do not agree, labels out of range and rows without a finite softmax.
        """
        if logits.ndim == labels.ndim + 1 == 2:
            logits, labels = logits[None], labels[None]
            mask = None if mask is None else mask[None]
        if logits.ndim != 3 or logits.shape[:2] != labels.shape:
            raise CalibrationError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}")
        logits, labels = logits.detach(), labels.to(logits.device)
        keep = labels != IGNORE
        if mask is not None:
            if mask.shape != labels.shape:
                raise CalibrationError(f"mask {tuple(mask.shape)} and labels {tuple(labels.shape)}")
            keep = keep & mask.to(logits.device).bool()
        ids = self._ids(len(labels), sequences)
        text = keep.nonzero()[:, 0]  # which of the B sequences each kept row belongs to
        flat = logits.reshape(-1, logits.shape[-1])
        where = None if bool(keep.all()) else keep.flatten().nonzero()[:, 0]
        kept_labels = labels[keep].long()
        step = max(1, ROW_ELEMENTS.get(logits.device.type, 2**25) // logits.shape[-1])
        for start in range(0, len(text), step):
            rows = slice(start, start + step)
            part = flat[rows] if where is None else flat[where[rows]]
            self._add(part, kept_labels[rows], text[rows], ids)
        if len(self._parts) > 64:
            self._parts = [SequenceSums.merged(self._parts)]

    def sums(self) -> SequenceSums:
        """The sums by sequence, sorted by sequence. Raises CalibrationError when there are none."""
        if not self._parts:
            raise CalibrationError("no position was counted")
        self._parts = [SequenceSums.merged(self._parts)]
        return SequenceSums.merged(self._parts)

    def compute(self, *, resamples: int = 1000, level: float = 0.95) -> CalibrationResult:
        """Full-ECE, ECE, noise floor and bootstrap intervals over sequences, as fractions."""
        return result(self.sums(), self.n_bins, resamples=resamples, seed=self.seed, level=level)

    def _ids(self, count: int, sequences: Sequence[int] | None) -> np.ndarray:
        if self._named is not None and self._named != (sequences is not None):
            raise CalibrationError("name the sequences in every update or in none")
        self._named = sequences is not None
        if sequences is None:
            first = max(self._seen, default=-1) + 1
            ids = np.arange(first, first + count)
        else:
            ids = np.asarray(sequences, dtype=np.int64)
        if ids.shape != (count,) or len(set(ids.tolist())) != count:
            raise CalibrationError(
                f"{count} sequences need {count} different names, got {sequences}"
            )
        return ids

    def _add(self, logits: Tensor, labels: Tensor, text: Tensor, ids: np.ndarray) -> None:
        """Bin rows (R, V) of the sequences ``ids[text]`` and keep their sums."""
        import torch

        from eval.calibration.bins import bin_rows

        tables = bin_rows(logits, labels, self.n_bins, tail=self.tail)
        present, local = torch.unique(text, return_inverse=True)
        ids = ids[present.cpu().numpy()]
        sums = {key: _reduce(table, local, len(ids)) for key, table in tables.items()}
        counts = torch.bincount(local, minlength=len(ids)).cpu().numpy()
        identity = np.zeros(len(ids), np.uint64)
        np.add.at(identity, local.cpu().numpy(), _label_hashes(labels.cpu().numpy()))
        noise = self._draw_noise({str(m): tables[str(m)].mass for m in self.n_bins}, ids, counts)
        vocabulary = logits.shape[-1]
        self._parts.append(SequenceSums(ids, counts, identity, sums, noise, vocabulary))

    def _draw_noise(
        self, masses: dict[str, Tensor], ids: np.ndarray, counts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Labels drawn from the model itself, counted by bin: (draws, M) for each binning.

        Only the bin of a drawn label matters, and a row's masses are the odds of its bins. The
        generator is placed by sequence and position, so that chunking does not change the draws.
        """
        draws = self.noise_draws
        ends = np.cumsum(counts)
        edges = {key: mass.cumsum(-1).cpu().numpy() for key, mass in masses.items()}
        noise = {key: np.zeros((draws, e.shape[1]), np.int64) for key, e in edges.items()}
        for name, end, count in zip(ids.tolist(), ends, counts, strict=True):
            seen = self._seen.get(name, 0)
            self._seen[name] = seen + int(count)
            if not draws:
                continue
            bits = np.random.Philox(key=[self.seed, name % 2**64])
            bits.advance(seen * draws // 4)  # one step of Philox makes four numbers
            uniform = np.random.Generator(bits).random((count, draws))
            for key, edge in edges.items():
                bins = edge.shape[1]
                below = edge[end - count : end, None, :-1] <= uniform[:, :, None]
                drawn = below.sum(-1) + np.arange(draws) * bins  # (count, draws)
                noise[key] += np.bincount(drawn.ravel(), minlength=draws * bins).reshape(-1, bins)
        return noise if draws else {}


def result(
    sums: SequenceSums, n_bins: Sequence[int], *, resamples: int = 1000, seed: int = 0,
    level: float = 0.95,
) -> CalibrationResult:  # fmt: skip
    """What sums by sequence say; the first of ``n_bins`` in front, the others in ``others``."""
    from eval.calibration.bins import TAIL_EDGES

    edges = {str(m): tuple(i / m for i in range(m + 1)) for m in n_bins} | {"tail": TAIL_EDGES}
    found = summarise(sums, edges, draws=resamples, seed=seed, level=level)
    common = {
        "positions": int(sums.positions.sum()),
        "sequences": len(sums.ids),
        "vocabulary": sums.vocabulary,
    }
    first, *rest = n_bins
    tail = found.get("tail")
    return CalibrationResult(
        n_bins=first,
        **common,
        **found[str(first)],
        others={m: CalibrationResult(n_bins=m, **common, **found[str(m)]) for m in rest},
        tail_gap=tail["full_ece"] if tail else None,
        tail=tail["bins"] if tail else (),
    )


def _reduce(table: Any, local: Tensor, sequences: int) -> dict[str, np.ndarray]:
    """Sums of a RowTable over the rows of each sequence, (S, M) by name."""
    import torch
    import torch.nn.functional as F

    bins = table.mass.shape[1]
    label = F.one_hot(table.label_bin, bins)
    top = F.one_hot(table.top_bin, bins)
    rows = {
        "mass": table.mass,
        "labels": label,
        "entries": table.entries,
        "confidence": top * table.top_p[:, None],
        "correct": top * table.correct[:, None],
        "predictions": top,
    }
    return {
        name: torch.zeros((sequences, bins), dtype=rows[name].dtype, device=local.device)
        .index_add_(0, local, rows[name])
        .cpu()
        .numpy()
        for name in FIELDS
    }


def _label_hashes(labels: np.ndarray) -> np.ndarray:
    """A well-mixed uint64 of each label; their sum identifies a sequence, in whatever pieces."""
    mixed = (labels.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def measure(
    model_folder: str | Path,
    data: Any,
    *,
    positions: int | None = None,
    dtype: str = "float32",
    tail: bool = True,
    seed: int = 0,
    bos: int | None = None,
) -> tuple[FullECE, dict[str, Any]]:
    """Run a model over packed sequences; returns the accumulator and how it was measured.

    ``data`` has a ``context`` and a ``vocab_size`` and maps 0..len-1 to {"input_ids", "labels"}
    (N,) tensors, N at most that context, labels already shifted. The first sequences that reach
    ``positions`` are used, all by default. ``bos`` is the token that the tokenizer's template
    begins a text with.
    Raises CalibrationError when there are fewer, ModelError for a model that is not there.
    """
    import torch

    from tad.fused import last_states
    from tad.models.loading import load_model

    wanted = sequences_for(positions, data)
    device = device_of(None)
    model = load_model(
        str(model_folder),
        training=False,
        dtype=getattr(torch, dtype),
        vocab_size=data.vocab_size,
    )
    model = model.to(device).eval()
    metric = FullECE(tail=tail, seed=seed)
    found = 0
    with torch.no_grad():
        for names, batch in batches(data, BATCH_SIZE, wanted, Path(model_folder).name):
            ids, labels = (batch[key].to(device) for key in ("input_ids", "labels"))
            states, head = last_states(model, input_ids=ids, use_cache=False)
            limit = positions_at_once(len(head.weight), model.device.type)
            for rows, columns in pieces(*labels.shape, limit):
                logits = head.logits(states[rows, columns])
                metric.update(logits, labels[rows, columns], sequences=names[rows])
            found += 0 if bos is None else int((ids == bos).sum())
    return metric, details(model, data, seed=seed, bos=bos, bos_found=found)


def sequences_for(positions: int | None, data: Any) -> int:
    """How many sequences have so many positions; all by default. Raises CalibrationError."""
    wanted = len(data) if positions is None else -(-positions // data.context)
    if wanted > len(data):
        raise CalibrationError(
            f"{positions} positions asked, but the data holds {len(data)} sequences of "
            f"{data.context}"
        )
    return wanted


def details(model: Any, data: Any, *, seed: int, bos: int | None, bos_found: int) -> dict[str, Any]:
    """How a model was measured, for its record."""
    return {
        "context": data.context,
        "logits_dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "seed": seed,
        "bos_expected": bos is not None,
        "bos_found": bos_found,
    }


def write(out: str | Path, metric: FullECE, how: dict[str, Any]) -> CalibrationResult:
    """Write the JSON and, beside it, the gaps by sequence (.npz) of the first number of bins."""
    from tad.records import provenance, write_json

    out = Path(out)
    found = metric.compute()
    metric.sums().gaps(found.n_bins).save(out.with_suffix(".npz"))
    record = {"metric": "calibration", "unit": "fraction", **how, **asdict(found)}
    write_json(out, {**record, **provenance()})
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is written, 2 for bad input (one line on stderr)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["compare"]:
        options = _compare_parser().parse_args(arguments[1:])
        return exit_code("eval calibration compare", lambda: _compare(options))
    options = _measure_parser().parse_args(arguments)
    return exit_code("eval calibration", lambda: _measure(options))


def _measure_parser() -> argparse.ArgumentParser:
    parser = command_line("eval calibration", __doc__)
    parser.add_argument("--model", nargs="+", required=True, help="model folders, or hub ids")
    parser.add_argument("--data", required=True, help="folder of a packed corpus")
    parser.add_argument("--context", type=int, required=True, help="tokens a sequence")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--positions", type=int, help="how many to use (default: all)")
    parser.add_argument("--out", nargs="+", help="JSON, one a model (default: in its folder)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--no-tail", action="store_true", help="leave out the tail diagnostic")
    parser.add_argument("--seed", type=int, default=0, help="of the noise floor's draws")
    return parser


def _measure(options: argparse.Namespace) -> None:
    from tad.data.instruct import open_rows
    from tad.data.vocabulary import bos_tokens
    from tad.models.loading import load_tokenizer

    at_least(1, context=options.context, positions=options.positions)
    outs = outputs(options.model, options.out, "calibration.json")
    data = open_rows(options.data, options.split, options.context)
    for model in options.model:
        check_tokenizer(model, options.data)
    for model, out in zip(options.model, outs, strict=True):
        metric, how = measure(
            model,
            data,
            positions=options.positions,
            dtype=options.dtype,
            tail=not options.no_tail,
            seed=options.seed,
            bos=next(iter(bos_tokens(load_tokenizer(model))), None),
        )
        named = {"model": model, "data": options.data, "split": options.split}
        found = write(out, metric, {**named, "data_fingerprint": data.fingerprint, **how})
        print(
            f"{model}: Full-ECE {found.full_ece:.4%} (noise floor {found.noise_floor:.4%}, "
            f"{found.positions} positions), ECE {found.ece:.4%}"
        )


def _compare_parser() -> argparse.ArgumentParser:
    text = """Paired bootstrap of Full-ECE(A) - Full-ECE(B) over the same sequences.

    tad eval calibration compare A/calibration.npz B/calibration.npz --out difference.json

In: the gaps of two models on the same positions. Out: JSON, printed and written to --out."""
    parser = command_line("eval calibration compare", text)
    parser.add_argument("gaps", nargs=2, metavar="NPZ", help="the .npz beside calibration.json")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="write the JSON here too")
    return parser


def _compare(options: argparse.Namespace) -> None:
    from tad.records import write_json

    at_least(1, resamples=options.resamples)
    a, b = (SequenceGaps.load(Path(path).with_suffix(".npz")) for path in options.gaps)
    found = asdict(compare(a, b, draws=options.resamples, seed=options.seed))
    print(json.dumps(found))
    if options.out:
        write_json(writable(options.out), {"a": options.gaps[0], "b": options.gaps[1], **found})
