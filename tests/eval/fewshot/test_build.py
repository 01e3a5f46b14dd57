"""Items that lm-eval cannot score are named by file and item, before a model is loaded."""

from __future__ import annotations

import json

import pytest

from eval.fewshot.build import _check_options, build_task
from eval.fewshot.evaluate import FewshotSuite
from eval.fewshot.tasks import all_tasks
from eval.items import ItemError

SPECS = {task.name: task for task in all_tasks()}


def spoilt(folders, tmp_path, task: str, place: int, change) -> None:
    """The analogues of a task with one item changed, for ``build_task`` to refuse."""
    spec = SPECS[task]
    lines = (folders / "analogues" / task / f"{spec.scored}.jsonl").read_text().splitlines()
    item = json.loads(lines[place])
    change(item)
    lines[place] = json.dumps(item)
    (tmp_path / f"{spec.scored}.jsonl").write_text("\n".join(lines) + "\n")
    build_task(spec, tmp_path, 0, None)


@pytest.mark.parametrize(
    ("task", "place", "change", "fault"),
    [
        ("hellaswag", 3, lambda i: i["endings"].__setitem__(1, " "), "an option is empty"),
        ("hellaswag", 9, lambda i: i.update(label="4"), "answer is none of them"),
        ("hellaswag", 1, lambda i: i.update(endings=[]), "answer is none of them"),
        ("piqa", 0, lambda i: i.update(sol2=""), "an option is empty"),
        ("piqa", 7, lambda i: i.update(label=2), "answer is none of them"),
        ("arc_easy", 4, lambda i: i.update(answerKey="E"), "item 5"),
        ("arc_easy", 4, lambda i: i["choices"].update(text=["a", "b", "", "d"]), "option is empty"),
        ("winogrande", 2, lambda i: i.update(answer="3"), "item 3"),
        ("siqa", 6, lambda i: i.update(label="9"), "answer is none of them"),
        ("storycloze", 5, lambda i: i.update(sentence_quiz2=" "), "an option is empty"),
    ],
)
def test_a_bad_item_is_named(folders, tmp_path, task, place, change, fault):
    with pytest.raises(ItemError) as caught:
        spoilt(folders, tmp_path, task, place, change)
    message = str(caught.value)
    assert f"{tmp_path}/{SPECS[task].scored}.jsonl: item {place + 1}: " in message
    assert fault in message and "\n" not in message


def test_an_answer_beyond_the_options_of_one_item_is_told(folders, tmp_path):
    """Among good items lm-eval would count it as wrong and go on."""
    spec = SPECS["piqa"]
    task = build_task(spec, folders / "analogues" / "piqa", 0, None)
    task.instances[6].doc["label"] = -1
    task.instances[7].doc["label"] = -1
    with pytest.raises(ValueError, match="number 0 of 2 options"):
        _check_options(task)


def test_items_of_different_types_are_told(folders, tmp_path):
    with pytest.raises(ItemError, match=r"validation.jsonl: .*"):
        spoilt(folders, tmp_path, "piqa", 4, lambda item: item.update(goal=["a", "list"]))


def test_good_items_pass(folders, tmp_path):
    for task in SPECS:
        spoilt(folders, tmp_path, task, 0, lambda item: None)


def test_more_shots_than_examples_are_refused(folders):
    with pytest.raises(ItemError, match="fewer than 9 shots"):
        FewshotSuite("smoke", analogues=folders / "analogues", shots=9)
