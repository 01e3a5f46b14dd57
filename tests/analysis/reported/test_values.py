"""The printed values are those of the paper."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reported import values as reported
from analysis.reported.values import MISS, OK, SLACK, recalculated, table
from analysis.results import paper_suite
from tad.methods import ROWS

SHARED = Path(__file__).parents[4] / "shared" / "paper"
needs_paper = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no transcription at {SHARED}")
ROWS_OF = {1: 18, 2: 10, 3: 2, 4: 27, 5: 27, 6: 8, 7: 10, 8: 18, 9: 5}


@needs_paper
@pytest.mark.parametrize("name", [*(f"table{n}.csv" for n in ROWS_OF), "flops.csv"])
def test_cells_equal_the_transcription(name):
    """Cell for cell as text, but for ids, the sign of Rel and columns about the transcription."""
    source = {"flops.csv": "flops_section_3_2_2.csv"}.get(name, name)
    with (SHARED / source).open() as theirs, (reported.FOLDER / name).open() as ours:
        theirs, ours = list(csv.DictReader(theirs)), list(csv.DictReader(ours))
    assert len(ours) == len(theirs)
    renamed = {"pair", "method", "note", "realigned"}
    for printed, copied in zip(theirs, ours, strict=True):
        assert set(printed) - set(copied) <= {"note", "realigned"}
        for column in set(printed) - renamed:
            cell = printed[column].removeprefix("+") if column == "rel" else printed[column]
            assert copied[column] == cell, (name, column)


@pytest.mark.parametrize("number", ROWS_OF)
def test_every_table_reads_and_has_pairs_and_methods_of_the_experiments(number):
    rows = table(number)
    assert len(rows) == ROWS_OF[number]
    suite = paper_suite()
    assert all(suite.pairs[pair].printed for pair in reported.pairs(number))
    if "method" in rows:
        assert set(rows["method"]) <= {*ROWS, "base", "external"}


def test_rows_are_found_by_pair_and_method_id():
    rows = reported.by_row(table(8), lambda row: f"as/{row['model']}")
    assert rows["phi3-4b_tinyllama", "tad-k1-b2"]["gsm8k"] == 36.8
    assert rows["phi3-4b_tinyllama", "as/TinyLlama-1.1B"]["gsm8k"] == 2.0
    assert rows["", "as/Llemma-7B"]["gsm8k"] == 39.7
    assert reported.by_row(table(2))["qwen1.5-1.8b_0.5b", "tad-k10-b0.5"]["avg"] == 45.0


def test_lost_cells_are_empty_and_nothing_else_is():
    for number in reported.WITH_TASKS:
        for _, row in table(number).iterrows():
            lost = set(row["lost"].split(";")) if isinstance(row["lost"], str) else set()
            numbers = {*reported.WITH_TASKS[number], "avg"}
            empty = {column for column in numbers if pd.isna(row[column])}
            assert empty == lost & numbers, (number, row["method"])


def test_unknown_tables_and_quantities_are_refused():
    with pytest.raises(reported.ReportedError, match="there is no Table 10"):
        table(10)
    with pytest.raises(reported.ReportedError, match="no id 'nothing'"):
        reported.quantity("nothing")
    with pytest.raises(reported.ReportedError, match="not a number"):
        reported.quantity("k_grid")


def test_flops_are_the_sixteen_printed_figures():
    rows = reported.flops()
    assert len(rows) == 16
    assert rows.query("method in ('vanilla_kd', 'miniplm')")["petaflops"].sum() == pytest.approx(
        9.2 + 12.4 + 6.4 + 9.7 + 12.4 + 18.4 + 15.2 + 22.2 + 31.4 + 52.0
    )


def test_rel_and_avg_of_a_row_worked_by_hand():
    row = recalculated(4).set_index("row").loc["Gemma2, MiniPLM"]
    tasks = [37.5, 51.9, 27.2, 49.5, 26.0, 66.6, 39.0, 61.9]
    base = [40.3, 51.3, 27.8, 53.0, 26.1, 66.9, 39.2, 61.9]
    assert row["avg_calc"] == pytest.approx(np.mean(tasks))
    assert row["rel_calc"] == pytest.approx(100 * np.mean(np.log10(np.divide(tasks, base))))
    assert row["rel_ln"] == pytest.approx(row["rel_calc"] * np.log(10))
    assert (row["avg_verdict"], row["rel_verdict"]) == (MISS, SLACK)


@pytest.mark.parametrize(
    ("printed", "calculated", "wanted"),
    [(1.0, 1.04, OK), (1.0, 0.95001, OK), (1.0, 1.12, SLACK), (1.0, 1.2, MISS), (np.nan, 1.0, "")],
)
def test_verdicts(printed, calculated, wanted):
    assert reported.verdict(printed, calculated, slack=0.1) == wanted
