"""Whether data sets are large enough, as far as their card or the size of their files tells.

A guess never fails a scale: what would be too little even at the fewest bytes a token is a failure,
what is too little at the usual number a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tad.check.findings import Finding, Seen, tokens
from tad.experiment.config import Suite

BYTES_PER_TOKEN = 4.2
"""Of English text in vocabularies of 32,000 to 256,000 tokens; 4 to 4.5 are usual."""

FEWEST_BYTES = 2.5
"""Nothing that is mostly words has fewer bytes a token (code and formulas: about 3)."""

COMPRESSED = (".parquet", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".zip")
PLAIN = (".jsonl", ".json", ".txt", ".csv", ".tsv")
LIKELY, MOST = 2.5, 5.0
"""By how much text shrinks in such files, usually and at most."""


@dataclass(frozen=True)
class Amount:
    """How much a data set holds, as far as is known.

    ``likely`` and ``most`` are bytes of text (the same where they are known and not guessed from
    compressed files), ``rows`` examples.
    """

    likely: float | None = None
    most: float | None = None
    rows: int | None = None


def amount(seen: Seen, subset: str | None, split: str | None) -> Amount:
    """What a split holds: by the data set's card, else by the size of its files."""
    found = _of_card(seen.card, subset, split)
    return found or _of_files(seen.sizes, seen.rows)


def _of_files(sizes: Mapping[str, int], rows: int | None) -> Amount:
    """Text in files by name; files of other kinds hold none."""
    plain = sum(size for name, size in sizes.items() if name.endswith(PLAIN))
    packed = sum(size for name, size in sizes.items() if name.endswith(COMPRESSED))
    if not plain + packed:
        return Amount(rows=rows)
    return Amount(plain + LIKELY * packed, plain + MOST * packed, rows)


def _of_card(card: Mapping[str, Any], subset: str | None, split: str | None) -> Amount | None:
    entries = card.get("dataset_info")
    entries = entries if isinstance(entries, list) else [entries]
    entries = [entry for entry in entries if isinstance(entry, dict)]
    named = [e for e in entries if e.get("config_name", "default") == (subset or "default")]
    for entry in named or (entries if len(entries) == 1 else []):
        for part in entry.get("splits") or []:
            if isinstance(part, dict) and part.get("name") == (split or "train"):
                size, rows = part.get("num_bytes"), part.get("num_examples")
                return Amount(size, size, int(rows) if rows is not None else None)
    return None


def enough_text(suite: Suite, name: str, amounts: Mapping[str, Amount]) -> list[Finding]:
    """Whether a corpus holds the tokens that are asked of it; ``amounts`` by name of corpus."""
    corpus = suite.corpora[name]
    needed = corpus.tokens + corpus.validation_tokens
    parts = [amounts.get(part, Amount()) for part in (name, *corpus.also)]
    if any(part.likely is None or part.most is None for part in parts):
        return []
    likely = sum(part.likely or 0 for part in parts) / BYTES_PER_TOKEN
    most = sum(part.most or 0 for part in parts) / FEWEST_BYTES
    about, told = f"corpora.{name}.tokens", f"{tokens(needed)} asked for"
    cure = f"lower corpora.{name}.tokens and what trains on it, or add text"
    if most < needed:
        return [Finding("failure", about, f"{told}, at most {tokens(most)} there", cure)]
    if likely < needed:
        return [Finding("warning", about, f"{told}, about {tokens(likely)} there by size", cure)]
    return [Finding("ok", about, f"{told}, about {tokens(likely)} there by size")]


def enough_examples(suite: Suite, name: str, amounts: list[Amount]) -> list[Finding]:
    """Whether the sources of instruction data have as many rows as are asked for."""
    spec = suite.instructions[name]
    needed = spec.examples + spec.validation_examples
    if not amounts or any(amount.rows is None for amount in amounts):
        return []
    rows = sum(amount.rows or 0 for amount in amounts)
    told = f"{needed:,} asked for, {rows:,} rows there"
    if rows >= needed:
        return [Finding("ok", f"instructions.{name}.examples", told)]
    cure = f"lower instructions.{name}.examples, or name more sources"
    return [Finding("failure", f"instructions.{name}.examples", told, cure)]
