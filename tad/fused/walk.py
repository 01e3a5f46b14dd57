"""The walk over chunks of positions: which positions go together, and what is summed up."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tad.divergences import LossError, tail_weight
from tad.fused.autograd import AutogradChunk
from tad.fused.chunk import Chunk
from tad.fused.products import ALIGN, BLOCK_ELEMENTS, GROUP, Gradients, Side, aligned

FASTEST_TOKENS = 384
"""Positions of a chunk beyond which the products gain nothing (measured: 256 to 640 are equal)."""


@dataclass(kw_only=True)
class Problem:
    """All that the walk needs to know. R counted positions, out of the flattened batch."""

    kernel: str  # the closed form, or "autograd": `divergence` evaluated as it is
    parameters: Mapping[str, float]
    divergence: Callable[..., Tensor] | None
    coupled: bool  # whether the tokens of a sequence must be seen together
    student: Side
    teacher: Side | None
    labels: Tensor  # (positions,)
    index: Tensor  # (R,) the counted positions, those of one sequence together
    documents: Tensor  # (R,) number of the sequence of each
    lengths: list[int]  # counted positions of each sequence
    temperature: float
    chunk_tokens: int  # most positions that a chunk may have
    compiled: bool
    differentiate: bool = True  # whether a gradient may be asked for


def walk(
    p: Problem,
    clm_scale: float,
    divergence_scale: float,
    grads: Gradients | None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums of CLM and of the divergence, in nats and float64, over the counted positions.

    If `grads` is given, the gradient of clm_scale * CLM + divergence_scale * divergence is added
    to it; `values` (2, positions) receives both of each position. Four matrix products a chunk
    (teacher, student, hidden states, head), none twice.
    """
    device, vocab = p.student.hidden.device, len(p.student.weight)
    size = aligned(min(p.chunk_tokens, max(len(p.index), 1)))
    sides = 1 if p.teacher is None else 2
    work = torch.empty(sides, vocab * size, dtype=p.student.working, device=device)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for part, known in _chunks(p, work):
            kind = AutogradChunk if p.kernel == "autograd" else Chunk
            chunk = kind(p, p.index[part], p.documents[part], work)
            found = torch.stack(chunk.forward(known))
            sums += torch.stack([value.sum() for value in found])
            if values is not None:
                values[:, chunk.index] = found.to(values.dtype)
            if grads is not None:
                gradient = chunk.gradient(clm_scale, divergence_scale)
                p.student.pull_back(gradient, chunk.states, chunk.index, grads)
    return sums[0], sums[1]


def _chunks(p: Problem, work: Tensor) -> Iterator[tuple[slice, tuple[Tensor, Tensor] | None]]:
    """Parts of `p.index`, with modes and beta(X) where the part alone cannot tell beta(X).

    beta(X) needs alpha_K of its whole sequence before the first gradient. A part is therefore as
    many whole sequences as fit, which costs nothing. A sequence longer than that takes one more
    product, for a first pass of the teacher: 5 instead of 4. The other exact way, to keep the
    gradients with and without the factor apart and combine them at the end, would take 6.
    """
    limit = min(p.chunk_tokens, FASTEST_TOKENS)
    if not p.coupled:
        yield from ((part, None) for part in _even_parts(0, len(p.index), limit))
        return
    start = end = 0
    for length in p.lengths:
        if end > start and end + length - start > limit:
            yield slice(start, end), None
            start = end
        end += length
        if length > p.chunk_tokens and p.kernel == "autograd":
            raise LossError(
                f"a sequence of {length} tokens x {len(p.student.weight)} logits is more than "
                f"{p.chunk_tokens} tokens, which is what fits at a time, and this divergence needs "
                "whole sequences: raise memory_budget_mb in proportion, shorten the sequences, or "
                "declare its scope to be token"
            )
        if length > p.chunk_tokens:
            ids, weight = _whole_sequence(p, start, end, work)
            for part in _even_parts(start, end, limit):
                yield part, (ids[:, part.start - start : part.stop - start], weight)
            start = end
    if end > start:
        yield slice(start, end), None


def _whole_sequence(p: Problem, start: int, end: int, work: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's modes (K, end - start) and beta(X) (1,) of a sequence in several parts."""
    limit = max(min(2 * p.chunk_tokens, FASTEST_TOKENS), p.chunk_tokens)
    parts = _even_parts(start, end, limit)
    found = [Chunk(p, p.index[x], p.documents[x], work).teacher_alone() for x in parts]
    ids, alpha = (torch.cat(x, -1) for x in zip(*found, strict=True))
    return ids, tail_weight(alpha.unsqueeze(0), p.parameters["beta"])[0, :1]


def _even_parts(start: int, end: int, limit: int) -> list[slice]:
    """As few parts as `limit` allows, of nearly equal size; all but the last aligned."""
    if end == start:
        return []
    size = min(aligned(-(-(end - start) // -(-(end - start) // limit))), limit)
    return [slice(a, min(a + size, end)) for a in range(start, end, size)]


def chunk_size(p_sides: list[Side], vocab: int, k: int, budget: float, copies: int = 0) -> int:
    """Positions of a chunk whose buffers stay within `budget` bytes; at least 1.

    `copies` of the logits of one model, besides those of both, are what autograd keeps.
    """
    item = p_sides[0].working.itemsize
    candidates = min(k * GROUP, vocab)
    each = sum(item * (vocab + 3 * vocab // GROUP + 4 * side.weight.shape[1]) for side in p_sides)
    each += copies * item * vocab + candidates * (3 * 8 + 2 * item)
    converted = max(_converted_bytes(side) for side in p_sides)
    fixed = 4 * item * BLOCK_ELEMENTS + converted
    size = int((budget - fixed) // each)
    return max(size // ALIGN * ALIGN if size > ALIGN else size, 1)


def _converted_bytes(side: Side) -> int:
    if side.operand == side.weight.dtype == side.working:
        return 0
    return side.rows * side.weight.shape[1] * (side.operand.itemsize + side.working.itemsize)
