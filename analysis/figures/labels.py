"""TAD and DKD on one pair of distributions, whatever the label (Section 2).

TAD decouples around the teacher's modes, DKD (Zhao et al., 2022) around the label. So two positions
with the same teacher and student distributions and different labels have one TAD loss and two DKD
losses: both are drawn for every token as the label, in nats.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.results import write_numbers
from tad.experiment.config import Suite
from tad.methods import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCABULARY, K, BETA, DKD_BETA = 40, 3, 2.0, 8.0


def label_table(vocabulary: int = VOCABULARY, seed: int = 0) -> pd.DataFrame:
    """Losses of one position for each label: columns rank, teacher (probability), tad, dkd.

    The distributions are one draw, by ``seed``; rank 1 is the teacher's most likely token.
    """
    import torch

    from tad.divergences import decoupled, tail_aware

    generator = torch.Generator().manual_seed(seed)
    teacher, student = (
        1.5 * torch.randn(1, 1, vocabulary, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    order = teacher[0, 0].argsort(descending=True)
    # The same distributions at every position of one long sequence, and another label at each.
    teacher, student = (x[..., order].expand(1, vocabulary, -1) for x in (teacher, student))
    labels = torch.arange(vocabulary).unsqueeze(0)
    return pd.DataFrame(
        {
            "rank": np.arange(1, vocabulary + 1),
            "teacher": teacher[0, 0].softmax(-1).numpy(),
            "tad": tail_aware(student, teacher, k=K, beta=BETA)[0].numpy(),
            "dkd": decoupled(student, teacher, labels, beta=DKD_BETA)[0].numpy(),
        }
    )


def label_figure(table: pd.DataFrame) -> Figure:
    """Both losses against the rank of the label; drawn at print size."""
    from matplotlib.figure import Figure

    with style.paper_style():
        figure = Figure(figsize=(0.7 * style.TEXT_WIDTH, 0.42 * style.TEXT_WIDTH))
        figure.set_layout_engine("constrained")
        axis = figure.subplots()
        for column, method, label in (
            ("dkd", Method("dkd"), f"DKD (β = {DKD_BETA:g})"),
            ("tad", Method.of("tad", k=K, beta=BETA), f"TAD (K = {K}, β = {BETA:g})"),
        ):
            look = style.method_look(method) | {"linestyle": "", "markersize": 3.5}
            axis.plot(table["rank"], table[column], label=label, **look)
        axis.set(xlabel="label, as rank among the teacher's tokens", ylabel="loss (nats)")
        axis.set_ylim(bottom=0)
        axis.legend()
    return figure


def draw(name: str, suite: Suite, root: Path) -> None:
    """Write the figure and its numbers below ``root``; it reads no records."""
    table = label_table()
    style.save(label_figure(table), root / "figures" / name)
    write_numbers(table, root / "figures" / f"{name}.csv", digits=8)
