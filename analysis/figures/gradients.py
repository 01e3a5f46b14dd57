"""What TAD does to the gradient of tail logits (Section 2.1, Equations 5 and 6).

A teacher with K modes and a Zipf tail, and students that differ from it in two ways: how much mass
their top K have in all, and how they share the rest out. Both gradients come from autograd over
``tad.divergences``. Two things are to be seen:

- For one tail token, TAD adds (beta(X) - 1) (r - 1) to the gradient in units of the teacher's
  probability, where r is the student's share of the tail over the teacher's: a token that has too
  small a share is pushed up, one with too large a share down, however much mass the tail has.
- Summed over the tail, the second term of Equation 6 is zero: KL and TAD push the tail as a whole
  alike. The gradient vanishes, for both, where the student equals the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.results import write_numbers
from tad.experiment.config import Suite
from tad.methods import BASELINE, Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEACHER_MASS = 0.8
"""The teacher's top-K mass; alpha_10 = 0.2 is about what language models have (Figure 2)."""

TAIL = 200
SHARES = (0.5, 1.0, 1.5)
"""Student's over teacher's share of the tail, for the three tokens that are drawn."""

SUM = "sum"
STUDENT_MASSES = np.linspace(0.6, 0.99, 79)


def teacher_probabilities(k: int) -> np.ndarray:
    """A Zipf distribution whose first ``k`` tokens are scaled to TEACHER_MASS; (k + TAIL,).

    The first two tail tokens are equally likely, so that what one student token has too much is
    what the other lacks. Raises ValueError where the first ``k`` would not be the top K.
    """
    if k < 1:
        raise ValueError(f"k is {k}: choose at least 1")
    modes = 1.0 / np.arange(1, k + 1)
    tail = 1.0 / np.arange(k + 1, k + TAIL + 1)
    tail[:2] = tail[:2].mean()
    modes, tail = modes / modes.sum() * TEACHER_MASS, tail / tail.sum() * (1 - TEACHER_MASS)
    if modes.min() <= tail.max():
        raise ValueError(f"k is {k}: too many modes for a mass of {TEACHER_MASS}; choose fewer")
    return np.concatenate([modes, tail])


def student_probabilities(teacher: np.ndarray, k: int, mass: float) -> np.ndarray:
    """The teacher's modes scaled to ``mass``; in the tail the first two shares are SHARES' ends."""
    student = teacher.copy()
    student[:k] *= mass / TEACHER_MASS
    student[k:] *= (1 - mass) / (1 - TEACHER_MASS)
    student[k] *= SHARES[0]
    student[k + 1] *= SHARES[-1]
    return student


def gradients(masses: Iterable[float], k: int = 10, beta: float = 2.0) -> dict[str, np.ndarray]:
    """Both gradients of the logits by autograd, for students of these top-K masses.

    Keys: ``teacher`` (V,), ``student``, ``kl`` and ``tad`` (S, V), the gradients in nats a unit of
    logit. Sequences have one token, so beta(X) = beta / alpha_K. Raises ValueError for a ``k`` or
    ``beta`` that ``tad.divergences.tail_aware`` refuses.
    """
    import torch

    from tad.divergences import forward_kl, tail_aware

    teacher = teacher_probabilities(k)
    students = np.stack([student_probabilities(teacher, k, mass) for mass in masses])
    target = torch.tensor(np.log(teacher)).expand(len(students), 1, -1)
    found = {"teacher": teacher, "student": students}
    for name, divergence, knobs in (
        ("kl", forward_kl, {}),
        ("tad", tail_aware, {"k": k, "beta": beta}),
    ):
        logits = torch.tensor(np.log(students))[:, None].requires_grad_()
        divergence(logits, target, **knobs).sum().backward()
        found[name] = logits.grad[:, 0].numpy()
    return found


def gradient_table(k: int = 10, beta: float = 2.0) -> pd.DataFrame:
    """Gradients of tail logits, one row a student mass and token.

    Columns: student_mass; share (0.5, 1, 1.5, or ``sum`` for the whole tail); p_student; p_teacher;
    kl and tad as in ``gradients``.
    """
    found = gradients(STUDENT_MASSES, k, beta)
    parts = {f"{share:g}": [at] for share, at in zip(SHARES, (k, k + 2, k + 1), strict=True)}
    parts[SUM] = slice(k, None)
    frames = [
        pd.DataFrame(
            {
                "student_mass": STUDENT_MASSES,
                "share": share,
                "p_student": found["student"][:, tokens].sum(axis=1),
                "p_teacher": found["teacher"][tokens].sum(),
                "kl": found["kl"][:, tokens].sum(axis=1),
                "tad": found["tad"][:, tokens].sum(axis=1),
            }
        )
        for share, tokens in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


PANELS = {"0.5": "r = 0.5", "1": "r = 1", "1.5": "r = 1.5", SUM: "sum over the tail"}


def gradient_figure(table: pd.DataFrame) -> Figure:
    """Gradient over teacher probability against the student's top-K mass, one panel a token.

    r is the token's share of the tail, student over teacher; the last panel is the sum over the
    tail. ``table`` is that of ``gradient_table``.
    """
    import matplotlib.pyplot as plt

    size = (style.TEXT_WIDTH, 2.2)
    figure, axes = plt.subplots(1, len(PANELS), figsize=size, sharey=True)
    for axis, (share, title) in zip(axes, PANELS.items(), strict=True):
        axis.axhline(0, color=style.BLACK, lw=0.6)
        axis.axvline(TEACHER_MASS, color=style.GREY, lw=0.7, ls=":")
        _draw(axis, table[table["share"] == share])
        axis.set_title(title)
        axis.set_xticks([0.6, 0.8, 1.0])
        if share in ("1", SUM):
            axis.plot(TEACHER_MASS, 0, "o", color=style.BLACK, markersize=4, zorder=5)
    axes[0].set_ylabel("gradient / teacher probability\n(positive: the logit goes down)")
    note = {"textcoords": "offset points", "ha": "left", "fontsize": 7}
    axes[1].annotate("fixed point", (TEACHER_MASS, 0), xytext=(3, 9), **note)
    mass = {"xycoords": ("data", "axes fraction"), "color": style.GREY}
    axes[1].annotate("teacher's", (TEACHER_MASS, 0), xytext=(3, 4), **note, **mass)
    figure.supxlabel(
        "student's top-K mass  (r: the token's share of the tail, student / teacher)", fontsize=8
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _draw(axis: Axes, rows: pd.DataFrame) -> None:
    for column, name in (("kl", BASELINE), ("tad", "tad-k10-b2")):
        look = style.method_look(Method.parse(name)) | {"marker": ""}
        if column == "kl":
            # Wide and below, to be seen where both curves are one.
            look |= {"linestyle": "-", "lw": 3.2, "alpha": 0.45}
        label = {"tad": "TAD", "kl": "KL"}[column]
        axis.plot(rows["student_mass"], rows[column] / rows["p_teacher"], label=label, **look)


def draw(name: str, suite: Suite, root: Path) -> None:
    """Write the figure and its numbers below ``root``; it reads no records."""
    table = gradient_table()
    style.save(gradient_figure(table), root / "figures" / name)
    write_numbers(table, root / "figures" / f"{name}.csv", digits=8)
