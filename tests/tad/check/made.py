"""Tokenizers made on the spot."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def tokenizer(
    more: str = "", *, eos: str | None = "<end>", merges: list[tuple[str, str]] | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level BPE: ``eos`` is id 0, then the bytes, what ``merges`` make by name, and
    the words of ``more``."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = merges or []
    made = sorted("".join(pair) for pair in merges)
    words = [*([eos] if eos else []), *letters, *made, *more.split()]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos)
