"""Figure 1 from invented records."""

from __future__ import annotations

from analysis.figures.curves import figure1
from analysis.figures.draw import draw
from analysis.figures.style import paper_style
from analysis.results import curve_frame, over_seeds

from ..conftest import SUITE


def test_it_is_the_same_bytes_each_time(root):
    files = [root / "figures" / f"figure1.{kind}" for kind in ("pdf", "png", "csv")]
    draw("figure1", SUITE, root)
    first = [path.read_bytes() for path in files]
    draw("figure1", SUITE, root)
    assert [path.read_bytes() for path in files] == first
    assert b"/Subtype /Type3" not in first[0], "submission checks refuse Type 3 fonts"


def test_a_panel_a_pair_and_a_line_a_method(root):
    frame = curve_frame(root, SUITE.runs("figure1"))
    with paper_style():
        titles = {pair: f"title of {pair}" for pair in frame["pair"].unique()}
        figure = figure1(over_seeds(frame, ["pair", "method", "tokens"], "kl"), titles)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == frame["pair"].nunique()
    assert all(len(axis.lines) == frame["method"].nunique() for axis in shown)
    assert "title of" in shown[0].get_title()
