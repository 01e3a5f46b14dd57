"""The figure of Section 2.1 shows what Equations 5 and 6 say, from autograd."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures import gradients, style
from analysis.figures.draw import draw
from analysis.figures.gradients import SHARES, SUM, TEACHER_MASS, gradient_table

from ..conftest import SUITE

K, BETA = 10, 2.0


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return gradient_table(K, BETA)


def test_teacher_is_a_distribution_whose_first_k_are_its_top_k():
    for k in (1, 5, 10, 20):
        teacher = gradients.teacher_probabilities(k)
        assert teacher.sum() == pytest.approx(1)
        assert teacher[:k].sum() == pytest.approx(TEACHER_MASS)
        assert teacher[:k].min() > teacher[k:].max()
        student = gradients.student_probabilities(teacher, k, 0.9)
        assert student.sum() == pytest.approx(1) and student[:k].sum() == pytest.approx(0.9)


def test_kl_gradient_is_equation_5(table):
    np.testing.assert_allclose(table["kl"], table["p_student"] - table["p_teacher"], atol=1e-9)


def test_tad_gradient_is_equation_6(table):
    rows = table[table["share"] != SUM]
    weight = BETA / (1 - TEACHER_MASS)  # a sequence of one token
    ratio = (1 - TEACHER_MASS) / (1 - rows["student_mass"])
    second = rows["p_student"] * ratio - rows["p_teacher"]
    expected = rows["p_student"] - rows["p_teacher"] + (weight - 1) * second
    np.testing.assert_allclose(rows["tad"], expected, atol=1e-9)


def test_tad_pushes_wrong_shares_back_whatever_the_mass(table):
    half, same, more = (table[table["share"] == f"{share:g}"] for share in SHARES)
    extra = [(rows["tad"] - rows["kl"]) / rows["p_teacher"] for rows in (half, same, more)]
    shift = (BETA / (1 - TEACHER_MASS) - 1) * 0.5
    np.testing.assert_allclose(extra[0], -shift, rtol=1e-6)
    np.testing.assert_allclose(extra[1], 0, atol=1e-6)
    np.testing.assert_allclose(extra[2], shift, rtol=1e-6)


def test_the_second_term_moves_no_mass_between_top_k_and_tail(table):
    whole = table[table["share"] == SUM]
    np.testing.assert_allclose(whole["tad"], whole["kl"], atol=1e-9)
    expected = (1 - whole["student_mass"]) - (1 - TEACHER_MASS)
    np.testing.assert_allclose(whole["kl"], expected, atol=1e-9)


def test_both_vanish_at_the_teacher_and_change_sign_there(table):
    rows = table[table["share"] == "1"]
    at = rows.iloc[(rows["student_mass"] - TEACHER_MASS).abs().argmin()]
    assert at["student_mass"] == pytest.approx(TEACHER_MASS)
    assert abs(at["kl"]) < 1e-9 and abs(at["tad"]) < 1e-9
    below, above = rows.iloc[0], rows.iloc[-1]
    for name in ("kl", "tad"):
        assert below[name] > 0 > above[name]


def test_figure_marks_the_fixed_point(table):
    with style.paper_style():
        figure = gradients.gradient_figure(table)
        marked = [
            line.get_xydata().tolist() for axis in figure.axes for line in axis.lines
            if line.get_marker() == "o"
        ]  # fmt: skip
    assert marked == [[[TEACHER_MASS, 0.0]]] * 2


def test_it_is_the_same_bytes_each_time(tmp_path):
    for folder in ("a", "b"):
        draw("gradients", SUITE, tmp_path / folder)
    for suffix in ("pdf", "png", "csv"):
        files = [tmp_path / f / "figures" / f"gradients.{suffix}" for f in "ab"]
        assert files[0].read_bytes() == files[1].read_bytes()
    drawn = pd.read_csv(tmp_path / "a" / "figures" / "gradients.csv")
    assert list(drawn) == ["student_mass", "share", "p_student", "p_teacher", "kl", "tad"]


@pytest.mark.parametrize("k", [0, 500])
def test_too_few_or_too_many_modes_are_refused(k):
    with pytest.raises(ValueError, match="choose"):
        gradient_table(k)
