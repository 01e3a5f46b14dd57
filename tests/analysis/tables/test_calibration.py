"""The table of calibration from records made of invented logits."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.tables.draw import write

from ..conftest import SUITE


def test_calibration_is_compared_with_vanilla_kd_on_the_same_positions(tmp_path):
    import torch

    from eval.calibration.measure import FullECE
    from eval.calibration.measure import write as write_record

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 20, 11, generator=generator)
    labels = torch.randint(11, (6, 20), generator=generator)
    for run in SUITE.runs("table4"):
        metric = FullECE()
        sharpness = 3.0 if run.method.name == "rkl" else 1.0
        metric.update(sharpness * logits, labels)
        folder = tmp_path / "runs" / str(run)
        folder.mkdir(parents=True)
        write_record(folder / "calibration.json", metric, {})
    write("calibration", SUITE, tmp_path)
    frame = pd.read_csv(tmp_path / "tables" / "calibration.csv").set_index("method")
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
