"""Figures are written whole or not at all."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from analysis.figures.style import CYCLE, panels, paper_style, save, shade


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
