"""From replicates to p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.claims.statistics import (
    ALL,
    CONTRADICTED,
    SAME,
    SUPPORTED,
    UNDECIDED,
    Estimate,
    Part,
    benjamini_hochberg,
    beyond,
    combine,
    estimate,
    find,
    holm,
    verdict,
)


def test_holm_by_hand():
    # 3 tests: 0.01 * 3, 0.03 * 2, then 0.04 * 1, which may not fall below the one before.
    assert holm([0.01, 0.04, math.nan, 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, math.nan, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([0.01, 0.04, math.nan, 0.03])[2])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_benjamini_and_hochberg_by_hand():
    # 0.04 of rank 4 stays; 0.03 of rank 3 is 0.04; 0.02 of rank 2 and 0.01 of rank 1 are 0.04.
    found = benjamini_hochberg([0.01, 0.04, math.nan, 0.03, 0.02])
    assert found[:2] + found[3:] == pytest.approx([0.04] * 4) and math.isnan(found[2])
    assert benjamini_hochberg([0.001, 0.9]) == pytest.approx([0.002, 0.9])
    p_values = np.random.default_rng(0).uniform(size=20) ** 3
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-3.0, -3.2, -2.9, -3.1], SUPPORTED),  # lower, beyond the margin
        ([3.0, 3.2, 2.9, 3.1], CONTRADICTED),
        ([0.1, -0.2, 0.05, -0.1], SAME),  # centred at 0 and narrow
        ([-0.5, -0.6, -0.45, -0.55], SAME),  # lower, and less than the margin
        ([-2.0, 1.5, -0.5, 1.0], UNDECIDED),  # too wide for either
        ([-1.9, -2.1, -1.6, -2.4], SUPPORTED),  # lower; around the margin
    ],
)
def test_a_difference_an_equivalence_or_neither(values, expected):
    part = Part("x", {ALL: estimate(values)}, -1)
    found = find([part], ALL, "points", margin=1.5)
    assert verdict(found, found.p, found.p_same) == expected
    halves = [stats.ttest_1samp(values, at, alternative=side).pvalue
              for at, side in ((-1.5, "greater"), (1.5, "less"))]  # fmt: skip
    assert found.p_same == pytest.approx(max(halves))


def test_the_margin_of_a_ratio_is_in_percent():
    logs = np.log([1.010, 1.012, 1.011])
    part = Part("x", {ALL: estimate(logs)}, -1)
    found = find([part], ALL, "%", percent=True, margin=2)
    expected = stats.ttest_1samp(logs, math.log(1.02), alternative="less").pvalue
    assert found.p_same == pytest.approx(expected) and found.p_same < 0.01


def test_equivalence_is_found_wrongly_as_rarely_as_stated():
    """At a difference of exactly the margin."""
    rng = np.random.default_rng(2)
    found = [beyond(estimate(rng.normal(1, 0.2, 6)), 1) < 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(found) < 0.065


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
