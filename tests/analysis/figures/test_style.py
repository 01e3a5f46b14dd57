"""Figures are written whole or not at all."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures.style import (
    CYCLE,
    clipped,
    few_log_ticks,
    over,
    panels,
    paper_style,
    robust_limits,
    save,
    shade,
)


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path, monkeypatch):
    figure = Figure()
    figure.subplots().plot([1, 2])
    save(figure, tmp_path / "a_0.5b")
    names = ["a_0.5b.pdf", "a_0.5b.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    before = [(tmp_path / name).read_bytes() for name in names]

    def fails(stream, **options):
        stream.write(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", fails)
    with pytest.raises(OSError, match="no space"):
        save(figure, tmp_path / "a_0.5b")
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_panels_hold_every_pair_and_hide_the_rest():
    with paper_style():
        figure, axes = panels({"a_1": "a → 1", "b_2": "", "c_3": "", "d_4": ""}, 2.0)
    assert list(axes) == ["a_1", "b_2", "c_3", "d_4"] and axes["a_1"].get_title() == "a → 1"
    assert sum(axis.get_visible() for axis in figure.axes) == 4


def test_shades_go_from_light_to_dark():
    brightness = [sum(shade("#D55E00", share)) for share in (0, 0.3, 0.6, 1)]
    assert brightness == sorted(brightness, reverse=True) and brightness[-1] > 0
    assert len(set(CYCLE)) == len(CYCLE)


def test_what_a_band_is_in_words():
    assert over([1, 1]) == "none, one seed"
    assert over([3, 6, 3]) == "95% t interval over 3 to 6 seeds"
    assert over([1, 3], "range") == "range over 3 seeds"


def test_intervals_beyond_the_axis_are_marked():
    frame = pd.DataFrame({"tokens": [1, 2], "mean": [1.0, -2.0], "low": [-50.0, -3.0],
                          "high": [50.0, 1.0]})  # fmt: skip
    low, high = robust_limits(frame, ("mean", "low", "high"))
    assert -7 < low < -6 and 6 < high < 7
    axis = Figure().subplots()
    clipped(axis, frame, (low, high))
    down, up = axis.get_lines()
    assert (down.get_marker(), up.get_marker()) == ("v", "^")
    assert down.get_xdata().tolist() == up.get_xdata().tolist() == [1]
    axis = Figure().subplots()
    clipped(axis, frame, (-60, 60))
    assert not axis.get_lines()


@pytest.mark.parametrize("values", [(44.0, 210.0), (1e-4, 3e-4), (3.0, 3e4)])
def test_a_log_axis_has_a_few_ticks_within_the_data(values):
    axis = Figure().subplots()
    axis.set_xscale("log")
    few_log_ticks(axis, values)
    ticks = axis.get_xticks()
    assert 2 <= len(ticks) <= 4
    assert min(ticks) >= values[0] / 1.1 and max(ticks) <= values[1] * 1.1
