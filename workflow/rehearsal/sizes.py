"""How large a stand-in is: the sizes of a published model, scaled down, in the same order.

Light to import.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tad.command import UserError
from tad.experiment.families import Family
from tad.experiment.schema import Shape
from tad.experiment.yaml_file import read_yaml

PUBLISHED = Path(__file__).with_name("published.yaml")

SMALLER = 64
"""How many times narrower a stand-in is, between NARROWEST and WIDEST, in steps of HEADS."""
WIDEST, NARROWEST, HEADS = 64, 16, 4
SHALLOWER = 8
FEWER_TOKENS = 100
POSITIONS = 4096
"""Of a model that PUBLISHED does not know."""


class RehearsalError(UserError, ValueError):
    """A scale that cannot be rehearsed; one line with the name and the cure."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSizes:
    """A tokenizer as its stand-in has it; see published.yaml. ``base`` names what it extends."""

    base: str
    tokens: int
    added: int
    eos: str
    bos: str | None
    begins: bool
    own_eos: bool
    names_eos: bool

    @property
    def size(self) -> int:
        """Tokens in all."""
        return self.tokens + self.added


@cache
def published() -> dict[str, Any]:
    """The facts of PUBLISHED."""
    return read_yaml(PUBLISHED)


def positions(source: str) -> int:
    """The longest sequence of a published model, in tokens, which a stand-in keeps."""
    return published()["sources"].get(source, {}).get("positions", POSITIONS)


def tokenizer_sizes(source: str, rows: int | None = None) -> TokenizerSizes:
    """A hundredth of a published tokenizer; added tokens are as many as their number has digits.

    So models that share a vocabulary still differ in what they add to it. ``rows`` are those of
    the embedding, for a source that PUBLISHED does not know. Raises RehearsalError where there are
    none.
    """
    entry = published()["sources"].get(source)
    if entry is None:
        if rows is None:
            raise RehearsalError(
                f"{source}: no stand-in can be made, since workflow/rehearsal/published.yaml does "
                "not say how large its vocabulary is; add it there"
            )
        entry, base = {"tokenizer": source}, {"tokens": rows, "eos": "<|endoftext|>"}
    else:
        base = published()["tokenizers"][entry["tokenizer"]]
    added = entry.get("added", 0)
    return TokenizerSizes(
        base=entry["tokenizer"],
        tokens=_hundredth(base["tokens"]),
        added=len(str(added)) if added else 0,
        eos=base["eos"],
        bos=base.get("bos"),
        begins="bos" in base and entry.get("begins", True),
        own_eos=entry.get("own_eos", False),
        names_eos=entry.get("names_eos", True),
    )


def small_rows(source: str, rows: int) -> int:
    """Rows of a stand-in's embedding: a hundredth, and more, as many or fewer than its tokenizer
    has tokens where the published model has so."""
    sizes, entry = tokenizer_sizes(source, rows), published()["sources"].get(source)
    if entry is None:
        return sizes.size
    tokens = published()["tokenizers"][entry["tokenizer"]]["tokens"] + entry.get("added", 0)
    if rows > tokens:
        return max(_hundredth(rows), sizes.size + 1)
    return sizes.size - (rows < tokens)


def _hundredth(count: int) -> int:
    """At least the 256 bytes and two tokens beside them."""
    return max(264, round(count / FEWER_TOKENS))


def small_shape(family: Family, shape: Shape, rows: int | None) -> Shape:
    """The sizes of a stand-in, or of a student made from one, with ``rows`` of embedding.

    Widths keep their ratios as far as whole heads allow, so that what is equal, smaller or wider in
    the original is so here; depths keep their order.
    """
    hidden = HEADS * round(shape.hidden_size / SMALLER / HEADS)
    hidden = min(max(hidden, NARROWEST), WIDEST)
    width = shape.heads * shape.head_dim / shape.hidden_size * hidden
    step = 10 if family == "phi" else 2  # of the 0.4 of a head that Phi rotates, an even number
    return Shape(
        hidden_size=hidden,
        layers=max(2, round(shape.layers / SHALLOWER)),
        heads=HEADS,
        kv_heads=max(1, HEADS * shape.kv_heads // shape.heads),
        head_dim=max(4, step * round(width / HEADS / step)),
        intermediate_size=max(8, round(shape.intermediate_size * hidden / shape.hidden_size)),
        vocab_size=rows,
        tied=shape.tied,
    )
