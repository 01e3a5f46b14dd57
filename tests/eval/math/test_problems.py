"""Generated problems: right, deterministic, and never on both sides."""

from __future__ import annotations

import json

import pytest

from eval.math import grade
from eval.math import problems as analogues
from eval.math.datasets import DATASETS, load_items

NAMES = list(analogues.GENERATED)


def test_there_is_a_generator_for_every_data_set():
    assert list(DATASETS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_solution_is_right_in_both_modes_and_no_other_is(name):
    drawn = list(analogues.problems(name, "train", 150, seed=3))
    golds = [DATASETS[name].gold(problem.item) for problem in drawn]
    for problem, gold in zip(drawn, golds, strict=True):
        assert grade(name, problem.solution, gold).correct, problem
        assert grade(name, problem.solution, gold, "compat").correct, problem
    right = sum(
        grade(name, problem.solution, gold).correct
        for problem, gold in zip(drawn, golds[1:] + golds[:1], strict=True)
    )
    assert right < 75  # another item's gold fits by chance only


@pytest.mark.parametrize("name", NAMES)
def test_train_and_test_share_no_problem(name):
    sides = {
        split: list(analogues.problems(name, split, 400, seed=seed))
        for seed, split in ((0, "train"), (1, "test"))
    }
    questions, keys = (
        {split: {read(problem) for problem in drawn} for split, drawn in sides.items()}
        for read in (lambda problem: DATASETS[name].ask(problem.item), lambda problem: problem.key)
    )
    assert len(questions["train"]) == len(questions["test"]) == 400
    assert not questions["train"] & questions["test"]
    assert not keys["train"] & keys["test"]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything(name):
    one, again, other = (analogues.items(name, "test", 40, seed=seed) for seed in (5, 5, 6))
    assert one == again
    assert one != other


@pytest.mark.parametrize("name", NAMES)
def test_numbers_stay_within_bounds(name):
    import re

    for item in analogues.items(name, "train", 100, largest=9):
        text = re.sub(r"\d\.\d", "", DATASETS[name].question(item))
        assert max(map(int, re.findall(r"\d+", text) or [0])) <= 9


@pytest.mark.parametrize(("name", "count"), [("mathqa", 5), ("sat_math", 4)])
def test_options_are_different_and_every_letter_comes_up(name, count):
    letters = set()
    for item in analogues.items(name, "train", 100):
        values = [
            part.split(")")[1].strip(" ,abcdeABCDE")
            for part in item["options"].replace(" ) ", ")").split(" ")
            if ")" in part
        ]
        assert len(values) == count
        letters.add(DATASETS[name].gold(item))
    assert len(letters) == count


def test_instructions_mix_every_data_set():
    rows = analogues.instructions(10)
    assert len(rows) == 10 * len(NAMES)
    assert {row["source"] for row in rows} == {f"analogue/{name}" for name in NAMES}
    assert rows == analogues.instructions(10)
    assert len({row["source"] for row in rows[:10]}) > 3


def test_written_folders_load_like_real_data(tmp_path):
    assert analogues.main(["--out", str(tmp_path), "--train", "5", "--test", "4"]) == 0
    for name, dataset in DATASETS.items():
        assert load_items(dataset, tmp_path) == analogues.items(name, "test", 4)
        assert len(load_items(dataset, tmp_path / "train")) == 5
    rows = [json.loads(line) for line in (tmp_path / "instruct.jsonl").read_text().splitlines()]
    assert rows == analogues.instructions(5)


def test_what_cannot_be_made_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="raise --largest"):
        list(analogues.problems("math", "test", 500, largest=5))
    with pytest.raises(ValueError, match="at least 5"):
        list(analogues.problems("math", "test", 1, largest=4))
    with pytest.raises(ValueError, match="gsm8k"):
        list(analogues.problems("aime", "test", 1))
    assert analogues.main(["--out", str(tmp_path), "--largest", "3"]) == 2
    assert "--largest 3: must be at least 5" in capsys.readouterr().err
