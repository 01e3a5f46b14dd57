"""Tiny models for tests: real classes, two layers, made on the spot."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 64


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one fixed order, and no fight for cores between test processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_llama():
    """A function (seed, hidden size, vocabulary, layers, **config) -> LlamaForCausalLM."""

    def make(seed: int, hidden: int = 32, vocabulary: int = VOCABULARY, layers: int = 2, **extra):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=64,
            initializer_range=0.2,
            **extra,
        )
        return LlamaForCausalLM(config)

    return make


@pytest.fixture(autouse=True)
def registry():
    """Methods that a test registers end with it."""
    from tad.methods import ROWS

    before = dict(ROWS)
    yield
    ROWS.clear()
    ROWS.update(before)
