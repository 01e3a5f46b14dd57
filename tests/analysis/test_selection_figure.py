"""analysis.figures.selection: every candidate is drawn once, on the right side of the line."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from analysis.figures import style
from analysis.figures.selection import histogram, main, selection_figure, selection_frame
from tad.records import write_json


def make(folder, scores, number):
    folder.mkdir()
    values = np.asarray(scores, float)
    index = np.arange(len(values))[::-1]
    np.savez(folder / "scores.npz", index=index, teacher=values - 2, reference=-2, score=values)
    write_json(folder / "selection.json", {"number": number})
    return folder


def test_ties_at_the_threshold_are_kept_in_order(tmp_path):
    frame = selection_frame(make(tmp_path / "a", [1, 3, 1, 1, 0], 3))
    assert frame["chosen"].tolist() == [True, True, True, False, False]
    assert frame["index"].tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("number", [1, 300, 599, 600])
def test_the_bins_hold_all_candidates_and_part_at_the_threshold(tmp_path, number):
    scores = np.random.default_rng(0).standard_t(2, 600)  # with far outliers
    bins = histogram(selection_frame(make(tmp_path / "a", scores, number)))
    assert bins["kept"].sum() == number
    assert bins["dropped"].sum() == 600 - number
    threshold = np.sort(scores)[-number]
    assert not bins["kept"][bins["high"] <= threshold - 1e-9].any()
    assert not bins["dropped"][bins["low"] >= threshold - 1e-9].any()
    assert 5 <= len(bins) <= 45
    assert np.allclose(bins["low"][1:], bins["high"][:-1])


def test_equal_scores_can_be_drawn(tmp_path):
    frame = selection_frame(make(tmp_path / "a", np.full(10, 0.5), 4))
    bins = histogram(frame)
    assert (bins["kept"].sum(), bins["dropped"].sum()) == (4, 6)
    with style.paper_style():
        selection_figure({"phi2_1b": frame}).canvas.draw()


def test_the_command_writes_figure_and_numbers(tmp_path, capsys):
    rng = np.random.default_rng(0)
    folders = [make(tmp_path / name, rng.normal(size=200), 100) for name in "ab"]
    arguments = [f"phi2_1b={folders[0]}", f"qwen_1b={folders[1]}", "--out", str(tmp_path / "f")]
    assert main(arguments) == 0
    first = [(tmp_path / f"f.{suffix}").read_bytes() for suffix in ("pdf", "png", "csv")]
    assert main(arguments) == 0
    assert first == [(tmp_path / f"f.{suffix}").read_bytes() for suffix in ("pdf", "png", "csv")]
    table = pd.read_csv(io.BytesIO(first[2]))
    assert table.groupby("pair")[["kept", "dropped"]].sum().to_numpy().tolist() == [[100, 100]] * 2
    for wrong in (["nowhere"], [f"a={folders[0]}", f"a={folders[0]}"], [f"a={tmp_path}"]):
        assert main([*wrong, "--out", str(tmp_path / "g")]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
