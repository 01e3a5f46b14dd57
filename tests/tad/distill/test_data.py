"""From files to rows: forms, splits, what is learnt, what is refused."""

from __future__ import annotations

import pytest

from tad.command import UserError
from tad.data.packing import validation_limit
from tad.data.tokenizing import document_hash
from tad.distill.arguments import parser, settings
from tad.distill.data import IGNORE, prepare

from ..made_up_text import nonsense
from .conftest import jsonl


def made(source, tokenizer, **options):
    words = ["--teacher", "t", "--student", "half", "--data", str(source), "--context", "16"]
    for key, value in options.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    return prepare(settings(parser().parse_args(words)), tokenizer)


def learnt(row, tokenizer) -> str:
    return tokenizer.decode([label for label in row["labels"].tolist() if label != IGNORE])


def test_text_is_packed_and_split_by_its_hash(tmp_path, tokenizer):
    texts = nonsense(200)
    rows = [{"text": text} for text in [*texts, texts[0]]]
    source = jsonl(tmp_path / "t.jsonl", rows)
    data = made(source, tokenizer, held_out=0.2, held_out_sequences=1000)
    held = [text for text in texts if document_hash(text) < validation_limit(0.2)]
    assert data.record["documents"] == {"train": 200 - len(held), "held_out": len(held)}
    assert data.record["left_out"] == {"said before": 1}
    ids = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in held]
    stream = [token for document in ids for token in document]
    for number in range(len(data.held_out)):
        row = data.held_out[number]
        place = slice(16 * number, 16 * number + 17)
        assert row["input_ids"].tolist() == stream[place][:-1]
        assert row["labels"].tolist() == stream[place][1:]


@pytest.mark.parametrize("form", ["txt", "parquet", "folder"])
def test_other_files_hold_the_same_text(tmp_path, tokenizer, form):
    texts = nonsense(40)
    rows = [{"text": text} for text in texts]
    plain = made(jsonl(tmp_path / "t.jsonl", rows), tokenizer, held_out=0.2)
    if form == "parquet":
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / "t.parquet"
        parquet.write_table(arrow.Table.from_pylist([row | {"n": 1} for row in rows]), path)
    else:
        path = tmp_path / "folder"
        path.mkdir()
        for number, text in enumerate(texts):
            file = path / f"{number:02d}.{'txt' if form == 'txt' else 'jsonl'}"
            file.write_text(text) if form == "txt" else jsonl(file, [{"text": text}])
    other = made(path, tokenizer, held_out=0.2)
    assert other.train.fingerprint == plain.train.fingerprint
    assert other.held_out.fingerprint == plain.held_out.fingerprint


def test_reading_stops_at_the_budget(tmp_path, tokenizer):
    rows = [{"text": text} for text in nonsense(200)] + [{"no": "text"}]
    source = jsonl(tmp_path / "t.jsonl", rows)
    data = made(source, tokenizer, tokens=1000, held_out=0.1, held_out_sequences=20)
    assert 1000 < data.record["tokens"]["train"] < 1200
    assert len(data.held_out) == 20  # documents to train on are skipped until there are as many
    with pytest.raises(UserError, match="line 201: holds no; needed is text, messages, or prompt"):
        made(source, tokenizer, tokens="1M")


@pytest.mark.parametrize("answer", ["response", "completion"])
def test_of_prompts_and_responses_only_responses_are_learnt(tmp_path, tokenizer, answer):
    rows = [{"prompt": f"the loss {i}:", answer: f" tail {i}"} for i in range(30)]
    data = made(jsonl(tmp_path / "p.jsonl", rows), tokenizer)
    assert data.record["form"] == f"prompt and {answer}"
    for side in (data.train, data.held_out):
        for number in range(len(side)):
            row = side[number]
            prompt, said = tokenizer.decode(row["input_ids"]).split(":")
            assert learnt(row, tokenizer) == f"{said}<|endoftext|>" != "<|endoftext|>"
            assert said.split() == ["tail", prompt.split()[-1]]


def test_of_little_data_something_is_held_out_with_all_answers_to_it(tmp_path, tokenizer):
    rows = [{"prompt": f"loss {i % 5}:", "response": f"tail {i}"} for i in range(20)]
    data = made(jsonl(tmp_path / "p.jsonl", rows), tokenizer, held_out=1e-9)
    sides = [
        {tokenizer.decode(side[i]["input_ids"]).split(":")[0] for i in range(len(side))}
        for side in (data.train, data.held_out)
    ]
    assert len(sides[0]) == 4 and len(sides[1]) == 1 and not sides[0] & sides[1]
    assert len(data.held_out) == 4


