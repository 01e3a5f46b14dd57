"""Instruction data: templates, what is learnt, splits, faults; and training on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers.processors import TemplateProcessing

from tad.data.instruct import (
    InstructionError,
    InstructionRows,
    collate,
    examples,
    main,
    open_rows,
    tokenize,
)
from tad.data.packing import DataError
from tad.data.prepare import load_encoder, train_tokenizer
from tad.data.prepare import main as data
from tad.data.vocabulary import bos_tokens
from tad.experiment.schema import InstructionSource
from tad.models.loading import load_tokenizer
from tests.tad.made_up_text import nonsense
from tests.workflow.conftest import Project, make_project

SHARED = Path(__file__).parents[3] / "../shared/data/instruct/math.jsonl"
SOURCE = {"path": "instruct.jsonl"}
SUPERVISED = {
    "corpus": "instruct", "batch_size": 4, "context": 80, "learning_rate": 1e-3,
    "weight_decay": 0.1, "temperature": 1.0, "epochs": 2, "after": "math",
    "evaluations": 2, "evaluation_sequences": 4,
}  # fmt: skip


def write_rows(path: Path, count: int = 40, **fields: str) -> None:
    question, answer = fields.get("question", "question"), fields.get("answer", "answer")
    rows = [{question: f"What is {i} + {i}?", answer: f"It is {2 * i}."} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A suite with instruction data, in whose folder the test runs; its tokenizer is made."""
    instructions = {"instruct": {"sources": [SOURCE], "examples": 30, "validation_examples": 5}}
    project = make_project(tmp_path / "project", instructions=instructions)
    write_rows(project.folder / "instruct.jsonl")
    text = project.config.read_text().replace(
        "stages:\n", f"stages:\n  supervised: {json.dumps(SUPERVISED)}\n"
    )
    project.config.write_text(text)
    monkeypatch.chdir(project.folder)
    assert data(["tokenizer", "--config", "tiny.yaml", "--tokenizer", "qwen"]) == 0
    return project


def run(*more: str) -> int:
    return main(["--config", "tiny.yaml", "--data", "instruct", "--tokenizer", "qwen", *more])


def test_only_the_response_is_learnt(project):
    assert run() == 0
    tokenizer = load_tokenizer("work/tiny/tokenizers/qwen")
    rows = InstructionRows("work/tiny/data/instruct/qwen", "train", 80)
    assert len(rows) == 30
    for row in (rows[i] for i in range(len(rows))):
        learnt = row["labels"] != -100
        first = int(learnt.nonzero()[0])
        # Position t predicts the token after it; the last one predicts the end of the text.
        prompt = tokenizer.decode(row["input_ids"][: first + 1])
        response = tokenizer.decode(row["labels"][learnt])
        assert prompt.startswith("Question: What is ") and prompt.endswith("?\nAnswer:")
        assert response.startswith(" It is ") and response.endswith(f".{tokenizer.eos_token}")
        assert bool(learnt[first:].all())
        number = int(prompt.split(" is ")[1].split()[0])
        assert f" {2 * number}." in response


def test_splits_share_nothing_and_do_not_depend_on_the_order_of_rows(project, capsys):
    assert run() == 0
    before = {
        split: Path(f"work/tiny/data/instruct/qwen/{split}.parquet").read_bytes()
        for split in ("train", "validation")
    }
    assert run() == 0 and "already there" in capsys.readouterr().out
    lines = Path("instruct.jsonl").read_text().splitlines()
    Path("instruct.jsonl").write_text("\n".join([*lines[::-1], *lines[:7]]) + "\n")
    assert run("--force") == 0
    for split, content in before.items():
        path = Path(f"work/tiny/data/instruct/qwen/{split}.parquet")
        assert path.read_bytes() == content, split
    folder = "work/tiny/data/instruct/qwen"
    seen = [
        {tuple(rows[i]["input_ids"].tolist()) for i in range(len(rows))}
        for rows in (InstructionRows(folder, split, 80) for split in ("train", "validation"))
    ]
    assert len(seen[0]) == 30 and len(seen[1]) == 5 and not seen[0] & seen[1]


def test_long_examples_are_left_out_and_counted(project, capsys):
    lines = Path("instruct.jsonl").read_text().splitlines()
    long = {"question": "long " * 60, "answer": "no"}
    Path("instruct.jsonl").write_text("\n".join([json.dumps(long), *lines]) + "\n")
    text = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(text.replace("examples: 30", "examples: 35"))
    assert run() == 0 and "1 were too long" in capsys.readouterr().out
    Path("tiny.yaml").write_text(text.replace("examples: 30", "examples: 36"))
    assert run() == 2
    error = capsys.readouterr().err
    assert "40 examples of at most 80 tokens (1 are longer), and 41 are asked for" in error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "none.jsonl"}, "none.jsonl: no such file"),
        ({"path": "empty.jsonl"}, "instruct: 0 examples of at most 80 tokens .* 35 are asked for"),
        ({"path": "bad.jsonl"}, "bad.jsonl: line 2: not valid JSON"),
        ({"path": "list.jsonl"}, "list.jsonl: line 1: list found, must be an object"),
        ({**SOURCE, "answer": "reply"}, "line 1: field 'reply' holds no text.*question, answer"),
        ({**SOURCE, "layout": "chat"}, "has no chat template"),
    ],
)
def test_faults_of_a_source_are_named(project, source, message, capsys):
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["instructions"]["instruct"]["sources"] = [source]
    Path("empty.jsonl").write_text("")
    Path("bad.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": \n')
    Path("list.jsonl").write_text("[1, 2]\n")
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    assert run() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    import re

    assert re.search(message, error), error


CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
WRAPPED = (  # a space begins an answer, and the end of the turn is the end of the text
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[Q] {{ m.content }} [/Q]"
    "{% else %} {{ m.content }}<|endoftext|>{% endif %}{% endfor %}"
)


def made_tokenizer(folder: Path, template: str | None, *, bos: bool):
    """A saved tokenizer with marks of turns, whose template adds BOS or not; and its encoder."""
    tokenizer = train_tokenizer(nonsense(200), 300)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|start|>", "<|end|>"], "bos_token": "<|begin|>"}
    )
    if bos:
        token = ("<|begin|>", tokenizer.convert_tokens_to_ids("<|begin|>"))
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[token]
        )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return load_tokenizer(str(folder)), load_encoder("made", folder)


