"""One hash a model: its weights, configuration and tokenizer count, what lies beside them not."""

from __future__ import annotations

import pytest

from tad.models.fingerprint import ModelError, model_fingerprint


@pytest.fixture
def folder(tmp_path):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


def test_records_beside_a_model_do_not_count(folder):
    before = model_fingerprint(str(folder))
    for name in ("math.json", "manifest.json", "train.jsonl", "calibration.npz"):
        (folder / name).write_text("{}")
    assert model_fingerprint(str(folder)) == before


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json",
     "tokenizer_config.json", "model-00002-of-00002.safetensors", "tokenizer.model"],
)  # fmt: skip
def test_every_byte_that_decides_counts(folder, name):
    before = model_fingerprint(str(folder))
    path = folder / name
    content = path.read_bytes() if path.is_file() else b"x"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"?" + content[middle + 1 :])
    assert model_fingerprint(str(folder)) != before


def test_what_is_no_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="holds no"):
        model_fingerprint(str(tmp_path))
    with pytest.raises(ModelError, match="neither a folder nor a hub id") as caught:
        model_fingerprint(str(tmp_path / "none"))
    assert "\n" not in str(caught.value)
