"""Claims of one seed: over items and documents, and called no more than that."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.claims import judge as command
from analysis.claims.compare import compare
from analysis.claims.judge import judge
from analysis.claims.listed import CLAIMS, KD, LOWER, RKL, TAD
from analysis.claims.metrics import FEWSHOT, FULL_ECE_POINTS, KL, SPEED
from analysis.claims.statistics import HERE, NOT_TESTABLE, SAME, SUPPORTED, UNDECIDED
from eval.calibration.sums import SequenceGaps
from tad.experiment.layout import Layout

from ..invented import (
    CLM,
    PAIRS,
    claim,
    fewshot,
    kl_claim,
    put,
    put_documents,
    put_teacher,
    suite_of,
    write_records,
    write_right,
)

SUITE = suite_of(seeds=(0,), items=("heldout", "table1", "table4"))
TOKENS = np.random.default_rng(1).integers(20, 300, 80)
LEVELS = {CLM: 1.0, KD: 1.0, RKL: 0.5, "tad-k1-b2": 0.9, TAD: 0.9}
"""Held-out KL: TAD is 10% below Vanilla KD, RKL far below, CLM level."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One run of each method: KL document by document, and 200 items of PIQA."""
    root = write_records(tmp_path_factory.mktemp("one"), SUITE)
    for pair in SUITE.select.pairs:
        others = dict.fromkeys(fewshot(0)["tasks"], 0.25) | {"piqa": 0.8}
        put_teacher(root, SUITE, pair, **others)
    hard = np.random.default_rng(2).random(200)
    for number, run in enumerate(SUITE.runs()):
        rng, method = np.random.default_rng(number), str(run.method)
        folder = Layout(root).run(run)
        kl = LEVELS[method] * np.exp(0.05 * rng.normal(size=len(TOKENS)))
        put_documents(folder, kl.tolist(), TOKENS.tolist())
        right = hard + 0.05 * rng.normal(size=200) < (0.7 if method == TAD else 0.5)
        write_right(folder, right)
        put(folder / "fewshot.json", fewshot(0.25, piqa=float(right.mean())))
        gap = np.full((40, 10), 0.5 if method == RKL else 0.1) + 0.01 * rng.normal(size=(40, 10))
        sums = SequenceGaps(np.full(40, 128), gap.astype(np.float32), "the text")
        sums.save(folder / "calibration.npz")
        value = np.abs(gap.sum(0)).sum() / (40 * 128)
        put(folder / "calibration.json", {"full_ece": float(value)})
    return root


def test_verdicts_say_that_they_are_of_one_run(root):
    judged, pairs = judge(SUITE, root, [
        kl_claim("lower", [TAD], [KD]),
        kl_claim("higher", [KD], [RKL]),
        kl_claim("level", [KD], [CLM]),
    ])  # fmt: skip
    assert [entry.verdict for entry in judged] == [
        "supported on these items, one run",
        "contradicted on these items, one run",
        UNDECIDED,
    ]
    first = judged[0].finding
    assert first.low < first.effect < first.high < 0 and first.one_run
    assert first.effect == pytest.approx(-10, abs=2)
    assert (first.replicates, first.kind) == (80, "documents of one run"), "both pairs share them"
    assert first.remarks[0] == "over 80 documents of one run: does not hold for other seeds"
    assert {entry.verdict for entry in pairs[:2]} == {HERE[SUPPORTED]}


def test_items_and_sequences_decide_too(root):
    judged, _ = judge(SUITE, root, [
        claim("avg", compare(FEWSHOT, ["table1"], [TAD], [KD], 1)),
        claim("ece", compare(FULL_ECE_POINTS, ["table4"], [TAD], [RKL], LOWER)),
        claim("speed", compare(SPEED, ["heldout"], [TAD], [KD], 1, within=10)),
    ])  # fmt: skip
    avg, ece, speed = judged
    assert avg.verdict == ece.verdict == HERE[SUPPORTED]
    assert avg.finding.effect == pytest.approx(20, abs=6)
    assert avg.finding.kind == "items of one run" and avg.finding.replicates == 200
    assert ece.finding.kind == "sequences of one run" and ece.finding.replicates == 40
    assert speed.verdict == NOT_TESTABLE
    assert speed.finding.reason.endswith("train.jsonl has one number of it a run")


def test_a_margin_may_be_excluded_on_these_items_alone(root):
    level = claim("a", compare(KL, ["heldout"], [KD], [CLM], LOWER, pairs=PAIRS, counts=5))
    [judged], _ = judge(SUITE, root, [level])
    assert judged.verdict == HERE[SAME] == "no difference beyond the margin on these items, one run"


def test_several_seeds_are_judged_as_ever(root, tmp_path):
    """Items are there, and do not speak where seeds can."""
    suite = suite_of(items=("heldout",))
    write_records(tmp_path, suite)
    plain, _ = judge(suite, tmp_path, [kl_claim("a", [TAD], [KD])])
    rng = np.random.default_rng(0)
    for run in suite.runs():
        path = Layout(tmp_path).run(run) / "heldout.json"
        mean = pd.read_json(path)["metrics"]["kl"]["mean"]
        kl = mean * np.exp(rng.normal(size=len(TOKENS)))
        put_documents(path.parent, (kl * mean / np.average(kl, weights=TOKENS)).tolist(), TOKENS)
    again, _ = judge(suite, tmp_path, [kl_claim("a", [TAD], [KD])])
    assert again[0].finding.p == pytest.approx(plain[0].finding.p, rel=1e-6)
    assert again[0].verdict == SUPPORTED and again[0].finding.kind == "seeds"


def test_one_run_is_corrected_apart(root):
    """A claim over items counts for no claim over seeds, nor the other way round."""
    alone, _ = judge(SUITE, root, [kl_claim("a", [TAD], [KD])])
    same = [kl_claim("a", [TAD], [KD]), kl_claim("b", [KD], [CLM])]
    both, _ = judge(SUITE, root, same)
    assert alone[0].tested == 1 and {entry.tested for entry in both} == {2}
    seeds = [entry.finding for entry in both]
    mixed = command._family(
        [(same[0], seeds[0]), (same[1], command.replace(seeds[1], one_run=False, kind="seeds"))],
        command.benjamini_hochberg,
    )
    assert [entry.tested for entry in mixed] == [1, 1]
    assert mixed[0].adjusted == pytest.approx(seeds[0].p)


def test_the_tables_say_what_intervals_are_over(root, tmp_path):
    claims = [each for each in CLAIMS if each.id in ("kl-below-kd", "avg-tad-kd", "memory-same")]
    frame = command.frame(*judge(SUITE, root, claims))
    assert dict(zip(frame["id"], frame["of"], strict=True)) == {
        "kl-below-kd": "documents of one run",
        "avg-tad-kd": "items of one run",
        "memory-same": "seeds",
    }
    command.claims_table(SUITE, frame).write(tmp_path, "claims", frame)
    text = (tmp_path / "claims.md").read_text()
    assert "| 80 documents of one run |" in text and "| none (1 seed) |" in text
    assert "What another seed would give they do not say" in text
    assert "exploratory on one run 2" in text
    assert HERE[SUPPORTED] in text and f"**{HERE[SUPPORTED]}**" not in text, "bold is of methods"
