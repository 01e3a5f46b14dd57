"""A chunk of positions under any divergence: logits in blocks, the gradient by autograd.

For methods without a closed form in `tad.fused.chunk`, and with its interface. T positions of a
chunk, V vocabulary; S sequences of at most L positions each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tad.divergences import IGNORE, LossError
from tad.fused.products import Side, logits_buffer

COPIES = 22
"""Tensors of a chunk's logits that a divergence and its backward may take besides the logits of
both models. Of `tad.divergences` `tail_aware` and `adaptive_kl` hold the most, 17; the rest is for
what the allocator keeps (measured: resident memory at a vocabulary of 32,000)."""


class AutogradChunk:
    """Values and gradient of one chunk; see `tad.fused.chunk.Chunk`."""

    def __init__(self, p, index: Tensor, documents: Tensor, work: Tensor):
        self.p, self.index, self.documents, self.work = p, index, documents, work
        self.labels = p.labels[index]
        self.labelled = self.labels != IGNORE

    def forward(self, known: None) -> tuple[Tensor, Tensor]:
        """CLM and divergence of each position, (T,) float64; keeps the gradients, if wanted."""
        p = self.p
        self.z, self.states = self._logits(p.student, self.work[0])
        teacher, _ = self._logits(p.teacher, self.work[1])
        # First, as it takes the most memory: the gradient of CLM need not be there yet.
        value, self.gradient_of_z = self._divergence(self.z.t(), teacher.t())
        log_p = torch.log_softmax(self.z.t(), -1)
        target = self.labels.clamp(min=0).unsqueeze(1)
        clm = -log_p.gather(1, target)[:, 0].double()
        if p.differentiate:
            self.clm_gradient = log_p.exp_()
            self.clm_gradient.scatter_add_(1, target, -torch.ones_like(log_p[:, :1]))
            self.clm_gradient *= self.labelled.unsqueeze(1)
        return clm.masked_fill(~self.labelled, 0.0), value.double()

    def _divergence(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor | None]:
        """Values (T,) and their gradient (T, V), at the temperature and times its square."""
        p, mask = self.p, self._places()
        student, teacher = (_spread(x, mask, 0.0) / p.temperature for x in (student, teacher))
        labels = _spread(self.labels, mask, IGNORE)
        with torch.set_grad_enabled(p.differentiate):
            leaf = student.detach().requires_grad_(p.differentiate)
            value = p.divergence(leaf, teacher, mask=mask, labels=labels)
            if value.shape != mask.shape:
                raise LossError(
                    f"the divergence returned {tuple(value.shape)}: it must give one value a token,"
                    f" {tuple(mask.shape)}"
                )
            if not p.differentiate:
                return value[mask] * p.temperature**2, None
            total = value[mask].sum()
            gradient = torch.zeros_like(leaf)
            if total.requires_grad:
                (gradient,) = torch.autograd.grad(total, leaf)
        gradient = gradient[mask] * p.temperature
        if p.student.banned is not None:
            gradient[:, p.student.banned] = 0.0
        return value.detach()[mask] * p.temperature**2, gradient

    def _places(self) -> Tensor:
        """Where the positions stand in (S, L): in reading order, at the places that are True."""
        if not self.p.coupled:
            return torch.ones(1, len(self.index), dtype=torch.bool, device=self.index.device)
        lengths = self.documents.unique_consecutive(return_counts=True)[1]
        steps = torch.arange(int(lengths.max()), device=self.index.device)
        return steps < lengths.unsqueeze(1)

    def _logits(self, side: Side, buffer: Tensor) -> tuple[Tensor, Tensor]:
        z = logits_buffer(len(side.weight), len(self.index), buffer)
        states = side.project(self.index, z)
        side.finish(z, compiled=False)
        if side.banned is not None:
            z[side.banned] = -math.inf
        return z, states

    def gradient(self, clm_scale: float, divergence_scale: float) -> Tensor:
        """Gradient of the logits before scale and bias, (V, T), in the student's buffer."""
        z, cap = self.z, self.p.student.softcap
        total = clm_scale * self.clm_gradient + divergence_scale * self.gradient_of_z
        if cap is not None:
            total *= 1.0 - (z.t() / cap) ** 2
        return z.copy_(total.t())


def _spread(values: Tensor, mask: Tensor, empty: float) -> Tensor:
    """(T, ...) as (S, L, ...), ``empty`` where a sequence has no position."""
    full = values.new_full((*mask.shape, *values.shape[1:]), empty)
    full[mask] = values
    return full
