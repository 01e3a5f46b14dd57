"""The table of controls."""

from __future__ import annotations

import pandas as pd

from analysis.tables.draw import main

from ..conftest import CONFIG


def test_the_table_says_weights_sizes_and_that_it_is_exploratory(records):
    arguments = ["controls", "--root", str(records), "--config", str(CONFIG / "mini.yaml")]
    assert main(arguments) == 0
    text = (records / "tables" / "controls.md").read_text()
    rows = [[c.strip() for c in line.split("|")] for line in text.splitlines() if "|" in line]
    [row] = [row for row in rows if "Vanilla KD (weight 10)" in row]
    assert "10 : 1" in row and "10.00" in row
    [alone] = [row for row in rows if "TAD, no CLM (K = 10)" in row and "2.50" in row][-1:]
    assert "1 : 0" in alone
    assert "exploratory" in text and "Benjamini" in text
    numbers = pd.read_csv(records / "tables" / "controls.csv")
    assert len(numbers) == len(rows) - 2
