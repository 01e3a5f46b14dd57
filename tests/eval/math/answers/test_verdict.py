"""The grader as a whole: agreement with labelled cases, real golds, safety, threads."""

from __future__ import annotations

import ast
import os
import threading
import time
from pathlib import Path

import pytest
import yaml

from eval.math import grade
from eval.math.answers import equivalence
from eval.math.answers.verdict import self_test
from eval.math.datasets import DATASETS, load_items
from tests.eval.math.conftest import read_lines

DISAGREEMENTS = yaml.safe_load(
    (Path(__file__).parent / "disagreements.yaml").read_text(encoding="utf-8")
)
SOURCES = sorted((Path(equivalence.__file__).parent).rglob("*.py"))


def test_self_test_passes():
    self_test()


def test_unknown_dataset_and_mode_are_refused():
    with pytest.raises(ValueError, match=r"'gsm9k'.*gsm8k"):
        grade("gsm9k", "The answer is 5.", "5")
    with pytest.raises(ValueError, match="strict or compat"):
        grade("gsm8k", "The answer is 5.", "5", "lenient")


@pytest.mark.parametrize(
    ("mode", "label", "wanted"),
    [("strict", "human_correct", 0.98), ("compat", "reference_correct", 0.97)],
)
def test_agreement_with_labelled_cases(shared_math, mode, label, wanted):
    """The share asked for, and every single disagreement listed with its reason."""
    cases = read_lines(shared_math / "grading_cases.jsonl")
    found, counted = {}, 0
    for case in cases:
        if mode == "compat" and case["reference_event"]:
            continue
        clear = mode == "compat" or case["human_confidence"] == "clear"
        verdict = grade(case["dataset"], case["generation"], case["gold"], mode)
        counted += clear
        if verdict.correct != case[label]:
            found[case["id"]] = clear
    assert 1 - sum(found.values()) / counted >= wanted
    assert set(found) == set(DISAGREEMENTS[mode])


def test_every_disagreement_has_a_reason():
    for mode in ("strict", "compat"):
        for case, reason in DISAGREEMENTS[mode].items():
            assert len(reason.split()) >= 5, (mode, case)


@pytest.mark.parametrize("name", DATASETS)
def test_every_real_gold_answer_equals_itself(shared_math, name):
    dataset = DATASETS[name]
    for item in load_items(dataset, shared_math):
        gold = dataset.gold(item)
        text = f"Thus $\\boxed{{{gold}}}$." if name == "math" else f"So the answer is {gold}."
        assert grade(name, text, gold).correct, gold


