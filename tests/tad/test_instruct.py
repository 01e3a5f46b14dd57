"""Instruction data: templates, what is learnt, splits, faults; and training on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from tad.data.instruct import (
    InstructionError,
    InstructionRows,
    collate,
    examples,
    main,
    open_rows,
    prompt_and_response,
    tokenize,
)
from tad.data.packing import DataError
from tad.experiment.schema import InstructionSource
from tests.workflow.conftest import Project, make_project

SHARED = Path(__file__).parents[2] / "../shared/data/instruct/math.jsonl"
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
    from tad.data.prepare import main as data

    assert data(["tokenizer", "--config", "tiny.yaml", "--tokenizer", "qwen"]) == 0
    return project


def run(*more: str) -> int:
    return main(["--config", "tiny.yaml", "--data", "instruct", "--tokenizer", "qwen", *more])


def test_only_the_response_is_learnt(project):
    from tad.models.loading import load_tokenizer

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
        ({**SOURCE, "answer": "reply"}, "row 1: field 'reply' holds no text.*question, answer"),
        ({**SOURCE, "layout": "chat"}, "has no chat template"),
    ],
)
def test_faults_of_a_source_are_named(project, source, message, capsys):
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["instructions"]["instruct"]["sources"] = [source]
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    assert run() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    import re

    assert re.search(message, error), error


def test_chat_template_and_its_own_special_tokens(tiny_tokenizer):
    tiny_tokenizer.chat_template = (
        "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}"
    )
    source = InstructionSource(path="x", layout="chat")
    pair = prompt_and_response("Why?", "So.", source, tiny_tokenizer)
    assert pair == ("<u>Why?</u><a>", "So.")
    ids, start = tokenize(*pair, tiny_tokenizer, chat=True)
    assert tiny_tokenizer.decode(ids[:start]) == "<u>Why?</u><a>"
    assert ids[-1] == tiny_tokenizer.eos_token_id


@pytest.fixture
def tiny_tokenizer():
    from tad.data.prepare import train_tokenizer
    from tests.tad.made_up_text import nonsense

    return train_tokenizer(nonsense(200), 300)


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
