"""Every candidate is drawn once, on the right side of the line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures import style
from analysis.figures.draw import draw, main
from analysis.figures.selection import histogram, selection_figure, selection_frame
from tad.records import write_json
from workflow.items import selection_folder, selection_runs

from ..conftest import CONFIG, SUITE


def make(folder, scores, number):
    folder.mkdir(parents=True)
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
        selection_figure({"phi2_1b": frame}, {"phi2_1b": "a title"}).canvas.draw()


def test_a_scale_s_selections_are_drawn_the_same_each_time(tmp_path, capsys):
    rng = np.random.default_rng(0)
    runs = selection_runs(SUITE)
    folders = [make(tmp_path / selection_folder(run), rng.normal(size=200), 100) for run in runs]
    files = [tmp_path / "figures" / f"selection.{suffix}" for suffix in ("pdf", "png", "csv")]
    draw("selection", SUITE, tmp_path)
    first = [path.read_bytes() for path in files]
    draw("selection", SUITE, tmp_path)
    assert first == [path.read_bytes() for path in files]
    table = pd.read_csv(files[2])
    counts = table.groupby("pair")[["kept", "dropped"]].sum().to_numpy().tolist()
    assert counts == [[100, 100]] * len(runs)
    (folders[-1] / "scores.npz").unlink()
    arguments = ["selection", "--root", str(tmp_path), "--config", str(CONFIG / "smoke.yaml")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert str(folders[-1]) in error and error.count("\n") == 1