HOSTILE = [
    r"\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}",
    r"9^{9^{9^9}}", "100000000!", r"((100!)!)!", r"\binom{1000000000}{500000000}",
    r"\sum_{k=1}^{10000000}\frac{1}{k^3}", r"\int_0^1 \sin(x^{100}) dx", r"2^{-10^{9}}",
    r"e^{e^{e^{e^{e}}}}", r"\sin(\sin(\cos(10^{100})))", "(" * 190 + "x" + ")" * 190,
    r"\sqrt{" * 60 + "2" + "}" * 60, "x^" * 100 + "2", "1" * 6000, "{" * 5000, r"\boxed{" * 900,
    "1," * 2000, "\0\1\2", "\ud800".encode("utf-8", "replace").decode(), "$" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("mode", ["strict", "compat"])
def test_hostile_answers_are_wrong_and_the_grader_goes_on(mode):
    for answer in HOSTILE:
        assert not grade("math", f"The final answer is ${answer}$. I hope so", "16", mode).correct
        assert not grade("gsm8k", f"The answer is {answer}.", "16", mode).correct
    assert grade("math", r"\boxed{\sqrt{12}}", r"2\sqrt{3}", mode).correct


UNENDING = [
    "(" * 10_000 + "5" + ")" * 10_000, "\\frac{1}{" * 5_000, "twice " * 5_000 + "4",
    "5 or " * 5_000,
    "1 hour 1 minute " * 3_000, "1 a " * 5_000, "A, " * 5_000, "*a" * 8_000, "_" * 20_000,
    "# " * 10_000,
    " " * 20_000 + "5", "the answer is " * 2_000, "\\boxed{5} or " * 1_500, "= 1 " * 5_000,
    "<a" * 9_000,
    "9" * 1_900 + "^" + "9" * 1_900, "10^" * 5_000 + "2", "2(3)" * 5_000, "½" * 10_000,
    "²" * 20_000,
    "\ud800" * 10_000, "$x=\\boxed{5}$ and " * 900, "x" * 1_000_000, "The answer is 5. " * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("dataset", ["gsm8k", "math", "mathqa", "tabmwp"])
def test_no_text_takes_long(dataset):
    gold = {"mathqa": "B", "tabmwp": "Tuesday"}.get(dataset, "17")
    for text in UNENDING:
        for form in (text, f"The answer is {text}.", f"\\boxed{{{text}}}"):
            began = time.process_time()
            assert not grade(dataset, form, gold).correct
            assert time.process_time() - began < 5, form[:40]


def test_an_answer_refused_is_told_from_none():
    assert grade("gsm8k", "The answer is 5 or 6.", "5").refused
    assert grade("mathqa", "The answer is A or B.", "A").refused
    assert grade("math", "So $\\boxed{}$.", "5").refused
    for text in ("The answer is 5.", "I do not know.", ""):
        assert not grade("gsm8k", text, "6").refused


def test_running_out_of_time_is_reported():
    assert grade("math", r"\boxed{\binom{1000000000}{500000000}}", r"\sqrt{2}").event == "timeout"


@pytest.mark.parametrize("mode", ["strict", "compat"])
@pytest.mark.parametrize(
    "text",
    ["__import__('os').mkdir('made_by_grader')", "open('made_by_grader','w')", "exit()",
     "__import__(chr(111)+chr(115)).mkdir(chr(109))", "().__class__.__bases__[0]"],
)  # fmt: skip
def test_nothing_a_model_wrote_is_executed(mode, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for dataset in ("gsm8k", "math", "tabmwp", "mathqa"):
        assert not grade(dataset, f"The answer is {text}.", "18", mode).correct
        grade(dataset, f"\\boxed{{{text}}}", "x+1", mode)
    assert list(tmp_path.iterdir()) == []


def test_no_source_calls_an_evaluator():
    banned = {"eval", "exec", "compile", "parse_expr", "sympify", "literal_eval", "lambdify"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                from_re = (
                    isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "re"
                )
                assert name not in banned or from_re, f"{path.name}:{node.lineno} calls {name}"


PAIRS = [
    ("math", r"\boxed{(x+1)^3}", "x^3+3x^2+3x+1"), ("math", r"\boxed{(x+1)^3}", "x^3+1"),
    ("math", r"\boxed{\frac{\sqrt{5}}{5}}", r"\frac{1}{\sqrt{5}}"),
    ("gsm8k", "The answer is 7 cups.", "7"), ("mathqa", "The answer is (E).", "E"),
]  # fmt: skip


def test_every_thread_gets_the_same_verdict():
    def verdicts() -> list[bool]:
        return [grade(*pair, mode).correct for pair in PAIRS for mode in ("strict", "compat")]

    expected = verdicts()
    assert expected[:4] == [True, True, False, False]
    equivalence._ask.cache_clear()
    results: list[list[bool]] = []
    threads = [threading.Thread(target=lambda: results.append(verdicts())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_a_killed_worker_is_replaced():
    assert equivalence.compare("strict", "x+2", "2+x").equal
    os.kill(equivalence._worker._process.pid, 9)
    equivalence._worker._process.wait()
    assert equivalence.compare("strict", "x+3", "3+x").equal


def test_a_worker_that_dies_over_a_request_counts_it_as_wrong(monkeypatch):
    monkeypatch.setattr(equivalence.Worker, "ask", lambda self, request: None)
    outcome = equivalence.compare("strict", "x+4", "4+x")
    assert (outcome.equal, outcome.event) == (False, "crash")
    monkeypatch.undo()
    equivalence._ask.cache_clear()
    assert equivalence.compare("strict", "x+4", "4+x").equal


def test_a_wrong_parser_version_stops_the_grading(monkeypatch):
    reply = {"equal": False, "event": "error", "message": "needs antlr4 4.11", "seconds": 0.0}
    monkeypatch.setattr(equivalence.Worker, "ask", lambda self, request: reply)
    equivalence._ask.cache_clear()
    with pytest.raises(equivalence.GradingError, match=r"4\.11"):
        grade("math", r"\boxed{x+5}", "5+x", "compat")
