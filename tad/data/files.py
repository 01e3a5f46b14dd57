"""Files of text: .jsonl, .jsonl.gz, .parquet and .txt, a document or a row at a time.

One line of a text file, or one row group of a parquet file, must fit into memory.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tad.command import UserError, optional

DOCUMENT_LIMIT = 1_000_000
"""Characters; a longer document is cut at line ends into documents of its own (bounds memory)."""

TEXT_DOCUMENT = 10_000
"""Characters after which a .txt file's next blank line ends a document (books become chapters)."""

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")


class CorpusError(UserError, ValueError):
    """A source that cannot be read; one line with the file, line or byte, key and cure."""


SILENT = tqdm(disable=True)
"""A progress bar that is not shown; the others count bytes read."""


def texts(path: Path, field: str, bar: tqdm = SILENT) -> Iterator[str]:
    """The texts of a file of one of SUFFIXES, one a row. Raises CorpusError."""
    if path.suffix == ".parquet":
        yield from _parquet(path, field, bar)
    elif path.suffix == ".txt":
        yield from text_documents(path, bar)
    else:
        yield from (text_of(row, field, where) for where, row in json_rows(path, bar))


def matched_files(pattern: str) -> list[Path]:
    """The files of a folder (those with one of SUFFIXES), a file, or a glob; in order of names.

    Raises CorpusError where there is none, or one of another kind.
    """
    path = Path(pattern)
    if path.is_dir():
        found: Iterable[Path] = (p for p in path.rglob("*") if p.name.endswith(SUFFIXES))
    else:
        found = [path] if path.is_file() else map(Path, glob.glob(pattern, recursive=True))
    files = sorted((p for p in found if p.is_file()), key=Path.as_posix)
    if not files:
        raise CorpusError(
            f"path: {pattern!r}: no file matched (wanted {', '.join(SUFFIXES)}); relative paths "
            f"start at {Path.cwd()}"
        )
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise CorpusError(
                f"{file}: a file of this kind cannot be read (allowed: {', '.join(SUFFIXES)}); "
                "narrow the glob in path"
            )
    return files


def _lines(path: Path, bar: tqdm) -> Iterator[tuple[int, str]]:
    """Numbered lines, ended by ``\\n`` alone (texts hold other line separators)."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        stream = stack.enter_context(gzip.open(raw)) if path.suffix == ".gz" else raw
        offset = read = 0
        try:
            for number, line in enumerate(stream, 1):
                mark = len(codecs.BOM_UTF8) if offset == 0 and line[:3] == codecs.BOM_UTF8 else 0
                try:
                    text = line[mark:].decode("utf-8")
                except UnicodeDecodeError as error:
                    byte = offset + mark + error.start
                    unpacked = " of the unpacked text" if path.suffix == ".gz" else ""
                    raise CorpusError(
                        f"{path}: line {number}: byte {byte}{unpacked} is not UTF-8 "
                        f"({error.object[error.start]:#04x}); convert the file to UTF-8"
                    ) from None
                yield number, text
                offset += len(line)
                bar.update(raw.tell() - read)  # of the packed file, as its size is
                read = raw.tell()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorpusError(f"{path}: damaged gzip file ({error}); copy it again") from None


def json_rows(path: Path, bar: tqdm = SILENT) -> Iterator[tuple[str, Any]]:
    """(file and line, value) of a .jsonl or .jsonl.gz file. Raises CorpusError."""
    for number, line in _lines(path, bar):
        line = line.strip()
        if not line:
            continue
        where = f"{path}: line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            reason = f"{error.msg}, column {error.colno}"
            raise CorpusError(f"{where}: not valid JSON ({reason}); mend or drop it") from None
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not usable JSON ({error}); mend or drop it") from None
        yield where, row


def text_of(row: Any, field: str, where: str) -> str:
    """The text of a record. Raises CorpusError for a missing field or one that holds no text."""
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: {type(row).__name__} found, must be an object with {field!r}")
    if field not in row:
        raise CorpusError(_no_field(where, field, row))
    text = row[field]
    if not isinstance(text, str):
        raise CorpusError(
            f"{where}: field {field!r} is {type(text).__name__}, must be text; mend it, or set "
            f"text_field (fields found: {', '.join(row)})"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{where}: field {field!r} holds half a character (surrogate "
            f"{ord(text[error.start]):#06x} at {error.start}); mend or drop it"
        ) from None
    return text


def _no_field(where: str, field: str, names: Iterable[str]) -> str:
    found = ", ".join(map(str, names)) or "none"
    return f"{where}: no field {field!r}; set text_field to one of the fields found: {found}"


def _parquet(path: Path, field: str, bar: tqdm) -> Iterator[str]:
    pyarrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise CorpusError(_no_field(str(path), field, names))
            share = path.stat().st_size / max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=1024, columns=[field]):
                for text in batch.column(0).to_pylist():
                    yield text_of({field: text}, field, f"{path}: row {row}")
                    row += 1
                bar.update(share * len(batch))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{path}: after row {row}: damaged file ({reason})") from None


def text_documents(path: Path, bar: tqdm = SILENT) -> Iterator[str]:
    """The documents of a .txt file: it is cut at blank lines, every TEXT_DOCUMENT characters."""
    lines: list[str] = []
    size = 0
    for _, line in _lines(path, bar):
        lines.append(line)
        size += len(line)
        if size >= (TEXT_DOCUMENT if line.isspace() else DOCUMENT_LIMIT):
            yield "".join(lines)
            lines, size = [], 0
    yield "".join(lines)
