"""The figure of Table 5: what is drawn, and the same bytes each time."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.figures.draw import draw
from analysis.figures.style import paper_style
from analysis.figures.table5 import figure
from analysis.scaling_law.budgets import curves

from ..budget_runs import suite_of, write_ends


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ends(tmp_path_factory.mktemp("root"), suite_of())


def test_it_is_the_same_bytes_each_time(root):
    draw("table5", suite_of(), root)
    files = [root / "figures" / f"table5.{kind}" for kind in ("pdf", "png", "csv")]
    first = [path.read_bytes() for path in files]
    draw("table5", suite_of(), root)
    assert [path.read_bytes() for path in files] == first
    assert b"/Subtype /Type3" not in first[0], "submission checks refuse Type 3 fonts"
    numbers = pd.read_csv(files[2])
    assert set(numbers["kind"]) == {"fitted", "held out", "law", "foretold"}
    assert (numbers["kind"] == "fitted").sum() == 20 and (numbers["kind"] == "held out").sum() == 4


def test_the_law_is_solid_within_its_budgets_and_dashed_to_the_held_out_one(root):
    found = curves(suite_of(), root)
    with paper_style():
        left, right = figure(found, {"phi2_1b": "a title"}).axes
    last = sorted(found[0].points["tokens"].unique())[-2:]
    solid = [x for x in left.lines if x.get_linestyle() == "-" and len(x.get_xdata()) > 12]
    dashed = [line for line in left.lines if line.get_linestyle() == "--"]
    assert len(solid) == len(dashed) == 2
    assert all(max(line.get_xdata()) == pytest.approx(last[0]) for line in solid)
    assert all(max(line.get_xdata()) == pytest.approx(last[1]) for line in dashed)
    hollow = [
        x for x in left.lines if x.get_markerfacecolor() == "none" and x.get_marker() != "None"
    ]
    assert [len(line.get_xdata()) for line in hollow] == [2, 2], "both seeds of each method"
    assert left.get_title(loc="left") == "a title"
    assert len(right.collections) == 2, "an interval each"


def test_a_refusal_is_written_beside_the_truth(tmp_path):
    suite = suite_of("smoke", seeds=(0,))
    found = curves(suite, write_ends(tmp_path, suite))
    with paper_style():
        _, right = figure(found, {"phi2_1b": ""}).axes
    assert [text.get_text() for text in right.texts] == ["refused", "refused"]
