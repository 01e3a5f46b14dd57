"""A task is one file: a new one needs nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eval.fewshot import tasks
from eval.fewshot.tasks import FewshotError, all_tasks, columns, suite_tasks

EXTRA = """
column: BoolX
lm_eval: piqa
folder: piqa
metric: acc_norm
scored: validation
examples: train
options: 2
place: 9
fields: [goal, sol1, sol2, label]
"""


def test_columns_are_those_of_the_paper_in_its_order():
    assert list(columns().values()) == [
        "HS", "WG", "OBQA", "ARC-E", "ARC-C", "PIQA", "SIQA", "Story",
    ]  # fmt: skip


def test_a_new_file_is_a_new_task(tmp_path, monkeypatch):
    (tmp_path / "boolx.yaml").write_text(EXTRA)
    (task,) = all_tasks(tmp_path)
    assert task.name == "boolx" and task.shots == 0 and task.analogue is None
    monkeypatch.setattr(tasks, "all_tasks", lambda: [task])
    assert suite_tasks("paper") == [task]
    assert suite_tasks("smoke") == []  # it has no analogue
    with pytest.raises(FewshotError, match="module:function"):
        task.maker()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (EXTRA.replace("metric: acc_norm\n", ""), "boolx.yaml: metric: missing"),
        (EXTRA + "metrik: acc\n", "boolx.yaml: metrik: unknown"),
        ("a: [", "boolx.yaml: not valid YAML"),
        ("", "boolx.yaml: column: missing"),
    ],
)
def test_a_file_that_is_no_task_is_named(tmp_path, text, fault):
    (tmp_path / "boolx.yaml").write_text(text)
    with pytest.raises(FewshotError, match=fault) as caught:
        all_tasks(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_maker_is_there():
    assert all(callable(task.maker()) for task in all_tasks())


def test_tables_may_ask_without_the_libraries():
    code = "import sys, eval.fewshot.tasks as t; t.columns(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


OWN = tasks.Path(__file__).parents[3] / "config" / "new" / "tasks"


def test_tasks_of_a_folder_of_ones_own_stand_beside_the_packaged():
    packaged = [task.name for task in suite_tasks("smoke")]
    found = suite_tasks("smoke", OWN)
    assert [task.name for task in found] == [*packaged, "capitals"]
    assert found[-1].data == str(OWN / "capitals")
    assert "capitals" in [task.name for task in suite_tasks("paper", OWN)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (None, "", "no task files"),
        ("piqa", EXTRA, "piqa.yaml: there is a task of that name already"),
        ("boolx", EXTRA, "boolx.yaml: data: missing"),
        ("boolx", EXTRA.replace("place: 9", "plaec: 9"), "boolx.yaml: plaec: unknown"),
    ],
)
def test_a_wrong_folder_of_ones_own_is_refused(tmp_path, name, text, message):
    if name:
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(FewshotError, match=message):
        suite_tasks("smoke", tmp_path)


def test_items_of_ones_own_are_scored(folders):
    from eval.fewshot.evaluate import FewshotSuite

    suite = FewshotSuite("smoke", analogues=folders / "analogues", tasks=OWN)
    asked = suite.tasks["capitals"].instances
    assert len(asked) == 4 * 4 and "capital of France" in asked[0].args[0]
    assert suite.folders["piqa"] == folders / "analogues" / "piqa"
