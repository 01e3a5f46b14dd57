"""The longest chain, and when all is done on so many GPUs."""

from __future__ import annotations

import pytest

from tad.plan.schedule import Timed, critical_path, makespan

JOBS = {
    "data": Timed(1.0, 0, ()),
    "choose": Timed(5.0, 1, ("data",)),
    "train": Timed(4.0, 1, ("data", "choose")),
    "other": Timed(6.0, 1, ("data",)),
    "wide": Timed(2.0, 2, ("data", "loaded from elsewhere")),
    "score": Timed(1.0, 1, ("train",)),
}


def test_the_critical_path_is_the_longest_chain():
    assert critical_path(JOBS) == ["data", "choose", "train", "score"]
    assert critical_path({}) == []


@pytest.mark.parametrize("gpus, hours", [(1, 1 + 5 + 6 + 4 + 1), (2, 1 + 5 + 4 + 1 + 2), (9, 11)])
def test_all_is_done_after(gpus, hours):
    """One GPU: all in a row but for the wide job, which has none to run on. Two: the wide one
    waits until both are free. Many: the longest chain."""
    assert makespan(JOBS, gpus) == hours
