"""Tokenizing: documents -> one flat file of tokens and an index, over as many cores as there are.

The first pass of packing (``tad.data.packing``). It goes part by part: what has been tokenized of a
corpus is on disk with a record of the parts that it is of, so that a killed process goes on with
the part that it was at. Neither the number of processes nor an interruption changes a byte. Memory
is that of some batches of text, whatever the size of the corpus.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from tad.command import UserError
from tad.data.corpora import Part
from tad.data.vocabulary import document_start
from tad.records import matching, write_json

if TYPE_CHECKING:
    import tokenizers
    from tqdm import tqdm

BATCH_CHARACTERS = 1_000_000
"""Tokenized at once; bounds memory, at some 100 bytes a token."""

POOL_AFTER = 64_000_000
"""Characters that are tokenized in this process, by its threads: less is done before a pool is."""

INDEX = np.dtype([("hash", "<u8"), ("offset", "<u8"), ("length", "<u4")])
"""One record a document: content hash, place and number of its tokens in the flat file."""


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


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


# --- A corpus on disk ----------------------------------------------------------------------------


class Tokenized:
    """The tokens of a corpus's parts in ``folder``, in order; opens what is there already.

    ``parts`` are records of the parts that are complete: ``name``, ``documents`` (with a token, up
    to the end of that part) and what the part says of itself.
    """

    def __init__(
        self, folder: Path, encoder: TextEncoder, *, processes: int = 1, bar: tqdm
    ) -> None:
        self.encoder, self.bar = encoder, bar
        self.tokens_path, self._index_path = folder / "tokens", folder / "index"
        self._progress, self._downloads = folder / "progress.json", folder / "downloads"
        found = matching(self._progress, {}) or {"parts": [], "tokens": 0}
        self.parts: list[dict[str, Any]] = found["parts"]
        self._offset: int = found["tokens"]
        self._pool = _Encoders(encoder, processes)

    def __enter__(self) -> Self:
        self._tokens, self._index = self._open()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.close()
        self._tokens.close()
        self._index.close()

    def _open(self) -> tuple[BinaryIO, BinaryIO]:
        """Both files, cut to what is complete."""
        size = {self.tokens_path: self._offset * self.encoder.dtype.itemsize}
        size[self._index_path] = self.documents * INDEX.itemsize
        files = []
        for path, complete in size.items():
            file = path.open("ab")
            file.truncate(complete)
            files.append(file)
        return files[0], files[1]

    @property
    def documents(self) -> int:
        """Documents with a token, duplicates counted."""
        return self.parts[-1]["documents"] if self.parts else 0

    def add(self, number: int, part: Part) -> None:
        """Tokenize the part that stands at ``number``, unless it is there already.

        One of another name, and all after it, are forgotten. Raises what reading it raises, and
        DataError.
        """
        if number < len(self.parts):
            if self.parts[number]["name"] == part.name:
                return
            self._forget(number)
        entries = self.documents
        for index, tokens in self._pool.encoded(_batches(part.documents(self._downloads))):
            index["offset"] += self._offset
            self._offset += int(index["length"].sum())
            index = index[index["length"] > 0]
            entries += len(index)
            self._tokens.write(tokens)
            self._index.write(index.tobytes())
            self.bar.set_postfix_str(f"{self._offset / 1e6:.1f}M tokens", refresh=False)
        for file in (self._tokens, self._index):
            file.flush()
            os.fsync(file.fileno())  # before the record that counts on it
        record = {"name": part.name, "documents": entries, "tokens": self._offset}
        self.parts.append(record | {"facts": part.facts})
        self._write_progress()

    def _forget(self, number: int) -> None:
        del self.parts[number:]
        self._offset = self.parts[-1]["tokens"] if self.parts else 0
        self._write_progress()
        self._tokens.close()
        self._index.close()
        self._tokens, self._index = self._open()

    def _write_progress(self) -> None:
        write_json(self._progress, {"parts": self.parts, "tokens": self._offset})

    def index(self, parts: int) -> np.ndarray:
        """The INDEX records of the first parts, (N,)."""
        count = self.parts[parts - 1]["documents"] if parts else 0
        return np.fromfile(self._index_path, dtype=INDEX, count=count)


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


def encoded(backend: tokenizers.Tokenizer, dtype: np.dtype, batch: list[str]) -> Encoded:
    """INDEX records of a batch, offsets from its own start, and its tokens as bytes."""
    encodings = backend.encode_batch_fast(batch, add_special_tokens=False)
    index = np.zeros(len(batch), dtype=INDEX)
    index["hash"] = [document_hash(text) for text in batch]
    index["length"] = [len(encoding) for encoding in encodings]
    index["offset"] = np.cumsum(index["length"]) - index["length"]
    return index, b"".join(np.array(encoding.ids, dtype).tobytes() for encoding in encodings)


Encoded = tuple[np.ndarray, bytes]


# --- Over the cores ------------------------------------------------------------------------------


class _Encoders:
    """``encoded`` of batches in their order, by a pool of processes where there are many."""

    def __init__(self, encoder: TextEncoder, processes: int) -> None:
        self._encoder, self._processes = encoder, processes
        self._characters = 0
        self._pool: ProcessPoolExecutor | None = None

    def encoded(self, batches: Iterable[list[str]]) -> Iterator[Encoded]:
        waiting: deque[Future[Encoded]] = deque()
        try:
            for batch in batches:
                if self._processes == 1 or self._characters < POOL_AFTER:
                    self._characters += sum(map(len, batch))
                    yield encoded(self._encoder.backend, self._encoder.dtype, batch)
                    continue
                waiting.append(self._started().submit(_encoded_there, batch))
                if len(waiting) > 2 * self._processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                f"one of {self._processes} tokenizing processes was killed, for want of memory "
                "perhaps: the same command goes on; lower --processes, or give it more memory"
            ) from None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            backend = self._encoder.backend
            self._pool = ProcessPoolExecutor(
                self._processes,
                # A fork would copy locks that threads of this process hold.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(backend.to_str(), backend.encode_special_tokens, self._encoder.dtype),
            )
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


_there: dict[str, Any] = {}
"""Of a process of the pool: what it tokenizes with."""


def _begin(backend: str, encode_special_tokens: bool, dtype: np.dtype) -> None:
    import tokenizers

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core is enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    found = tokenizers.Tokenizer.from_str(backend)
    found.encode_special_tokens = encode_special_tokens  # is no part of the text
    _there.update(backend=found, dtype=dtype)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    with contextlib.suppress(Exception):
        parent.join()
    os._exit(1)


def _encoded_there(batch: list[str]) -> Encoded:
    return encoded(_there["backend"], _there["dtype"], batch)
