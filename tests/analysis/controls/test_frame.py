"""The frame of controls."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.controls.frame import (
    OTHERS,
    PARAMETER,
    RATE,
    REFERENCE,
    WEIGHT,
    controls_frame,
    on_shared_seeds,
    size,
)
from tad.methods import Method

from .conftest import kl_of, size_of

PAIR = "phi2_1b"


@pytest.fixture(scope="module")
def frame(suite, records):
    return controls_frame(suite, records)


@pytest.fixture(scope="module")
def of_phi(frame):
    return frame[frame["pair"] == PAIR].set_index("method")


def test_every_row_stands_once_in_its_block(frame, of_phi):
    assert not frame.duplicated(["pair", "method"]).any()
    expected = {
        "clm": WEIGHT,
        "vanilla_kd-w5": WEIGHT,
        "kd_only": WEIGHT,
        REFERENCE: WEIGHT,
        "tad_nonorm-k10-b2": WEIGHT,
        "tad-k10-b5": PARAMETER,
        "tad-k10-b2-r2": RATE,
        "gjsd": OTHERS,
        "gjsd_matched": OTHERS,
    }
    assert of_phi.loc[list(expected), "block"].to_dict() == expected
    assert list(dict.fromkeys(of_phi["block"])) == [WEIGHT, PARAMETER, RATE, OTHERS]


def test_the_size_of_a_divergence_is_read_from_the_log(of_phi):
    for name in ("clm", "vanilla_kd", "vanilla_kd-w5", "kd_only", REFERENCE, "tad-k10-b10"):
        assert of_phi.loc[name, "size"] == pytest.approx(size_of(Method.parse(name)))
    assert of_phi.loc["kd_only", "clm"] == 0 and of_phi.loc["vanilla_kd-w5", "divergence"] == 5
    assert size([{"step": 0, "eval_kl": 1.0}]) == 0
    assert math.isnan(size([{"step": 5, "eval_kl": 1.0}, {"step": 4, "divergence": 1.0}]))


def test_differences_are_on_the_seeds_of_both_and_primary_claims_have_no_p(of_phi):
    row = of_phi.loc["vanilla_kd-w10"]
    expected = 100 * (kl_of(Method.parse("vanilla_kd-w10")) / kl_of(Method.parse(REFERENCE)) - 1)
    assert row["effect"] == pytest.approx(expected, abs=1) and row["low"] < expected < row["high"]
    assert row["seeds"] == 3 and of_phi.loc["vanilla_kd", "seeds"] == 6
    assert row["p"] <= row["p_adjusted"] < 0.05
    assert of_phi.loc[["vanilla_kd", "vanilla_kd_matched", REFERENCE], "p"].isna().all()
    assert of_phi.loc["kd_only", "p"] < 0.05, "no primary claim compares it with TAD"


def test_a_record_without_margins_leaves_them_out(of_phi):
    assert of_phi.loc["gjsd", "margin"] != of_phi.loc["gjsd", "margin"]
    assert of_phi.loc["clm", "margin"] == pytest.approx(-of_phi.loc["clm", "kl"])


def test_rows_that_are_compared_by_eye_are_of_the_same_seeds():
    """The seeds that one method has beyond the others, of another teacher, would move its mean."""
    rows = [("a", "kd", s, 0.31) for s in (0, 1)] + [("a", "tad", s, 0.31) for s in (0, 1)]
    rows += [("a", "tad", s, 0.21) for s in (2, 3)]
    rows += [("b", "kd", 0, 1.0), ("b", "tad", 1, 2.0)]  # share none: all stay
    frame = pd.DataFrame(rows, columns=["pair", "method", "seed", "kl"])
    found = on_shared_seeds(frame).groupby(["pair", "method"])["kl"].mean()
    assert found["a", "tad"] == found["a", "kd"] == pytest.approx(0.31)
    assert found["b"].to_dict() == {"kd": 1.0, "tad": 2.0}
