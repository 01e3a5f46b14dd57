"""Packing: documents -> ``train.bin``, ``validation.bin``, and the rows that training reads.

Sampling is without replacement and unbiased, so ``pack`` reads the whole source, whatever the
budget. Pass 1 (``tad.data.tokenizing``) tokenizes every document to a temporary flat file, with 20
bytes of index each; duplicates, split, order and cut are then array operations on the index; pass 2
copies the chosen documents. Memory is the index (some 60 bytes a document while it is sorted), disk
is one copy of all tokens. The head of a source would be no sample, as hub data sets are ordered by
topic or crawl date; so of those whole shards are read in random order, until they hold the budget.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tad import records
from tad.data.corpora import Part, no_text
from tad.data.files import SILENT
from tad.data.tokenizing import DataError, TextEncoder, Tokenized
from tad.experiment.schema import Corpus

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

SPLITS = ("train", "validation")

BUDGETS = {"tokens", "validation_tokens", "holds"}
"""Keys of a corpus that say how much of its documents is used."""


def validation_limit(fraction: float) -> int:
    """Documents with a hash below this are validation: about ``fraction`` of all, never train."""
    return int(fraction * 2**64)


# --- Writing -------------------------------------------------------------------------------------


def pack(
    documents: Iterable[str], encoder: TextEncoder, name: str, corpus: Corpus, folder: Path,
    *, sources: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """``pack_parts`` of documents that are one part, always from the start."""
    part = Part(name=name, source=name, documents=lambda scratch: iter(documents))
    return pack_parts([part], encoder, name, corpus, folder, sources=sources, fresh=True)


def pack_parts(
    parts: Sequence[Part], encoder: TextEncoder, name: str, corpus: Corpus, folder: Path,
    *, sources: dict[str, Any], whole: bool = True, processes: int = 1, fresh: bool = False,
    bar: tqdm = SILENT,
) -> dict[str, Any]:  # fmt: skip
    """Sample, tokenize and write a corpus to ``folder``; returns the manifest.

    Each split is its documents in random order (``corpus.seed``; the same for the same texts in
    any order), each between the BOS token, if the tokenizer's template has one, and one end-of-text
    token, cut to exactly the budget. All parts are read, or, unless ``whole``, the first of them
    that hold the budgets. Files appear under their names only when complete, the manifest last.
    What a killed or failed call has tokenized is kept in a hidden folder for the next one of the
    same sources and tokenizer, unless ``fresh``. Raises DataError where the corpus has fewer tokens
    than a budget, or another process is packing to the same folder, and what the parts raise.
    """
    recipe: dict[str, Any] = {
        "corpus": {"name": name, **corpus.model_dump()},
        "sources": sources,
        "tokenizer": encoder.describe(),
        "bos": bool(encoder.start),
    }
    with unfinished(folder, _identity(recipe), "pack", fresh=fresh) as scratch:
        with Tokenized(scratch, encoder, processes=processes, bar=bar) as tokenized:
            index, read = _read(tokenized, parts, name, corpus, whole)
            tokens = tokenized.tokens_path
        if not len(index):
            raise DataError(f"corpora.{name}: no document has a token of {encoder.name}")
        chosen, counts = choose(index, name, corpus, marks=len(encoder.start) + 1)
        manifest = recipe | {"dtype": encoder.dtype.name, "documents": counts}
        if shards := [part["facts"] for part in read if part["facts"]]:
            manifest |= {"shards_in_all": sum(bool(part.facts) for part in parts), "shards": shards}
        for split, budget in _budgets(corpus).items():
            path = scratch / f"{split}.bin"
            digest = _write(index[chosen[split]], budget, encoder, tokens, path)
            documents_used = len(chosen[split])
            manifest[split] = {"tokens": budget, "documents": documents_used, "sha256": digest}
        if corpus.train_tokens < corpus.tokens:
            manifest["train"]["asked"] = corpus.tokens
        manifest["fingerprint"] = fingerprint(manifest)
        (folder / "manifest.json").unlink(missing_ok=True)  # never beside files it does not fit
        for split in SPLITS:
            os.replace(scratch / f"{split}.bin", folder / f"{split}.bin")
        records.write_json(folder / "manifest.json", manifest)
    return manifest


def _budgets(corpus: Corpus) -> dict[str, int]:
    return dict(zip(SPLITS, (corpus.train_tokens, corpus.validation_tokens), strict=True))


def _identity(recipe: dict[str, Any]) -> str:
    """Of what the tokens of all documents are made: everything but the budgets."""
    corpus = {key: x for key, x in recipe["corpus"].items() if key not in BUDGETS}
    return records.fingerprint(recipe | {"corpus": corpus})


def _read(
    tokenized: Tokenized, parts: Sequence[Part], name: str, corpus: Corpus, whole: bool
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Pass 1: the index of all parts, or of the first that hold the budgets, and their records."""
    marks = len(tokenized.encoder.start) + 1
    for number, part in enumerate(parts):
        tokenized.add(number, part)
        if not whole and _enough(tokenized.index(number + 1), name, corpus, marks):
            break
    read = tokenized.parts[: number + 1]
    if whole:
        _check_sources(parts, read)
    return tokenized.index(number + 1), read


