"""Intervals over items and documents, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import resampled
from analysis.resampled import (
    NotResampledError,
    Resampled,
    difference,
    documents,
    fewshot_items,
    math_items,
    pooled,
    sequences,
    weights,
)
from eval.calibration.sums import SequenceGaps
from tad.records import RecordError

from .invented import put, put_documents, write_right


@pytest.fixture
def few(monkeypatch):
    """Fewer resamples, for tests that take many intervals."""
    monkeypatch.setattr(resampled, "DRAWS", 800)
    weights.cache_clear()
    yield
    weights.cache_clear()


def of_items(ours, theirs, key="ab"):
    """The difference of two runs on the same items, in points."""
    samples = [{"piqa": resampled._right(key, np.asarray(x, float))} for x in (ours, theirs)]
    return difference(100 * (np.mean(ours) - np.mean(theirs)), [samples], (), ratio=False)


def items(rng, n):
    """Two runs that mostly have the same items right: ours is 10 points better in the long run."""
    hard = rng.random(n)
    return hard + 0.1 * rng.normal(size=n) < 0.6, hard + 0.1 * rng.normal(size=n) < 0.5


@pytest.mark.parametrize("n", [30, 150])
def test_the_interval_of_items_holds_the_truth_as_often_as_stated(few, n):
    truth = 100 * np.subtract(*(x.mean() for x in items(np.random.default_rng(7), 10**6)))
    assert 8 < truth < 11
    held = []
    for seed in range(300):
        low, high = of_items(*items(np.random.default_rng(seed), n)).interval()
        held.append(low <= truth <= high)
    assert 0.92 < np.mean(held) <= 0.995


def of_documents(tmp_path, rng, n):
    """Two runs on the same documents of unequal length; KL of ours is e^-0.1 of theirs."""
    tokens = rng.integers(5, 400, n)
    theirs = np.exp(0.5 * rng.normal(size=n))  # some documents are harder, for both
    ours = theirs * np.exp(-0.1 + 0.2 * rng.normal(size=n) - 0.02)
    samples, means = [], []
    for name, kl in (("ours", ours), ("theirs", theirs)):
        put_documents(tmp_path / name, kl.tolist(), tokens.tolist())
        samples.append(documents("kl")(tmp_path / name))
        means.append(np.log(np.average(kl, weights=tokens)))
    return difference(means[0] - means[1], [samples], (), ratio=True)


def test_the_interval_of_documents_holds_the_truth_as_often_as_stated(few, tmp_path):
    held = []
    for seed in range(200):
        low, high = of_documents(tmp_path, np.random.default_rng(seed), 60).interval()
        held.append(low <= -0.1 <= high)
    assert 0.91 < np.mean(held) <= 0.99


def test_two_runs_are_compared_item_by_item():
    """What both find hard is no error of their difference: the interval is that of the paired
    differences, and a third of that of two sets of items of their own."""
    ours, theirs = items(np.random.default_rng(0), 600)
    paired = of_items(ours, theirs).drawn.std()
    gaps = 100 * (ours.astype(float) - theirs)
    assert paired == pytest.approx(gaps.std() / np.sqrt(len(gaps)), rel=0.06)
    apart = 100 * np.sqrt((ours.var() + theirs.var()) / len(ours))
    assert paired < 0.65 * apart


def test_documents_are_compared_in_pairs_too(tmp_path):
    found = of_documents(tmp_path, np.random.default_rng(0), 400)
    sample = documents("kl")(tmp_path / "ours")["kl"]
    assert found.drawn.std() < 0.5 * np.log(sample.drawn).std()


def test_agreement_on_few_items_excludes_nothing():
    same = np.arange(24) % 3 == 0
    found = of_items(same, same)
    low, high = found.interval()
    assert low < -5 and high > 5, "two of 24 items are 8 points"
    assert found.above(0) > 0.4 and found.mirrored.above(0) > 0.4
    low, high = of_items(np.tile(same, 40), np.tile(same, 40)).interval()
    assert -0.3 < low <= 0 <= high < 0.3, "of 960 items hardly anything is left"


def test_p_values_are_those_of_the_interval():
    rng = np.random.default_rng(0)
    found = Resampled(1.0, 1 + rng.normal(size=4000), {"a": 100}, "items")
    low, high = found.interval()
    assert found.above(low) == pytest.approx(0.025, abs=0.001)
    assert found.mirrored.above(-high) == pytest.approx(0.025, abs=0.001)
    assert found.above(-100) == 1 / 4001


def test_pairs_on_the_same_items_share_their_resamples():
    """Two pairs with the same results are one, not two that agree."""
    ours, theirs = items(np.random.default_rng(0), 300)
    one, same = of_items(ours, theirs), of_items(ours, theirs)
    other = of_items(ours, theirs, key="cd")
    assert pooled([one, same]).drawn.std() == pytest.approx(one.drawn.std())
    assert pooled([one, same]).n == 300 and pooled([one, other]).n == 600
    assert pooled([one, other]).drawn.std() == pytest.approx(one.drawn.std() / 2**0.5, rel=0.05)


def test_several_tasks_count_alike():
    """As the average of a benchmark takes them: whatever the number of their items."""
    rng = np.random.default_rng(0)
    tasks = {"a": rng.random(40) < 0.5, "b": rng.random(1000) < 0.5}
    keys = {"a": "aa", "b": "bb"}
    ours = {name: resampled._right(keys[name], right) for name, right in tasks.items()}
    theirs = {name: resampled._right(keys[name], ~right) for name, right in tasks.items()}
    both = difference(0.0, [(ours, theirs)], (), ratio=False)
    assert both.n == 1040
    only = difference(0.0, [(ours, theirs)], ["a"], ratio=False)
    assert only.n == 40 and both.drawn.std() == pytest.approx(only.drawn.std() / 2, rel=0.1)


def test_what_was_not_measured_on_the_same_is_not_compared(tmp_path):
    write_right(tmp_path / "a", [0, 1] * 20)
    write_right(tmp_path / "b", [0, 1] * 21)
    samples = [fewshot_items(tmp_path / name) for name in "ab"]
    with pytest.raises(NotResampledError, match="not measured on the same"):
        difference(0.0, [samples], (), ratio=False)
    for name, text in (("c", "one"), ("d", "other")):
        put_documents(tmp_path / name, [0.1] * 30, [9] * 30, text)
    samples = [documents("kl")(tmp_path / name) for name in "cd"]
    with pytest.raises(NotResampledError, match="not measured on the same"):
        difference(0.0, [samples], (), ratio=True)


def test_few_units_give_no_interval(tmp_path):
    write_right(tmp_path, [0, 1] * 6)
    with pytest.raises(NotResampledError, match="^12 items; 20 needed$"):
        difference(0.0, [[fewshot_items(tmp_path)] * 2], (), ratio=False)


def test_records_of_before_say_what_they_lack(tmp_path):
    put(tmp_path / "heldout.json", {"metrics": {}})
    put(tmp_path / "math.json", {"datasets": {"gsm8k": {"compat": {"accuracy": 50.0}}}})
    for read, told in (
        (documents("kl"), "heldout.json does not hold its values document by document"),
        (math_items, "math.json does not hold its values item by item"),
        (fewshot_items, "fewshot.items.jsonl.gz is not there"),
        (sequences, "calibration.npz is not there"),
    ):
        with pytest.raises(NotResampledError, match=told):
            read(tmp_path)
    cut = {"tokens": "9 9 9 9", "kl": "0.1 0.1 0.1"}
    put(tmp_path / "heldout.json", {"documents": cut, "data_fingerprint": "x"})
    with pytest.raises(RecordError, match="documents.kl: 3 values of 4"):
        documents("kl")(tmp_path)


def test_math_and_calibration_are_read_unit_by_unit(tmp_path):
    right = "01" * 30
    entry = {"compat": {"accuracy": 50.0, "right": right}, "items_hash": "x"}
    put(tmp_path / "math.json", {"datasets": {"gsm8k": entry}})
    [task] = math_items(tmp_path).values()
    assert task.units == 60 and task.value(np.ones((1, 60)))[0] == 50
    rng = np.random.default_rng(0)
    gap = rng.normal(size=(30, 10)).astype(np.float32)
    SequenceGaps(np.full(30, 128), gap, "a text").save(tmp_path / "calibration.npz")
    [text] = sequences(tmp_path).values()
    expected = 100 * np.abs(gap.sum(0)).sum() / (30 * 128)
    assert text.kind == "sequences"
    assert text.value(np.ones((1, 30)))[0] == pytest.approx(expected, rel=1e-5)
