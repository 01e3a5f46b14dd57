"""The eight data sets: questions and gold answers as the protocol writes them, and loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.items import ItemError
from eval.math import sets
from eval.math.datasets import DATASETS, discover, load_items
from eval.math.sets import last_box

TABLE = {
    "question": "How many?", "table": "a | 1\nb | 2", "table_title": None, "choices": None,
    "answer": "3", "ans_type": "integer_number",
}  # fmt: skip


def test_columns_are_those_of_the_paper():
    assert [entry.column for entry in DATASETS.values()] == [
        "GSM8K", "MATH", "SVAMP", "ASDiv", "MAWPS", "TAB", "MQA", "SAT",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "item", "question", "gold"),
    [
        ("gsm8k", {"question": "Why?", "answer": "a\nb\n#### 1,200"}, "Why?", "1,200"),
        ("math", {"problem": "Find.", "solution": "\\boxed{1} so \\boxed{\\frac{1}{2}}."},
         "Find.", "\\frac{1}{2}"),
        ("svamp", {"Body": "Ann has 3", "Question": "How many?", "Answer": 3.0},
         "Ann has 3. How many?", "3.0"),
        ("asdiv", {"body": "Ann has 3.", "question": "Is that all?", "answer": "yes"},
         "Ann has 3. Is that all? (Yes or No)", "yes"),
        ("asdiv", {"body": "Ann has 3.", "question": "How many? ", "answer": "3 (hats)"},
         "Ann has 3. How many?", "3"),
        ("mawps", {"input": "How many ?", "target": 2.5}, "How many ?", "2.5"),
        ("tabmwp", TABLE,
         "Read the following table and answer a question:\na | 1\nb | 2\nHow many?", "3.0"),
        ("tabmwp", {**TABLE, "table_title": "Hats", "choices": ["x", "y"], "answer": "x",
                    "ans_type": "extractive_text"},
         'Read the following table regarding "Hats" and answer a question:\na | 1\nb | 2\nHow many?'
         " Please select from the following options: ['x', 'y']", "x"),
        ("mathqa", {"problem": "find x .", "correct": "b",
                    "options": "a ) 12 , b ) 1,600 , c ) 3 : 4 , d ) no , e ) 5"},
         "Find x .\nWhat of the following is the right choice? Explain your answer.\n"
         "(A) 12, (B) 1,600, (C) 3 : 4, (D) no, (E) 5", "B"),
        ("mathqa", {"problem": "find x .", "correct": "e",
                    "options": "['a ) 12', 'b ) 16', 'c ) 1', 'd ) 2', 'e ) 5']"},
         "Find x .\nWhat of the following is the right choice? Explain your answer.\n"
         "(A) 12, (B) 16, (C) 1, (D) 2, (E) 5", "E"),
        ("sat_math", {"question": "What?", "options": "A) 1 B) $(2,3)$ C) 4 D) 5", "Answer": "D"},
         "What?\nWhat of the following is the right choice? Explain your answer.\n"
         "(A) 1 (B) $(2,3)$ (C) 4 (D) 5", "D"),
        ("sat_math", {"question": "What?", "options": "A. 1 B. 2 C. 4 D. 5", "Answer": "D"},
         "What?\nWhat of the following is the right choice? Explain your answer.\n"
         "(A. 1 B. 2 C. 4 D. 5", "D"),
    ],
)  # fmt: skip
def test_question_and_gold(name, item, question, gold):
    assert DATASETS[name].ask(item) == question
    assert DATASETS[name].gold(item) == gold


@pytest.mark.parametrize(
    ("answer", "gold"), [("5/8", "0.625"), ("1,234", "1234.0"), ("25%", "0.25"), ("7", "7.0")]
)
def test_table_numbers_become_decimals(answer, gold):
    assert DATASETS["tabmwp"].gold({**TABLE, "answer": answer}) == gold


def test_last_box():
    assert last_box("\\boxed{a{b}c}") == "a{b}c"
    assert last_box("$\\boxed 7$") == "7"
    with pytest.raises(ItemError, match="boxed"):
        last_box("nothing")


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_items_come_sorted_from_either_layout(tmp_path):
    rows = [
        {"question": "b", "answer": "#### 2", "idx": 7},
        {"question": "a", "answer": "#### 1", "idx": 3},
    ]
    write(tmp_path / "flat" / "gsm8k.jsonl", rows)
    write(tmp_path / "nested" / "gsm8k" / "test.jsonl", rows)
    for folder in ("flat", "nested"):
        items = load_items(DATASETS["gsm8k"], tmp_path / folder)
        assert [item["idx"] for item in items] == [3, 7]


def test_answers_with_a_semicolon_are_dropped_as_the_protocol_does(tmp_path):
    write(
        tmp_path / "asdiv.jsonl",
        [
            {"body": "a", "question": "b", "answer": "3 (hats); 4 (caps)"},
            {"body": "a", "question": "b", "answer": "3 (hats)"},
        ],
    )
    assert [item["idx"] for item in load_items(DATASETS["asdiv"], tmp_path)] == [1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("oops", r"gsm8k\.jsonl:2: not valid JSON"),
        ("[]", r"gsm8k\.jsonl:2: must be a JSON object"),
        ('{"question": "a"}', r"gsm8k\.jsonl:2: no field 'answer'"),
        ('{"question": "a", "answer": 3}', "item 2: no usable answer"),
    ],
)
def test_bad_items_are_named(tmp_path, line, message):
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "a", "answer": "#### 1"}\n' + line)
    with pytest.raises(ItemError, match=message):
        load_items(DATASETS["gsm8k"], tmp_path)


def test_the_hub_offline_is_an_error_with_a_cure(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ItemError, match=r"gsm8k: openai/gsm8k cannot be had .* --data") as caught:
        load_items(DATASETS["gsm8k"], None)
    assert "\n" not in str(caught.value)


def test_items_of_the_hub_lack_no_field(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"question": "a"}])
    with pytest.raises(ItemError, match="gsm8k of the hub: item 1: .*no field 'answer'"):
        load_items(DATASETS["gsm8k"], None)


def test_a_new_module_is_a_new_set(tmp_path, monkeypatch):
    code = Path(sets.__file__).with_name("mawps.py").read_text()
    code = code.replace(
        'name="mawps", column="MAWPS", place=5', 'name="sums", column="SUM", place=9'
    )
    (tmp_path / "sums.py").write_text(code)
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(tmp_path)])
    found = discover()
    assert list(found) == [*DATASETS, "sums"]
    assert found["sums"].ask({"input": "1 + 1", "target": 2}) == "1 + 1"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ItemError, match=r"gsm8k\.jsonl"):
        load_items(DATASETS["gsm8k"], tmp_path)
    with pytest.raises(ItemError, match="--data"):
        load_items(DATASETS["mawps"], None)


@pytest.mark.parametrize("name", DATASETS)
def test_real_items_load(shared_math, name):
    items = load_items(DATASETS[name], shared_math)
    assert len(items) == (32 if name == "sat_math" else 200)
    assert all(DATASETS[name].ask(item) for item in items)
