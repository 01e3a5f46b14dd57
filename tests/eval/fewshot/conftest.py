"""Tiny models with a byte-level tokenizer, analogues, and a finished suite."""

from __future__ import annotations

import gzip
import json
import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from eval.fewshot.analogues import write_analogues
from eval.fewshot.evaluate import FewshotSuite, Setup, evaluate_models, items_path
from tests.tad.made_up_text import prose as documents


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Two tiny models with a byte-level tokenizer, and analogues of ten items a task."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

    from tad.data.prepare import train_tokenizer

    root = tmp_path_factory.mktemp("fewshot")
    tokenizer = train_tokenizer(documents(), 300)
    shape = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
        "eos_token_id": 0, "bos_token_id": None, "pad_token_id": 0, "initializer_range": 0.2,
    }  # fmt: skip
    for name, model in (
        ("qwen", lambda: Qwen2ForCausalLM(Qwen2Config(**shape))),
        ("gemma", lambda: Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=16))),
    ):
        torch.manual_seed(0)
        model().save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    write_analogues(documents(), root / "analogues", items=10)
    return root


@pytest.fixture(scope="session")
def suite(folders):
    return FewshotSuite("smoke", analogues=folders / "analogues")


@pytest.fixture(scope="session")
def finished(folders, suite):
    """The record and the items of the Qwen model on the analogue suite."""
    out = folders / "results" / "fewshot.json"
    evaluate_models(suite, [str(folders / "qwen")], [out], Setup.of())
    rows = gzip.decompress(items_path(out).read_bytes()).decode().splitlines()
    return json.loads(out.read_text()), [json.loads(row) for row in rows], out
