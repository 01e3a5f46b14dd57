"""A tiny teacher with a tokenizer, and text in its tokens, made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tad.cli import main
from tad.data.prepare import train_tokenizer

from ..made_up_text import nonsense

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer():
    made = train_tokenizer(nonsense(200), 320)
    made.chat_template = CHAT
    return made


@pytest.fixture(scope="session")
def teacher(tokenizer, tmp_path_factory) -> Path:
    """A Llama of four layers, whose logits are of some size."""
    return save_llama(tmp_path_factory.mktemp("models") / "teacher", tokenizer, layers=4)


def save_llama(folder: Path, tokenizer, *, layers: int = 2, seed: int = 0, **sizes) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
        }
        | sizes
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path) -> Path:
    return jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in nonsense(120)])


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SMALL = {
    "--student": "half", "--tokens": "1600", "--context": "16", "--batch-size": "8",
    "--held-out": "0.1", "--held-out-sequences": "12", "--learning-rate": "3e-3",
    "--evaluations": "2",
}  # fmt: skip


def tad_distill(*flags: str, **options: object) -> int:
    """The exit code of a small ``tad distill``; ``held_out`` is ``--held-out``."""
    given = {f"--{key.replace('_', '-')}": str(value) for key, value in options.items()}
    return main(["distill", *flags, *(x for pair in (SMALL | given).items() for x in pair)])
