"""The primary claims in config/claims.yaml."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from analysis.claims.design import design_hash, load_design, primary_claims
from analysis.claims.judge import judge
from analysis.claims.listed import PRIMARY
from analysis.claims.statistics import NOT_TESTABLE, SAME, SUPPORTED
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.experiment.yaml_file import ConfigError

from ..conftest import CONFIG
from ..invented import fewshot, put, put_teacher

GOOD = """item: primary
claims:
  a: {metric: kl, ours: tad-k10-b2, theirs: vanilla_kd, direction: lower,
      pairs: [phi2_1b], margin: 2}
"""


def test_there_are_eight_of_these_kinds():
    design = load_design()
    kinds = Counter((e.metric, e.theirs, e.margin, len(e.pairs)) for e in design.claims.values())
    assert kinds == {
        ("kl", "vanilla_kd", 2, 1): 2,
        ("kl", "vanilla_kd_matched", 2, 1): 2,
        ("full_ece", "vanilla_kd_matched", 0.5, 1): 2,
        ("nll", "kd_only", 0.01, 2): 1,
        ("fewshot", "vanilla_kd", 1, 2): 1,
    }
    suite = load_suite(CONFIG / "smoke.yaml")
    assert {claim.family for claim in primary_claims(design, suite)} == {PRIMARY}
    assert design_hash() == hashlib.sha256((CONFIG / "claims.yaml").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("margin: 2", "margin: 2, alpha: 1", "claims.a.alpha"),
        ("margin: 2", "margin: 0", "claims.a.margin"),
        ("metric: kl", "metric: bleu", "claims.a.metric"),
        ("pairs: [phi2_1b]", "pairs: []", "claims.a.pairs"),
        ("theirs: vanilla_kd", "theirs: vanilla", "claims.a: method 'vanilla'"),
        ("item: primary", "item: primary\nlevel: 0.1", "level"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(tmp_path, old, new, told):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD)
    assert list(load_design(path).claims) == ["a"]
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_design(path)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [("phi2_1b", "phi2", "claims.a: pair 'phi2'"), ("primary", "main", "item: 'main'")],
)
def test_an_item_or_pair_that_nothing_defines_is_refused(tmp_path, old, new, told):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=told):
        primary_claims(load_design(path), load_suite(CONFIG / "smoke.yaml"))


def test_the_primary_claims_on_runs_of_their_item(tmp_path):
    """KL is 10% lower than Vanilla KD's and 1% lower than the matched one's; six seeds."""
    suite = load_suite(CONFIG / "smoke.yaml")
    methods = ["vanilla_kd", "vanilla_kd_matched", "kd_only", "tad_only-k10-b2", "tad-k10-b2"]
    item = suite.items["table4"].model_copy(
        update={"pairs": ["qwen1.5-1.8b_0.5b", "phi2_1b"], "methods": methods}
    )
    select = suite.select.model_copy(update={"items": ["primary"], "methods": methods})
    more = {"seeds": list(range(6)), "select": select, "items": suite.items | {"primary": item}}
    suite = suite.model_copy(update=more)
    rng = np.random.default_rng(0)
    truth = {"vanilla_kd": 0.200, "vanilla_kd_matched": 0.1818, "tad-k10-b2": 0.180}
    for run in suite.runs():
        folder, noise = Layout(tmp_path).run(run), 1 + 0.002 * rng.normal()
        kl = truth.get(str(run.method), 0.2) * noise
        metrics = {"kl": {"mean": kl}, "nll": {"mean": 3.9 + 0.02 * rng.normal()}}
        put(folder / "heldout.json", {"metrics": metrics})
        put(folder / "calibration.json", {"full_ece": 0.03 + 0.0005 * rng.normal()})
        put(folder / "fewshot.json", fewshot(0.4 + 0.001 * rng.normal()))
    for name in item.pairs:
        put_teacher(tmp_path, suite, name)
    claims = primary_claims(load_design(), suite)
    whole, pairs = judge(suite, tmp_path, claims)
    verdicts = {entry.claim.id.removeprefix("primary-"): entry.verdict for entry in whole}
    assert verdicts["kl-kd-phi2"] == verdicts["kl-kd-qwen1.5"] == SUPPORTED
    assert verdicts["kl-matched-phi2"] == verdicts["ece-matched-phi2"] == SAME
    assert verdicts["avg-kd"] == SAME and len(verdicts) == 8
    assert {entry.finding.replicates for entry in whole} == {6}
    assert {entry.tested for entry in whole} == {8}
    assert not any("by teacher" in remark for e in whole for remark in e.finding.remarks)
    assert {entry.claim.id for entry in pairs} == {"primary-nll-alone", "primary-avg-kd"}
    other = suite.pairs["qwen1.5-1.8b_0.5b"].teacher
    pair = suite.pairs["phi2_1b"].model_copy(update={"teachers_of_seeds": {other: [3, 4, 5]}})
    two = suite.model_copy(update={"pairs": suite.pairs | {"phi2_1b": pair}})
    [kl] = [e for e in judge(two, tmp_path, claims)[0] if e.claim.id == "primary-kl-kd-phi2"]
    assert any("by teacher of phi2_1b: -1" in remark for remark in kl.finding.remarks)
    other = load_suite(CONFIG / "smoke.yaml")
    assert {e.verdict for e in judge(other, tmp_path, claims)[0]} == {NOT_TESTABLE}
