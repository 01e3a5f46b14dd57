"""One student over the held-out rows: sums of each sequence, so that two students can be paired."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tad.data.instruct import collate
from tad.distill.data import IGNORE
from tad.divergences import causal_lm, forward_kl, log_tail_mass, top_k_set
from tad.fused.head import Head
from tad.fused.states import last_states
from tad.records import write_bytes
from tad.train.states import KEY

LOGITS_BYTES = 2**27
"""Of one model's logits at a time."""

Sums = dict[str, np.ndarray]
"""By name (sequences,): ``tokens``, and sums over them in nats (nll, kl) or probability (tails)."""


@torch.no_grad()
def held_out(student: nn.Module, teacher: nn.Module, rows: Dataset, *, k: int, shared: int) -> Sums:
    """Sums over the learnt tokens of each row, float64.

    ``nll`` and ``teacher_nll`` over each model's whole vocabulary; ``kl``, the forward KL of the
    teacher to the student, and the tail masses over the ``shared`` leading ids. ``teacher_tail`` is
    the probability that the teacher gives to all but its K likeliest tokens (alpha_K, Eq. 2),
    ``student_tail`` what the student gives to the same tokens. The teacher does not run on rows
    that hold its states (``tad.train.states``).
    """
    modes = student.training, teacher.training
    student.eval(), teacher.eval()
    device, found = next(student.parameters()).device, []
    for number in range(len(rows)):
        batch = {key: value.to(device) for key, value in collate([rows[number]]).items()}
        inputs = {"input_ids": batch["input_ids"], "use_cache": False}
        known = KEY in batch
        theirs = (batch[KEY], Head.of(teacher)) if known else last_states(teacher, **inputs)
        ours = last_states(student, **inputs)
        found.append(_sums(ours, theirs, batch["labels"], k, shared))
    student.train(modes[0]), teacher.train(modes[1])
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def _sums(
    student: tuple[Tensor, Head], teacher: tuple[Tensor, Head], labels: Tensor, k: int, shared: int
) -> dict[str, float]:
    """The sums of one row, a piece of its positions at a time."""
    wide = max(len(student[1].weight), len(teacher[1].weight))
    step = max(1, LOGITS_BYTES // (4 * wide))
    totals: dict[str, float] = {}
    for start in range(0, labels.shape[1], step):
        place = slice(start, start + step)
        part, mask = labels[:, place], labels[:, place] != IGNORE
        ours, theirs = (
            head.logits(states[:, place].to(head.weight.dtype)).float()
            for states, head in (student, teacher)
        )
        values = {
            "tokens": mask,
            "nll": causal_lm(ours, part),
            "teacher_nll": causal_lm(theirs, part),
        }
        ours, theirs = ours[..., :shared], theirs[..., :shared]
        top = top_k_set(theirs, min(k, shared - 1))
        values["kl"] = forward_kl(ours, theirs, mask=mask)
        values["teacher_tail"] = log_tail_mass(theirs, top).exp().masked_fill(~mask, 0.0)
        values["student_tail"] = log_tail_mass(ours, top).exp().masked_fill(~mask, 0.0)
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + float(value.double().sum())
    return totals


def mean(sums: Sums, name: str) -> float:
    """Mean over tokens of one of the sums."""
    return float(sums[name].sum() / sums["tokens"].sum())


def save(path: Path, sums: Sums) -> None:
    """Write sums, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **sums)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> Sums:
    """Read what ``save`` wrote."""
    with np.load(path) as file:
        return dict(file)


def difference(
    ours: Sums, theirs: Sums, name: str, *, draws: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """Mean of ours - theirs a token on the same sequences, and a 95% interval.

    The interval is the percentile bootstrap over sequences (Efron and Tibshirani 1993): it holds
    for other text of this kind, and not for other seeds of the training.
    """
    gaps, tokens = ours[name] - theirs[name], ours["tokens"]
    generator, means = np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = generator.integers(len(gaps), size=len(gaps))
        means.append(gaps[drawn].sum() / tokens[drawn].sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(gaps.sum() / tokens.sum()), "low": float(low), "high": float(high)}
