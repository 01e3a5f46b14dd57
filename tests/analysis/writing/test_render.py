"""A table as Markdown, HTML and LaTeX."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.writing.render import (
    Table,
    blocks,
    body_of,
    control_note,
    controls_last,
    is_control,
    plus_minus,
)


def test_cells_are_escaped():
    table = Table(title="t", header=["KL(T||S)", "<b>"], rows=[["a_1", "2"]], bold={(0, 1)})
    assert r"| KL(T\|\|S) | <b> |" in table.markdown()
    assert "| a_1 | **2** |" in table.markdown()
    assert "&lt;b&gt;" in table.page() and "<b>2</b>" in table.page()
    assert body_of(table.page()).startswith('<div class="box"><table>')
    with pytest.raises(ValueError, match="1 cells under 2 headers"):
        Table(title="t", header=["a", "b"], rows=[["1"]])


def test_numbers_as_the_paper_prints_them():
    assert plus_minus(0.5, float("nan"), 4) == "0.5000"
    assert plus_minus(0.5, 0.01, 4) == "0.5000 ± 0.0100"
    assert plus_minus(float("nan"), float("nan"), 1) == "–"


def test_no_interval_is_printed_as_zero():
    assert plus_minus(26.4, 0.0, 1) == "26.4 (equal)"
    assert plus_minus(26.4, 0.04, 1) == "26.4 ± <0.1"
    assert plus_minus(26.4, 0.05, 1) == "26.4 ± 0.1"


def test_long_cells_are_broken_and_numbers_are_not():
    rows = [["a", "words " * 20, "1"], ["b", "", "2"]]
    page = Table(title="t", header=["x", "y", "z"], rows=rows).page()
    assert page.count('<td class="word long">') == 2 and page.count('<td class="word">') == 2
    assert "<td>1</td>" in page


def test_a_rule_is_drawn_where_the_key_changes():
    assert blocks(["a", "a", "b", "c", "c"]) == {2, 3}
    assert not blocks([])


def test_controls_stand_below_the_rows_of_the_paper_in_each_group():
    rows = ["vanilla_kd", "vanilla_kd-w5", "tad-k10-b2", "kd_only"]
    frame = pd.DataFrame([(pair, row) for pair in "ba" for row in rows], columns=["pair", "method"])
    ordered, rules = controls_last(frame, ["pair"])
    paper, controls = ["vanilla_kd", "tad-k10-b2"], ["vanilla_kd-w5", "kd_only"]
    assert ordered["method"].tolist() == (paper + controls) * 2
    assert ordered["pair"].tolist() == ["b"] * 4 + ["a"] * 4
    assert rules == {2, 4, 6}
    assert not is_control("tinyllama-1.1b/1t")
    [note] = control_note(ordered["method"])
    assert "Vanilla KD (weight 5), Vanilla KD, no CLM" in note and control_note(paper) == []
