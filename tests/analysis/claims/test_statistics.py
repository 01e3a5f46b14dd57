"""From replicates to p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.claims.statistics import ALL, Estimate, Part, combine, estimate, find, holm


def test_holm_by_hand():
    # 3 tests: 0.01 * 3, 0.03 * 2, then 0.04 * 1, which may not fall below the one before.
    assert holm([0.01, 0.04, math.nan, 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, math.nan, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([0.01, 0.04, math.nan, 0.03])[2])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


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
