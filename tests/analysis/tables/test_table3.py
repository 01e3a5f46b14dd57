"""Table 3: our count beside the printed figures."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.results import paper_suite
from analysis.tables.table3 import conventions, costs, write


def test_table3_has_the_printed_values_and_the_difference(tmp_path):
    write("table3", paper_suite(), tmp_path)
    rows = pd.read_csv(tmp_path / "tables" / "table3.csv").set_index(["where", "what"])
    row = rows.loc[("Table 3", "Qwen1.5 1.2B, Vanilla KD")]
    assert row["printed"] == 9.2
    assert row["difference"] == pytest.approx(row["ours"] / 9.2 - 1, abs=1e-4)
    comparable = rows.loc[["Table 3", "Section 3.2.2"]].reset_index()
    plain = comparable[comparable["what"].str.contains(", (?:Vanilla KD|MiniPLM)$")]
    assert len(plain) == 10 and (plain["difference"].abs() < 0.042).all()
    text = (tmp_path / "tables" / "table3.md").read_text()
    for wanted in ("GPU hours", "MiniPLM over Vanilla KD", "Seq-KD is counted with cached"):
        assert wanted in text


def test_ours_stands_beside_the_printed_figures():
    rows = costs(paper_suite()).set_index(["where", "what"])
    assert len(rows) == 35
    for name in ("Vanilla KD", "MiniPLM"):
        met = rows[rows.index.get_level_values("what").str.endswith(f", {name}")]
        assert len(met) == 5 and (met["difference"].abs() < 0.042).all()
    week = rows.loc[("Appendix A", "Gemma2, TAD")]
    assert week["ours"] == pytest.approx(44.6, abs=0.1) and week["printed"] == 336
    account = rows.loc[("Appendix A.1", "Llemma-7B on H100, GPU hours")]
    assert account["ours"] == account["printed"] == 7680


def test_the_convention_in_use_fits_best():
    ways = conventions(paper_suite())
    assert ways["rms"].idxmin() == 4
    assert ways["rms"].round(1).tolist() == [7.7, 8.1, 2.5, 5.4, 2.1, 4.6]


def test_a_pair_that_is_not_in_the_paper_has_a_row_without_a_printed_value():
    suite = paper_suite()
    own = suite.pairs["phi2_1b"].model_copy(update={"printed": None})
    frame = costs(suite.model_copy(update={"pairs": {**suite.pairs, "my_pair": own}}))
    row = frame[frame["what"] == "my_pair, TAD"].iloc[0]
    assert row["ours"] > 1 and pd.isna(row["printed"])
