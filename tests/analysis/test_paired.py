"""Paired tests of two results on the same items."""

from __future__ import annotations

import gzip
import json
import math

import pandas as pd
import pytest
from scipy import stats

from analysis.paired import (
    ItemsError,
    main,
    mcnemar,
    paired_items,
    paired_margins,
    paired_tests,
    read_items,
)


def items(task: str, correct: list[int]) -> pd.DataFrame:
    rows = [
        {"task": task, "item": i, "doc_hash": f"{task}{i}", "correct": c}
        for i, c in enumerate(correct)
    ]
    return pd.DataFrame(rows)


def test_mcnemar_is_the_sign_test_of_discordant_items():
    assert mcnemar(0, 0) == 1
    assert mcnemar(6, 0) == pytest.approx(2 * 0.5**6)
    assert mcnemar(3, 3) == 1
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_paired_tests_use_the_pairing():
    """A is right wherever B is, and on 12 items more: certain, though each alone is noisy."""
    b = [1, 0] * 100
    a = [1 if i < 24 else value for i, value in enumerate(b)]
    pairs = paired_items(items("piqa", a), items("piqa", b))
    test, average = paired_tests(pairs)
    assert (test.n, test.only_a, test.only_b) == (200, 12, 0)
    assert test.difference == pytest.approx(6.0)
    assert test.p_value == pytest.approx(2 * 0.5**12)
    assert 0 < test.interval[0] < 6 < test.interval[1] < 12
    assert average.difference == test.difference and average.p_value < 0.001
    error = math.sqrt(0.06 * 0.94 / 200) * 100
    assert test.interval[1] - test.interval[0] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert paired_tests(pairs) == [test, average]


def test_average_is_unweighted_over_tasks():
    a = pd.concat([items("piqa", [1] * 10), items("siqa", [0] * 90)])
    b = pd.concat([items("piqa", [0] * 10), items("siqa", [0] * 90)])
    *_, average = paired_tests(paired_items(a, b))
    assert average.difference == pytest.approx(50.0)


def test_margins_pair_too():
    """A shift that no item leaves is certain, however much the items differ among themselves."""
    spread = [((i * 37) % 41 - 20) / 10 for i in range(40)]
    b = items("piqa", [0] * 40).assign(margin=spread)
    a = b.assign(margin=[m + 0.1 + 0.02 * (-1) ** i for i, m in enumerate(spread)])
    both = [pd.concat([x, x.assign(task="siqa")]) for x in (a, b)]
    piqa, siqa, average = paired_margins(paired_items(*both, "margin"))
    test = stats.ttest_rel(a["margin"], b["margin"])
    low, high = test.confidence_interval()
    assert piqa.difference == pytest.approx(0.1) and piqa.p_value == pytest.approx(test.pvalue)
    assert piqa.interval == pytest.approx((low, high)) and siqa.interval == piqa.interval
    error = stats.sem(a["margin"] - b["margin"]) / math.sqrt(2)
    assert (average.task, average.n) == ("Avg", 80)
    assert average.interval[1] - average.difference == pytest.approx(1.95996 * error, rel=1e-4)
    assert [test.p_value for test in paired_margins(paired_items(b, b, "margin"))] == [1, 1]
    with pytest.raises(ItemsError, match="no margin of its items"):
        paired_items(a, items("piqa", [0] * 40), "margin")


def test_other_items_do_not_pair():
    a, b = items("piqa", [1, 0, 1]), items("piqa", [1, 0, 1])
    with pytest.raises(ItemsError, match="1 are in one result only"):
        paired_items(a, b.iloc[:2])
    changed = b.assign(doc_hash=["piqa0", "other", "piqa2"])
    with pytest.raises(ItemsError, match="not the same items"):
        paired_items(a, changed)


def test_items_are_read_back(tmp_path):
    rows = items("piqa", [1, 0]).to_dict("records")
    path = tmp_path / "fewshot.items.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    assert read_items(path)["correct"].tolist() == [1, 0]
    path.write_bytes(b"plain")
    with pytest.raises(ItemsError, match="not items"):
        read_items(path)
    with pytest.raises(ItemsError, match="no such file"):
        read_items(tmp_path / "none.gz")


@pytest.mark.parametrize("cut", [slice(0, 30), slice(0, -1), slice(0, 0)])
def test_damaged_items_are_told_in_one_line(tmp_path, capsys, cut):
    path = tmp_path / "x.items.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"task": "piqa", "item": 0, "correct": 1}\n' * 9)[cut])
    assert main([str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: not items" in error and error.count("\n") == 1


def test_two_results_are_compared_on_the_command_line(tmp_path, capsys):
    paths = []
    for name, right in (("a", 9), ("b", 1)):
        rows = [
            {"task": "piqa", "item": i, "doc_hash": str(i), "correct": int(i < right)}
            for i in range(10)
        ]
        path = tmp_path / f"{name}.items.jsonl.gz"
        path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
        paths.append(str(path))
    assert main(paths) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:5] == ["PIQA", "10", "8", "0", "80.0"]
    assert lines[-1].startswith("Avg")
    assert main([paths[0], str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
