"""Texts made on the spot, and the packed files read back by an implementation of their own."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tad.data.packing import TextEncoder, read_manifest
from tad.data.prepare import load_encoder, train_tokenizer

WORDS = ["the", "loss", "of", "a", "model", "tail", "mass", "teacher", "student", "learns", "token"]
WORDS += ["every", "from", "in", "this", "distribution", "gradient", "vocabulary", "sentence"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def nonsense(documents: int, seed: int = 0) -> list[str]:
    """Different sentences of 5 to 40 words."""
    rng = random.Random(seed)
    return [
        f"{' '.join(rng.choices(WORDS, k=rng.randint(5, 40)))} {seed}-{number}."
        for number in range(documents)
    ]


def prose(count: int = 60, seed: int = 0) -> list[str]:
    """Invented documents of six to nine sentences, each on words of its own."""
    rng = random.Random(seed)
    syllables = ["lor", "ben", "tam", "rik", "sol", "ven", "dar", "mip", "gat", "hul"]

    def word(low: int, high: int) -> str:
        return "".join(rng.choice(syllables) for _ in range(rng.randint(low, high)))

    found = []
    for _ in range(count):
        words = [word(2, 3) for _ in range(15)]
        sentences = [
            " ".join(rng.choice(words) for _ in range(rng.randint(7, 12))).capitalize() + "."
            for _ in range(rng.randint(6, 9))
        ]
        found.append(" ".join(sentences))
    return found


def make_encoder(folder: Path) -> TextEncoder:
    """A tokenizer of 320 tokens, trained on nonsense and saved to ``folder``."""
    train_tokenizer(nonsense(200), 320).save_pretrained(folder)
    return load_encoder("bpe", folder)


def read_split(folder: Path, split: str, eos: int) -> list[list[int]]:
    """The token lists between the end-of-text tokens; the last may be a cut one, or empty."""
    dtype = "<u2" if read_manifest(folder)["dtype"] == "uint16" else "<u4"
    tokens = np.fromfile(folder / f"{split}.bin", dtype=dtype).tolist()
    pieces: list[list[int]] = [[]]
    for token in tokens:
        if token == eos:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces
