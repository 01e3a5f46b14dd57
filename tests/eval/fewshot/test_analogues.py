"""Analogues of the few-shot tasks: what they hold, and that nothing gives the answer away."""

from __future__ import annotations

import re

import pytest

from eval.fewshot import analogues
from eval.fewshot.analogues import (
    AnalogueError,
    Text,
    held_out_documents,
    make_items,
    write_analogues,
)
from eval.fewshot.tasks import all_tasks
from eval.fewshot.text import content_positions, passages_of
from eval.items import read_items
from tests.tad.made_up_text import prose as documents

SPECS = {task.name: task for task in all_tasks()}


def test_analogues_have_the_fields_options_and_splits_of_the_originals(folders):
    for spec in SPECS.values():
        path = folders / "analogues" / spec.name / f"{spec.scored}.jsonl"
        items = read_items(path, spec.fields)
        assert len(read_items(path.with_name(f"{spec.examples}.jsonl"), spec.fields)) == 8
        assert len(items) == 10
        for item in items:
            options = [
                *item.get("endings", []),
                *item.get("choices", {}).get("text", []),
                *(item[k] for k in item if re.fullmatch(r"option\d|sol\d|answer[ABC]|.*quiz\d", k)),
            ]
            assert len(set(options)) == spec.options, item


def test_the_right_answer_is_what_the_document_says():
    text = Text(documents())
    joined = [" ".join(passage.sentences) for passage in text.passages]
    items = {name: make_items(text, spec, 20, 0) for name, spec in SPECS.items()}
    for item in items["hellaswag"]:
        whole = f"{item['ctx']} {item['endings'][int(item['label'])]}"
        assert any(whole in document for document in joined)
    for item in items["winogrande"]:
        whole = item["sentence"].replace("_", item[f"option{item['answer']}"])
        assert any(whole in document for document in joined)
    for item in items["arc_challenge"] + items["arc_easy"]:
        answer = item["choices"]["text"]["ABCD".index(item["answerKey"])]
        assert any(f"{item['question']} {answer}" in document for document in joined)
    for item in items["piqa"]:
        right, wrong = (item["sol1"], item["sol2"])[:: -1 if item["label"] else 1]
        assert any(f"{item['goal']} {right}" in document for document in joined)
        pairs = zip(right.split(), wrong.split(), strict=True)
        assert 1 <= sum(a != b for a, b in pairs) <= 2
    for item in items["storycloze"]:
        opening = " ".join(item[f"input_sentence_{i}"] for i in range(1, 5))
        ending = item[f"sentence_quiz{item['answer_right_ending']}"]
        assert any(f"{opening} {ending}" in document for document in joined)
    for name, most in (("arc_easy", 3), ("arc_challenge", 1)):
        for item in items[name]:
            options = [option.split() for option in item["choices"]["text"]]
            right = options["ABCD".index(item["answerKey"])]
            apart = [sum(a != b for a, b in zip(right, o, strict=True)) for o in options]
            assert sorted(apart)[0] == 0 and sorted(apart)[1] >= 1 and max(apart) <= most
    for item in items["siqa"]:
        answer = item["answer" + "ABC"[int(item["label"]) - 1]]
        assert any(f"{item['context']} {answer}" in document for document in joined)


def test_neither_place_nor_length_gives_the_answer_away():
    text = Text(documents(200))
    items = make_items(text, SPECS["arc_easy"], 400, 0)
    places = [item["answerKey"] for item in items]
    assert all(60 < places.count(letter) < 140 for letter in "ABCD")
    longest = 0
    for item in items:
        lengths = [len(option) for option in item["choices"]["text"]]
        longest += lengths.index(max(lengths)) == "ABCD".index(item["answerKey"])
    assert 50 < longest < 170


def test_challenge_is_harder_than_easy_by_word_overlap():
    def overlap(items: list[dict]) -> float:
        shares = []
        for item in items:
            words = [set(option.lower().rstrip(".").split()) for option in item["choices"]["text"]]
            right = words.pop("ABCD".index(item["answerKey"]))
            shares += [len(right & other) / len(right | other) for other in words]
        return sum(shares) / len(shares)

    text = Text(documents())
    easy, hard = (make_items(text, SPECS[task], 30, 0) for task in ("arc_easy", "arc_challenge"))
    assert overlap(hard) > overlap(easy) + 0.1


def test_analogues_depend_on_text_and_seed_alone(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_analogues(documents(), tmp_path / name, items=5, seed=seed)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.json*")]
    assert len(files) == 17
    for file in files:
        same = (tmp_path / "a" / file).read_bytes()
        assert same == (tmp_path / "b" / file).read_bytes()
        assert same != (tmp_path / "c" / file).read_bytes()


def test_too_little_text_says_how_much_there_is():
    with pytest.raises(AnalogueError, match=r"storycloze: 500 items wanted, \d+ can be made"):
        make_items(Text(documents(20)), SPECS["storycloze"], 500, 0)


def test_only_prose_is_kept():
    document = (
        "Return the sum of two arrays.\n\nArgs:\n    x (array): the first one\n    y: second\n\n"
        ">>> add(1, 2)\n3\n\nThe arrays may have\nany shape that fits. Use my_function for ints. "
        "They are never changed in place."
    )
    (passage,) = passages_of([document, ">>> 1 + 1\n2"])
    assert passage.sentences == (
        "Return the sum of two arrays.",
        "The arrays may have any shape that fits.",
        "They are never changed in place.",
    )
    assert content_positions(["The", "first", "of", "these,", "which", "counts", "here."]) == [
        1,
        4,
        5,
    ]


def test_held_out_documents_are_those_that_were_packed(tmp_path, folders):
    from tad.data.packing import pack
    from tad.data.prepare import load_encoder
    from tad.experiment.schema import Corpus

    encoder = load_encoder("qwen", folders / "qwen")
    texts = documents(40)
    corpus = Corpus(
        source="local", path="x", tokens=2000, validation_tokens=1500, validation_fraction=0.4
    )
    pack(texts, encoder, "general", corpus, tmp_path / "packed", sources={})
    found = held_out_documents(tmp_path / "packed", folders / "qwen")
    assert len(found) > 3 and set(found) <= set(texts)
    assert analogues.main(
        ["--data", str(tmp_path / "packed"), "--tokenizer", str(folders / "qwen"),
         "--out", str(tmp_path / "made"), "--items", "5000"]
    ) == 2  # fmt: skip
