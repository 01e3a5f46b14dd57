"""The audit finds what is wrong with the printed values."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.reported import audit
from analysis.reported import values as reported
from analysis.reported.values import MISS, table
from analysis.results import paper_suite
from analysis.tables.draw import write


def test_exactly_these_cells_are_off():
    rows = audit.averages()
    off = {(r.row, "avg") for r in rows.itertuples() if r.avg_verdict == MISS}
    off |= {(r.row, "rel") for r in rows.itertuples() if r.rel_verdict == MISS}
    assert off == {
        ("Phi2, CLM (Mat.)", "rel"),
        ("Gemma2, MiniPLM", "avg"),
        ("Llama2-7B, as released", "avg"),
    }


def test_only_the_decimal_logarithm_explains_rel():
    counts = audit.rel_formulas()[["exact", "rounded", "of"]].to_numpy().tolist()
    assert counts == [[18, 25, 26], [0, 1, 26], [9, 20, 26]]


def test_off_grid_counts():
    found = audit.off_grid().set_index(["metric", "table"])
    counts = {key: (row["off"], row["of"]) for key, row in found.iterrows()}
    assert counts == {
        ("OBQA", 1): (8, 18), ("OBQA", 4): (5, 27), ("OBQA", 6): (1, 8),
        ("SAT", 7): (3, 10), ("SAT", 8): (7, 18), ("MATH", 7): (0, 10), ("MATH", 8): (1, 18),
    }  # fmt: skip


def test_matched_rows_are_a_constant_step():
    gains = audit.matched_steps()
    assert gains.shape == (3, 8)
    assert (gains.max() - gains.min()).max() <= 0.1 + 1e-9
    assert gains.loc["phi2_1b", "hs"] == 2.0


def test_table_5_is_a_power_law_read_backwards():
    fits = audit.implied_fits().set_index(["pair", "method"])
    assert fits.loc[("phi2_1b", "vanilla_kd"), "beta_high"] == np.inf
    assert fits.loc[("gemma2-9b_2b", "tad"), "beta"] == pytest.approx(0.37, abs=0.005)
    printed = table(5).set_index(["pair", "method", "tokens"])["val_loss_predicted"]
    for (pair, method), fit in fits.iterrows():
        B = (printed[pair, method, 1e10] - fit["E"]) * 1e10 ** fit["beta"]
        for tokens in (1e10, 1e11, 1e12):
            law = fit["E"] + B * tokens ** -fit["beta"]
            assert law == pytest.approx(printed[pair, method, tokens], abs=1e-6)
    assert fits["at_2b"].between(2.8, 3.5).all()


def test_costs_of_the_appendix_add_up():
    hours = audit.gpu_hours().set_index("quantity")
    assert hours["agrees"].all()
    assert hours.loc["Llemma-7B on H100, GPU hours", "calculated"] == 7680
    weeks = audit.throughput()
    assert weeks["share"].between(0.0299, 0.0530).all()
    assert weeks["hours"].round().min() == 13 and weeks["hours"].round().max() == 44


def test_audit_tables_are_rectangular():
    for block in audit.render().split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_committed_audit_is_what_the_command_writes(tmp_path, monkeypatch, capsys):
    assert audit.main(["--print"]) == 0
    text = capsys.readouterr().out
    assert text == (reported.FOLDER / "AUDIT.md").read_text()
    monkeypatch.setattr(reported, "FOLDER", tmp_path)
    monkeypatch.setattr(audit, "render", lambda: text)
    assert audit.main([]) == 0
    assert (tmp_path / "AUDIT.md").read_text() == text


def test_a_missing_table_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "audit.template.md").write_text("")
    monkeypatch.setattr(reported, "FOLDER", tmp_path)
    assert audit.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "AUDIT.md").exists()


def test_the_audit_is_a_page_with_tables_for_the_report(tmp_path):
    write("audit", paper_suite(), tmp_path)
    text = (tmp_path / "tables" / "audit.html").read_text()
    assert text.startswith("<!doctype html>") and text.count("<table>") >= 10
    assert "<h1>Audit of the paper" in text
