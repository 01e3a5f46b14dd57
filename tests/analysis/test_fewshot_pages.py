"""Tables 1, 2, 4 and 6 from invented records: rows, columns, notes and printed values."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.paired import TASKS
from analysis.tables.draw import main
from tad.experiment.config import load_suite

CONFIG = Path(__file__).parents[2] / "config"


def accuracy(method: str, task: int) -> float:
    """Every method a little different, every task too."""
    order = ["clm", "rkl", "clm_matched", "vanilla_kd", "tad-k5", "tad-k20", "tad-k1", "tad-k10"]
    rank = max((i for i, name in enumerate(order) if method.startswith(name)), default=0)
    return 0.3 + 0.01 * rank + 0.02 * task


def fewshot(method: str, analogue: bool) -> dict:
    tasks = {
        name: {
            "accuracy": accuracy(method, i),
            "n": 24,
            "shots": 0,
            "metric": "acc" if name in ("winogrande", "siqa", "storycloze") else "acc_norm",
        }
        for i, name in enumerate(TASKS)
    }
    return {"tasks": tasks, "analogue": analogue, "lm_eval": "0.4.13"}


def fill(root: Path, scale: str) -> None:
    """Records of every run and checkpoint of the scale's tables."""
    suite = load_suite(CONFIG / f"{scale}.yaml")
    analogue = suite.evaluation.fewshot.suite != "paper"
    folders = {root / "runs" / str(run): str(run.method) for run in suite.runs()}
    for model, point in suite.checkpoints("table6"):
        folders[root / "models" / model / point] = "clm"
    for folder, method in folders.items():
        folder.mkdir(parents=True)
        (folder / "fewshot.json").write_text(json.dumps(fewshot(method, analogue)))
        (folder / "calibration.json").write_text(json.dumps({"full_ece": 0.0123}))


def write(root: Path, scale: str, table: str) -> pd.DataFrame:
    config = str(CONFIG / f"{scale}.yaml")
    assert main([table, "--root", str(root), "--config", config]) == 0
    return pd.read_csv(root / "tables" / f"{table}.csv")


def test_a_table_has_the_papers_rows_in_its_order(tmp_path):
    fill(tmp_path, "smoke")
    frame = write(tmp_path, "smoke", "table1")
    tads = ["tad-k1-b2", "tad-k5-b2", "tad-k10-b2", "tad-k20-b2"]
    assert list(frame["method"]) == ["clm", "vanilla_kd", "seq_kd", "minillm", "miniplm", *tads]
    assert set(frame["pair"]) == {"qwen1.5-1.8b_0.5b"}
    clm = frame.iloc[0]
    assert clm["HS"] == pytest.approx(30.0) and clm["Story"] == pytest.approx(44.0)
    assert clm["Avg"] == pytest.approx(37.0)
    assert clm["Rel"] < 0 and pd.isna(frame.iloc[1]["Rel"]) and frame.iloc[-2]["Rel"] > 0
    text = (tmp_path / "tables" / "table1.md").read_text()
    assert "Analogue: the items" in text and "does not run" not in text
    assert "quotes the baselines" in text and "One seed, so no interval" in text
    assert "as printed" not in text


def test_table_2_turns_beta_into_columns(tmp_path):
    fill(tmp_path, "smoke")
    write(tmp_path, "smoke", "table2")
    text = (tmp_path / "tables" / "table2.md").read_text()
    assert "| Pair |  | β = 0.5 | β = 1 | β = 2 | β = 5 | β = 10 |" in text
    assert "| qwen1.5-1.8b_0.5b | Avg | 44.0 | 44.0 | 44.0 | 44.0 | 44.0 |" in text


def test_table_4_has_calibration_and_matched_clm(tmp_path):
    fill(tmp_path, "smoke")
    frame = write(tmp_path, "smoke", "table4")
    assert list(frame["F-ECE"]) == [pytest.approx(1.23)] * len(frame)
    assert "clm_matched" in set(frame["method"])
    assert "FLOPs of TAD" in (tmp_path / "tables" / "table4.md").read_text()


def test_table_6_has_the_checkpoints_above_and_below(tmp_path):
    fill(tmp_path, "smoke")
    frame = write(tmp_path, "smoke", "table6")
    assert frame["method"].iloc[0] == "tinyllama-1.1b/1t"
    assert frame["method"].iloc[-1] == "tinyllama-1.1b/2t"
    assert "Rel" not in frame


def test_printed_values_stand_beside_ours_at_paper_scale(tmp_path):
    fill(tmp_path, "paper")
    frame = write(tmp_path, "paper", "table4")
    row = frame[(frame["pair"] == "phi2_1b") & (frame["method"] == "clm")].iloc[0]
    assert row["HS_printed"] == 38.2 and row["F-ECE_printed"] == 1.57
    tad = frame[(frame["pair"] == "gemma2-9b_2b") & (frame["method"] == "tad-k10-b2")].iloc[0]
    assert tad["Avg_printed"] == 47.0
    text = (tmp_path / "tables" / "table4.md").read_text()
    assert "as printed" in text and "Analogue" not in text
    frame = write(tmp_path, "paper", "table6")
    assert frame["Avg_printed"].iloc[0] == 51.8 and frame["Avg_printed"].iloc[-1] == 52.7


def test_a_missing_record_and_an_unselected_table_are_named(tmp_path, capsys):
    fill(tmp_path, "smoke")
    lost = tmp_path / "runs/scratch/qwen1.5-1.8b_0.5b/clm/seed0/fewshot.json"
    lost.unlink()
    config = CONFIG / "smoke.yaml"
    assert main(["table1", "--root", str(tmp_path), "--config", str(config)]) == 2
    assert str(lost) in capsys.readouterr().err


def test_calibration_is_compared_with_vanilla_kd_on_the_same_positions(tmp_path):
    import torch

    from eval.calibration.measure import FullECE
    from eval.calibration.measure import write as write_record

    suite = load_suite(CONFIG / "smoke.yaml")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 20, 11, generator=generator)
    labels = torch.randint(11, (6, 20), generator=generator)
    for run in suite.runs("table4"):
        metric = FullECE()
        sharpness = 3.0 if run.method.name == "rkl" else 1.0
        metric.update(sharpness * logits, labels)
        folder = tmp_path / "runs" / str(run)
        folder.mkdir(parents=True)
        write_record(folder / "calibration.json", metric, {})
    frame = write(tmp_path, "smoke", "calibration").set_index("method")
    assert pd.isna(frame.loc["vanilla_kd", "difference"])
    assert frame.loc["tad-k10-b2", "difference"] == 0
    rkl = frame.loc["rkl"]
    assert rkl["difference"] == pytest.approx(
        rkl["full_ece"] - frame.loc["vanilla_kd", "full_ece"], abs=1e-3
    )
    assert rkl["difference_low"] > 0 and rkl["p_value"] < 0.05
    assert set(frame["positions"]) == {120}
    text = (tmp_path / "tables" / "calibration.md").read_text()
    assert "on 120 held-out positions" in text
