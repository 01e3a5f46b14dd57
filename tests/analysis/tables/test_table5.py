"""Table 5 from invented curves of a known law: right values, intervals, refusals."""

from __future__ import annotations

import pytest

from analysis.scaling_law.curves import pair_curves
from analysis.tables.draw import main
from analysis.tables.table5 import table5, table5_frame

from ..conftest import CONFIG
from ..loss_curves import LAWS, PAIRS, law, suite_of, write_curves


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_curves(tmp_path_factory.mktemp("root"), suite_of())


def test_extrapolations_hold_the_law_that_made_the_points(root):
    frame = table5_frame(pair_curves(suite_of(), root))
    assert len(frame) == len(PAIRS) * len(LAWS) * 3
    assert frame["factor"].round().tolist() == [5, 50, 500] * 6
    truth = [law(row.method, row.tokens).item() for row in frame.itertuples()]
    inside = (frame["low"] <= truth) & (truth <= frame["high"])
    assert inside.mean() >= 0.8
    assert frame["loss"].to_numpy() == pytest.approx(truth, abs=0.08)
    assert (frame["seeds"] == 3).all() and (frame["points"] == 48).all()


def test_the_difference_to_vanilla_kd_is_paired(root):
    frame = table5_frame(pair_curves(suite_of(), root)).set_index(["pair", "method", "factor"])
    row = frame.xs("tad-k10-b2", level="method").iloc[0]
    assert row["minus_kd"] == pytest.approx(-0.1, abs=0.03)
    assert row["minus_kd_low"] < row["minus_kd"] < row["minus_kd_high"] < 0
    assert frame.xs("vanilla_kd", level="method")["minus_kd"].isna().all()


def test_no_number_stands_without_its_interval(root, tmp_path):
    suite = suite_of()
    table = table5(suite, table5_frame(pair_curves(suite, root)))
    for row in table.rows:
        assert all("[" in cell for cell in row[2:5])
        assert "[" in row[6] and "[" in row[7]
    text = " ".join(table.notes)
    assert "constant" in text and "serve as budgets" in text and "Eq. 1" in text
    assert "as printed" not in table.markdown(), "the paper's values are of other models"


def test_a_fit_that_refuses_says_why(tmp_path):
    suite = suite_of(pairs=PAIRS[:1])
    write_curves(tmp_path, suite, points=3)
    frame = table5_frame(pair_curves(suite, tmp_path))
    table = table5(suite, frame)
    assert {cell for row in table.rows for cell in row[2:5]} == {"refused"}
    assert "phi2_1b, Vanilla KD: refused, because 3 budgets are too few" in " ".join(table.notes)
    assert frame["loss"].isna().all() if "loss" in frame else True


def test_points_that_do_not_determine_the_law_are_marked(tmp_path):
    suite = suite_of(pairs=PAIRS[:1], seeds=(0,))
    write_curves(tmp_path, suite, points=6, first=1e6, noise=5e-3)
    table = table5(suite, table5_frame(pair_curves(suite, tmp_path)))
    assert "not identified" in {row[-1] for row in table.rows}
    assert "not-identified" in " ".join(table.notes)


def test_the_paper_s_scale_has_its_budgets_and_printed_values(tmp_path):
    suite = suite_of("paper", pairs=PAIRS[:1])
    write_curves(tmp_path, suite, budget=2e9, first=5e7)
    frame = table5_frame(pair_curves(suite, tmp_path))
    assert frame["tokens"].unique().tolist() == [1e10, 1e11, 1e12]
    table = table5(suite, frame)
    assert list(table.header[2:5]) == ["10B", "100B", "1T"]
    assert table.rows[1][1:5] == ["  as printed", "2.80", "2.77", "2.76"]
    assert table.rows[5][1:5] == ["  as printed", "2.78", "2.73", "2.71"]


def test_a_missing_record_is_one_line(tmp_path, capsys):
    config = str(CONFIG / "smoke.yaml")
    assert main(["table5", "--root", str(tmp_path), "--config", config]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tad tables: ") and error.count("\n") == 1
