"""A figure from records: ``tad figures figure1 --root work/smoke``.

Writes ``{root}/figures/NAME.{pdf,png,csv}``; the CSV holds every number that is drawn. Those of
calibration are two for each pair, ``reliability_PAIR`` and ``tail_PAIR``, of what calibration.json
holds.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.style import paper_style
from analysis.results import draw_command
from tad.experiment.config import Suite
from workflow.items import check_target

FIGURES = {
    "figure1": "analysis.figures.curves",
    "figure2": "analysis.figures.teachers",
    "table5": "analysis.figures.table5",
    "controls": "analysis.controls.figure",
    "sweeps": "analysis.figures.runs.sweeps",
    "flops": "analysis.figures.runs.flops",
    "lead": "analysis.figures.runs.lead",
    "training": "analysis.figures.runs.training",
    "calibration": "analysis.figures.calibration",
    "gradients": "analysis.figures.gradients",
    "labels": "analysis.figures.labels",
    "selection": "analysis.figures.selection",
}
"""The module of each figure, with ``draw(name, suite, root)``."""


def draw(name: str, suite: Suite, root: Path) -> None:
    """Draw one figure. Raises UserError for one that this scale does not make, or a bad record."""
    check_target(suite, name)
    with paper_style():
        importlib.import_module(FIGURES[name]).draw(name, suite, root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when the figure is written, 2 for bad input."""
    return draw_command("figures", __doc__, arguments, draw, FIGURES)
