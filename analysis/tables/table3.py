"""Table 3: what the methods cost, ours beside the print (Sections 3.2.1, 3.2.2, Appendix A).

    python -m analysis.tables.table3 --root work/mini

Writes ``{root}/tables/table3.{csv,md,html,tex}``: the FLOPs of Table 3, then the figures of the
running text and the GPU hours. Always of the paper's own models (config/paper.yaml), whatever the
root; ``analysis.tables.printed_costs`` says how they are counted.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.tables.printed_costs import NOTE, conventions, costs
from analysis.tables.render import Table
from analysis.tables.table9 import PAPER, root_option
from tad.command import command_line, exit_code
from tad.experiment.config import load_suite


def table3(frame: pd.DataFrame, ways: pd.DataFrame) -> Table:
    """The table to read, from ``analysis.tables.printed_costs.costs`` and ``conventions``."""
    rows, blocks, last = [], set(), None
    for row in frame.itertuples():
        if last not in (None, row.where):
            blocks.add(len(rows))
        missing = pd.isna(row.printed)
        printed = "–" if missing else f"{row.printed:,.4g}"
        difference = "–" if missing else f"{row.difference:+.1%}"
        where = "" if row.where == last else row.where
        rows.append([where, row.what, row.unit, f"{row.ours:,.4g}", printed, difference])
        last = row.where
    return Table(
        title="Table 3. Cost of the methods, ours and printed",
        header=["Where", "What", "Unit", "Ours", "Printed", "Difference"],
        rows=rows,
        notes=[" ".join(NOTE.split()), _ways(ways)],
        left=3,
        blocks=frozenset(blocks),
    )


def _ways(ways: pd.DataFrame) -> str:
    """How far each way of counting is from the print, in one sentence."""
    parts = [f"{row.convention}: {row.rms:.1f}%, {row.worst:+.1f}%" for row in ways.itertuples()]
    return (
        "Ways of counting, by root mean square and worst error against the ten printed Vanilla KD "
        f"and MiniPLM figures. {'; '.join(parts)}."
    )


def write(root: Path) -> None:
    """Write the table below ``root``."""
    suite = load_suite(PAPER)
    frame = costs(suite)
    table3(frame, conventions(suite)).write(root / "tables", "table3", frame)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the table is written, 2 for bad input."""
    parser = command_line("analysis.tables.table3", __doc__)
    root_option(parser)
    options = parser.parse_args(arguments)
    return exit_code("analysis.tables.table3", lambda: write(options.root))
