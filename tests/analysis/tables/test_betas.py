"""Held-out KL against beta from invented records."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from analysis.tables.betas import betas_frame, swept_runs, write
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.methods import BASELINE

from ..conftest import CONFIG

MINI = load_suite(CONFIG / "mini.yaml")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """KL that grows with beta and is that of Vanilla KD at 5."""
    root, rng = tmp_path_factory.mktemp("root"), np.random.default_rng(0)
    for run in swept_runs(MINI, "betas"):
        kl = 0.2 if str(run.method) == BASELINE else 0.04 * run.method["beta"]
        kl *= float(np.exp(0.01 * rng.normal()))
        path = Layout(root).run(run) / "heldout.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"metrics": {"kl": {"mean": kl, "se": 0.001}}}))
    return root


def test_one_family_differs_in_beta_alone():
    methods = {str(run.method) for run in swept_runs(MINI, "betas")}
    assert methods == {BASELINE, *(f"tad-k10-b{b}" for b in ("0.5", "1", "2", "5", "10"))}
    assert {run.pair for run in swept_runs(MINI, "betas")} == {"qwen1.5-1.8b_0.5b", "phi2_1b"}


def test_the_change_is_paired_by_seed(root):
    frame = betas_frame(root, swept_runs(MINI, "betas"))
    row = frame[(frame["pair"] == "phi2_1b") & (frame["method"] == "tad-k10-b10")].iloc[0]
    kl = {
        method: [
            json.loads((root / f"runs/scratch/phi2_1b/{method}/seed{s}/heldout.json").read_text())
            ["metrics"]["kl"]["mean"]
            for s in MINI.seeds
        ]
        for method in ("tad-k10-b10", BASELINE)
    }  # fmt: skip
    expected = stats.ttest_rel(*(np.log(values) for values in kl.values())).confidence_interval()
    assert [row["low"], row["high"]] == pytest.approx(100 * np.expm1(expected))
    assert row["kl"] == pytest.approx(np.mean(kl["tad-k10-b10"]))
    assert frame["beta"].dropna().tolist() == [0.5, 1, 2, 5, 10] * 2


def test_every_beta_is_better_worse_or_not_told(root):
    write("betas", MINI, root)
    text = (root / "tables" / "betas.md").read_text()
    assert "|  | Vanilla KD | β = 0.5 | β = 1 | β = 2 | β = 5 | β = 10 |" in text
    assert text.count("| verdict |  | better | better | better | not told | worse |") == 2
    assert "phi-2 architecture, 1.7M → 920k: β = 10 is worse than Vanilla KD." in text


def test_one_seed_has_no_verdict(root):
    runs = [run for run in swept_runs(MINI, "betas") if run.seed == 0]
    frame = betas_frame(root, runs)
    assert set(frame["verdict"].dropna()) == {"one seed"} and frame["low"].isna().all()
