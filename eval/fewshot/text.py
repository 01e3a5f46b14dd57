"""Sentences of held-out documents, as the analogue tasks need them: text in, lists of strings out.

Documentation is full of code, signatures and lists. Only sentences of prose are kept; those of one
document, in order, are its *passage*. What stood between two of them may be left out.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIN_WORDS, MAX_WORDS = 4, 35
PLAIN_SHARE = 0.75
"""At least this share of a sentence's words must be words, not symbols or numbers."""

_PARAGRAPH_END = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+>#|]|\d+[.)]|\w+\s*\(.*\)\s*:))")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_WORD = re.compile(r"[\"'(`]*[A-Za-z]+(?:[-'./][A-Za-z]+)*[\"')`]*[,;:]?")


@dataclass(frozen=True)
class Passage:
    """The prose of one document: its number and its sentences in order."""

    document: int
    sentences: tuple[str, ...]


def is_prose(sentence: str) -> bool:
    """Whether it starts and ends like a sentence, has 4 to 35 words and hardly anything else.

    Underscores are refused: WinoGrande's format marks its gap with one.
    """
    words = sentence.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or "_" in sentence:
        return False
    if not sentence[0].isupper() or sentence[-1] not in ".!?":
        return False
    plain = sum(bool(_WORD.fullmatch(word.rstrip(".!?"))) for word in words)
    return plain >= PLAIN_SHARE * len(words)


def passages_of(documents: Iterable[str]) -> list[Passage]:
    """The passages of all documents that have any prose."""
    passages = []
    for number, document in enumerate(documents):
        lines = [" ".join(part.split()) for part in _PARAGRAPH_END.split(document)]
        found = [s for line in lines for s in _SENTENCE_END.split(line) if is_prose(s)]
        if found:
            passages.append(Passage(number, tuple(dict.fromkeys(found))))
    return passages


def content_positions(words: Sequence[str]) -> list[int]:
    """Where a word of at least four small letters stands, the first and last word left out."""
    return [i for i in range(1, len(words) - 1) if re.fullmatch(r"[a-z]{4,}", words[i])]


class Vocabulary:
    """Content words of a text by how often they occur, to find a stand-in of like frequency."""

    NEAR = 20

    def __init__(self, sentences: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for sentence in sentences:
            words = sentence.split()
            counts.update(words[i] for i in content_positions(words))
        self._ranked = sorted(counts, key=lambda word: (-counts[word], word))
        self._rank = {word: rank for rank, word in enumerate(self._ranked)}

    def stand_in(self, word: str, rng: random.Random) -> str | None:
        """Another word at most 20 ranks from ``word``, so that rarity gives nothing away.

        None where the text has no other content word.
        """
        rank = self._rank[word]
        near = self._ranked[max(0, rank - self.NEAR) : rank + self.NEAR + 1]
        others = [other for other in near if other != word]
        return rng.choice(others) if others else None
