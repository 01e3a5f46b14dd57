"""Packing: documents -> ``train.bin``, ``validation.bin``, and the rows that training reads.

Sampling is without replacement and unbiased, so ``pack`` reads the whole source, whatever the
budget. Pass 1 tokenizes every document to a temporary flat file, with 20 bytes of index each;
duplicates, split, order and cut are then array operations on the index; pass 2 copies the chosen
documents. Memory is the index (some 60 bytes a document while it is sorted), disk is one copy of
all tokens. A sample of 2B out of 5B tokens thus costs the tokenizing of 5B, once: stopping early
would take the head of the source, which hub datasets order by topic or crawl date.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tad import records
from tad.command import UserError
from tad.data.corpora import SILENT
from tad.data.vocabulary import document_start
from tad.experiment.schema import Corpus

if TYPE_CHECKING:
    import tokenizers
    import torch
    from tqdm import tqdm

BATCH_CHARACTERS = 1_000_000
"""Tokenized at once (spread over the cores); bounds memory, at some 100 bytes a token."""

INDEX = np.dtype([("hash", "<u8"), ("offset", "<u8"), ("length", "<u4")])
"""One record a document: content hash, place and number of its tokens in the flat file."""

SPLITS = ("train", "validation")


class DataError(UserError, ValueError):
    """Data that cannot be made, or is not what it should be; one line with the cure."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A tokenizer as packing needs it: special tokens that a text spells out are text to it.

    ``vocab_size`` is one more than the largest token id, ``bos`` what its own template puts before
    a text (``tad.data.vocabulary.bos_tokens``).
    """

    name: str
    backend: tokenizers.Tokenizer
    vocab_size: int
    eos_token: str
    eos_id: int
    sha256: str
    bos: tuple[int, ...] = ()

    @property
    def start(self) -> list[int]:
        """What stands before each packed document."""
        return document_start(self.bos, self.eos_id)

    @property
    def dtype(self) -> np.dtype:
        """Little-endian uint16 where the vocabulary fits, else uint32."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text alone, without BOS."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def describe(self) -> dict[str, Any]:
        keys = ("name", "sha256", "vocab_size", "eos_token", "eos_id")
        return {key: getattr(self, key) for key in keys}


def document_hash(text: str) -> int:
    """64-bit content hash (blake2b): equal texts are one document, whatever their source."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def validation_limit(fraction: float) -> int:
    """Documents with a hash below this are validation: about ``fraction`` of all, never train."""
    return int(fraction * 2**64)


# --- Writing -------------------------------------------------------------------------------------


def pack(
    documents: Iterable[str], encoder: TextEncoder, name: str, corpus: Corpus, folder: Path,
    *, sources: dict[str, Any], bar: tqdm = SILENT,
) -> dict[str, Any]:  # fmt: skip
    """Sample, tokenize and write a corpus to ``folder``; returns the manifest.

    Each split is its documents in random order (``corpus.seed``; the same for the same texts in
    any order), each between the BOS token, if the tokenizer's template has one, and one end-of-text
    token, cut to exactly the budget. Files appear
    under their names only when complete, the manifest last. Raises DataError where the corpus has
    fewer tokens than a budget, or another process is packing to the same folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock", "pack"), _scratch(folder) as scratch:
        _tokenize(documents, encoder, scratch, bar)
        index = np.fromfile(scratch / "index", dtype=INDEX)
        if not len(index):
            raise DataError(f"corpora.{name}: no document has a token of {encoder.name}")
        chosen, counts = choose(index, name, corpus, marks=len(encoder.start) + 1)
        manifest: dict[str, Any] = {
            "corpus": {"name": name, **corpus.model_dump()},
            "sources": sources,
            "tokenizer": encoder.describe(),
            "bos": bool(encoder.start),
            "dtype": encoder.dtype.name,
            "documents": counts,
        }
        for split, budget in zip(SPLITS, (corpus.tokens, corpus.validation_tokens), strict=True):
            path = scratch / f"{split}.bin"
            digest = _write(index[chosen[split]], budget, encoder, scratch / "tokens", path)
            documents_used = len(chosen[split])
            manifest[split] = {"tokens": budget, "documents": documents_used, "sha256": digest}
        manifest["fingerprint"] = fingerprint(manifest)
        (folder / "manifest.json").unlink(missing_ok=True)  # never beside files it does not fit
        for split in SPLITS:
            os.replace(scratch / f"{split}.bin", folder / f"{split}.bin")
        records.write_json(folder / "manifest.json", manifest)
    return manifest


