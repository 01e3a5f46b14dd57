"""Fixtures of the math tests: the shared real data where it is there, and a tiny language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "math"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def shared_math() -> Path:
    """The folder of real items and grading cases."""
    if not SHARED.is_dir():
        pytest.skip("the real math items (../shared/data/math) are not here")
    return SHARED


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A byte-level BPE of 384 tokens trained on generated problems."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from eval.math import problems as analogues
    from eval.math import prompts

    texts = ["".join(prompts.training_pair(row)) for row in analogues.instructions(20)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def _llama(vocab_size: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        bos_token_id=None, eos_token_id=0, pad_token_id=1,
    ))  # fmt: skip


def _phi3(vocab_size: int):
    from transformers import Phi3Config, Phi3ForCausalLM

    return Phi3ForCausalLM(Phi3Config(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128,
        original_max_position_embeddings=128, bos_token_id=None, eos_token_id=0, pad_token_id=1,
    ))  # fmt: skip


@pytest.fixture(scope="session")
def tiny_models(tiny_tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Folders of untrained two-layer models, by family."""
    import torch

    folders = {}
    for family, build in (("llama", _llama), ("phi3", _phi3)):
        torch.manual_seed(7)
        model = build(len(tiny_tokenizer))
        folders[family] = tmp_path_factory.mktemp(family)
        model.save_pretrained(folders[family])
        tiny_tokenizer.save_pretrained(folders[family])
    return folders
