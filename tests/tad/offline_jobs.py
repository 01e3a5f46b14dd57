"""A packed corpus with models beside it, and jobs that are killed between two blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tad.baselines import blocks as offline
from tad.data.packing import TextEncoder, pack
from tad.data.prepare import train_tokenizer
from tad.experiment.schema import Corpus

from .made_up_text import nonsense


def save_model(model, tokenizer, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_tokenizer(vocab_size: int = 320, seed: int = 0):
    return train_tokenizer(nonsense(200, seed), vocab_size)


def pack_nonsense(encoder: TextEncoder, folder: Path, tokens: int = 900) -> str:
    limits = Corpus(
        source="local", path="made-up", tokens=tokens, validation_tokens=60,
        validation_fraction=0.2, seed=0,
    )  # fmt: skip
    pack(iter(nonsense(150)), encoder, "made-up", limits, folder, sources={})
    return str(folder)


def sharpen(model, scale: float = 2.0):
    """Logits of some size, so that a wrong state or a wrong token shows."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    return model


def die_after(monkeypatch, blocks: int) -> None:
    """The process is gone once so many blocks are saved."""
    save, left = offline._save, [blocks]

    def dying(path, array):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save(path, array)

    monkeypatch.setattr(offline, "_save", dying)


def killed_and_resumed(monkeypatch, job, blocks: int) -> None:
    """Run ``job()``, die after ``blocks`` blocks, and run it again."""
    with monkeypatch.context() as patch:
        die_after(patch, blocks)
        with pytest.raises(KeyboardInterrupt):
            job()
    job()
