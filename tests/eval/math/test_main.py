"""python -m eval.math: the record, the kept items, and going on after an interruption."""

from __future__ import annotations

import json
import shutil

import pytest

from eval.math import __main__ as command
from eval.math import results
from eval.math.datasets import DATASETS
from eval.math.generate import Generated
from eval.math.suites import SUITES, Suite, load_tasks

SMALL = Suite(shots=0, max_new_tokens=12, limit=6, batch_size=4, analogue=True)


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
            answer = gold if len(prompt.ids) % 2 else "no idea"
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
        task, lambda: Scripted(tiny_tokenizer, task), tmp_path / "whole", identity="m"
    )
    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        results.evaluate_task(
            task, lambda: Scripted(tiny_tokenizer, task, stop_after=4), folder, identity="m"
        )
    with (folder / "gsm8k.partial.jsonl").open("a") as file:
        file.write('{"position": 5, "gener')  # torn by the interruption
    rest = Scripted(tiny_tokenizer, task)
    rows = results.evaluate_task(task, lambda: rest, folder, identity="m")
    assert rest.asked == 2
    assert rows == whole
    assert 0 < sum(row["strict"]["correct"] for row in rows) < len(rows)
    names = ("gsm8k.jsonl.gz", "index.json")
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_task_needs_no_model(tiny_tokenizer, task, tmp_path):
    rows = results.evaluate_task(
        task, lambda: Scripted(tiny_tokenizer, task), tmp_path, identity="m"
    )

    def refuse():
        raise AssertionError("the model was loaded")

    assert results.evaluate_task(task, refuse, tmp_path, identity="m") == rows
    with pytest.raises(AssertionError, match="loaded"):
        results.evaluate_task(task, refuse, tmp_path, identity="another model")
    other = load_tasks(SMALL.__class__(0, 13, 6, 4, True), names=["gsm8k"])[0]
    with pytest.raises(AssertionError, match="loaded"):
        results.evaluate_task(other, refuse, tmp_path, identity="m")


def test_the_fingerprint_follows_the_weights_not_the_records(tiny_models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["llama"], folder)
    before = results.model_fingerprint(folder)
    (folder / "math.json").write_text("{}")
    (folder / "train.jsonl").write_text("{}")
    assert results.model_fingerprint(folder) == before
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert results.model_fingerprint(folder) != before


def test_questions_that_do_not_fit_are_wrong_and_counted(tiny_tokenizer, task, tmp_path):
    engine = Scripted(tiny_tokenizer, task)
    engine.context = 20
    rows = results.evaluate_task(task, lambda: engine, tmp_path, identity="m")
    record = results.dataset_record(task, rows)
    assert record["too_long"] == len(rows) == record["strict"]["unanswered"]
    assert record["strict"]["accuracy"] == record["compat"]["accuracy"] == 0.0


def test_suites(shared_math):
    tasks = load_tasks(SUITES["paper"], data=shared_math)
    assert [task.dataset.name for task in tasks] == list(DATASETS)
    assert [len(task.prompt.exemplars) for task in tasks] == [8, 4, 8, 8, 8, 8, 4, 4]
    assert {task.max_new_tokens for task in tasks} == {1024}


def test_an_analogue_with_shots_takes_exemplars_from_the_train_side():
    task = load_tasks(Suite(2, 8, 5, 1, True), names=["svamp"])[0]
    assert task.prompt.source == "train split"
    questions = " ".join(case.question for case in task.cases)
    for text in task.prompt.exemplars:
        assert text.split("Question: ")[1].split("\nAnswer:")[0] not in questions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a", "b", "--out", "x.json"], "give one each"),
        (["--model", "a", "--out", "x.json", "--limit", "0"], "--limit 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        command.main([*arguments, "--suite", "smoke"])
    assert message in capsys.readouterr().err


def test_missing_data_is_an_error_not_a_traceback(tmp_path, capsys):
    arguments = ["--model", "a", "--out", str(tmp_path / "x.json"), "--suite", "paper"]
    assert command.main([*arguments, "--data", str(tmp_path)]) == 2
    assert "gsm8k.jsonl" in capsys.readouterr().err
