"""Figures of calibration: which students are drawn, and how they are told apart."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from analysis.figures.calibration import shown
from analysis.figures.draw import draw
from tad.experiment.config import load_suite
from tad.methods import Method

from ..conftest import CONFIG, SUITE


@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_no_two_methods_look_the_same(scale):
    runs = load_suite(CONFIG / f"{scale}.yaml").runs("table4")
    looks = shown(list(dict.fromkeys(run.method for run in runs)))
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(looks) > 3


def test_of_many_settings_the_usual_and_the_first_are_drawn():
    methods = [Method.of("tad", k=k) for k in (1, 5, 10, 20)]
    assert [method["k"] for method in shown(methods)] == [1, 10]
    assert [method["k"] for method in shown(methods[2:])] == [10]


def test_every_pair_has_both_figures_whatever_is_in_its_name(tmp_path):
    from eval.calibration.measure import FullECE

    pairs = ["qwen2.5-3b_1b"]
    select = SUITE.select.model_copy(update={"pairs": pairs})
    suite = SUITE.model_copy(update={"select": select})
    generator = torch.Generator().manual_seed(0)
    metric = FullECE(tail=True)
    logits = torch.randn(6, 20, 11, generator=generator)
    metric.update(logits, torch.randint(11, (6, 20), generator=generator))
    record = json.dumps(asdict(metric.compute()))
    for run in suite.runs("table4"):
        folder = tmp_path / "runs" / str(run)
        folder.mkdir(parents=True)
        (folder / "calibration.json").write_text(record)
    draw("calibration", suite, tmp_path)
    for pair in pairs:
        for kind in ("reliability", "tail"):
            assert (tmp_path / "figures" / f"{kind}_{pair}.png").stat().st_size > 1000
            pdf = (tmp_path / "figures" / f"{kind}_{pair}.pdf").read_bytes()
            assert b"/Subtype /Type3" not in pdf
