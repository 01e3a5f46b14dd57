"""What follows from sums by sequence: noise floor, intervals, comparisons, files and figures."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from eval.calibration.measure import CalibrationError, FullECE, main, write
from eval.calibration.sums import SequenceGaps, compare
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


def gaps(metric: FullECE, n_bins: int = 10) -> SequenceGaps:
    return metric.sums().gaps(n_bins)


def test_a_comparison_is_the_cluster_bootstrap_of_all_sums():
    a, b = packed(1.3), packed(1.2)
    found = compare(gaps(a), gaps(b), draws=200, seed=3)
    drawn = []
    generator = np.random.default_rng(3)
    for _ in range(2):
        weights = generator.multinomial(60, np.full(60, 1 / 60), size=100)
        values = []
        for metric in (a, b):
            table = metric.sums().tables["10"]
            gap = weights @ table["labels"] - weights @ table["mass"]
            values.append(np.abs(gap).sum(-1) / (weights @ metric.sums().positions))
        drawn.append(values[0] - values[1])
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    basic = 2 * found.difference - high, 2 * found.difference - low
    expected = min(low, basic[0]), max(high, basic[1])
    assert found.interval == pytest.approx(expected, abs=1e-7)


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
    found = compare(gaps(b), gaps(a))
    assert found.difference == pytest.approx(second.full_ece - first.full_ece, abs=1e-8)
    assert found.interval[0] > 0 and found.p_value < 0.01
    equal = compare(gaps(a, 15), gaps(a, 15))
    assert equal.n_bins == 15
    assert equal.difference == 0 and equal.interval == (0, 0) and equal.p_value == 1


def test_only_the_same_positions_are_compared():
    a = packed(1.0)
    with pytest.raises(CalibrationError, match="same positions"):
        compare(gaps(a), gaps(packed(1.0, seed=1)))
    with pytest.raises(CalibrationError, match="same positions"):
        compare(gaps(a), gaps(packed(1.0, texts=59)))
    with pytest.raises(CalibrationError, match="no 7-bin"):
        gaps(a, 7)
    with pytest.raises(CalibrationError, match="10 bins and 15"):
        compare(gaps(a), gaps(a, 15))


# --- Files, command line, figures ---------------------------------------------------------------


def test_gaps_survive_the_disk_and_equal_gaps_are_equal_bytes(tmp_path):
    kept = gaps(packed(1.2))
    kept.save(tmp_path / "a.npz")
    kept.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = SequenceGaps.load(tmp_path / "a.npz")
    assert asdict(compare(loaded, kept)) == asdict(compare(kept, kept))
    whole = (tmp_path / "a.npz").read_bytes()
    for damaged in (b"not an archive", b"", whole[:-300], whole[: len(whole) // 2], whole[50:]):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(CalibrationError, match="not sums") as caught:
            SequenceGaps.load(tmp_path / "a.npz")
        assert "\n" not in str(caught.value)
    for stray in ({"positions": np.ones(3)}, {"positions": np.ones(3), "gap": np.ones(3)}):
        np.savez(tmp_path / "a.npz", **stray, text="")
        with pytest.raises(CalibrationError, match="measure the model again"):
            SequenceGaps.load(tmp_path / "a.npz")


def test_gaps_of_a_mini_scale_are_small(tmp_path):
    """80,000 positions in 625 sequences."""
    logits, labels = text_like(80_000, 40)
    metric = FullECE(noise_draws=0)
    metric.update(logits.view(625, 128, 40), labels.view(625, 128), sequences=range(625))
    gaps(metric).save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_size < 30_000


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
