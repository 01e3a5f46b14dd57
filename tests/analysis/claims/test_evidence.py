"""What invented records say about two methods."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from analysis.claims.evidence import (
    FEWSHOT,
    FULL_ECE,
    KL,
    MATH,
    SPEED,
    Evidence,
    beyond,
    chain,
    compare,
    item_error,
    over_teachers,
)
from analysis.claims.judge import judge
from analysis.claims.listed import EVERY_K, KD, LOWER, RKL, TAD
from analysis.claims.statistics import CONTRADICTED, INCONCLUSIVE, NOT_TESTABLE, SUPPORTED
from analysis.paired import ItemsError, paired_items, paired_tests, read_items
from tad.experiment.layout import Layout
from tad.records import RecordError

from ..invented import (
    CLM,
    PAIRS,
    claim,
    kl_claim,
    put,
    suite_of,
    write_items,
    write_records,
)


def test_the_p_values_of_one_pair_are_those_of_a_paired_t_test(root):
    suite = suite_of(pairs=PAIRS[:1])
    judged, _ = judge(suite, root, [kl_claim("a", [TAD], [KD])])
    logs = {}
    for method in (TAD, KD):
        runs = [run for run in suite.runs("heldout") if str(run.method) == method]
        paths = [Layout(root).run(run) / "heldout.json" for run in runs]
        values = [json.loads(path.read_text())["metrics"]["kl"]["mean"] for path in paths]
        logs[method] = np.log(values)
    expected = stats.ttest_rel(logs[TAD], logs[KD])
    found = judged[0].finding
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert found.low == pytest.approx(100 * math.expm1(interval.low))
    assert found.high == pytest.approx(100 * math.expm1(interval.high))


@pytest.mark.parametrize(
    ("statistic", "reason"),
    [
        (compare(FEWSHOT, ["table2"], [TAD], [KD], 1), "no fewshot.json for table2"),
        (compare(MATH, ["table7"], [TAD], [KD], 1), "no math.json for table7"),
        (compare(FEWSHOT, ["table4"], [TAD], ["miniplm"], 1), "does not run MiniPLM"),
        (compare(FEWSHOT, ["table1"], [TAD], [RKL], 1), "does not run RKL for table1"),
        (chain(FULL_ECE, ["table4"], EVERY_K[1:], 1), "only TAD (K = 10) runs"),
        (over_teachers("x", "", lambda m: m["mismatch"], 1), "2 teachers; 3 needed"),
    ],
)
def test_what_a_scale_does_not_run_is_not_testable(root, statistic, reason):
    judged, _ = judge(suite_of(), root, [claim("a", statistic)])
    assert judged[0].verdict == NOT_TESTABLE
    assert reason in judged[0].finding.reason


def test_a_missing_record_is_an_error_that_names_it(root, tmp_path):
    with pytest.raises(RecordError, match="seed0/heldout.json: no such record"):
        judge(suite_of(), tmp_path, [kl_claim("a", [TAD], [KD])])
    put(tmp_path / "r" / "heldout.json", {"metrics": {}})
    with pytest.raises(RecordError, match="has no held-out KL"):
        Evidence(suite_of(), tmp_path).value(tmp_path / "r", KL)
    put(tmp_path / "r" / "heldout.json", {"metrics": {"kl": {"mean": 0}}})
    with pytest.raises(RecordError, match="is 0.0"):
        Evidence(suite_of(), tmp_path).value(tmp_path / "r", KL)


def test_methods_that_do_not_run_are_named(root):
    judged, _ = judge(suite_of(), root, [kl_claim("every", EVERY_K, [KD])])
    assert judged[0].verdict == SUPPORTED
    assert "without TAD (K = 5), TAD (K = 20)" in judged[0].finding.remarks[0]


def test_equivalence_takes_a_bound_on_both_sides(root):
    same = claim("same", compare(SPEED, ["heldout"], [TAD], [KD], 1, within=10))
    far = claim("far", compare(KL, ["heldout"], [TAD], [KD], 1, within=10))
    judged, _ = judge(suite_of(), root, [same, far])
    assert [entry.verdict for entry in judged] == [SUPPORTED, CONTRADICTED]
    assert "weakest" not in judged[0].finding.what


def test_a_margin_asks_for_not_worse(root):
    """KL of Vanilla KD is that of CLM: not proven lower, but not 20% higher either."""
    strict = kl_claim("strict", [KD], [CLM])
    loose = claim("loose", compare(KL, ["heldout"], [KD], [CLM], LOWER, margin=20))
    judged, _ = judge(suite_of(), root, [strict, loose])
    assert [entry.verdict for entry in judged] == [INCONCLUSIVE, SUPPORTED]


def test_the_extrapolated_difference(root):
    """The curves differ by 0.1 at any number of tokens."""
    suite = suite_of(pairs=["phi2_1b"])
    judged, _ = judge(suite, root, [claim("x5", beyond(TAD, KD, 5))])
    assert judged[0].finding.effect == pytest.approx(-0.1, abs=0.01)
    assert judged[0].verdict == SUPPORTED
    judged, _ = judge(suite_of(pairs=PAIRS[:1]), root, [claim("x5", beyond(TAD, KD, 5))])
    assert "does not train the runs of Table 5" in judged[0].finding.reason


def test_the_error_of_items_is_that_of_the_paired_bootstrap(tmp_path):
    rng = np.random.default_rng(2)
    a, b = tmp_path / "a", tmp_path / "b"
    write_items(a, rng, 0.6)
    write_items(b, rng, 0.4)
    found = item_error(Evidence(suite_of(), tmp_path), [(a, b)])
    name = "fewshot.items.jsonl.gz"
    average = paired_tests(paired_items(read_items(a / name), read_items(b / name)))[-1]
    low, high = average.interval
    assert found == pytest.approx((high - low) / (2 * 1.96), rel=0.05)
    assert item_error(Evidence(suite_of(), tmp_path), [(tmp_path, tmp_path)]) == 0
    with pytest.raises(ItemsError, match="no such file"):
        item_error(Evidence(suite_of(), tmp_path), [(a, tmp_path / "c")])


def test_items_widen_the_interval(tmp_path):
    suite = suite_of(pairs=PAIRS[:1])
    write_records(tmp_path, suite)
    avg = claim("avg", compare(FEWSHOT, ["table1"], [TAD], [KD], 1))
    before = judge(suite, tmp_path, [avg])[0][0].finding
    rng = np.random.default_rng(3)
    for run in suite.runs("table1"):
        write_items(Layout(tmp_path).run(run), rng, 0.5, n=20)
    after = judge(suite, tmp_path, [avg])[0][0].finding
    assert after.effect == before.effect
    assert after.p > before.p or after.high - after.low > before.high - before.low