def chat(*turns):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": x} for i, x in enumerate(turns)]}


def test_of_chats_every_answer_is_learnt_with_the_end_of_its_turn(tmp_path, tokenizer):
    rows = [chat(f"loss {i}", f"tail {i}", "and", f"mass {i}", "unanswered") for i in range(30)]
    data = made(jsonl(tmp_path / "c.jsonl", rows), tokenizer, context=64)
    row = data.train[0]
    said = learnt(row, tokenizer)
    number = said.split("<|endoftext|>")[0].split()[-1]
    assert said == f"tail {number}<|endoftext|>mass {number}<|endoftext|>"
    assert "unanswered" not in tokenizer.decode(row["input_ids"])


def test_conversational_prompts_learn_their_completion_alone(tmp_path, tokenizer):
    turns = [chat(f"loss {i}", "old", "and", f"mass {i}")["messages"] for i in range(30)]
    rows = [{"prompt": messages[:3], "completion": messages[3:]} for messages in turns]
    data = made(jsonl(tmp_path / "c.jsonl", rows), tokenizer, context=64)
    assert learnt(data.train[0], tokenizer).startswith("mass ")


def test_a_template_that_rewrites_earlier_turns_leaves_the_last_answer(tmp_path, tokenizer):
    template = tokenizer.chat_template
    last = (
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    )
    kept = "{{ m.content if m.role == 'user' or loop.index0 > ns.last else 'gone' }}"
    tokenizer.chat_template = last + template.replace("{{ m.content }}", kept)
    try:
        rows = [chat(f"loss {i}", "tail", "and", f"mass {i}") for i in range(30)]
        data = made(jsonl(tmp_path / "c.jsonl", rows), tokenizer, context=64)
    finally:
        tokenizer.chat_template = template
    assert learnt(data.train[0], tokenizer).startswith("mass ")
    assert "gone" in tokenizer.decode(data.train[0]["input_ids"])


def test_special_tokens_that_a_text_spells_out_stay_text_or_are_left_out(tmp_path, tokenizer):
    rows = [{"prompt": "the <|endoftext|>", "response": f"{i}"} for i in range(2)]
    rows += [{"prompt": f"loss {i}", "response": "mass"} for i in range(30)]
    data = made(jsonl(tmp_path / "p.jsonl", rows), tokenizer)
    for side in (data.train, data.held_out):
        for number in range(len(side)):
            assert tokenizer.eos_token_id not in side[number]["input_ids"].tolist()
    chats = [chat("the <|endoftext|>", "x")] + [chat(f"loss {i}", "mass") for i in range(30)]
    data = made(jsonl(tmp_path / "c.jsonl", chats), tokenizer, context=64)
    assert data.record["left_out"] == {"spells out a special token": 1}


def test_long_examples_are_cut_and_those_without_a_response_left_out(tmp_path, tokenizer):
    rows = [{"prompt": "the loss " * 20, "response": "mass"}]
    rows += [{"prompt": f"loss {i}", "response": "mass " * 30} for i in range(30)]
    data = made(jsonl(tmp_path / "p.jsonl", rows), tokenizer)
    assert data.record["left_out"] == {"nothing to learn": 1}
    assert data.record["shortened"] == 30
    assert all(len(data.train[i]["input_ids"]) == 16 for i in range(len(data.train)))


def test_what_cannot_be_used_is_told_in_one_line(tmp_path, tokenizer):
    (tmp_path / "empty").mkdir()
    mixed = jsonl(tmp_path / "m.jsonl", [{"text": "a b"}, {"prompt": "a", "response": "b"}])
    short = jsonl(tmp_path / "s.jsonl", [{"text": "the loss"}])
    asked = jsonl(tmp_path / "a.jsonl", [{"prompt": 1, "response": "b"}])
    for source, message in (
        ("nowhere.jsonl", "no such file or folder"),
        ("/no/where", "no such file or folder"),
        (tmp_path / "empty", "no file matched"),
        (mixed, "line 2: has prompt and response, and rows before it text"),
        (short, "too few to hold out two sequences"),
        (asked, "prompt and response must be texts"),
    ):
        with pytest.raises(UserError, match=message) as error:
            made(source, tokenizer)
        assert "\n" not in str(error.value)
