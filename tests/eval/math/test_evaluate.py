"""python -m eval.math: the record, the kept items, and going on after an interruption."""

from __future__ import annotations

import json

import pytest

from eval.math import evaluate as command
from eval.math import results
from eval.math.answers.verdict import Grade
from eval.math.datasets import DATASETS
from eval.math.generate import Generated, MathSetup
from eval.math.tasks import SUITES, Settings, load_tasks

SMALL = Settings(shots=0, max_new_tokens=12, limit=6, batch_size=4, analogue=True)


CPU = MathSetup("transformers", "cpu", "float32")


class Scripted:
    """An engine that solves every second prompt and can be told to stop after some."""

    context = 4096

    def __init__(self, tokenizer, task, stop_after=None):
        self.tokenizer, self.stop_after, self.asked = tokenizer, stop_after, 0
        self.solutions = {
            tuple(tokenizer(task.prompt.text(case.question))["input_ids"]): case.gold
            for case in task.cases
        }

    def generate(self, prompts, stop):
        for index, prompt in enumerate(prompts):
            if self.asked == self.stop_after:
                raise KeyboardInterrupt
            self.asked += 1
            gold = self.solutions[tuple(prompt.ids)]
            answer = gold if self.asked % 2 else "no idea"
            yield index, Generated(f"The answer is {answer}.", 5, False)


@pytest.fixture
def task():
    return load_tasks(SMALL, names=["gsm8k"])[0]


def test_the_record_and_the_items(tiny_models, tmp_path, capsys):
    outs = [tmp_path / "a" / "math.json", tmp_path / "b" / "math.json"]
    status = command.main([
        "--model", str(tiny_models["llama"]), str(tiny_models["phi3"]),
        "--out", *map(str, outs), "--suite", "smoke", "--limit", "3", "--max-new-tokens", "8",
        "--datasets", "mathqa", "gsm8k", "--device", "cpu", "--engine", "transformers",
    ])  # fmt: skip
    assert status == 0
    assert "analogues" in capsys.readouterr().out
    for out in outs:
        record = json.loads(out.read_text())
        assert list(record["datasets"]) == ["gsm8k", "mathqa"]
        assert record["analogue"] is True
        assert record["provenance"]["grader"]["antlr4-python3-runtime"].startswith("4.11")
        entry = record["datasets"]["gsm8k"]
        rows = results.read_items(out.parent / record["items"] / "gsm8k.jsonl.gz")
        assert [row["idx"] for row in rows] == [0, 1, 2]
        for mode in ("strict", "compat"):
            assert entry[mode]["correct"] == sum(row[mode]["correct"] for row in rows)
        assert entry["differ"] == sum(
            row["strict"]["correct"] != row["compat"]["correct"] for row in rows
        )
        assert sorted(path.name for path in (out.parent / record["items"]).iterdir()) == [
            "gsm8k.jsonl.gz", "index.json", "mathqa.jsonl.gz",
        ]  # fmt: skip


def test_an_interrupted_run_goes_on_and_ends_the_same(tiny_tokenizer, task, tmp_path):
    whole = results.evaluate_task(
        task, lambda: Scripted(tiny_tokenizer, task), tmp_path / "whole", identity="m", setup=CPU
    )
    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        results.evaluate_task(
            task,
            lambda: Scripted(tiny_tokenizer, task, stop_after=4),
            folder,
            identity="m",
            setup=CPU,
        )
    with (folder / "gsm8k.partial.jsonl").open("a") as file:
        file.write('{"position": 5, "gener')  # torn by the interruption
    rest = Scripted(tiny_tokenizer, task)
    rows = results.evaluate_task(task, lambda: rest, folder, identity="m", setup=CPU)
    assert rest.asked == 2
    assert rows == whole
    assert 0 < sum(row["strict"]["correct"] for row in rows) < len(rows)
    names = ("gsm8k.jsonl.gz", "index.json")
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_task_needs_no_model(tiny_tokenizer, task, tmp_path):
    rows = results.evaluate_task(
        task, lambda: Scripted(tiny_tokenizer, task), tmp_path, identity="m", setup=CPU
    )

    def refuse():
        raise AssertionError("the model was loaded")

    assert results.evaluate_task(task, refuse, tmp_path, identity="m", setup=CPU) == rows
    with pytest.raises(AssertionError, match="loaded"):
        results.evaluate_task(task, refuse, tmp_path, identity="another model", setup=CPU)
    other = load_tasks(Settings(0, 13, 6, 4, True), names=["gsm8k"])[0]
    with pytest.raises(AssertionError, match="loaded"):
        results.evaluate_task(other, refuse, tmp_path, identity="m", setup=CPU)


