"""Figures of calibration: every student and seed is drawn, and told apart."""

from __future__ import annotations

import json
from dataclasses import asdict

import pandas as pd
import pytest
import torch

from analysis.figures.calibration import bins_frame, looks, reliability_figure, tail_figure
from analysis.figures.draw import draw
from tad.experiment.config import load_suite
from tad.methods import Method
from tad.records import RecordError

from ..conftest import CONFIG, SUITE


def record(seed):
    from eval.calibration.measure import FullECE

    generator = torch.Generator().manual_seed(seed)
    metric = FullECE(tail=True)
    logits = torch.randn(6, 20, 11, generator=generator)
    metric.update(logits, torch.randint(11, (6, 20), generator=generator))
    return json.loads(json.dumps(asdict(metric.compute())))


@pytest.fixture(scope="module")
def records():
    methods = [Method("vanilla_kd"), Method.of("tad", k=1), Method.of("tad", k=10)]
    return {
        method: [record(3 * at + seed) for seed in range(3)] for at, method in enumerate(methods)
    }


@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_no_two_methods_look_the_same(scale):
    runs = load_suite(CONFIG / f"{scale}.yaml").runs("table4")
    methods = list(dict.fromkeys(run.method for run in runs))
    assert len({(look["color"], look["marker"]) for look in looks(methods).values()}) == len(
        methods
    )


def test_a_point_is_the_mean_and_its_bar_the_range_of_the_seeds(records):
    frame = bins_frame(records, "bins")
    row = frame[(frame["method"] == "vanilla_kd") & (frame["bin"] == 1)].iloc[0]
    found = [entry["bins"][1] for entry in records[Method("vanilla_kd")]]
    gaps = [(entry["labels"] - entry["mass"]) / entry["entries"] for entry in found]
    ends = [row[name] for name in ("gap", "gap_low", "gap_high")]
    assert ends == pytest.approx([sum(gaps) / 3, min(gaps), max(gaps)])


def test_the_points_of_all_bins_are_full_ece(records):
    one = {method: seeds[:1] for method, seeds in records.items()}
    sums = bins_frame(one, "bins").groupby("method")["points"].agg(lambda x: x.abs().sum())
    for method, (entry,) in one.items():
        assert sums[str(method)] == pytest.approx(100 * entry["full_ece"])


def test_the_title_says_what_a_bar_is(records):
    one = {method: seeds[:1] for method, seeds in records.items()}
    for make in (reliability_figure, tail_figure):
        several = make(records, "a pair").axes[0]
        assert "mean of 3 seeds, bars: their range" in several.get_title()
        assert "one seed, bars: 95% bootstrap" in make(one, "a pair").axes[0].get_title()
        places = {tuple(line.get_xdata()) for line in several.lines if line.get_marker() != "None"}
        assert len(places) == 3, "no method hides another"


def test_a_record_without_a_tail_is_an_error(records):
    without = {Method("clm"): [next(iter(records.values()))[0] | {"tail": []}]}
    with pytest.raises(RecordError, match="clm: a calibration.json without 'tail'"):
        tail_figure(without, "")


def test_every_pair_has_both_figures_with_their_numbers(tmp_path):
    pairs = ["qwen2.5-3b_1b"]
    select = SUITE.select.model_copy(update={"pairs": pairs})
    suite = SUITE.model_copy(update={"select": select})
    text = json.dumps(record(0))
    for run in suite.runs("table4"):
        folder = tmp_path / "runs" / str(run)
        folder.mkdir(parents=True)
        (folder / "calibration.json").write_text(text)
    draw("calibration", suite, tmp_path)
    for pair in pairs:
        for kind in ("reliability", "tail"):
            path = tmp_path / "figures" / f"{kind}_{pair}"
            assert path.with_name(f"{path.name}.png").stat().st_size > 1000
            assert b"/Subtype /Type3" not in path.with_name(f"{path.name}.pdf").read_bytes()
            numbers = pd.read_csv(path.with_name(f"{path.name}.csv"))
            assert set(numbers["method"]) == {str(run.method) for run in suite.runs("table4")}
