"""The verdict, in words."""

from __future__ import annotations

import pytest

from tad.distill.report import direction, verdict
from tad.methods import Method

LOWER, HIGHER, SAME = (
    {"mean": mean, "low": mean - 1, "high": mean + 1} for mean in (-2.0, 2.0, 0.1)
)


def against(*pairs):
    names = ("clm", "vanilla_kd")
    return [{"with": name, "kl": kl, "nll": nll} for name, (kl, nll) in zip(names, pairs)]  # noqa: B905


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "`--baselines clm,vanilla_kd,vanilla_kd_matched` tells"),
        ([(LOWER, SAME), (LOWER, LOWER)], "Yes, on this text: .* than CLM .* and Vanilla KD; NLL"),
        ([(LOWER, HIGHER), (LOWER, SAME)], r"It depends: .* worse than CLM \(no KD\)\.$"),
        ([(LOWER, SAME), (SAME, SAME)], "Not shown on this text: .* and Vanilla KD are equally"),
        ([(LOWER, SAME), (HIGHER, LOWER)], "No, on this text: Vanilla KD came closer"),
    ],
)
def test_verdicts(pairs, words):
    import re

    assert re.search(words, verdict(Method.of("tad"), against(*pairs)))


def test_a_control_of_the_same_size_tells_weight_from_shape():
    pairs = [("vanilla_kd", LOWER), ("vanilla_kd_matched", SAME)]
    told = verdict(Method.of("tad"), [{"with": name, "kl": kl, "nll": SAME} for name, kl in pairs])
    assert told.startswith("Not shown") and "its weight explains that here" in told
    pairs = [("vanilla_kd", SAME), ("vanilla_kd_matched", SAME)]
    told = verdict(Method.of("tad"), [{"with": name, "kl": kl, "nll": SAME} for name, kl in pairs])
    assert "its weight" not in told


def test_an_interval_that_holds_zero_shows_no_difference():
    assert [direction(gap) for gap in (LOWER, HIGHER, SAME)] == ["lower", "higher", "same"]
