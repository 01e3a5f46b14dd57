"""What invented records say about two methods."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from analysis.claims.compare import (
    chain,
    compare,
    compare_couples,
    item_error,
    of_one,
    over_teachers,
    throughout,
)
from analysis.claims.evidence import Evidence
from analysis.claims.judge import judge
from analysis.claims.listed import EVERY_K, KD, LOWER, RKL, TAD
from analysis.claims.metrics import (
    FEWSHOT,
    FULL_ECE,
    KL,
    MATH,
    MEMORY,
    RISE,
    SPEED,
    NotTestable,
    task_accuracy,
)
from analysis.claims.statistics import CONTRADICTED, NOT_TESTABLE, SUPPORTED, UNDECIDED
from analysis.paired import ItemsError, paired_items, paired_tests, read_items
from tad.experiment.layout import Layout
from tad.records import RecordError

from ..invented import (
    CLM,
    PAIRS,
    claim,
    fewshot,
    kl_claim,
    put,
    put_teacher,
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
    with pytest.raises(RecordError, match="heldout.json: has no key .kl.; delete"):
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
    assert [entry.verdict for entry in judged] == [UNDECIDED, SUPPORTED]


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


def curve(root, run, kl, loss=None):
    """A train.jsonl with these held-out points."""
    points = [{"eval_kl": x, "eval_loss": y} for x, y in zip(kl, loss or kl, strict=True)]
    path = Layout(root).run(run) / "train.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(point) + "\n" for point in points))


def test_throughout_takes_every_point_of_the_second_half(tmp_path):
    """At one point of the second half TAD is above: the mean would hide it, the test does not."""
    suite = suite_of(pairs=PAIRS[:1], items=["figure1"])
    statistic = throughout(["figure1"], TAD, KD, LOWER)
    for crossing in (1.0, 3.0):
        for run in suite.runs():
            points = [9.0, 3.0, 2.0, 1.5] if str(run.method) == KD else [9.0, 5.0, 1.0, 0.5]
            noise = 1 + 0.001 * run.seed * (str(run.method) == TAD)
            curve(tmp_path, run, [points[0], points[1], points[2] * crossing * noise, points[3]]
                  if str(run.method) == TAD else points)  # fmt: skip
        [judged], _ = judge(suite, tmp_path, [claim("a", statistic)])
        assert judged.verdict == (SUPPORTED if crossing == 1 else CONTRADICTED)
        assert "last but 1 evaluation (weakest of 2)" in judged.finding.what or crossing == 1


def test_a_number_of_one_method(tmp_path):
    suite = suite_of(pairs=PAIRS[:1], items=["figure1"])
    for run in suite.runs():
        curve(tmp_path, run, [1.0, 1.0], [5.0, 3.0 + 0.01 * run.seed])
    [judged], _ = judge(suite, tmp_path, [claim("a", of_one(RISE, ["figure1"], TAD, 1))])
    assert judged.verdict == CONTRADICTED
    assert judged.finding.effect == pytest.approx(-1.99)
    [judged], _ = judge(suite, tmp_path, [claim("a", of_one(RISE, ["figure1"], RKL, 1))])
    assert "does not run RKL" in judged.finding.reason


def test_couples_must_all_hold(root):
    good, bad = (TAD, KD), (TAD, RKL)
    for couples, verdict in (([good], SUPPORTED), ([good, bad], CONTRADICTED)):
        statistic = compare_couples(KL, ["heldout"], couples, LOWER)
        assert judge(suite_of(), root, [claim("a", statistic)])[0][0].verdict == verdict


def test_tasks_are_compared_one_by_one_with_their_own_items(tmp_path):
    """OpenBookQA is better by far, PIQA is worse: of both, the claim fails by PIQA alone."""
    suite = suite_of(pairs=PAIRS[:1], items=["table1"])
    put_teacher(tmp_path, suite, PAIRS[0])
    rng = np.random.default_rng(0)
    for run in suite.runs():
        ours = str(run.method) == TAD
        tasks = {"openbookqa": 0.3 + 0.3 * ours, "piqa": 0.6 - 0.3 * ours}
        noisy = {task: x + 0.001 * rng.normal() for task, x in tasks.items()}
        put(Layout(tmp_path).run(run) / "fewshot.json", fewshot(0.5, **noisy))
        write_items(Layout(tmp_path).run(run), rng, 0.5)
    for tasks, verdict in ((["openbookqa"], SUPPORTED), (["openbookqa", "piqa"], CONTRADICTED)):
        metrics = [task_accuracy(task) for task in tasks]
        statistic = compare(metrics, ["table1"], [TAD], [KD], 1)
        [judged], _ = judge(suite, tmp_path, [claim("a", statistic)])
        assert judged.verdict == verdict
    assert "accuracy in PIQA (weakest of 2)" in judged.finding.what
    both = [(Layout(tmp_path).run(run),) * 2 for run in suite.runs()[:1]]
    assert item_error(Evidence(suite, tmp_path), both, ["piqa"]) == 0


def test_tasks_on_which_the_teacher_guesses_do_not_count(tmp_path):
    """TAD is better in PIQA alone, by much, and the teacher guesses there."""
    suite = suite_of(pairs=PAIRS[:1], items=["table1"])
    rng = np.random.default_rng(0)
    for run in suite.runs():
        better = 0.9 if str(run.method) == TAD else 0.1
        record = fewshot(0.4 + 0.001 * rng.normal(), piqa=better)
        put(Layout(tmp_path).run(run) / "fewshot.json", record)
    avg = claim("avg", compare(FEWSHOT, ["table1"], [TAD], [KD], 1))
    put_teacher(tmp_path, suite, PAIRS[0])
    finding = judge(suite, tmp_path, [avg])[0][0].finding
    assert finding.effect == pytest.approx(10, abs=0.3)
    put_teacher(tmp_path, suite, PAIRS[0], piqa=0.25)
    finding = judge(suite, tmp_path, [avg])[0][0].finding
    assert finding.effect == pytest.approx(0, abs=0.3)
    assert any("without PIQA, on which the teacher of" in told for told in finding.remarks)
    piqa = claim("piqa", compare(task_accuracy("piqa"), ["table1"], [TAD], [KD], 1))
    [judged], _ = judge(suite, tmp_path, [piqa])
    assert judged.verdict == NOT_TESTABLE and "its teacher knows" in judged.finding.reason


def test_memory_of_the_process_decides_nothing(root, tmp_path):
    memory = claim("memory", compare(MEMORY, ["heldout"], [TAD], [KD], 1, within=10))
    assert judge(suite_of(), root, [memory])[0][0].verdict == SUPPORTED
    for run in suite_of().runs():
        put(Layout(tmp_path).run(run) / "manifest.json", {"peak_memory_bytes": 1e9})
    [judged], _ = judge(suite_of(), tmp_path, [memory])
    assert judged.verdict == NOT_TESTABLE and "the process" in judged.finding.reason


def test_a_number_without_ratio_decides_nothing_and_stops_nothing(root):
    """A tiny student that gives no token 10% has a Full-ECE of 0."""
    suite = suite_of(pairs=PAIRS[:1])
    run = next(run for run in suite.runs("heldout") if str(run.method) == TAD)
    put(Layout(root).run(run) / "calibration.json", {"full_ece": 0.0})
    with pytest.raises(NotTestable, match="no ratio"):
        Evidence(suite, root).value(Layout(root).run(run), FULL_ECE)
