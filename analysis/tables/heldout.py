"""Held-out divergences of an item's runs, the targets ``heldout`` and ``ablations``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.names import titled
from analysis.notes import setting_notes
from analysis.results import heldout_frame, over_seeds
from analysis.writing.render import Table, control_note, controls_last, plus_minus
from tad.experiment.config import Suite
from tad.methods import Method

METRICS = {"nll": "NLL", "kl": "KL(T||S)", "reverse_kl": "KL(S||T)"}
"""Columns, in nats a token."""


def heldout_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Means and 95% intervals over seeds, one row a pair and method.

    ``frame`` is that of ``analysis.results.heldout_frame``. Columns: stage, pair, method, seeds,
    then mean and half-width of each metric, in nats a token.
    """
    keys = ["stage", "pair", "method"]
    tables = []
    for metric in METRICS:
        table = over_seeds(frame[frame["metric"] == metric], keys, "mean")
        columns = {"mean": metric, "half": f"{metric}_half"}
        tables.append(table.rename(columns=columns).set_index([*keys, "seeds"]))
    return pd.concat(tables, axis=1).reset_index()


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the held-out table of an item. Raises RecordError for a missing record."""
    table = heldout_table(heldout_frame(root, suite.runs(name)))
    table, rules = controls_last(table, ["pair"])
    rows = [
        [row["stage"], row["pair"], Method.parse(row["method"]).label, str(row["seeds"])]
        + [plus_minus(row[metric], row[f"{metric}_half"], 4) for metric in METRICS]
        for _, row in table.iterrows()
    ]
    note = (
        f"Validation split, scale {suite.scale}, nats a token; mean and 95% t interval over "
        "seeds, or one seed as measured. T is the teacher, S the student; lower is better."
    )
    made = Table(
        title=suite.items[name].title or name,
        header=["Stage", "Pair", "Method", "Seeds", *METRICS.values()],
        rows=rows,
        notes=[note, *control_note(table["method"]), *setting_notes(suite, suite.runs(name))],
        left=3,
        blocks=rules,
    )
    titled(suite, made).write(root / "tables", name, table)
