"""Which tasks a teacher lets tell: against tail sums of the binomial written out."""

from __future__ import annotations

import json
import math

import pytest

from analysis.telling import average, average_margin, teacher_records, telling
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.records import RecordError

from .conftest import CONFIG


def tail(right: int, n: int, p: float) -> float:
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(right, n + 1))


def fewshot(**rights: int) -> dict:
    """A record of 100 items a task, of two options each."""
    tasks = {
        name: {"accuracy": right / 100, "n": 100, "chance": 0.5, "margin": right / 1000}
        for name, right in rights.items()
    }
    return {"tasks": tasks}


def math_record(chance: float, commonest: float, **rights: int) -> dict:
    return {
        "datasets": {
            name: {
                "compat": {"correct": right, "accuracy": float(right)},
                "items": 100,
                "chance": chance,
                "commonest": commonest,
            }
            for name, right in rights.items()
        }
    }


def test_a_task_tells_where_the_teacher_is_above_chance():
    first = next(right for right in range(50, 100) if tail(right, 100, 0.5) < 0.05)
    assert telling([fewshot(piqa=first, siqa=first - 1, hellaswag=20)]) == ["piqa"]


def test_every_teacher_of_a_pair_must_be_above_chance():
    both = [fewshot(piqa=90, siqa=90), fewshot(piqa=90, siqa=50)]
    assert telling(both) == ["piqa"] and telling(both[:1]) == ["piqa", "siqa"]


def test_a_math_set_is_held_against_the_commonest_answer():
    first = next(right for right in range(30, 100) if tail(right, 100, 0.3) < 0.05)
    assert telling([math_record(0.0, 30.0, gsm8k=first, math=first - 1)]) == ["gsm8k"]
    assert telling([math_record(30.0, 10.0, gsm8k=first, math=first - 1)]) == ["gsm8k"]


def test_averages_are_over_the_tasks_asked_for():
    record = fewshot(piqa=80, siqa=60, winogrande=10)
    assert average(record, ["piqa", "siqa"]) == pytest.approx(70)
    assert average_margin(record, ["piqa", "siqa"]) == pytest.approx(0.07)
    assert average(math_record(0, 0, gsm8k=10, math=20), ["math"]) == 20
    assert math.isnan(average(record, [])) and math.isnan(average_margin(record, []))


def test_the_records_are_those_of_the_pairs_teacher(tmp_path):
    suite, pair = load_suite(CONFIG / "smoke.yaml"), "phi2_1b"
    with pytest.raises(RecordError, match="phi-2/final/fewshot.json"):
        teacher_records(suite, Layout(tmp_path), "table4", pair, "fewshot.json")
    folder = tmp_path / "models" / "phi-2" / "final"
    folder.mkdir(parents=True)
    (folder / "fewshot.json").write_text(json.dumps(fewshot(piqa=90)))
    (found,) = teacher_records(suite, Layout(tmp_path), "table4", pair, "fewshot.json")
    assert found["tasks"]["piqa"]["accuracy"] == 0.9
