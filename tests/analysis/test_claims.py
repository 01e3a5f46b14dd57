"""Claims on invented records whose truth is known: verdicts, corrections, what is not testable."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.evidence import (
    FEWSHOT,
    FULL_ECE,
    KL,
    MATH,
    SPEED,
    Evidence,
    _item_error,
    beyond,
    chain,
    compare,
    over_teachers,
)
from analysis.claims.exact import MASSES, K, _gradients, tail_mass_rises
from analysis.claims.judge import judge
from analysis.claims.judge import judge as command
from analysis.claims.listed import CLAIMS, EVERY_K, KD, LOWER, RKL, TAD, Claim
from analysis.claims.statistics import (
    ALL,
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_TESTABLE,
    SUPPORTED,
    Estimate,
    Part,
    combine,
    estimate,
    find,
    holm,
)
from analysis.paired import TASKS, TableError, paired_items, paired_tests, read_items
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.records import RecordError

CONFIG = Path(__file__).parents[2] / "config"
PAIRS = ("qwen1.5-1.8b_0.5b", "phi2_1b")
ITEMS = ("table1", "table4", "table5", "figure1", "figure2", "heldout")
CLM = "clm"


def suite_of(seeds=(0, 1, 2), items=ITEMS, pairs=PAIRS):
    """The smoke scale's models with other seeds, items and pairs, and few methods."""
    suite = load_suite(CONFIG / "smoke.yaml")
    methods = [CLM, KD, RKL, "tad-k1-b2", TAD]
    update = {"items": list(items), "pairs": list(pairs), "methods": methods}
    select = suite.select.model_copy(update=update)
    return suite.model_copy(update={"seeds": list(seeds), "select": select})


KL_TRUTH = {CLM: 0.300, KD: 0.301, RKL: 0.12, "tad-k1-b2": 0.20, TAD: 0.20}
"""TAD is below Vanilla KD, above RKL; CLM and Vanilla KD differ by less than the noise."""


def write_records(root, suite, *, noise=0.03):
    """Every record of every run of a suite; held-out KL follows KL_TRUTH."""
    rng = np.random.default_rng(0)
    layout = Layout(root)
    for run in suite.runs():
        method = str(run.method)
        put(
            layout.run(run) / "heldout.json",
            {"metrics": {"kl": _mean(KL_TRUTH[method], rng, noise)}},
        )
        lines = [
            {"tokens": t, "eval_nll": 3.0, "eval_kl": 0.5, "eval_loss": x, "tokens_per_second": 1e3}
            for t, x in zip(
                np.geomspace(4e3, 6e4, 12).astype(int).tolist(),
                (3 + (method != TAD) * 0.1 + 30 / np.geomspace(4e3, 6e4, 12) ** 0.33).tolist(),
                strict=True,
            )
        ]
        path = layout.run(run) / "train.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        put(layout.run(run) / "manifest.json", {"peak_memory_bytes": 1e9, "tokens": 60_000})
        put(layout.run(run) / "fewshot.json", {"average": 0.4 + 0.01 * rng.normal()})
        put(layout.run(run) / "calibration.json", {"full_ece": 0.01})
    for teacher in suite.teachers("figure2"):
        tail = {f"alpha_{k}": _mean(0.6 / k**0.5, rng, 0.0) for k in (1, 5, 10, 20)}
        record = {"metrics": {"mismatch": {"mean": 0.6, "se": 0.01}, **tail}}
        put(layout.model(teacher, "final") / "heldout.json", record)
    return root


def _mean(value, rng, noise):
    return {"mean": float(value * math.exp(noise * rng.normal())), "se": 0.001}


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("root"), suite_of())


def claim(name, statistic):
    return Claim(name, "2", "a statement", "records", statistic)


def kl_claim(name, ours, theirs):
    return claim(name, compare(KL, ["heldout"], ours, theirs, LOWER))


# --- Verdicts ------------------------------------------------------------------------------------


