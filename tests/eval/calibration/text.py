"""Logits and labels that look like a language model's, for the tests of calibration."""

from __future__ import annotations

import torch

from eval.calibration.measure import FullECE


def text_like(rows: int, vocabulary: int, seed: int = 0, dtype=torch.float64):
    """Logits (rows, vocabulary) of sure and unsure predictions, and labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((rows, vocabulary), generator=generator, dtype=torch.float64) * 2
    peak = torch.randint(vocabulary, (rows, 1), generator=generator)
    height = torch.rand((rows, 1), generator=generator, dtype=torch.float64) * 10
    logits.scatter_add_(1, peak, height)
    labels = torch.multinomial(torch.softmax(logits, -1), 1, generator=generator)[:, 0]
    return logits.to(dtype), labels


def full_ece(logits, labels, n_bins=10, **settings) -> float:
    metric = FullECE(n_bins, **settings)
    metric.update(logits, labels)
    return metric.compute(resamples=0).full_ece
