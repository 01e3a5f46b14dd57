"""Losses against the label, from the definitions."""

from __future__ import annotations

import torch

from analysis.figures.draw import draw
from analysis.figures.labels import label_table
from tad.divergences import decoupled, tail_aware

from ..conftest import SUITE


def test_equal_distributions_with_different_labels_part_tad_and_dkd(tmp_path):
    """Section 2: TAD's anchors are the teacher's modes, DKD's is the label."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 1, 1, 20, generator=generator).expand(2, 1, 2, 20)
    labels = torch.tensor([[3, 11]])
    tad = tail_aware(student, teacher, k=4)[0]
    dkd = decoupled(student, teacher, labels)[0]
    assert tad[0] == tad[1]
    assert abs(dkd[0] - dkd[1]) > 0.1
    table = label_table()
    assert table["tad"].std() < 1e-12 < table["dkd"].std()
    assert table["teacher"].is_monotonic_decreasing
    draw("labels", SUITE, tmp_path)
    assert (tmp_path / "figures" / "labels.png").stat().st_size > 1000