def _check_sources(parts: Sequence[Part], read: list[dict[str, Any]]) -> None:
    """Raise CorpusError where one of several sources has no text."""
    before, found = 0, dict.fromkeys((part.source for part in parts), 0)
    for part, record in zip(parts, read, strict=True):
        found[part.source] += record["documents"] - before
        before = record["documents"]
    if len(found) > 1 and (empty := [source for source, count in found.items() if not count]):
        raise no_text(empty[0])


def _enough(index: np.ndarray, name: str, corpus: Corpus, marks: int) -> bool:
    held_out = index["hash"] < np.uint64(validation_limit(corpus.validation_fraction))
    lengths = index["length"].astype(np.int64) + marks
    for split, budget in _budgets(corpus).items():
        if lengths[held_out == (split == "validation")].sum() < budget:
            return False  # with all duplicates, which take a while to find
    try:
        choose(index, name, corpus, marks=marks)
    except DataError:
        return False
    return True


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
        budget = _budgets(corpus)[split]
        if budget > ends[-1]:
            raise _too_little(name, corpus, split, int(ends[-1]), len(order))
        rows[split] = order[: np.searchsorted(ends, budget) + 1]
    return rows, counts


def _too_little(name: str, corpus: Corpus, split: str, have: int, documents: int) -> DataError:
    key = "tokens" if split == "train" else "validation_tokens"
    asked, cure = _budgets(corpus)[split], f"lower {key} to at most that"
    if split == "validation":
        cure += " or raise its validation_fraction"
    elif corpus.train_tokens < corpus.tokens:
        key, asked = "holds", corpus.holds
        cure = f"lower holds to at most {int(have / (1 - corpus.validation_fraction))}"
    return DataError(
        f"corpora.{name}.{key}: {asked}: the {split} split has {have} tokens in {documents} "
        f"different documents; {cure}"
    )


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
def unfinished(out: Path, job: str, purpose: str, *, fresh: bool = False) -> Iterator[Path]:
    """A hidden folder in ``out`` for unfinished files of ``job`` (a fingerprint), on one file
    system with it, removed on success.

    It stays where the job fails or is killed. Files of another job are removed, and with ``fresh``
    those of this one as well. Raises DataError if another process works in ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder = out / ".partial"
    marker = folder / "job.json"
    with lock(out / ".lock", purpose):
        if fresh or records.matching(marker, {"job": job}) is None:
            shutil.rmtree(folder, ignore_errors=True)
        records.write_json(marker, {"job": job})
        yield folder
        shutil.rmtree(folder)


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
