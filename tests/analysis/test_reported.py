"""The printed values are those of the paper, and the audit finds what is wrong with them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.reported import values as reported
from analysis.reported.text_claims import HOLDS, NOT, PARTLY, claims
from analysis.reported.values import MISS, OK, SLACK, audit, recalculated, table

SHARED = Path(__file__).parents[3] / "shared" / "paper"
needs_paper = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no transcription at {SHARED}")
ROWS = {1: 18, 2: 10, 3: 2, 4: 27, 5: 27, 6: 8, 7: 10, 8: 18, 9: 5}


@needs_paper
@pytest.mark.parametrize("name", [*(f"table{n}.csv" for n in ROWS), "flops.csv"])
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


@pytest.mark.parametrize("number", ROWS)
def test_every_table_reads(number):
    rows = table(number)
    assert len(rows) == ROWS[number]
    if "pair" in rows:
        pairs = set(rows["pair"].dropna())
        assert pairs <= set(reported.PAIR_NAMES)


def test_pairs_and_methods_are_those_of_the_experiments():
    from tad.experiment.config import load_suite
    from tad.methods import ROWS

    scale = Path(__file__).parents[2] / "config" / "smoke.yaml"
    if not scale.is_file():
        pytest.skip("no scale file yet")
    assert set(reported.PAIR_NAMES) == set(load_suite(scale).pairs)
    for number in (1, 2, 4, 5, 6, 7, 8):
        assert set(table(number)["method"]) <= {*ROWS, "base", "external"}


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


# --- Avg and Rel ---------------------------------------------------------------------------------


def test_rel_and_avg_of_a_row_worked_by_hand():
    row = recalculated(4).set_index("row").loc["Gemma2, MiniPLM"]
    tasks = [37.5, 51.9, 27.2, 49.5, 26.0, 66.6, 39.0, 61.9]
    base = [40.3, 51.3, 27.8, 53.0, 26.1, 66.9, 39.2, 61.9]
    assert row["avg_calc"] == pytest.approx(np.mean(tasks))
    assert row["rel_calc"] == pytest.approx(100 * np.mean(np.log10(np.divide(tasks, base))))
    assert row["rel_ln"] == pytest.approx(row["rel_calc"] * np.log(10))
    assert (row["avg_verdict"], row["rel_verdict"]) == (MISS, SLACK)


def test_exactly_these_cells_are_off():
    rows = audit.averages()
    off = {(r.row, "avg") for r in rows.itertuples() if r.avg_verdict == MISS}
    off |= {(r.row, "rel") for r in rows.itertuples() if r.rel_verdict == MISS}
    assert off == {
        ("Phi2, CLM (Mat.)", "rel"),
        ("Gemma2, MiniPLM", "avg"),
        ("Llama2-7B, as released", "avg"),
    }


@pytest.mark.parametrize(
    ("printed", "calculated", "wanted"),
    [(1.0, 1.04, OK), (1.0, 0.95001, OK), (1.0, 1.12, SLACK), (1.0, 1.2, MISS), (np.nan, 1.0, "")],
)
def test_verdicts(printed, calculated, wanted):
    assert reported.verdict(printed, calculated, slack=0.1) == wanted


def test_only_the_decimal_logarithm_explains_rel():
    counts = audit.rel_formulas()[["exact", "rounded", "of"]].to_numpy().tolist()
    assert counts == [[18, 25, 26], [0, 1, 26], [9, 20, 26]]


# --- Other inconsistencies -----------------------------------------------------------------------


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


def test_claims_against_the_tables():
    found = {claim.claim: claim for claim in claims()}
    assert len(found) >= 20
    verdicts = {
        "Rel of TAD K=10 is 50% to 120% above MiniPLM's": NOT,
        "MiniPLM is slightly better on ARC-E and Story": NOT,
        "0.5B: TAD keeps an edge over MiniPLM": PARTLY,
        "RKL is slightly better than Vanilla KD": PARTLY,
        "best at K = 5 or 10 (Table 8)": PARTLY,
        "TAD has the lowest projected loss": HOLDS,
        "TAD beats Llama3.2-1B on mathematics, Vanilla KD does not": "holds through SAT alone",
    }
    assert {name: found[name].verdict for name in verdicts} == verdicts
    best = found["Rel of TAD K=10 is 50% to 120% above MiniPLM's"].finding
    assert "+106%" in best and "+43%" in best
    assert "20.9" in found["TAD beats Llama3.2-1B on mathematics, Vanilla KD does not"].finding
    assert "+66.0%" in found["MiniPLM needs 50% more (Phi2, Qwen2.5), 67% more (Gemma2)"].finding


# --- The page ------------------------------------------------------------------------------------


def test_committed_audit_is_what_the_command_writes(tmp_path, capsys):
    out = tmp_path / "AUDIT.md"
    assert audit.main(["audit", "--out", str(out)]) == 0
    assert out.read_bytes() == (reported.FOLDER / "AUDIT.md").read_bytes()
    assert audit.main(["audit", "--print"]) == 0
    assert capsys.readouterr().out.endswith(out.read_text())


def test_audit_tables_are_rectangular():
    for block in audit.render().split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_a_missing_table_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reported, "FOLDER", tmp_path)
    assert audit.main(["audit", "--out", str(tmp_path / "AUDIT.md")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "AUDIT.md").exists()


# --- Costs ---------------------------------------------------------------------------------------


def test_costs_set_ours_beside_the_printed_figures(tmp_path):
    from analysis.tables.draw import printed_costs as costs

    assert costs.main(["--out", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "costs.csv").set_index(["where", "what"])
    assert len(rows) == 35
    for name in ("Vanilla KD", "MiniPLM"):
        met = rows[rows.index.get_level_values("what").str.endswith(f", {name}")]
        assert len(met) == 5 and (met["difference"].abs() < 0.042).all()
    week = rows.loc[("Appendix A", "Gemma2, TAD")]
    assert week["ours"] == pytest.approx(44.6, abs=0.1) and week["printed"] == 336
    account = rows.loc[("Appendix A.1", "Llemma-7B on H100, GPU hours")]
    assert account["ours"] == account["printed"] == 7680
    page = (tmp_path / "costs.md").read_text()
    assert "| Gemma2, MiniPLM | petaFLOP for 1M tokens | 51.62 | 52 | -0.7% |" in page
    assert "| rms error |" in page


def test_the_convention_in_use_fits_best():
    from analysis.tables.draw import printed_costs as costs
    from tad.experiment.config import load_suite
    from tad.experiment.flops import PROJECT

    ways = costs.conventions(load_suite(PROJECT / "config" / "paper.yaml"))
    assert ways["rms"].idxmin() == 4
    assert ways["rms"].round(1).tolist() == [7.7, 8.1, 2.5, 5.4, 2.1, 4.6]


def test_the_audit_is_a_page_with_tables_for_the_report(tmp_path):
    from analysis.reported.audit import main

    assert main(["audit", "--out", str(tmp_path / "audit.html")]) == 0
    text = (tmp_path / "audit.html").read_text()
    assert text.startswith("<!doctype html>") and text.count("<table>") >= 10
    assert "<h1>Audit of the paper" in text
