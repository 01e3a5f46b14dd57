"""Divergences of my own: functions of logits, a value a token in nats."""

from __future__ import annotations

from torch import Tensor

from tad import forward_kl


def scaled_kl(student: Tensor, teacher: Tensor, *, mask: Tensor | None, alpha: float) -> Tensor:
    """(1 + alpha) KL: (B, N, V) logits -> (B, N)."""
    return (1 + alpha) * forward_kl(student, teacher, mask=mask)
