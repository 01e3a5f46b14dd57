"""Tables from records: ``tad tables heldout --root work/smoke``.

Writes ``{root}/tables/NAME.{csv,md,html,tex}``: the CSV holds the numbers, the others are to read.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.results import add_root, heldout_frame, over_seeds, suite_of
from analysis.tables.calibration import write_calibration
from analysis.tables import math as math_pages
from analysis.tables.fewshot import TITLES, write_fewshot
from analysis.tables.render import Table, blocks, plus_minus
from tad.command import command_line, exit_code
from tad.experiment.config import ConfigError, Suite
from tad.methods import Method

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


HELDOUT_TITLES = {
    "heldout": "Held-out divergences",
    "ablations": "Held-out divergences without the cosine term, and of DKD",
}


def write_heldout(suite: Suite, root: Path, name: str = "heldout") -> None:
    """Write the held-out table of an item. Raises RecordError for a missing record."""
    frame = heldout_frame(root, suite.runs(name))
    table = heldout_table(frame)
    header = ["Stage", "Pair", "Method", "Seeds", *HELDOUT.values()]
    rows = [
        [row["stage"], row["pair"], Method.parse(row["method"]).label, str(row["seeds"])]
        + [plus_minus(row[metric], row[f"{metric}_half"], 4) for metric in HELDOUT]
        for _, row in table.iterrows()
    ]
    note = (
        f"Validation split, scale {suite.scale}, nats a token; mean and 95% t interval over "
        "seeds, or one seed as measured. T is the teacher, S the student; lower is better."
    )
    title = HELDOUT_TITLES[name]
    at = blocks(table["pair"].tolist())
    rendered = Table(title=title, header=header, rows=rows, notes=(note,), left=3, blocks=at)
    rendered.write(root / "tables", name, table)


def write_table(name: str, suite: Suite, root: Path) -> None:
    """Write one table. Raises UserError for an item this scale does not run, or a bad record."""
    item = {"calibration": "table4"}.get(name, name)
    if item not in suite.select.items:
        raise ConfigError(
            f"{item} is not in select.items of scale {suite.scale} "
            f"(those are: {', '.join(suite.select.items)})"
        )
    if name in HELDOUT_TITLES:
        write_heldout(suite, root, name)
    elif name == "calibration":
        write_calibration(suite, root)
    elif name in math_pages.TITLES:
        math_pages.write_math(suite, root, name)
    else:
        write_fewshot(suite, root, name)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the table is written, 2 for bad input."""
    parser = command_line("tables", __doc__)
    parser.add_argument(
        "table", choices=[*HELDOUT_TITLES, "calibration", *TITLES, *math_pages.TITLES]
    )
    add_root(parser)
    options = parser.parse_args(arguments)
    return exit_code(
        "tables",
        lambda: write_table(options.table, suite_of(options), options.root),
    )
