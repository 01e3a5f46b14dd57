"""Difference sampling of MiniPLM (Gu et al. 2025): the sequences that a teacher likes more.

    tad select --teacher DIR --reference DIR --data work/smoke/data/general/phi \\
        --context 128 --sequences 2000 --delta 0.5 --seed 0 --out work/smoke/selection/phi2_1b

Each of the first ``--sequences`` packed sequences in training order is scored by
(log p_teacher - log p_reference) / context, in nats a token, and the ``--delta`` of them with the
highest scores are kept, for plain CLM training. ``--out`` receives ``scores.npz`` (index of the
sequence in the corpus; teacher, reference, score) and ``selection.json``. An interrupted scoring
goes on with the same command; another ``--delta`` on finished scores only selects again.

A reference with another tokenizer scores the same text: the sequence is decoded, document by
document, encoded for the reference (its end-of-text token between documents), and its total
log-probability is divided by the same number of tokens as the teacher's. What is lost: neither
model scores its own first token, which is unconditioned and, in the two tokenizers, not the same
piece of text; a character that the sequence cuts in two decodes to U+FFFD. A sequence longer than
a model's window is scored in consecutive windows, each starting without memory of the one before.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tad.baselines.blocks import (
    in_blocks,
    load_frozen,
    positive,
    run_options,
    wall_seconds,
)
from tad.command import UserError, command_line, exit_code
from tad.data.packing import PackedTokens, training_rows, unfinished
from tad.data.vocabulary import bos_tokens, document_start, same_ids, size
from tad.divergences import IGNORE
from tad.fused import Head
from tad.fused.states import instead_of_logits
from tad.models.fingerprint import model_fingerprint
from tad.models.loading import load_tokenizer
from tad.records import fingerprint, matching, provenance, read_json, write_bytes, write_json

CHUNK_LOGITS = 1 << 24
"""Logits held at a time (64 MB in float32)."""

log = logging.getLogger(__name__)


class SelectionError(UserError, ValueError):
    """A selection that cannot be made; one line with the value and the cure."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is scored and how much is kept; ``tokenizer`` is the data's (default: the teacher's)."""

    teacher: str
    reference: str
    data: str
    context: int
    sequences: int
    delta: float
    seed: int
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        positive(context=self.context, sequences=self.sequences)
        _check_delta(self.delta)


def select(scores: np.ndarray, delta: float) -> np.ndarray:
    """Positions of the highest ``delta`` of ``scores`` (N,), in ascending order, int64.

    round(delta * N) of them, at least one; of equal scores the lower position wins. Raises
    SelectionError for a score that is not finite, and a delta that is not in (0, 1].
    """
    _check_delta(delta)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad) or not len(scores):
        what = f"score {scores[bad[0]]} of sequence {bad[0]}" if len(bad) else "no scores"
        raise SelectionError(f"{what}: nothing can be ranked; are the models' weights finite?")
    number = max(1, round(delta * len(scores)))
    return np.sort(np.argsort(-scores, kind="stable")[:number])


def _check_delta(delta: float) -> None:
    if not 0 < delta <= 1:
        raise SelectionError(f"--delta {delta}: a fraction of the pool, so above 0 and at most 1")


# --- Scores --------------------------------------------------------------------------------------


