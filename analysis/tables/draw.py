"""A table from records: ``tad tables heldout --root work/smoke``.

Writes ``{root}/tables/NAME.{csv,md,html,tex}``: the CSV holds the numbers, the others are to read.
Tables 3 and 9 and the audit are of the paper's own models, whatever the root.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from analysis.results import draw_command
from tad.experiment.config import Suite
from workflow.items import check_target

TABLES = {
    **dict.fromkeys(
        ("table1", "table2", "table4", "table6", "table7", "table8"), "analysis.tables.scores:write"
    ),
    "table3": "analysis.tables.table3:write",
    "table5": "analysis.tables.table5:write",
    "table9": "analysis.tables.table9:write",
    "heldout": "analysis.tables.heldout:write",
    "ablations": "analysis.tables.heldout:write",
    "controls": "analysis.controls.table:write",
    "betas": "analysis.tables.betas:write",
    "calibration": "analysis.tables.calibration:write",
    "costs": "analysis.tables.costs:write",
    "samples": "analysis.tables.samples:write",
    "provenance": "analysis.provenance:write",
    "audit": "analysis.reported.audit:write_page",
}
"""What writes each table: a function of its name, the suite and the root."""


def write(name: str, suite: Suite, root: Path) -> None:
    """Write one table. Raises UserError for one that this scale does not make, or a bad record."""
    check_target(suite, name)
    module, _, function = TABLES[name].partition(":")
    getattr(importlib.import_module(module), function)(name, suite, root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when the table is written, 2 for bad input."""
    return draw_command("tables", __doc__, arguments, write, TABLES)
