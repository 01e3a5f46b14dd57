"""Held-out tables from invented records."""

from __future__ import annotations

import json

import pandas as pd

from analysis.results import heldout_frame
from analysis.tables.heldout import heldout_table, write

from ..conftest import SUITE


def test_the_heldout_table_has_the_records_numbers(root):
    table = heldout_table(heldout_frame(root, SUITE.runs("heldout")))
    assert len(table) == len(SUITE.runs("heldout"))
    row = table.iloc[0]
    path = root / "runs" / row["stage"] / row["pair"] / row["method"] / "seed0" / "heldout.json"
    assert row["kl"] == json.loads(path.read_text())["metrics"]["kl"]["mean"]


def test_tables_are_written_in_three_forms(root):
    write("heldout", SUITE, root)
    text = (root / "tables" / "heldout.md").read_text()
    assert text.count("\n| scratch |") == len(SUITE.runs("heldout"))
    assert "<table>" in (root / "tables" / "heldout.html").read_text()
    assert len(pd.read_csv(root / "tables" / "heldout.csv")) == len(SUITE.runs("heldout"))
