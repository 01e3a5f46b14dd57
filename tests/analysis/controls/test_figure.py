"""The figure of controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.controls.figure import OUTSIDE, figure, positions
from analysis.controls.frame import controls_frame
from analysis.figures.draw import main

from ..conftest import CONFIG


def test_rows_stand_at_their_size_over_the_weight_of_clm():
    frame = pd.DataFrame({"size": [0.0, 1.0, 2.5, 6.0, 2.0], "clm": [1.0, 1, 0.5, 1, 0]})
    assert positions(frame).tolist() == pytest.approx([1 / OUTSIDE, 1, 5, 6, 6 * OUTSIDE])


def test_panels_of_metrics_for_each_pair_and_of_the_grids(suite, records):
    frame = controls_frame(suite, records)
    page = figure(frame, {pair: pair for pair in dict.fromkeys(frame["pair"])})
    titles = [axis.get_title() for axis in page.get_axes()]
    assert len(titles) == 2 * 4 + 2
    assert titles[:4] == ["held-out KL", "held-out NLL", "Full-ECE (%)", "few-shot margin"]
    beta, rate = page.get_axes()[-2:]
    assert [label.get_text() for label in beta.get_xticklabels()] == ["0.5", "1", "2", "5", "10"]
    drawn = {x for line in rate.get_lines() for x in np.atleast_1d(line.get_xdata())}
    assert drawn == {0.5, 1.0, 2.0}
    weights = page.get_axes()[0]
    assert [label.get_text() for label in weights.get_xticklabels()] == ["1", "2", "5", "0", "∞"]
    one = frame[(frame["pair"] == "phi2_1b") & (frame["block"] == "weight")]
    assert len(figure(one, {"phi2_1b": "x"}).get_axes()) == 4


def test_the_command_writes_the_same_bytes_twice(records):
    arguments = ["controls", "--root", str(records), "--config", str(CONFIG / "mini.yaml")]
    files = [records / "figures" / f"controls.{kind}" for kind in ("png", "pdf", "csv")]
    contents = []
    for _ in range(2):
        assert main(arguments) == 0
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
