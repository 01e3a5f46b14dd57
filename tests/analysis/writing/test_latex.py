"""LaTeX of tables: what fits where, what is broken, divided, and printed as it is."""

from __future__ import annotations

import pytest

from analysis.writing.latex import COLUMN, TEXT, escaped, grouped, headed, latex, natural_width
from analysis.writing.render import Table


def table(columns, rows=3, cell="12.3 ± 0.4", left=1, **more):
    header = ["Method", *(f"c{at}" for at in range(columns))]
    cells = [[f"row {row}", *[cell] * columns] for row in range(rows)]
    return Table(title="Table 1. Scores", header=header, rows=cells, left=left, **more)


def test_text_prints_as_it_is():
    assert escaped("50% ± 1 & α_K") == r"50\% $\pm$ 1 \& $\alpha$\_K"
    assert escaped("a" * 40).split(r"\allowbreak{}") == ["a" * 10] * 4


def test_narrow_tables_stand_in_a_column_and_wide_ones_across():
    assert r"\begin{table}[tp]" in latex(table(2), "x")
    assert r"\begin{table*}[tp]" in latex(table(6), "x")
    text = latex(table(2, bold={(0, 1)}), "scores")
    assert r"\caption{Scores}\label{tab:scores}" in text
    assert r"row 0 & \textbf{12.3$\pm$0.4} & 12.3$\pm$0.4 \\" in text


@pytest.mark.parametrize("columns", [8, 14, 30])
def test_numbers_that_are_too_wide_are_divided_evenly(columns):
    wide = table(columns)
    shown = list(range(columns + 1))
    natural = {at: natural_width(wide, at) for at in shown}
    groups = grouped(wide, shown, natural, TEXT)
    assert [c.at for group in groups for c in group if c.at] == shown[1:]
    assert all(group[0].at == 0 for group in groups)
    sizes = [len(group) for group in groups]
    assert max(sizes) - min(sizes) <= len(groups)
    for group in groups:
        assert sum(c.width for c in group) + 6 * (len(group) - 1) <= TEXT
    assert latex(wide, "x").count(r"\begin{tabular}") == len(groups)


def test_long_words_are_broken_and_not_the_numbers():
    rows = [["a statement of very many words " * 6, "short", "1.0"]]
    found = latex(Table(title="t", header=["S", "V", "n"], rows=rows, left=2), "x")
    assert found.count("p{") == 1 and r"\raggedright" in found and "& short & 1.0" in found


def test_what_repeats_becomes_a_heading():
    rows = [["p", "a", "1"], ["", "b", "2"], ["p", "c", "3"], ["q", "a", "4"], ["q", "b", "5"]]
    made = Table(title="t", header=["Pair", "Method", "n"], rows=rows, left=2)
    headings, shown = headed(made, [0, 1, 2])
    assert headings == ["p", "p", "p", "q", "q"] and shown == [1, 2]
    text = latex(made, "x")
    assert text.count(r"\multicolumn{2}") == 2 and "Pair" not in text
    every = Table(title="t", header=["Pair", "Method", "n"], rows=rows[::2], left=2)
    assert headed(every, [0, 1, 2]) == (["", "", ""], [0, 1, 2])


def test_a_long_table_continues_in_further_floats():
    text = latex(table(2, rows=120, notes=["the note"]), "x")
    parts = text.count(r"\begin{table}")
    assert parts > 2 and text.count(r"\caption") == text.count(r"\label") == 1
    assert text.count("continued") == parts - 1
    assert text.count("the note") == 1 and text.index("the note") > text.rindex("row 119")
    assert all(text.count(f"row {row} ") == 1 for row in range(120))


def test_columns_that_are_left_out_are_named():
    text = latex(table(3, aside=("c1",)), "x")
    assert "c0" in text and "Columns that stand in the CSV alone: c1." in text
    assert text.count("$\\pm$") == 6


def test_a_table_that_just_fits_is_not_wider_than_its_column():
    for columns in range(1, 9):
        made = table(columns)
        total = sum(natural_width(made, at) + 6 for at in range(columns + 1)) - 6
        assert (r"\begin{table*}" in latex(made, "x")) == (total > COLUMN)


def test_a_table_without_rows_is_its_header():
    text = latex(table(2, rows=0, notes=["nothing yet"]), "x")
    assert "Method & c0 & c1" in text and "nothing yet" in text
