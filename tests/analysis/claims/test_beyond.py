"""Claims of Table 5: measured where the budget was trained, foretold beyond, or not testable."""

from __future__ import annotations

import pytest

from analysis.claims.compare import beyond
from analysis.claims.judge import judge

from ..budget_runs import suite_of, write_ends
from ..invented import claim

KD, TAD = "vanilla_kd", "tad-k10-b2"


def judged(suite, root, factor, ours=TAD):
    return judge(suite, root, [claim("x", beyond(ours, KD, factor))])[0][0]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ends(tmp_path_factory.mktemp("root"), suite_of(seeds=(0, 1, 2)))


def test_a_budget_that_was_trained_is_compared_by_its_runs(root):
    finding = judged(suite_of(seeds=(0, 1, 2)), root, 5).finding
    assert finding.effect == pytest.approx(-0.1, abs=0.01)
    assert finding.low < finding.effect < finding.high < 0


def test_beyond_it_predictions_are_compared(root):
    finding = judged(suite_of(seeds=(0, 1, 2)), root, 50).finding
    assert finding.low < -0.1 < finding.high < 0


def test_what_is_refused_is_not_testable(root):
    suite = suite_of(seeds=(0, 1, 2))
    reason = judged(suite, root, 500).finding.reason
    assert "no prediction: phi2_1b: further beyond the largest budget" in reason
    assert "does not run both RKL" in judged(suite, root, 5, ours="rkl").finding.reason
    other = suite_of(pairs=["qwen1.5-1.8b_0.5b"])
    assert "does not train the runs of Table 5" in judged(other, root, 5).finding.reason
