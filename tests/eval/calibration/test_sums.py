"""What follows from sums by sequence: noise floor, intervals, comparisons, files and figures."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from eval.calibration.measure import CalibrationError, FullECE, main, result, write
from eval.calibration.sums import SequenceSums, compare
from tests.eval.calibration.text import full_ece, text_like


def test_a_calibrated_model_scores_its_noise_floor():
    scores, floors = [], []
    for seed in range(12):
        logits, labels = text_like(500, 40, seed=seed)
        metric = FullECE(seed=seed)
        metric.update(logits, labels)
        found = metric.compute()
        scores.append(found.full_ece)
        floors.append(found.noise_floor)
        assert found.noise_floor_sd > 0
    error = np.std(scores) / math.sqrt(len(scores))
    assert abs(np.mean(scores) - np.mean(floors)) < 3 * error
    assert full_ece(logits * 1.5, labels) > 3 * floors[-1]


def test_noise_falls_with_the_root_of_the_positions():
    floors = []
    for rows in (500, 8000):
        logits, labels = text_like(rows, 40)
        metric = FullECE()
        metric.update(logits, labels)
        floors.append(metric.compute().noise_floor)
    assert floors[0] / floors[1] == pytest.approx(4, rel=0.25)


def packed(temperature: float, seed: int = 0, texts: int = 60) -> FullECE:
    logits, labels = text_like(texts * 50, 40, seed=seed)
    metric = FullECE(tail=True)
    metric.update(
        logits.view(texts, 50, 40) * temperature, labels.view(texts, 50), sequences=range(texts)
    )
    return metric


def test_interval_covers_the_value_and_reproduces():
    found = packed(1.3).compute()
    low, high = found.full_ece_interval
    assert 0 < low < found.full_ece < high < 2
    assert found == packed(1.3).compute()
    one = FullECE()
    one.update(*text_like(20, 30))
    assert one.compute().full_ece_interval is None


def test_paired_comparison_sees_what_intervals_alone_do_not():
    a, b = packed(1.3), packed(1.33)
    first, second = a.compute(), b.compute()
    assert first.full_ece_interval[1] > second.full_ece_interval[0]  # they overlap
    found = compare(b.sums(), a.sums())
    assert found.difference == pytest.approx(second.full_ece - first.full_ece, abs=1e-12)
    assert found.interval[0] > 0 and found.p_value < 0.01
    equal = compare(a.sums(), a.sums(), 15)
    assert equal.difference == 0 and equal.interval == (0, 0) and equal.p_value == 1


def test_only_the_same_positions_are_compared():
    a = packed(1.0)
    with pytest.raises(CalibrationError, match="same positions"):
        compare(a.sums(), packed(1.0, seed=1).sums())
    with pytest.raises(CalibrationError, match="same positions"):
        compare(a.sums(), packed(1.0, texts=59).sums())
    with pytest.raises(CalibrationError, match="no 7-bin"):
        compare(a.sums(), a.sums(), 7)


# --- Files, command line, figures ---------------------------------------------------------------


def test_sums_survive_the_disk_and_equal_sums_are_equal_bytes(tmp_path):
    metric = packed(1.2)
    metric.sums().save(tmp_path / "a.npz")
    metric.sums().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = SequenceSums.load(tmp_path / "a.npz")
    assert asdict(result(loaded, (10, 15))) == asdict(metric.compute())
    whole = (tmp_path / "a.npz").read_bytes()
    for damaged in (b"not an archive", b"", whole[:-300], whole[: len(whole) // 2], whole[50:]):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(CalibrationError, match="not sums") as caught:
            SequenceSums.load(tmp_path / "a.npz")
        assert "\n" not in str(caught.value)


def test_command_line_writes_compares_and_reports_errors_in_one_line(tmp_path, capsys):
    for name, temperature in (("a", 1.0), ("b", 1.3)):
        write(tmp_path / name / "calibration.json", packed(temperature), {"model": name})
    record = json.loads((tmp_path / "a/calibration.json").read_text())
    assert record["positions"] == 3000 and record["unit"] == "fraction"
    assert record["others"]["15"]["full_ece"] > 0
    paths = [str(tmp_path / name / "calibration.json") for name in ("b", "a")]
    assert main(["compare", *paths, "--out", str(tmp_path / "difference.json")]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] > 0
    assert json.loads((tmp_path / "difference.json").read_text())["p_value"] < 0.05
    assert main(["compare", str(tmp_path / "none.npz"), paths[0]]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_figures_draw_every_bin_that_has_entries():
    from analysis.figures.calibration import reliability_figure, tail_figure

    record = json.loads(json.dumps(asdict(packed(1.2).compute())))
    for n_bins in (10, 15):
        figure = reliability_figure({"TAD": record}, n_bins=n_bins)
        table = record if n_bins == 10 else record["others"]["15"]
        points = figure.axes[0].lines[0].get_xdata()
        assert len(points) == sum(b["entries"] > 0 for b in table["bins"])
        legend = figure.legends[0].get_texts()[0].get_text()
        assert f"{100 * table['full_ece']:.2f}%" in legend
    figure = tail_figure({"TAD": record, "KL": record})
    assert len(figure.axes[0].lines[0].get_xdata()) == sum(b["labels"] > 0 for b in record["tail"])
    with pytest.raises(ValueError, match="not 12"):
        reliability_figure({"TAD": record}, n_bins=12)
    with pytest.raises(ValueError, match="tail"):
        tail_figure({"TAD": {**record, "tail": []}})