def test_supported_contradicted_inconclusive(root):
    judged, pairs = judge(
        suite_of(),
        root,
        [
            kl_claim("below-kd", [TAD], [KD]),
            kl_claim("below-rkl", [TAD], [RKL]),
            kl_claim("kd-below-clm", [KD], [CLM]),
        ],
    )
    assert [entry.verdict for entry in judged] == [SUPPORTED, CONTRADICTED, INCONCLUSIVE]
    first = judged[0].finding
    assert first.low < first.effect < first.high < 0
    assert first.effect == pytest.approx(100 * (0.200 / 0.301 - 1), abs=3)
    assert first.replicates == 3 and first.unit == "%"
    assert [entry.finding.scope for entry in pairs] == list(PAIRS) * 3


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


def test_too_few_seeds_give_an_effect_and_no_verdict(root):
    for seeds, told in (((0, 1), "2 seeds; 3 needed"), ((0,), "1 seed; 3 needed")):
        judged, _ = judge(suite_of(seeds=seeds), root, [kl_claim("a", [TAD], [KD])])
        assert judged[0].verdict == NOT_TESTABLE
        assert judged[0].finding.reason == told
        assert judged[0].finding.effect < -20
        assert math.isnan(judged[0].finding.p) and math.isnan(judged[0].finding.low)


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


def test_the_weakest_part_decides(root):
    """TAD is below Vanilla KD and above RKL: together they are contradicted, by RKL."""
    judged, _ = judge(suite_of(), root, [kl_claim("both", [TAD], [KD, RKL])])
    assert judged[0].verdict == CONTRADICTED
    assert "TAD (K = 10) − RKL" in judged[0].finding.what
    assert "weakest of 2" in judged[0].finding.what


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


# --- Statistics ----------------------------------------------------------------------------------


def test_holm_by_hand():
    # 3 tests: 0.01 * 3, 0.03 * 2, then 0.04 * 1, which may not fall below the one before.
    assert holm([0.01, 0.04, math.nan, 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, math.nan, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([0.01, 0.04, math.nan, 0.03])[2])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_is_applied_over_claims(root):
    one, _ = judge(suite_of(), root, [kl_claim("a", [TAD], [KD])])
    many, _ = judge(suite_of(), root, [kl_claim(str(i), [TAD], [KD]) for i in range(4)])
    assert many[0].adjusted == pytest.approx(4 * one[0].finding.p)


def test_combined_means_by_hand():
    """Welch and Satterthwaite: with equal variances as many degrees of freedom as seeds allow."""
    found = combine([estimate([1.0, 2.0, 3.0]), estimate([4.0, 5.0, 6.0])])
    assert found.mean == 3.5
    assert found.variance == pytest.approx((1 / 3 + 1 / 3) / 4)
    assert found.df == pytest.approx(4)
    known = estimate([1.0, 2.0, 3.0], known=math.sqrt(1 / 3))
    assert known.variance == pytest.approx(2 / 3)
    assert known.df == pytest.approx(8)  # (2/3)^2 / ((1/3)^2 / 2)
    assert (
        combine([Estimate(1.0, 4.0, math.inf, 3), Estimate(3.0, 4.0, math.inf, 3)]).df == math.inf
    )


def test_replicates_that_are_all_alike():
    part = Part("x", {ALL: estimate([0.5, 0.5, 0.5])}, +1)
    assert find([part], ALL, "").p == 0
    assert find([Part("x", {ALL: estimate([0.0] * 3)}, +1)], ALL, "").p == 1


def test_a_true_null_is_rejected_as_often_as_stated():
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(2000):
        pairs = {f"p{i}": estimate(rng.normal(0, 1 + i, 3)) for i in range(3)}
        p_values.append(find([Part("x", pairs, +1)], ALL, "").p)
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.065


# --- Items ---------------------------------------------------------------------------------------


def write_items(folder, rng, chance, n=80):
    rows = [
        {"task": task, "item": i, "doc_hash": str(i), "correct": int(rng.random() < chance)}
        for task in TASKS
        for i in range(n)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "fewshot.items.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def test_the_error_of_items_is_that_of_the_paired_bootstrap(tmp_path):
    rng = np.random.default_rng(2)
    a, b = tmp_path / "a", tmp_path / "b"
    write_items(a, rng, 0.6)
    write_items(b, rng, 0.4)
    found = _item_error(Evidence(suite_of(), tmp_path), [(a, b)])
    name = "fewshot.items.jsonl.gz"
    average = paired_tests(paired_items(read_items(a / name), read_items(b / name)))[-1]
    low, high = average.interval
    assert found == pytest.approx((high - low) / (2 * 1.96), rel=0.05)
    assert _item_error(Evidence(suite_of(), tmp_path), [(tmp_path, tmp_path)]) == 0
    with pytest.raises(TableError, match="no such file"):
        _item_error(Evidence(suite_of(), tmp_path), [(a, tmp_path / "c")])


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


# --- The claims of the paper ---------------------------------------------------------------------


def test_the_list_is_complete_and_names_what_it_needs():
    assert len(CLAIMS) >= 20
    assert len({entry.id for entry in CLAIMS}) == len(CLAIMS)
    assert all(entry.section and entry.statement and entry.needs for entry in CLAIMS)


@pytest.fixture(scope="module")
def written(root):
    suite = suite_of(items=("table1", "table4", "table5", "figure1", "figure2", "heldout"))
    command.write(suite, root)
    frame = pd.read_csv(root / "tables" / "claims.csv").set_index("id")
    return suite, root, frame


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("split", SUPPORTED),
        ("modes-unchanged", SUPPORTED),
        ("equation-6", SUPPORTED),
        ("gradient-bound", SUPPORTED),
        ("gradient-stronger", CONTRADICTED),
        ("tail-mass-rises", CONTRADICTED),
        ("fixed-point", SUPPORTED),
        ("flops-same", SUPPORTED),
        ("flops-1e19", SUPPORTED),
        ("flops-order", CONTRADICTED),
        ("one-week", CONTRADICTED),
        ("sizes", CONTRADICTED),
        ("active", CONTRADICTED),
        ("kl-below-kd", SUPPORTED),
        ("kl-tad-rkl", CONTRADICTED),
        ("kl-kd-clm", INCONCLUSIVE),
        ("ece-k", INCONCLUSIVE),  # the same value everywhere
        ("mismatch-range", NOT_TESTABLE),
        ("continued-tad-2t", NOT_TESTABLE),
        ("math-tad-kd", NOT_TESTABLE),
        ("avg-miniplm", NOT_TESTABLE),
    ],
)
def test_verdicts_of_the_list_on_invented_records(written, name, verdict):
    assert written[2].loc[name, "verdict"] == verdict


