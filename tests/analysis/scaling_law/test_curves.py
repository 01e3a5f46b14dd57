"""Fits of the curves of runs: what is fitted, what is refused and why."""

from __future__ import annotations

import pytest

from analysis.scaling_law.curves import CurvesError, pair_curves
from tad.experiment.specs import run_spec
from tad.records import RecordError

from ..loss_curves import suite_of, write_curves


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_curves(tmp_path_factory.mktemp("root"), suite_of())


def test_a_rate_that_decays_gives_no_budgets(root):
    curves = pair_curves(suite_of(schedule="cosine"), root)
    assert all("decays (cosine)" in fit for curve in curves for fit in curve.fits.values())


def test_points_of_the_warm_up_are_left_out(root):
    whole = pair_curves(suite_of(warmup_fraction=0.0), root)[0].fits["rkl"]
    suite = suite_of(warmup_fraction=0.2)
    later = pair_curves(suite, root)[0].fits["rkl"]
    assert whole.tokens.min() == pytest.approx(2e4, rel=1e-3)
    warm_up = 0.2 * run_spec(suite, suite.runs("table5")[0]).optimisation.tokens
    assert later.tokens.min() > 0.99 * warm_up and len(later.tokens) < len(whole.tokens)


def test_a_scale_without_the_runs_says_so(tmp_path):
    with pytest.raises(CurvesError, match="selects no pair and method of Table 5"):
        pair_curves(suite_of(pairs=["qwen1.5-1.8b_0.5b"]), tmp_path)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(RecordError, match="phi2_1b/vanilla_kd/seed0/train.jsonl: no such record"):
        pair_curves(suite_of(), tmp_path)
