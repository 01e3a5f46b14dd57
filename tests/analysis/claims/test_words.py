"""Words beside a verdict."""

from __future__ import annotations

import pytest

from analysis.claims import words
from analysis.claims.statistics import (
    CONTRADICTED,
    SAME,
    SUPPORTED,
    UNDECIDED,
    Finding,
)


def found(low, high, **more):
    return Finding(scope="all", low=low, high=high, effect=(low + high) / 2, **more)


def test_an_interval_that_leaves_the_bound_out_beside_no_verdict_gets_words():
    told = words.correction(found(-2, -1, p=0.03, parts=3), 0.4, UNDECIDED, 29)
    expected = "the interval leaves 0 out, but not after correction for 29 claims and the 3 parts"
    assert told == [f"{expected} of this one"]
    assert words.correction(found(-2, 1), 0.4, UNDECIDED, 29) == []
    assert words.correction(found(-2, -1), 0.01, SUPPORTED, 29) == []
    [told] = words.correction(found(0.1, 0.2, bound=0.4), 0.4, UNDECIDED, 2)
    assert "leaves 0.4 out" in told


@pytest.mark.parametrize(
    ("low", "high", "verdict", "expected"),
    [
        (-3.6, -3.0, SUPPORTED, ["all of the interval is beyond the margin"]),
        (-1.5, -0.5, SUPPORTED, ["all of the interval is within the margin"]),
        (-3.0, -1.0, SUPPORTED, ["that the difference reaches the margin is not shown"]),
        (1.0, 3.0, CONTRADICTED, ["that the difference reaches the margin is not shown"]),
        (
            *(-1.0, 0.5, UNDECIDED),
            ["all of the interval is within the margin, but not after correction for 8 claims"],
        ),
        (-1.0, 0.5, SAME, []),
        (-1.0, -0.5, SAME, ["a difference is there, and it is smaller than the margin"]),
        (-1.0, 2.5, UNDECIDED, []),
        (-4.0, 4.0, UNDECIDED, ["the interval is wider than the margin on a side of its centre"]),
    ],
)
def test_no_more_is_said_than_the_interval_says(low, high, verdict, expected):
    adjusted = 0.01 if low > 0 or high < 0 else 0.5
    assert words.against_margin(found(low, high, margin=2.0), verdict, adjusted, 8) == expected
    assert words.against_margin(found(low, high), verdict, adjusted, 8) == []


def test_pairs_that_agree_are_not_named():
    whole = found(-2, -1, direction=1)
    same = Finding(scope="a", direction=1)
    other = Finding(scope="b", direction=-1)
    assert words.disagreement(whole, SUPPORTED, [(same, SUPPORTED)]) == []
    [told] = words.disagreement(whole, SUPPORTED, [(same, UNDECIDED), (other, UNDECIDED)])
    assert told == "pairs that disagree: a (undecided), b (the other direction, undecided)"
