"""Figure 2 from invented records."""

from __future__ import annotations

from analysis.figures.draw import draw
from analysis.figures.style import paper_style
from analysis.figures.teachers import figure2
from analysis.results import teacher_frame

from ..conftest import SUITE


def test_it_is_the_same_bytes_each_time(root):
    files = [root / "figures" / f"figure2.{kind}" for kind in ("pdf", "png", "csv")]
    draw("figure2", SUITE, root)
    first = [path.read_bytes() for path in files]
    draw("figure2", SUITE, root)
    assert [path.read_bytes() for path in files] == first
    assert b"/Subtype /Type3" not in first[0], "submission checks refuse Type 3 fonts"


def test_every_teacher_has_a_line_and_a_bar(root):
    teachers = SUITE.teachers("figure2")
    with paper_style():
        titles = {teacher: f"{teacher} architecture" for teacher in teachers}
        left, right = figure2(teacher_frame(root, SUITE, teachers), titles).axes
    assert [line.get_label() for line in left.lines] == list(titles.values())
    assert len(right.patches) == len(teachers)
