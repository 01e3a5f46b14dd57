"""Records to frames: right numbers, named faults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.results import curve_frame, heldout_frame, over_seeds, pair_name, row_name
from tad.methods import Method
from tad.records import RecordError

from .conftest import SUITE


def test_intervals_over_seeds_are_t_intervals():
    frame = pd.DataFrame({"m": ["a"] * 3 + ["b"], "v": [1.0, 2.0, 4.0, 7.0]})
    rows = over_seeds(frame, ["m"], "v").set_index("m")
    expected = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert rows.loc["a", "mean"] - rows.loc["a", "half"] == pytest.approx(expected[0])
    assert rows.loc["a", "seeds"] == 3
    assert np.isnan(rows.loc["b", "half"])


def test_curves_hold_every_held_out_point_and_nothing_else(root):
    frame = curve_frame(root, SUITE.runs("figure1"))
    assert sorted(frame["tokens"].unique()) == [0, 100, 200, 300]
    assert len(frame) == 4 * len(SUITE.runs("figure1"))


def test_a_missing_record_is_named(root):
    path = root / "runs" / str(SUITE.runs()[0]) / "heldout.json"
    path.unlink()
    with pytest.raises(RecordError, match=str(SUITE.runs()[0])):
        heldout_frame(root, SUITE.runs())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "no key 'metrics'"),
        ('{"metrics": {"kl": {"mean": NaN, "se": 0}}}', "mean is nan"),
    ],
)
def test_a_broken_record_is_named(root, text, message):
    path = root / "runs" / str(SUITE.runs()[0]) / "heldout.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=message) as error:
        heldout_frame(root, SUITE.runs())
    assert str(path) in str(error.value)


def test_a_run_without_held_out_points_is_named(root):
    run = SUITE.runs("figure1")[0]
    (root / "runs" / str(run) / "train.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(RecordError, match="no held-out point"):
        curve_frame(root, [run])


def test_rows_and_pairs_are_called_as_the_paper_calls_them():
    assert Method.of("tad", k=10, beta=2.0).label == row_name("tad-k10-b2") == "TAD (K = 10)"
    assert row_name("tad-k10-b0.5") == "TAD (K = 10, β = 0.5)"
    assert row_name("m-1b/2t") == "m-1b at 2T" and row_name("m-1b/final") == "m-1b"
    assert row_name("references/other-7b") == "other-7b"
    assert pair_name("phi2_1b") == "Phi2"
    assert pair_name("a_users_own") == "a_users_own", "not in the paper: no printed name"
