"""Few-shot prompts: layout, sources, folders."""

from __future__ import annotations

import hashlib

import pytest

from eval.items import ItemError
from eval.math import grade
from eval.math.datasets import DATASETS
from eval.math.prompts import exemplar, load_prompt, training_pair

# Of the reference protocol's GSM8K exemplar file without its last newline.
GSM8K_SHA256 = "f7b267f942be471e4ea8013cdba4c4df3cad1f969774c073e9165c568043a7b8"


def test_gsm8k_exemplars_are_the_reference_protocols_to_the_byte():
    text = "\n\n\n".join(load_prompt(DATASETS["gsm8k"]).exemplars)
    assert hashlib.sha256(text.encode()).hexdigest() == GSM8K_SHA256


@pytest.mark.parametrize("name", DATASETS)
def test_every_exemplar_ends_in_an_answer_that_both_graders_read(name):
    prompt = load_prompt(DATASETS[name])
    assert len(prompt.exemplars) == DATASETS[name].shots
    for text in prompt.exemplars:
        solution = text.split("\nAnswer:" if prompt.layout == "question" else "\nSolution:")[1]
        dataset = prompt_dataset(name)
        strict, compat = (
            grade(dataset, solution, "1", mode).prediction for mode in ("strict", "compat")
        )
        assert strict and compat and compat != "placeholder"


def prompt_dataset(name: str) -> str:
    """The data set whose answers the exemplars give (TabMWP's are GSM8K's)."""
    return "gsm8k" if DATASETS[name].exemplars == DATASETS["gsm8k"].exemplars else name


def test_own_exemplars_name_an_option_they_list():
    for name in ("mathqa", "sat_math"):
        letters = []
        for text in load_prompt(DATASETS[name]).exemplars:
            question, solution = text.split("\nSolution:")
            letter = grade(name, solution, "A").prediction
            assert f"({letter})" in question
            letters.append(letter)
        assert len(set(letters)) == 4  # no letter to favour


def test_layout():
    prompt = load_prompt(DATASETS["gsm8k"], train=[("Q1", "S1"), ("Q2", "S2")], shots=2)
    assert prompt.text("Q3") == (
        "Question: Q1\nAnswer: S1\n\n\nQuestion: Q2\nAnswer: S2\n\n\nQuestion: Q3\nAnswer:"
    )
    assert prompt.text("Q3", shots=1) == "Question: Q2\nAnswer: S2\n\n\nQuestion: Q3\nAnswer:"
    assert prompt.text("Q3", shots=0) == "Question: Q3\nAnswer:"
    math = load_prompt(DATASETS["math"], train=[("Q1", "S1")], shots=1)
    assert math.text("Q2") == "Problem:\nQ1\nSolution:\nS1\n\n\nProblem:\nQ2\nSolution:"


def test_zero_shots_need_no_exemplars(tmp_path):
    assert load_prompt(DATASETS["gsm8k"], folder=tmp_path, shots=0).exemplars == ()


@pytest.mark.parametrize("where", ["", "cot"])
def test_a_prompt_folder_is_used_as_it_stands(tmp_path, where):
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    texts = [exemplar("problem", f"Q{n}", f"\\\\frac S{n} }}") for n in range(4)]
    (folder / "mmlu_stem.md").write_text("\n\n\n".join(texts) + "\n")
    prompt = load_prompt(DATASETS["sat_math"], folder=tmp_path)
    assert prompt.exemplars == tuple(texts)
    assert prompt.source == "mmlu_stem.md"


def test_missing_and_short_prompt_files_are_named(tmp_path):
    with pytest.raises(ItemError, match=r"gsm8k\.md"):
        load_prompt(DATASETS["svamp"], folder=tmp_path)
    (tmp_path / "gsm8k.md").write_text("Question: a\nAnswer: b")
    with pytest.raises(ItemError, match="holds 1 exemplars, not 8"):
        load_prompt(DATASETS["svamp"], folder=tmp_path)


def test_training_pairs_have_the_layout_of_the_evaluation():
    row = {"question": "Q", "answer": "S", "source": "analogue/math"}
    assert training_pair(row) == ("Problem:\nQ\nSolution:", "\nS")
    row["source"] = "orca"
    assert training_pair(row) == ("Question: Q\nAnswer:", " S")
