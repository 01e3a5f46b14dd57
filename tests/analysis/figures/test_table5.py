"""The figure of Table 5: what is drawn, and the same bytes each time."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.figures.draw import draw
from analysis.figures.style import paper_style
from analysis.figures.table5 import figure
from analysis.scaling_law.curves import pair_curves
from analysis.scaling_law.tokens import sensitivity

from ..loss_curves import PAIRS, suite_of, write_curves


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_curves(tmp_path_factory.mktemp("root"), suite_of(pairs=PAIRS[:1]))


def test_it_is_the_same_bytes_each_time(root):
    suite = suite_of(pairs=PAIRS[:1])
    draw("table5", suite, root)
    files = [root / "figures" / f"table5.{kind}" for kind in ("pdf", "png", "csv")]
    first = [path.read_bytes() for path in files]
    draw("table5", suite, root)
    assert [path.read_bytes() for path in files] == first
    assert b"/Subtype /Type3" not in first[0], "submission checks refuse Type 3 fonts"
    numbers = pd.read_csv(files[2])
    kinds = {"point", "curve", "minus Vanilla KD", "part of the points"}
    assert set(numbers["kind"]) == kinds
    assert "without the first 25%" in set(numbers["variant"])


def test_curves_are_solid_inside_the_data_and_dashed_beyond(root):
    curves = pair_curves(suite_of(pairs=PAIRS[:1]), root)
    tables = {(c.pair, m): sensitivity(f, c.targets) for c in curves for m, f in c.fitted.items()}
    with paper_style():
        top, gaps, _ = figure(curves, tables).axes
    dashed = [line for line in top.lines if line.get_linestyle() == "--"]
    solid = [x for x in top.lines if x.get_linestyle() == "-" and len(x.get_xdata()) > 2]
    assert len(dashed) == 3 and len(solid) >= 3
    last = curves[0].budget
    assert all(min(line.get_xdata()) == pytest.approx(last) for line in dashed)
    assert all(max(line.get_xdata()) <= last * 1.0001 for line in solid)
    assert len(top.collections) == 3 and len(gaps.collections) == 2, "a band each"


def test_a_pair_without_a_fit_says_why(tmp_path):
    suite = suite_of(pairs=PAIRS[:1])
    write_curves(tmp_path, suite, points=3)
    draw("table5", suite, tmp_path)
    assert (tmp_path / "figures" / "table5.png").stat().st_size > 1000
