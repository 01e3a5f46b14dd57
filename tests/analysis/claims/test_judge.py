"""Verdicts and corrections, and the tables of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.claims import judge as command
from analysis.claims.design import design_hash, load_design
from analysis.claims.judge import judge
from analysis.claims.listed import CLAIMS, KD, OURS, PAPER, PRIMARY, RKL, TAD
from analysis.claims.statistics import (
    CONTRADICTED,
    DEPENDS,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
)
from tad.experiment.layout import Layout

from ..conftest import CONFIG
from ..invented import CLM, PAIRS, kl_claim, put, suite_of


def test_supported_contradicted_undecided(root):
    judged, pairs = judge(
        suite_of(),
        root,
        [
            kl_claim("below-kd", [TAD], [KD]),
            kl_claim("below-rkl", [TAD], [RKL]),
            kl_claim("kd-below-clm", [KD], [CLM]),
        ],
    )
    assert [entry.verdict for entry in judged] == [SUPPORTED, CONTRADICTED, UNDECIDED]
    first = judged[0].finding
    assert first.low < first.effect < first.high < 0
    assert first.effect == pytest.approx(100 * (0.200 / 0.301 - 1), abs=3)
    assert first.replicates == 3 and first.unit == "%"
    assert [entry.finding.scope for entry in pairs] == list(PAIRS) * 3


def test_too_few_seeds_give_an_effect_and_no_verdict(root):
    old = "no interval over items or documents: heldout.json does not hold its values document by"
    one = f"1 seed; 3 needed, and {old} document, as records of today do"
    for seeds, told in (((0, 1), "2 seeds; 3 needed"), ((0,), one)):
        judged, _ = judge(suite_of(seeds=seeds), root, [kl_claim("a", [TAD], [KD])])
        assert judged[0].verdict == NOT_TESTABLE
        assert judged[0].finding.reason == told
        assert judged[0].finding.effect < -20
        assert math.isnan(judged[0].finding.p) and math.isnan(judged[0].finding.low)


def test_the_weakest_part_decides(root):
    """TAD is below Vanilla KD and above RKL: together they are contradicted, by RKL."""
    judged, _ = judge(suite_of(), root, [kl_claim("both", [TAD], [KD, RKL])])
    assert judged[0].verdict == CONTRADICTED
    assert "TAD (K = 10) − RKL" in judged[0].finding.what
    assert "weakest of 2" in judged[0].finding.what


@pytest.mark.parametrize(("family", "factor"), [(PRIMARY, 4), (PAPER, 1)])
def test_each_family_has_its_correction(root, family, factor):
    """Four equal p-values: Holm takes four times as much, Benjamini and Hochberg the same."""
    one, _ = judge(suite_of(), root, [kl_claim("a", [TAD], [KD])])
    claims = [replace(kl_claim(str(i), [TAD], [KD]), family=family) for i in range(4)]
    other = replace(kl_claim("other", [RKL], [KD]), family=OURS)
    many, _ = judge(suite_of(), root, [*claims, other])
    assert many[0].adjusted == pytest.approx(factor * one[0].finding.p)
    assert many[0].tested == 4 and many[-1].adjusted == many[-1].finding.p


def test_pairs_that_disagree_are_named(tmp_path):
    """TAD is lower in one pair by much and higher in the other by little."""
    suite = suite_of()
    rng = np.random.default_rng(0)
    for run in suite.runs():
        low = 0.5 if str(run.method) == TAD and run.pair == PAIRS[0] else 1.0
        high = 1.02 if str(run.method) == TAD and run.pair == PAIRS[1] else 1.0
        kl = low * high * (1 + 0.001 * rng.normal())
        put(Layout(tmp_path).run(run) / "heldout.json", {"metrics": {"kl": {"mean": kl}}})
    numbers = command.frame(*judge(suite, tmp_path, [kl_claim("a", [TAD], [KD])]))
    [row] = numbers.to_dict("records")
    assert row["verdict"] == SUPPORTED
    told = f"pairs that disagree: {PAIRS[1]} (the other direction, contradicted)"
    assert told in row["remarks"]
    assert f"{PAIRS[0]} -50" in row["pairs"] and f"{PAIRS[1]} +1.9" in row["pairs"]


@pytest.fixture(scope="module")
def written(root):
    suite = suite_of(items=("table1", "table4", "figure1", "figure2", "heldout"))
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
        ("flops-miniplm", DEPENDS),
        ("flops-miniplm-large", DEPENDS),
        ("flops-order", DEPENDS),
        ("one-week", DEPENDS),
        ("sizes", DEPENDS),
        ("active", CONTRADICTED),
        ("kl-below-kd", SUPPORTED),
        ("kl-tad-rkl", CONTRADICTED),
        ("kl-kd-clm", UNDECIDED),
        ("ece-k", UNDECIDED),  # the same value everywhere
        ("mismatch-range", NOT_TESTABLE),
        ("continued-tad-2t", NOT_TESTABLE),
        ("math-tad-kd", NOT_TESTABLE),
        ("avg-miniplm", NOT_TESTABLE),
    ],
)
def test_verdicts_of_the_list_on_invented_records(written, name, verdict):
    assert written[2].loc[name, "verdict"] == verdict


def test_every_claim_has_a_row_with_effect_interval_and_replicates(written):
    frame = written[2]
    primary = list(load_design().claims)
    assert set(frame.index) == {*(e.id for e in CLAIMS), *(f"primary-{name}" for name in primary)}
    assert list(frame["family"].unique()) == [PRIMARY, PAPER, OURS]
    tested = frame[frame["p_adjusted"].notna()]
    assert (tested["low"] <= tested["effect"]).all() and (tested["effect"] <= tested["high"]).all()
    assert (tested["replicates"] >= 3).all() and (tested["p_adjusted"] >= tested["p"]).all()
    told = frame.loc[frame["verdict"] == NOT_TESTABLE, "remarks"]
    assert told.notna().all(), "a claim that is not testable says why"


def test_all_four_forms_are_written_the_same_each_time(written):
    suite, root, _ = written
    files = [root / "tables" / f"claims.{kind}" for kind in ("csv", "md", "html", "tex")]
    files += [root / "tables" / f"claims_by_pair.{kind}" for kind in ("csv", "md", "html", "tex")]
    first = [path.read_bytes() for path in files]
    command.write(suite, root)
    assert [path.read_bytes() for path in files] == first
    text = files[1].read_text()
    assert "Holm" in text and "exploratory" in text and design_hash() in text
    frame = pd.read_csv(files[0])
    assert set(frame.loc[frame["family"] == PRIMARY, "design"]) == {design_hash()}


def test_the_command_line_tells_a_missing_record_in_one_line(tmp_path, capsys):
    config = str(CONFIG / "smoke.yaml")
    assert command.main(["--root", str(tmp_path), "--config", config]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tad claims: ") and error.count("\n") == 1
    assert "no such record" in error
