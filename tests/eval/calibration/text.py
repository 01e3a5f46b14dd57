"""Logits and labels that look like a language model's, and the definition of Full-ECE itself."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from eval.calibration.bins import TAIL_BINS, equal_bins, tail_bins
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


def dense_tables(logits, labels, sizes, *, tail=False) -> dict[str, SimpleNamespace]:
    """What ``bin_rows`` gives, by binning all R x V probabilities one by one in float64."""
    p = torch.softmax(logits.double(), -1)
    top_p, top = p.max(-1)
    binnings = {str(m): (m, lambda p, m=m: equal_bins(p, m)) for m in sizes}
    if tail:
        binnings["tail"] = (TAIL_BINS, lambda p: tail_bins(p.log()))
    tables = {}
    for key, (bins, binning) in binnings.items():
        hot = torch.nn.functional.one_hot(binning(p), bins)
        tables[key] = SimpleNamespace(
            mass=(hot * p[..., None]).sum(1),
            entries=hot.sum(1),
            label_bin=binning(p.gather(1, labels[:, None])[:, 0]),
            top_bin=binning(top_p),
            top_p=top_p,
            correct=top == labels,
        )
    return tables


def dense_full_ece(logits, labels, n_bins=10) -> float:
    """The definition: labels less probability mass of each bin, over the positions."""
    table = dense_tables(logits, labels, (n_bins,))[str(n_bins)]
    counted = torch.bincount(table.label_bin, minlength=n_bins)
    return float((counted - table.mass.sum(0)).abs().sum() / len(labels))