def _tokenize(documents: Iterable[str], encoder: TextEncoder, scratch: Path, bar: tqdm) -> None:
    """Pass 1: every document's tokens to ``scratch/tokens``, one INDEX record to its ``index``."""
    offset = 0
    with (scratch / "tokens").open("wb") as tokens, (scratch / "index").open("wb") as index:
        for batch in _batches(documents):
            encodings = encoder.backend.encode_batch_fast(batch, add_special_tokens=False)
            entries = np.zeros(len(batch), dtype=INDEX)
            entries["hash"] = [document_hash(text) for text in batch]
            entries["length"] = [len(encoding) for encoding in encodings]
            entries["offset"] = offset + np.cumsum(entries["length"]) - entries["length"]
            for encoding in encodings:
                tokens.write(np.array(encoding.ids, dtype=encoder.dtype).tobytes())
            offset += int(entries["length"].sum())
            index.write(entries[entries["length"] > 0].tobytes())
            bar.set_postfix_str(f"{offset / 1e6:.1f}M tokens", refresh=False)


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def choose(
    index: np.ndarray, name: str, corpus: Corpus, *, marks: int = 1
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Which documents make up each split, in order: positions in ``index`` (N,), and counts.

    The first of equal documents stays; each takes ``marks`` tokens beside its own. Documents are
    put in the order of their hashes before they are shuffled, so the choice depends on the texts
    and the seed, not on the order of the source. Raises DataError for an empty split, or one with
    fewer tokens than its budget.
    """
    hashes, first = np.unique(index["hash"], return_index=True)
    validation = hashes < np.uint64(validation_limit(corpus.validation_fraction))
    rows = {"train": first[~validation], "validation": first[validation]}
    counts = {
        "seen": len(index),
        "duplicates": len(index) - len(first),
        **{split: len(rows[split]) for split in SPLITS},
    }
    for number, split in enumerate(SPLITS):
        if not len(rows[split]):
            raise DataError(
                f"corpora.{name}: none of {len(first)} documents falls into the {split} split; "
                f"{'raise' if split == 'validation' else 'lower'} corpora.{name}."
                f"validation_fraction={corpus.validation_fraction:g}, or use more text"
            )
        order = np.random.default_rng([corpus.seed, number]).permutation(rows[split])
        ends = np.cumsum(index["length"][order].astype(np.int64) + marks)
        key = "tokens" if split == "train" else "validation_tokens"
        budget = getattr(corpus, key)
        if budget > ends[-1]:
            more = " or raise its validation_fraction" if split == "validation" else ""
            raise DataError(
                f"corpora.{name}.{key}: {budget}: the {split} split has {ends[-1]} tokens in "
                f"{len(order)} different documents; lower {key} to at most that{more}"
            )
        rows[split] = order[: np.searchsorted(ends, budget) + 1]
    return rows, counts


def _write(chosen: np.ndarray, budget: int, encoder: TextEncoder, tokens: Path, path: Path) -> str:
    """Pass 2: the documents of ``chosen`` (N,) and their marks, ``budget`` tokens in all.

    Returns the file's sha256. Read by position, not by memory map: pages of a map that is read at
    random count as this process's memory.
    """
    size = encoder.dtype.itemsize
    start, end = (np.array(x, encoder.dtype).tobytes() for x in (encoder.start, [encoder.eos_id]))
    left = budget * size
    digest = hashlib.sha256()
    with tokens.open("rb", buffering=0) as source, path.open("wb", buffering=1 << 20) as out:
        places = zip(chosen["offset"].tolist(), chosen["length"].tolist(), strict=True)
        for offset, length in places:
            piece = start + os.pread(source.fileno(), length * size, offset * size) + end
            piece = piece[:left]
            left -= len(piece)
            out.write(piece)
            digest.update(piece)
    if left:
        raise DataError(f"{path}: {left} bytes short; is the disk full or the folder shared?")
    return digest.hexdigest()


@contextlib.contextmanager
def lock(path: Path, purpose: str, *, wait: bool = False) -> Iterator[None]:
    """One process at a time, also where a killed workflow has left its job running.

    Raises DataError if another holds the lock, unless ``wait``.
    """
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise DataError(f"{path.parent}: another process is at it ({purpose}); wait") from None
        yield


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for unfinished files, on the same file system; gone afterwards.

    What a killed process left in it is removed first (the lock says that no other is alive).
    """
    path = folder / ".partial"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def fingerprint(manifest: dict[str, Any]) -> str:
    """sha256 of what decides the content: both files, their dtype, and the tokenizer."""
    parts = {
        "tokenizer": manifest["tokenizer"]["sha256"],
        "dtype": manifest["dtype"],
        **{split: manifest[split]["sha256"] for split in SPLITS},
    }
    return records.fingerprint(parts)


def training_rows(available: int, count: int, seed: int) -> np.ndarray:
    """The first ``count`` of ``available`` rows in the order of training, (count,) int64.

    Every pass is a new permutation, so a count beyond ``available`` repeats rows.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    passes = -(-count // available)
    order = [torch.randperm(available, generator=generator).numpy() for _ in range(passes)]
    return np.concatenate([np.empty(0, np.int64), *order])[:count]


# --- Reading -------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a packed corpus. Raises DataError for one that is missing or damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{path}: missing; make it with: tad data pack (see --help)")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        good = manifest["fingerprint"] == fingerprint(manifest)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: damaged ({reason}); pack again with --force") from None
    if not good:
        raise DataError(f"{path}: fingerprint does not fit its parts; pack again with --force")
    return manifest


def open_tokens(folder: Path, split: str, manifest: dict[str, Any]) -> np.memmap:
    """All tokens of a split, (tokens,) unsigned. Raises DataError for a missing or cut file."""
    path = folder / f"{split}.bin"
    dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
    expected = manifest[split]["tokens"] * dtype.itemsize
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        state = "missing" if found is None else f"{found} bytes"
        raise DataError(
            f"{path}: {state}, must be {expected} bytes by its manifest; pack again with --force"
        )
    return np.memmap(path, dtype=dtype, mode="r")


class PackedTokens:
    """Rows of ``context`` tokens of one split, as a map-style dataset (``torch.utils.data``).

    Row i is ``input_ids`` = tokens[i*C : i*C+C] and ``labels`` = tokens[i*C+1 : i*C+C+1], both
    (C,) int64: labels[t] is the token that position t predicts. Only rows whose last label exists
    count. Documents run into each other within a row, each ended by an end-of-text token.

    ``fingerprint`` given, it must be the data's own. Raises DataError for missing, cut or changed
    files, another fingerprint, and a context that no row fits. Needs torch only when rows are read.
    """

    def __init__(
        self, folder: str | Path, split: str, context: int, *, fingerprint: str | None = None
    ) -> None:
        if split not in SPLITS:
            raise DataError(f"split {split!r} is unknown (allowed: {', '.join(SPLITS)})")
        self.folder, self.split, self.context = Path(folder), split, context
        manifest = read_manifest(self.folder)
        self.fingerprint: str = manifest["fingerprint"]
        self.vocab_size: int = manifest["tokenizer"]["vocab_size"]
        self.eos_id: int = manifest["tokenizer"]["eos_id"]
        if fingerprint is not None and fingerprint != self.fingerprint:
            raise DataError(
                f"{folder}: fingerprint is {self.fingerprint}, expected {fingerprint}: these are "
                "other data than before; pack the former ones again, or start anew"
            )
        self.tokens: np.ndarray | None = open_tokens(self.folder, split, manifest)
        if not 1 <= context < len(self.tokens):
            raise DataError(
                f"{folder}: context={context}: {split}.bin has {len(self.tokens)} tokens, and a "
                f"row takes context + 1; choose a context from 1 to {len(self.tokens) - 1}"
            )
        self._rows = (len(self.tokens) - 1) // context

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        import torch

        if not -self._rows <= row < self._rows:
            raise IndexError(f"row {row} of {self._rows}")
        if self.tokens is None:
            self.tokens = open_tokens(self.folder, self.split, read_manifest(self.folder))
        start = row % self._rows * self.context
        window = torch.from_numpy(self.tokens[start : start + self.context + 1].astype(np.int64))
        return {"input_ids": window[:-1], "labels": window[1:]}

    def __getstate__(self) -> dict[str, Any]:
        """Without the tokens: pickling a memory map, as for a worker process, copies all of it."""
        return {**self.__dict__, "tokens": None}