def test_answers_of_another_setup_are_not_kept(tiny_tokenizer, task, tmp_path):
    def scripted():
        return Scripted(tiny_tokenizer, task)

    results.evaluate_task(task, scripted, tmp_path, identity="m", setup=CPU)

    def refuse():
        raise AssertionError("the model was loaded")

    for other in (
        MathSetup("vllm", "cpu", "float32"),
        MathSetup("transformers", "cuda", "float32"),
        MathSetup("transformers", "cpu", "bfloat16"),
    ):
        with pytest.raises(AssertionError, match="loaded"):
            results.evaluate_task(task, refuse, tmp_path, identity="m", setup=other)


def test_another_grader_grades_the_kept_answers_anew(tiny_tokenizer, task, tmp_path, monkeypatch):
    def scripted():
        return Scripted(tiny_tokenizer, task)

    rows = results.evaluate_task(task, scripted, tmp_path, identity="m", setup=CPU)
    monkeypatch.setattr(results, "grader", lambda: "another")
    monkeypatch.setattr(results, "grade", lambda *_: Grade("7", True))

    def refuse():
        raise AssertionError("the model was loaded")

    again = results.evaluate_task(task, refuse, tmp_path, identity="m", setup=CPU)
    assert all(row["strict"] == {"prediction": "7", "correct": True} for row in again)
    assert [row["generation"] for row in again] == [row["generation"] for row in rows]
    monkeypatch.setattr(results, "grade", refuse)
    assert results.evaluate_task(task, refuse, tmp_path, identity="m", setup=CPU) == again


def test_the_record_says_which_items_are_right(tiny_tokenizer, task, tmp_path):
    def scripted():
        return Scripted(tiny_tokenizer, task)

    rows = results.evaluate_task(task, scripted, tmp_path, identity="m", setup=CPU)
    rows[0]["compat"]["correct"], rows[1]["compat"]["correct"] = True, False
    record = results.dataset_record(task, rows)
    assert record["compat"]["right"].startswith("10")
    assert record["compat"]["right"].count("1") == record["compat"]["correct"]
    assert len(record["compat"]["right"]) == len(rows)
    other = [{**row, "question": "another"} for row in rows]
    assert results.dataset_record(task, other)["items_hash"] != record["items_hash"]


def test_questions_that_do_not_fit_are_wrong_and_counted(tiny_tokenizer, task, tmp_path):
    engine = Scripted(tiny_tokenizer, task)
    engine.context = 20
    rows = results.evaluate_task(task, lambda: engine, tmp_path, identity="m", setup=CPU)
    record = results.dataset_record(task, rows)
    assert record["too_long"] == len(rows) == record["strict"]["unanswered"]
    assert record["strict"]["accuracy"] == record["compat"]["accuracy"] == 0.0


def test_suites(shared_math):
    tasks = load_tasks(SUITES["paper"], data=shared_math)
    assert [task.dataset.name for task in tasks] == list(DATASETS)
    assert [len(task.prompt.exemplars) for task in tasks] == [8, 4, 8, 8, 8, 8, 4, 4]
    assert {task.max_new_tokens for task in tasks} == {1024}


def test_an_analogue_with_shots_takes_exemplars_from_the_train_side():
    task = load_tasks(Settings(2, 8, 5, 1, True), names=["svamp"])[0]
    assert task.prompt.source == "train split"
    questions = " ".join(case.question for case in task.cases)
    for text in task.prompt.exemplars:
        assert text.split("Question: ")[1].split("\nAnswer:")[0] not in questions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a", "b", "--out", "x.json"], "2 models, 1 outputs; give one each"),
        (["--limit", "0"], "--limit 0: must be at least 1"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0: must be at least 1"),
        (["--shots", "-1"], "--shots -1: must be at least 0"),
        (["--device", "cuda"], "--device cuda: torch finds no GPU"),
        (["--engine", "vllm"], "--engine vllm: needs"),
        (["--datasets", "aime"], "--datasets aime: must be of gsm8k, math"),
        (["--suite", "paper"], "openai/gsm8k cannot be had from the hub"),
        (["--suite", "paper", "--data", "."], "holds none of gsm8k.jsonl"),
        (["--out", "."], "is a folder"),
        ([], "a: neither a folder nor a hub id"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    defaults = ["--model", "a", "--out", "x.json", "--suite", "smoke", "--limit", "2"]
    assert command.main([*defaults, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
