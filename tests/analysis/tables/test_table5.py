"""Table 5 from invented ends of a known law: prediction beside truth, refusals, rows not run."""

from __future__ import annotations

import pytest

from analysis.scaling_law.budgets import curves
from analysis.tables.draw import main
from analysis.tables.table5 import table5, table5_frame, write

from ..budget_runs import suite_of, write_ends
from ..conftest import CONFIG


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return curves(suite_of(), write_ends(tmp_path_factory.mktemp("root"), suite_of()))


def test_prediction_interval_and_truth_stand_side_by_side(found):
    table = table5(suite_of(), found)
    assert list(table.header[3:7]) == ["×5 foretold", "×5 measured", "×50", "×500"]
    row = next(row for row in table.rows if row[1] == "Vanilla KD")
    assert row[2].startswith("5: 22.5k, ") and "[" in row[3]
    mean = found[0].held_out.truth
    assert row[4].startswith(f"{mean:.3f} (") and row[4].endswith(": inside")
    assert row[6] == "refused"
    text = " ".join(table.notes)
    assert "Refused for phi-2 architecture, 1.7M → 920k, Vanilla KD: ×500: further beyond" in text
    assert "end of separate runs" in text and "no cross-entropy" in text


def test_rows_without_budgets_say_so(found):
    rows = table5(suite_of(), found).rows
    assert len(rows) == 9, "the paper's"
    without = [row for row in rows if row[2] == "not run at this scale"]
    assert len(without) == 7 and all(not any(row[3:]) for row in without)


def test_the_numbers(found):
    frame = table5_frame(found)
    assert frame["factor"].tolist() == [5, 50, 500] * 2
    held = frame[frame["factor"] == 5]
    assert (held["seeds"] == 2).all() and held["foretold"].all()
    assert (held["low"] < held["measured"]).all() and (held["measured"] < held["high"]).all()
    assert frame.loc[frame["refusal"] != "", ["loss", "low", "high"]].isna().all(axis=None)


def test_a_truth_outside_is_said(tmp_path):
    root = write_ends(tmp_path, suite_of(), off=0.3)
    table = table5(suite_of(), curves(suite_of(), root))
    assert table.rows[0][4].endswith(": outside")
    assert "×50 and ×500: the law did not foretell ×5" in " ".join(table.notes)


def test_the_paper_s_scale_has_its_own_values_beneath(tmp_path):
    suite = suite_of("paper", seeds=(0,))
    table = table5(suite, curves(suite, write_ends(tmp_path, suite)))
    assert list(table.header[3:8]) == ["×1 foretold", "×1 measured", "×5", "×50", "×500"]
    assert len(table.rows) == 18 and table.rows[0][0] == "phi2_1b"
    assert list(table.rows[1][1:8]) == ["  as printed", "", "", "", "2.80", "2.77", "2.76"]


def test_a_scale_of_one_budget_has_a_table_of_reasons(tmp_path):
    suite = suite_of("smoke", seeds=(0,))
    write("table5", suite, write_ends(tmp_path, suite))
    text = (tmp_path / "tables" / "table5.md").read_text()
    assert "refused" in text and "there are 0; ×5 and ×50 and ×500: three" in text


def test_a_missing_record_is_one_line(tmp_path, capsys):
    config = str(CONFIG / "smoke.yaml")
    assert main(["table5", "--root", str(tmp_path), "--config", config]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tad tables: ") and error.count("\n") == 1
