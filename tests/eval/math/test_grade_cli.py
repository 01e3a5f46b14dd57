"""python -m eval.math.grade: JSON lines in, JSON lines out."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from eval.math import grade as grade_function
from eval.math.answers.verdict import grade as graded
from eval.math.grade import CaseError, main, read_cases

GOOD = {"dataset": "gsm8k", "generation": "The answer is 18 dollars.", "gold": "18", "note": "kept"}


def run(monkeypatch, capsys, text: str, *arguments: str) -> tuple[int, list[dict], str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, [json.loads(line) for line in captured.out.splitlines()], captured.err


@pytest.mark.parametrize(("mode", "correct"), [("strict", True), ("compat", False)])
def test_verdicts_are_added_to_the_cases(monkeypatch, capsys, mode, correct):
    status, rows, _ = run(monkeypatch, capsys, json.dumps(GOOD) + "\n\n", "--mode", mode)
    assert status == 0
    assert rows == [{**GOOD, "prediction": rows[0]["prediction"], "correct": correct}]


def test_strict_is_the_default(monkeypatch, capsys):
    _, rows, _ = run(monkeypatch, capsys, json.dumps(GOOD))
    verdict = graded(GOOD["dataset"], GOOD["generation"], GOOD["gold"])
    assert (rows[0]["prediction"], rows[0]["correct"]) == (verdict.prediction, verdict.correct)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"dataset": "gsm8k", "gold": "1"}', "missing key 'generation'"),
        ('{"dataset": "gsm8k", "generation": 5, "gold": "1"}', "wrong type"),
        ('{"dataset": "gsm8k", "generation": "a", "gold": true}', "wrong type"),
        ('{"dataset": "aime", "generation": "a", "gold": "1"}', "allowed: gsm8k"),
    ],
)
def test_a_bad_line_is_named(monkeypatch, capsys, line, reason):
    status, rows, errors = run(monkeypatch, capsys, json.dumps(GOOD) + "\n" + line)
    assert status == 2
    assert len(rows) == 1
    assert "line 2" in errors
    assert reason in errors


def test_a_generation_that_no_encoding_holds_gets_a_verdict_and_loses_no_other():
    odd = [
        {**GOOD, "generation": f"The answer is {text} 18."}
        for text in ("\ud800", "\udfff\ud83d", "«")
    ]
    lines = "\n".join(json.dumps(case) for case in [*odd, GOOD]).encode() + b"\n"
    raw = (
        json.dumps({**GOOD, "generation": "?? The answer is 18."})
        .encode()
        .replace(b"??", b"\xff\xc3")
    )
    done = subprocess.run(
        [sys.executable, "-m", "eval.math.grade"], input=lines + raw + b"\n", capture_output=True
    )
    rows = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert (done.returncode, done.stderr) == (0, b"")
    assert [row["generation"] for row in rows[:3]] == [case["generation"] for case in odd]
    assert [row["correct"] for row in rows] == [True] * 5


def test_an_answer_that_is_no_single_value_is_marked(monkeypatch, capsys):
    stated = ["The answer is 18 or 19.", "The answer is 18.", "I do not know."]
    lines = "\n".join(json.dumps({**GOOD, "generation": text}) for text in stated)
    _, rows, _ = run(monkeypatch, capsys, lines)
    assert [row.get("refused", False) for row in rows] == [True, False, False]


def test_golds_may_be_numbers():
    assert next(read_cases(['{"dataset": "svamp", "generation": "", "gold": 3.0}']))["gold"] == 3.0
    with pytest.raises(CaseError, match="line 1"):
        next(read_cases(['{"dataset": "svamp", "generation": "", "gold": null}']))


def test_the_package_name_stays_callable_beside_the_module():
    assert grade_function("gsm8k", "The answer is 5.", "5") == graded(
        "gsm8k", "The answer is 5.", "5"
    )


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "eval.math.grade", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--mode" in done.stdout