def log_probabilities(
    model: PreTrainedModel, sequences: list[np.ndarray], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Total log-probability of each sequence after its first token, and how many tokens that is.

    Token ids (n_i,) each -> (N,) float64 in nats, (N,) int64. ``batch_size`` windows go through the
    model at a time; it changes the result by rounding only.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    windows = [
        (number, ids[start : start + (limit or len(ids)) + 1])
        for number, ids in enumerate(sequences)
        for start in range(0, len(ids) - 1, limit or len(ids))
    ]
    sums, counts = np.zeros(len(sequences)), np.zeros(len(sequences), np.int64)
    for first in range(0, len(windows), batch_size):
        batch = windows[first : first + batch_size]
        longest = max(len(ids) for _, ids in batch) - 1
        # On the right, and causal: no token sees the padding.
        inputs = np.zeros((len(batch), longest), np.int64)
        labels = np.full_like(inputs, IGNORE)
        for row, (_, ids) in enumerate(batch):
            inputs[row, : len(ids) - 1], labels[row, : len(ids) - 1] = ids[:-1], ids[1:]
        found = token_log_probabilities(model, *map(torch.from_numpy, (inputs, labels)))
        numbers = [number for number, _ in batch]
        np.add.at(sums, numbers, found.double().sum(-1).cpu().numpy())
        np.add.at(counts, numbers, (labels != IGNORE).sum(-1))
    return sums, counts


@torch.no_grad()
def token_log_probabilities(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """log p of each label, inputs and labels (B, N) -> (B, N) float32 in nats; 0 where -100.

    Never holds more than CHUNK_LOGITS logits.
    """
    inputs, labels = inputs.to(model.device), labels.to(model.device)
    valid = labels != IGNORE

    def gather(states: Tensor, head: Head) -> Tensor:
        chunk = max(1, CHUNK_LOGITS // len(head.weight))
        found = [
            _log_probability(*pair, head)
            for pair in zip(states[valid].split(chunk), labels[valid].split(chunk), strict=True)
        ]
        empty = torch.zeros(labels.shape, device=labels.device)
        return empty.masked_scatter(valid, torch.cat(found))

    asked = {"input_ids": inputs, "use_cache": False}
    return instead_of_logits(model, model, asked, gather).value


def _log_probability(states: Tensor, labels: Tensor, head: Head) -> Tensor:
    """States (R, H), labels (R,) -> (R,)."""
    logits = head.logits(states).float()
    return logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, -1)


def translate(
    ids: np.ndarray, ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase
) -> np.ndarray:
    """The same text in tokens of another tokenizer, (n,) -> (m,) int64.

    Documents are encoded one by one, with an end-of-text token wherever ``ids`` has one, and begin
    as ``theirs`` begins documents.
    """
    ours_start, theirs_start = (
        document_start(bos_tokens(tokenizer), tokenizer.eos_token_id)
        for tokenizer in (ours, theirs)
    )
    translated: list[int] = []
    for number, piece in enumerate(np.split(ids, np.flatnonzero(ids == ours.eos_token_id))):
        if number:
            translated.append(theirs.eos_token_id)
            piece = piece[1:]
        begins = piece[: len(ours_start)].tolist() == ours_start if ours_start else number > 0
        if begins and len(piece):
            piece = piece[len(ours_start) :]
            translated += theirs_start
        text = ours.decode(piece.tolist(), clean_up_tokenization_spaces=False)
        translated += theirs(text, add_special_tokens=False, verbose=False)["input_ids"]
    return np.array(translated, np.int64)


class _Scorer:
    """Scores of the pool in blocks: (tokens, 2) of log-probability and tokens scored."""

    def __init__(self, job: Selection, data: PackedTokens, rows: np.ndarray, batch_size: int):
        self.job, self.data, self.rows, self.batch_size = job, data, rows, batch_size
        self.tokenizer = load_tokenizer(job.tokenizer or job.teacher)
        self.reference_tokenizer = load_tokenizer(job.reference)
        self.translates = not same_ids(self.tokenizer, self.reference_tokenizer)
        tokens = size(self.tokenizer)
        if (tokens, self.tokenizer.eos_token_id) != (data.vocab_size, data.eos_id):
            raise SelectionError(
                f"{job.tokenizer or job.teacher}: tokenizer of {tokens} tokens, end of text "
                f"{self.tokenizer.eos_token_id}; {job.data} was packed with one of "
                f"{data.vocab_size} and {data.eos_id}: name that one by --tokenizer"
            )
        if self.translates and self.reference_tokenizer.eos_token_id is None:
            raise SelectionError(f"{job.reference}: its tokenizer has no end-of-text token")

    def score(self, folder: Path, who: str) -> np.ndarray:
        """(sequences, 2) float64 of ``who``, teacher or reference."""
        translates = who == "reference" and self.translates

        def prepare() -> Callable[[int, int], np.ndarray]:
            tokens = size(self.reference_tokenizer) if translates else self.data.vocab_size
            model = load_frozen(getattr(self.job, who), tokens)

            def compute(first: int, last: int) -> np.ndarray:
                sequences = list(self._sequences(first, last, translates))
                return np.stack(log_probabilities(model, sequences, self.batch_size), 1)

            return compute

        paths = in_blocks(folder, who, len(self.rows), prepare)
        return np.concatenate([np.load(path) for path in paths])

    def _sequences(self, first: int, last: int, translates: bool) -> Iterator[np.ndarray]:
        for row in self.rows[first:last]:
            start = int(row) * self.job.context
            ids = self.data.tokens[start : start + self.job.context + 1].astype(np.int64)
            yield translate(ids, self.tokenizer, self.reference_tokenizer) if translates else ids


# --- The job -------------------------------------------------------------------------------------


def run(job: Selection, out: Path, *, batch_size: int = 8, force: bool = False) -> dict[str, Any]:
    """Score and select into ``out``; returns the record of ``selection.json``.

    Finished scores of the same models and data are kept, unless ``force``. Raises UserError.
    """
    positive(batch_size=batch_size)
    data = PackedTokens(job.data, "train", job.context)
    if job.sequences > len(data):
        raise SelectionError(
            f"--sequences {job.sequences}: {job.data} has {len(data)} sequences of {job.context} "
            "tokens, and a pool holds each once; lower it, or pack a larger corpus"
        )
    models = {who: model_fingerprint(getattr(job, who)) for who in ("teacher", "reference")}
    parts = {"data": data.fingerprint, **models}
    parts |= {key: getattr(job, key) for key in ("context", "sequences", "seed")}
    scoring = fingerprint(parts)
    finished = (out / "scores.npz").is_file() and not force
    record = matching(out / "selection.json", {"fingerprint": scoring}) if finished else None
    if record is None:
        with unfinished(out, scoring, "teacher over corpus", fresh=force) as folder:
            counts, translated = _score(job, data, out, folder, batch_size)
            record = {
                "fingerprint": scoring,
                "spec": asdict(job),
                "fingerprints": {"data": data.fingerprint, **models},
                "reference_retokenized": translated,
                "tokens_scored": counts,
                "wall_seconds": round(wall_seconds(folder), 3),
                **provenance(),
            }
            _select(job, out, record)
    elif record["delta"] != job.delta:
        _select(job, out, record)
    else:
        log.info("%s: finished already; --force scores it again", out)
    return record


def _score(
    job: Selection, data: PackedTokens, out: Path, folder: Path, batch_size: int
) -> tuple[dict[str, int], bool]:
    """Write ``scores.npz``; returns tokens scored by each, and whether text was retokenized."""
    rows = training_rows(len(data), job.sequences, job.seed)
    scorer = _Scorer(job, data, rows, batch_size)
    found = {who: scorer.score(folder, who) for who in ("teacher", "reference")}
    means = {who: values[:, 0] / job.context for who, values in found.items()}
    buffer = io.BytesIO()
    score = means["teacher"] - means["reference"]
    np.savez(buffer, index=rows, score=score, **means)
    (out / "selection.json").unlink(missing_ok=True)  # never beside scores that it does not fit
    write_bytes(out / "scores.npz", buffer.getvalue())
    counts = {who: int(values[:, 1].sum()) for who, values in found.items()}
    return counts, scorer.translates


def _select(job: Selection, out: Path, record: dict[str, Any]) -> None:
    score = _read_scores(out)["score"]
    chosen = select(score, job.delta)
    threshold = float(score[chosen].min())
    record |= {"spec": asdict(job), "delta": job.delta}
    record |= {"number": len(chosen), "threshold": threshold}
    write_json(out / "selection.json", record)
    log.info("%s: %d of %d sequences, score >= %.4f", out, len(chosen), job.sequences, threshold)


def _read_scores(folder: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(folder / "scores.npz") as scores:
            return dict(scores)
    except (OSError, ValueError, BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise SelectionError(f"{folder}/scores.npz: damaged ({reason}); add --force") from None


def selected_rows(folder: str | Path) -> np.ndarray:
    """Rows of the packed corpus that a finished selection keeps, in training order, int64.

    Raises RecordError if there is none, and SelectionError if its two files do not fit.
    """
    record, scores = read_json(Path(folder) / "selection.json"), _read_scores(Path(folder))
    rows = scores["index"][select(scores["score"], record["delta"])]
    if len(rows) != record["number"]:
        raise SelectionError(f"{folder}: scores.npz and selection.json do not fit; add --force")
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the selection is there, 2 for bad input."""
    parser = command_line("select", __doc__)
    parser.add_argument("--teacher", required=True, help="folder or hub id")
    parser.add_argument("--reference", required=True, help="a small model; any tokenizer")
    parser.add_argument("--data", required=True, help="folder of a packed corpus")
    parser.add_argument("--tokenizer", help="the data's tokenizer (default: the teacher's)")
    parser.add_argument("--context", type=int, required=True, help="tokens of a sequence")
    parser.add_argument("--sequences", type=int, required=True, help="size of the candidate pool")
    parser.add_argument("--delta", type=float, default=0.5, help="fraction kept (default: 0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the training order (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences at a time")
    parser.add_argument("--force", action="store_true", help="score again from the start")
    options = parser.parse_args(arguments)
    return exit_code("select", lambda: run_options(options, Selection, run))
