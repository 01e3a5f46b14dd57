"""Tables from records: ``python -m analysis.tables heldout --root work/smoke``.

Writes ``{root}/tables/NAME.{csv,md,html}``: the CSV holds the numbers, the others are to read.
"""

from __future__ import annotations

import html
import math
import sys
from pathlib import Path

import pandas as pd

from analysis.results import add_root, heldout_frame, over_seeds, suite_of
from analysis.style import method_name
from tad.command import command_line, exit_code
from tad.config import Suite
from tad.records import write_text
from tad.run_id import Method

HELDOUT = {
    "nll": "NLL",
    "kl": "KL(T||S)",
    "reverse_kl": "KL(S||T)",
}
"""Columns of the held-out table, in nats a token."""


def heldout_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and 95% intervals over seeds, one row a pair and method.

    ``frame`` is that of ``analysis.results.heldout_frame``. Columns: stage, pair, method, seeds,
    then mean and half-width of each metric of HELDOUT, in nats a token.
    """
    tables = []
    for metric in HELDOUT:
        rows = frame[frame["metric"] == metric]
        table = over_seeds(rows, ["stage", "pair", "method"], "mean")
        columns = {"mean": metric, "half": f"{metric}_half"}
        tables.append(table.rename(columns=columns).set_index(["stage", "pair", "method", "seeds"]))
    return pd.concat(tables, axis=1).reset_index()


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body {{font: 15px/1.5 system-ui, sans-serif; margin: 2em}}
table {{border-collapse: collapse}}
th, td {{padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd}}
th {{border-bottom: 2px solid #333}}
th:nth-child(-n+{left}), td:nth-child(-n+{left}) {{text-align: left}}
caption, p {{text-align: left; max-width: 50em; padding-bottom: .8em}}
</style><table><caption>{title}</caption>{body}</table><p>{note}</p></html>
"""


def page(title: str, header: list[str], rows: list[list[str]], note: str, left: int) -> str:
    """A table as a page of its own; the first ``left`` columns are text."""

    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>\n"

    body = line(header, "th") + "".join(line(row, "td") for row in rows)
    return PAGE.format(title=html.escape(title), body=body, note=html.escape(note), left=left)


def number(mean: float, half: float) -> str:
    """``0.831 ± 0.012``, or the mean alone where one seed gives no interval."""
    return f"{mean:.4f}" if math.isnan(half) else f"{mean:.4f} ± {half:.4f}"


def write_heldout(suite: Suite, root: Path) -> None:
    """Write the held-out table of a root. Raises RecordError for a missing record."""
    frame = heldout_frame(root, suite.runs())
    table = heldout_table(frame)
    header = ["Stage", "Pair", "Method", "Seeds", *HELDOUT.values()]
    rows = [
        [row["stage"], row["pair"], method_name(Method.parse(row["method"])), str(row["seeds"])]
        + [number(row[metric], row[f"{metric}_half"]) for metric in HELDOUT]
        for _, row in table.iterrows()
    ]
    note = (
        f"Validation split, scale {suite.scale}, nats a token; mean and 95% t interval over "
        "seeds, or one seed as measured. T is the teacher, S the student; lower is better."
    )
    title = "Held-out divergences"
    base = root / "tables"
    text = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    write_text(base / "heldout.csv", text)
    write_text(base / "heldout.md", f"# {title}\n\n{markdown(header, rows)}\n{note}\n")
    write_text(base / "heldout.html", page(title, header, rows, note, left=3))


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the table is written, 2 for bad input."""
    parser = command_line("analysis.tables", __doc__)
    parser.add_argument("table", choices=["heldout"])
    add_root(parser)
    options = parser.parse_args(arguments)
    return exit_code("analysis.tables", lambda: write_heldout(suite_of(options), options.root))


if __name__ == "__main__":
    sys.exit(main())
