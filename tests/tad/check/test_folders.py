"""Local folders: whole, or what they lack."""

from __future__ import annotations

import json

import pytest

from tad.check.folders import look_at_path
from tad.check.wanted import Source

KEY = "models.m.checkpoints.final"


def look(folder, kind="model") -> str:
    seen = look_at_path(Source((KEY,), kind, f"{KEY}.path", None, str(folder)))
    assert seen.there == (seen.findings[0].level == "ok")
    return seen.findings[0].line()


def test_a_folder_that_is_whole(saved_model):
    assert look(saved_model) == f"ok       {KEY}: {saved_model}: whole"
    assert look(saved_model, "tokenizer").startswith("ok")


def test_no_folder(tmp_path):
    line = look(tmp_path / "none")
    assert "no such folder" in line and f"correct {KEY}.path" in line


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_missing(saved_model, name):
    (saved_model / name).unlink()
    told = {"tokenizer.json": "a tokenizer is missing", "model.safetensors": "weights are missing"}
    assert told.get(name, "config.json is missing") in look(saved_model)


def test_files_that_are_damaged(saved_model):
    weights = saved_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "model.safetensors is cut off or damaged" in look(saved_model)
    (saved_model / "config.json").write_text("{")
    assert "config.json is damaged" in look(saved_model)


def test_every_shard_is_looked_at(saved_model):
    (saved_model / "model.safetensors").rename(saved_model / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = saved_model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert "model-00002-of-00002.safetensors is missing" in look(saved_model)
    first, second = (saved_model / name for name in shards.values())
    second.write_bytes(first.read_bytes())
    assert look(saved_model).startswith("ok")
    second.write_bytes(b"")
    assert "model-00002-of-00002.safetensors is cut off" in look(saved_model)


def test_pickled_weights_alone_will_not_do(saved_model):
    (saved_model / "model.safetensors").rename(saved_model / "pytorch_model.bin")
    assert look(saved_model).startswith("failure") and "pickled" in look(saved_model)


def test_text_and_instructions(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n{"text": "y"}\n')
    corpus = look_at_path(Source(("corpora.c",), "dataset", "corpora.c.id", None, str(tmp_path)))
    assert corpus.findings[0].line().endswith(": 1 file") and corpus.rows is None
    assert list(corpus.sizes.values()) == [29]
    key = "instructions.i.sources"
    rows = look_at_path(Source((key,), "dataset", key, None, str(tmp_path / "a.jsonl")))
    assert rows.rows == 2
    nothing = look_at_path(Source((key,), "dataset", key, None, str(tmp_path / "none.jsonl")))
    assert nothing.findings[0].level == "failure" and "no file matched" in nothing.findings[0].found
