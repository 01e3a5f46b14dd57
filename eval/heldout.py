"""Held-out divergences of a student from its teacher, and the teacher's own tail: one pass.

    tad eval heldout --model DIR --teacher DIR --data work/smoke/data/general/phi --context 128 \\
        --out heldout.json

In: model folders (or hub ids) and a packed corpus in their tokens. Out: a record with NLL, KL,
reverse KL, tail mass alpha_K and mode mismatch on the validation split; without ``--teacher`` of
the model alone (Figure 2). Every value is the mean over tokens with the standard error of the mean
over sequences, in nats or as a share; NLL and both divergences are kept document by document too,
for tests over documents. ``--calibration`` writes the record of ``tad eval calibration`` too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval.calibration.measure import FullECE, details, sequences_for, write
from eval.options import at_least, device_of, writable
from eval.rows import RowsError, batches, check_tokenizer, pieces, positions_at_once
from tad import divergences
from tad.command import command_line, exit_code
from tad.data.instruct import InstructionRows, open_rows
from tad.data.packing import PackedTokens
from tad.data.vocabulary import bos_tokens, shared_vocabulary
from tad.divergences import IGNORE
from tad.fused import last_states
from tad.models.loading import load_model, load_tokenizer
from tad.records import provenance, write_json

TOP_K = (1, 2, 5, 10, 20, 50)
"""The K of the tail masses alpha_K (Figure 2)."""

BY_DOCUMENT = ("nll", "kl", "reverse_kl")
"""What is kept document by document."""


def token_metrics(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
) -> dict[str, Tensor]:
    """Per-token values (B, N) from logits (B, N, V) and labels (B, N), 0 where masked.

    ``nll`` is of the student. ``alpha_K`` and ``mismatch`` (the label is not the most likely
    token, Section 2) are of the teacher, or of the model itself where there is no teacher; ``kl``
    and ``reverse_kl`` need the teacher.
    """
    mask = labels != IGNORE
    values = {"nll": divergences.causal_lm(logits, labels)}
    if teacher_logits is not None:
        values["kl"] = divergences.forward_kl(logits, teacher_logits, mask=mask)
        values["reverse_kl"] = divergences.reverse_kl(logits, teacher_logits, mask=mask)
    reference = logits if teacher_logits is None else teacher_logits
    values["mismatch"] = ((reference.argmax(-1) != labels) & mask).float()
    return values | tail_masses(reference, mask)


def tail_masses(logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """alpha_K (Eq. 2) for every K of TOP_K below the vocabulary size, each (B, N)."""
    sizes = [k for k in TOP_K if k < logits.shape[-1]]
    ids = divergences.top_k_set(logits, sizes[-1])
    top = torch.log_softmax(logits.float(), -1).gather(-1, ids).exp()
    rest = divergences.log_tail_mass(logits.float(), ids).exp()
    # Adding the smaller modes back to the mass beyond them keeps every digit; 1 - sum would not.
    beyond = torch.cat([top, rest.unsqueeze(-1)], -1).flip(-1).cumsum(-1).flip(-1)
    # Not a product: what is masked may be NaN.
    return {f"alpha_{k}": beyond[..., k].masked_fill(~mask, 0.0) for k in sizes}


class SequenceMeans:
    """Mean over tokens, and its standard error over sequences, of streamed per-token values."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor]] = {}
        self._counts: list[Tensor] = []
        self._tails: dict[str, list[Tensor]] = {}

    def update(self, values: dict[str, Tensor], mask: Tensor) -> None:
        """Add a batch: values (B, N), 0 where ``mask`` (B, N) is False."""
        self._counts.append(mask.sum(-1).double().cpu())
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value.double().sum(-1).cpu())
            if name.startswith("alpha_"):  # kept whole for the quartiles: 4 bytes a token and K
                self._tails.setdefault(name, []).append(value[mask].float().cpu())

    def compute(self) -> dict[str, dict[str, float]]:
        """``{name: {mean, se}}``, and the quartiles q25, q50, q75 over tokens of tail masses.

        The error treats sequences as independent and tokens within one as they come.
        """
        counts = torch.cat(self._counts)
        total, size = counts.sum(), len(counts)
        result = {}
        for name, sums in self._sums.items():
            mean = torch.cat(sums).sum() / total
            spread = ((torch.cat(sums) - mean * counts) ** 2).sum()
            error = (spread * size / max(size - 1, 1)).sqrt() / total
            result[name] = {"mean": mean.item(), "se": error.item()}
        for name, parts in self._tails.items():
            ordered = torch.cat(parts).sort().values
            for q in (25, 50, 75):
                result[name][f"q{q}"] = ordered[(len(ordered) - 1) * q // 100].item()
        return result


class DocumentMeans:
    """Means over the tokens of each document, of per-token values that come row by row.

    With ``eos`` rows follow one another in a text whose documents end with that token each, so that
    a document may go on in the next row; without it every row is a document.
    """

    def __init__(self, eos: int | None = None) -> None:
        self._eos, self._seen = eos, 0
        self._parts: list[tuple[int, dict[str, Tensor]]] = []

    def update(self, values: dict[str, Tensor], inputs: Tensor, mask: Tensor) -> None:
        """Add the next rows: values (B, N), the tokens ``inputs`` (B, N) whose followers they are
        of, and which of them count, ``mask`` (B, N)."""
        inputs, mask = inputs.cpu(), mask.cpu()
        if self._eos is None:
            numbers = torch.arange(len(inputs))[:, None].expand_as(inputs)
            seen = len(inputs)
        else:  # what follows an end-of-text token is of the next document
            numbers = (inputs == self._eos).flatten().cumsum(0).view_as(inputs)
            seen = int(numbers[-1, -1])
        chosen = numbers[mask]
        sums = {"tokens": torch.bincount(chosen, minlength=seen + 1).double()}
        for name in BY_DOCUMENT:
            if name in values:
                weights = values[name].cpu()[mask].double()
                sums[name] = torch.bincount(chosen, weights=weights, minlength=seen + 1)
        self._parts.append((self._seen, sums))
        self._seen += seen

    def compute(self) -> dict[str, str]:
        """``tokens`` of each document and its mean of each value, as numbers between blanks.

        A document without a token that counts is left out. Text, because a line for each of ten
        thousand numbers would bury the rest of the record.
        """
        totals = {name: torch.zeros(self._seen + 1).double() for name in self._parts[0][1]}
        for first, sums in self._parts:
            for name, part in sums.items():
                totals[name][first : first + len(part)] += part
        counts = totals.pop("tokens")
        there = counts > 0
        means = {name: (total[there] / counts[there]).tolist() for name, total in totals.items()}
        told = {name: " ".join(f"{value:.7g}" for value in of) for name, of in means.items()}
        return {"tokens": " ".join(f"{count:.0f}" for count in counts[there].tolist())} | told


@torch.no_grad()
def held_out(
    model: nn.Module,
    data: PackedTokens | InstructionRows,
    *,
    teacher: nn.Module | None = None,
    shared: int | None = None,
    batch_size: int = 16,
    sequences: int | None = None,
    bos: int | None = None,
    eos: int | None = None,
    calibration: FullECE | None = None,
    calibrated: int = 0,
) -> dict[str, Any]:
    """The record of one model on ``data`` (all of it, or the first ``sequences``).

    ``shared`` leading vocabulary entries are compared with the teacher's; ``bos`` is the token
    that the tokenizer's template begins a text with, ``eos`` the one that ends each document of a
    packed text (``DocumentMeans``). ``calibration`` is given the logits of the
    first ``calibrated`` sequences. Logits exist of a few positions at a time. Raises RowsError for
    too few sequences.
    """
    if sequences is not None and not calibrated <= sequences <= len(data):
        least = f", and the calibration needs {calibrated}" if calibrated else ""
        raise RowsError(f"--sequences {sequences}: the validation split has {len(data)}{least}")
    means, documents, tokens, found = SequenceMeans(), DocumentMeans(eos), 0, 0
    for numbers, batch in batches(data, batch_size, sequences or len(data), "held-out"):
        labels, inputs = batch["labels"].to(model.device), batch["input_ids"].to(model.device)
        states, head = last_states(model, input_ids=inputs, use_cache=False)
        if teacher is not None:
            other, other_head = last_states(teacher, input_ids=inputs, use_cache=False)
        values: dict[str, Tensor] = {}
        limit = positions_at_once(len(head.weight), model.device.type)
        for part in pieces(*labels.shape, limit):
            logits, teacher_logits = head.logits(states[part]), None
            if teacher is not None:
                teacher_logits = other_head.logits(other[part])[..., :shared]
            rows, known = part[0], calibrated - numbers.start
            if calibration is not None and rows.start < known:
                chosen = slice(0, known - rows.start)
                names = numbers[rows][chosen]
                calibration.update(logits[chosen], labels[part][chosen], sequences=names)
            metrics = token_metrics(logits[..., :shared], labels[part], teacher_logits)
            for name, value in metrics.items():
                values.setdefault(name, torch.zeros_like(labels, dtype=value.dtype))[part] = value
        means.update(values, labels != IGNORE)
        documents.update(values, inputs, labels != IGNORE)
        tokens += int((labels != IGNORE).sum())
        found += 0 if bos is None else int((inputs == bos).sum())
    return {
        "tokens": tokens,
        "context": data.context,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "bos_expected": bos is not None,
        "bos_found": found,
        "metrics": means.compute(),
        "documents": documents.compute(),
    }


def write_records(options: argparse.Namespace) -> None:
    """Write the records that the command line asks for, of models loaded once. Raises UserError."""
    at_least(1, context=options.context, sequences=options.sequences, batch_size=options.batch_size,
             positions=options.positions)  # fmt: skip
    for out in filter(None, (options.out, options.calibration)):
        writable(out)
    data = open_rows(options.data, "validation", options.context)
    check_tokenizer(options.model, options.data)
    device = device_of(None)
    tokenizer = load_tokenizer(options.model)
    bos = next(iter(bos_tokens(tokenizer)), None)
    # Half precision would move probabilities from bin to bin.
    dtype = torch.float32 if options.calibration else None
    known = {"training": False, "vocab_size": data.vocab_size}
    model = load_model(options.model, dtype=dtype, **known).eval().to(device)
    teacher, shared = None, None
    if options.teacher:
        teacher = load_model(options.teacher, **known).eval().to(device)
        rows = [m.get_output_embeddings().weight.shape[0] for m in (teacher, model)]
        shared = shared_vocabulary(load_tokenizer(options.teacher), tokenizer, *rows)
    metric = FullECE(tail=True) if options.calibration else None
    calibrated = sequences_for(options.positions, data) if metric else 0
    record = held_out(
        model,
        data,
        teacher=teacher,
        shared=shared,
        batch_size=options.batch_size,
        sequences=options.sequences,
        bos=bos,
        eos=data.eos_id if isinstance(data, PackedTokens) else None,
        calibration=metric,
        calibrated=calibrated,
    )
    names = {"model": options.model, "teacher": options.teacher, "data": options.data}
    names["data_fingerprint"] = data.fingerprint
    write_json(options.out, {**names, **record, **provenance()})
    if metric is not None:
        how = details(model, data, seed=metric.seed, bos=bos, bos_found=record["bos_found"])
        write(options.calibration, metric, {**names, "split": "validation", **how})


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the record is written, 2 for bad input."""
    parser = command_line("eval heldout", __doc__)
    parser.add_argument("--model", required=True, help="folder or hub id of the student")
    parser.add_argument("--teacher", help="folder or hub id of the teacher")
    parser.add_argument("--data", required=True, help="folder of a packed corpus")
    parser.add_argument("--context", type=int, required=True, help="tokens a sequence")
    parser.add_argument("--sequences", type=int, help="only the first so many (default: all)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--calibration", type=Path, help="calibration.json to write too")
    parser.add_argument("--positions", type=int, help="of the calibration (default: all)")
    options = parser.parse_args(arguments)
    return exit_code("eval heldout", lambda: write_records(options))


if __name__ == "__main__":
    sys.exit(main())