def test_the_rise_of_the_tail_is_that_of_a_small_step():
    """The rates in ``tail_mass_rises`` against a step of 1e-6 down both gradients."""
    found = []
    for mass in MASSES[3:]:
        g, rises = _gradients(mass), {}
        for name in ("kl", "tad"):
            weights = g["student"] * np.exp(-1e-6 * g[name])
            rises[name] = weights[K:].sum() / weights.sum() - g["student"][K:].sum()
        assert rises["kl"] > 0, "KL raises a tail that is too light"
        found.append(100 * (rises["tad"] / rises["kl"] - 1))
    assert tail_mass_rises(None)[0].effect == pytest.approx(min(found), abs=1e-3)


def test_every_claim_has_a_row_with_effect_interval_and_replicates(written):
    frame = written[2]
    assert list(frame.index) == [entry.id for entry in CLAIMS]
    tested = frame[frame["p_holm"].notna()]
    assert (tested["low"] <= tested["effect"]).all() and (tested["effect"] <= tested["high"]).all()
    assert (tested["replicates"] >= 3).all() and (tested["p_holm"] >= tested["p"]).all()
    told = frame.loc[frame["verdict"] == NOT_TESTABLE, "remarks"]
    assert told.notna().all(), "a claim that is not testable says why"


def test_all_four_forms_are_written_the_same_each_time(written):
    suite, root, _ = written
    files = [root / "tables" / f"claims.{kind}" for kind in ("csv", "md", "html", "tex")]
    files += [root / "tables" / f"claims_by_pair.{kind}" for kind in ("csv", "md", "html", "tex")]
    first = [path.read_bytes() for path in files]
    command.write(suite, root)
    assert [path.read_bytes() for path in files] == first
    assert "Holm" in files[1].read_text()


def test_the_command_line_tells_a_missing_record_in_one_line(tmp_path, capsys):
    config = str(CONFIG / "smoke.yaml")
    assert command.main(["--root", str(tmp_path), "--config", config]) == 2
    error = capsys.readouterr().err
    assert error.startswith("analysis.claims.judge: ") and error.count("\n") == 1
    assert "no such record" in error
