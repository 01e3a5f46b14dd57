"""What budgets foretell, what is refused and why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.scaling_law.budgets import BudgetsError, curves, predict
from tad.records import RecordError

from ..budget_runs import law, suite_of, write_ends
from .points import ends


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ends(tmp_path_factory.mktemp("root"), suite_of())


def test_the_largest_budget_is_foretold_by_the_others_alone(root, tmp_path):
    kd, tad = curves(suite_of(), root)
    assert [kd.method, tad.method] == ["vanilla_kd", "tad-k10-b2"]
    assert len(kd.points) == 12 and kd.held_out.factor == 5
    for curve, name in ((kd, "vanilla_kd"), (tad, "tad")):
        one = curve.held_out
        assert one.foretold and sorted(one.measured) == [0, 1]
        assert one.value == pytest.approx(float(law(name, one.tokens)), abs=0.02)
    moved = curves(suite_of(), write_ends(tmp_path, suite_of(), off=0.3))[0].held_out
    assert moved.value == kd.held_out.value, "the truth has no part in its own prediction"
    assert not moved.foretold and moved.truth == pytest.approx(kd.held_out.truth + 0.3)


def test_a_law_that_missed_the_truth_goes_no_further(root, tmp_path):
    fifty = curves(suite_of(), root)[0].at(50)
    assert not fifty.refusal and fifty.low < float(law("vanilla_kd", fifty.tokens)) < fifty.high
    missed = curves(suite_of(), write_ends(tmp_path, suite_of(), off=-0.1))[0].at(50)
    assert missed.refusal and np.isnan(missed.value)


def test_no_law_goes_further_than_its_budgets_reach(root):
    far = curves(suite_of(), root)[0].at(500)
    assert "further beyond the largest budget than the budgets span" in far.refusal
    assert np.isnan([far.value, far.low, far.high]).all()


def frame(tokens, loss):
    seeds = np.arange(len(tokens)) % 2
    return pd.DataFrame({"factor": tokens / 16e4, "tokens": tokens, "seed": seeds, "loss": loss})


def test_too_few_decades_and_too_wide_an_interval_are_refused():
    wide = frame(*ends(noise=0.02))
    assert "more than the" in predict(wide, 5, 8e5).refusal or predict(wide, 5, 8e5).refusal
    short = frame(*ends(budgets=(1e5, 15e4, 2e5, 3e5)))
    assert "decades of tokens, not 1.5" in predict(short, 2.5, 4e5).refusal
    few = frame(*ends(budgets=(24e3, 8e4, 32e4)))
    assert "there are 3" in predict(few, 5, 8e5).refusal


def test_one_budget_refuses_and_keeps_what_was_measured(tmp_path):
    suite = suite_of("smoke", seeds=(0,))
    curve = curves(suite, write_ends(tmp_path, suite))[0]
    assert curve.fit is None and len(curve.held_out.measured) == 1
    assert all("need 4 budgets" in one.refusal for one in curve.predictions)
    assert [one.factor for one in curve.predictions] == [1, 5, 50, 500]


def test_a_scale_without_the_runs_says_so(tmp_path):
    with pytest.raises(BudgetsError, match="selects no pair and method of item budgets"):
        curves(suite_of(pairs=["qwen1.5-1.8b_0.5b"]), tmp_path)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(RecordError, match="seed0/heldout.json: no such record"):
        curves(suite_of(), tmp_path)