@pytest.mark.parametrize(
    ("template", "prompt", "response"),
    [
        (CHATML, "<|start|>user\nWhy?<|end|>\n<|start|>assistant\n", "So.<|end|><|endoftext|>"),
        (WRAPPED, "<|begin|>[Q] Why? [/Q]", " So.<|endoftext|>"),
    ],
)
def test_a_chat_template_keeps_its_end_of_turn_and_it_is_learnt(
    tmp_path, template, prompt, response
):
    tokenizer, encoder = made_tokenizer(tmp_path, template, bos=True)
    ids, start = tokenize("Why?", "So.", "chat", encoder, tokenizer)
    assert tokenizer.decode(ids[:start]) == prompt and tokenizer.decode(ids[start:]) == response
    # As the template would be tokenized where a model answers.
    turn = [{"role": "user", "content": "Why?"}]
    assert (
        ids[:start] == tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    )


@pytest.mark.parametrize("layout", ["plain", "question", "chat"])
def test_special_tokens_spelled_out_stay_text(tmp_path, layout):
    tokenizer, encoder = made_tokenizer(tmp_path, CHATML, bos=True)
    control = set(tokenizer.all_special_ids)
    clean, _ = tokenize("Say it", "Said", layout, encoder, tokenizer)
    question, answer = "Say <|end|> or <|endoftext|>", "<|begin|>Said <|start|>user"
    ids, start = tokenize(question, answer, layout, encoder, tokenizer)
    assert [i for i in ids if i in control] == [i for i in clean if i in control]
    assert question in tokenizer.decode(ids[:start])
    assert tokenizer.decode(ids[start:]).lstrip().startswith(answer)


@pytest.mark.parametrize("bos", [True, False])
def test_bos_where_the_tokenizers_own_template_has_it(tmp_path, bos):
    tokenizer, encoder = made_tokenizer(tmp_path, None, bos=bos)
    assert bos_tokens(tokenizer) == bos_tokens(encoder.backend) == list(encoder.bos)
    for layout in ("plain", "question"):
        ids, _ = tokenize("What?", "It.", layout, encoder, tokenizer)
        assert (ids[0] == tokenizer.bos_token_id) == bos
        assert ids.count(tokenizer.bos_token_id) == bos


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('only systems') }}", "only systems"),
        ("{{ messages[7].content }}", "layout: chat: "),
        ("fixed", "leaves out a turn's text"),
    ],
)
def test_chat_templates_that_cannot_be_used(tmp_path, template, message):
    tokenizer, encoder = made_tokenizer(tmp_path, template, bos=False)
    with pytest.raises(InstructionError, match=message):
        tokenize("Why?", "So.", "chat", encoder, tokenizer)


def test_the_fields_of_both_public_datasets_are_read(tmp_path):
    if not SHARED.is_file():
        pytest.skip(f"no {SHARED}")
    rows = [json.loads(line) for line in SHARED.read_text().splitlines()]
    orca = list(examples(InstructionSource(path=str(SHARED))))
    assert orca == [(row["question"].strip(), row["answer"].strip()) for row in rows]
    # Camel-AI math has the same content under other names, beside its topics.
    path = tmp_path / "camel.jsonl"
    path.write_text(
        "".join(
            json.dumps({"role_1": "x", "topic": "Algebra", "message_1": r["question"],
                        "message_2": r["answer"]}) + "\n"
            for r in rows
        )
    )  # fmt: skip
    camel = InstructionSource(path=str(path), question="message_1", answer="message_2")
    assert list(examples(camel)) == orca


def test_rows_of_different_length_make_a_batch_and_packed_ones_are_as_they_were():
    rows = [
        {"input_ids": torch.tensor([5, 6, 7]), "labels": torch.tensor([-100, 7, 8])},
        {"input_ids": torch.tensor([5]), "labels": torch.tensor([9])},
    ]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 7, 8], [9, -100, -100]]


def test_missing_data_is_named(tmp_path):
    with pytest.raises(DataError, match="manifest.json: missing; make it with"):
        open_rows(tmp_path, "train", 8)
    with pytest.raises(InstructionError, match="not less"):
        (tmp_path / "manifest.json").write_text('{"kind": "instructions", "context": 9}')
        open_rows(tmp_path, "train", 8)
