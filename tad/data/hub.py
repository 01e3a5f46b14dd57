"""Data sets of the hub: their files (shards) one at a time, never all of them on disk.

A shard is fetched in ranges into a file that grows: a cut connection is taken up where it broke,
by the same process or by the next one. It is removed when it has been read. Which files make up a
subset and split is what ``datasets`` says of the repository, or of a local folder in its place.
Code that comes with a data set is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from tad.command import FULL, UserError, optional
from tad.data.corpora import Part, clean, expect, source
from tad.data.files import SILENT, SUFFIXES, CorpusError, text_of, texts
from tad.experiment.schema import Corpus
from tad.records import matching, write_json

RANGE = 16 << 20
"""Bytes asked for at once: what a cut connection loses at most."""

_SHA256 = re.compile("[0-9a-f]{64}")


def parts(corpus: Corpus, bar: tqdm = SILENT, listing: Path | None = None) -> list[Part]:
    """The shards of a data set in an order drawn from ``corpus.seed``, read when asked for.

    The first of them are thus a sample of the set, where its own order goes by topic or date. The
    file ``listing``, if it is there from the same id, subset and split, says which shards there
    are, at which commit; else it is written. Raises CorpusError.
    """
    asked = {"id": corpus.id, "subset": corpus.subset, "split": corpus.split}
    found: dict[str, Any] | None = matching(listing, asked) if listing else None
    if found is None:
        found = asked | _listing(corpus)
        if listing is not None:
            write_json(listing, found)
    shards, kind = found["shards"], found["kind"]
    expect(bar, sum(shard["bytes"] for shard in shards))
    order = np.random.default_rng([corpus.seed, len(shards)]).permutation(len(shards))
    return [_part(corpus, shards[number], kind, bar) for number in order]


def _listing(corpus: Corpus) -> dict[str, Any]:
    """The shards of a split in the order of their names, and the reader that ``datasets`` takes."""
    datasets, fsspec = optional("datasets"), optional("fsspec")
    with _faults(f"{corpus.id}: split {corpus.split!r}, subset {corpus.subset!r}"):
        builder = datasets.load_dataset_builder(corpus.id, corpus.subset)
        files = {str(split): urls for split, urls in (builder.config.data_files or {}).items()}
        if corpus.split not in files:
            raise ValueError(f"no such split (found: {', '.join(files)})")
        shards = []
        for name in sorted(map(str, files[corpus.split])):
            system, path = fsspec.core.url_to_fs(name)
            about = system.info(path)
            if about.get("size") is None:
                raise ValueError(f"{name}: how large it is, is not told")
            # Of large files the sha256, of others git's name of the content.
            large = about.get("lfs")
            etag = large["sha256"] if large else about.get("blob_id")
            shards.append({"name": name, "bytes": about["size"], "etag": etag})
    return {"kind": builder.name, "shards": shards}


def _part(corpus: Corpus, shard: dict[str, Any], kind: str, bar: tqdm) -> Part:
    facts: dict[str, Any] = dict(shard)

    def read(folder: Path) -> Iterator[str]:
        yield from clean(_rows(corpus, facts, kind, folder, bar))

    name = f"{shard['name']} {shard['bytes']} {shard['etag']}"
    return Part(name=name, source=source(corpus), documents=read, facts=facts)


def _rows(
    corpus: Corpus, facts: dict[str, Any], kind: str, folder: Path, bar: tqdm
) -> Iterator[str]:
    """The texts of a shard; adds ``sha256`` and ``rows`` to its facts."""
    name = facts["name"]
    path = _fetched(name, facts["bytes"], folder) if "://" in name else Path(name)
    with path.open("rb") as file:
        facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if _SHA256.fullmatch(facts["etag"] or "") and facts["etag"] != facts["sha256"]:
        path.unlink()
        raise CorpusError(f"{name}: damaged on the way; the same command fetches it again")
    rows = 0
    for text in _texts(path, corpus, kind, bar):
        rows += 1
        yield text
    facts["rows"] = rows
    if "://" in name:
        path.unlink()


def _texts(path: Path, corpus: Corpus, kind: str, bar: tqdm) -> Iterator[str]:
    if path.name.endswith(SUFFIXES):
        yield from texts(path, corpus.text_field, bar)
        return
    # Other forms (.json, .csv, .zst, ...) by the reader that the whole set has.
    for number, row in enumerate(_stream(kind, None, "train", data_files=str(path))):
        yield text_of(row, corpus.text_field, f"{path.name}: row {number}")
    bar.update(path.stat().st_size)


def _fetched(url: str, size: int, folder: Path) -> Path:
    """The file of a URL in ``folder``, complete; what is there of it already is kept."""
    mark = hashlib.sha256(url.encode()).hexdigest()[:12]
    path = folder / f"{mark}-{PurePosixPath(url).name}"
    folder.mkdir(parents=True, exist_ok=True)
    system, place = optional("fsspec").core.url_to_fs(url)
    with (
        path.open("ab") as out,
        _faults(url),
        system.open(place, "rb", block_size=RANGE, cache_type="none") as source,
    ):
        while (start := out.tell()) < size:
            asked = min(RANGE, size - start)
            source.seek(start)
            content = source.read(asked)  # tries again by itself, for half a minute
            if len(content) != asked:
                raise OSError(f"{len(content)} bytes came where {asked} were asked for")
            out.write(content)
            out.flush()
    return path


@contextlib.contextmanager
def _faults(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of a dozen kinds, some of which are no OSError
        raise _fault(where, error) from None


def _fault(where: str, error: Exception) -> Exception:
    """What network, hub and ``datasets`` raise, as a CorpusError; a full disk stays what it is."""
    if isinstance(error, UserError) or getattr(error, "errno", None) in FULL:
        return error
    reason = " ".join(str(error.__cause__ or error).split())
    return CorpusError(
        f"{where}: {type(error).__name__}: {reason}; check id, subset and split (the same command "
        "goes on where it stopped), or give the id of a local folder where there is no network"
    )


def hub_rows(id: str, subset: str | None, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a whole data set as they arrive. Raises CorpusError."""
    for number, row in enumerate(_stream(id, subset, split)):
        yield f"{id}: {split} row {number}", row


def _stream(id: str, subset: str | None, split: str, **options: Any) -> Iterator[dict[str, Any]]:
    datasets = optional("datasets")
    datasets.disable_progress_bars()
    number = 0
    try:
        stream = datasets.load_dataset(id, subset, split=split, streaming=True, **options)
        for row in stream:
            yield row
            number += 1
    except Exception as error:
        where = options.get("data_files", id)
        where = f"{where}: split {split!r}, subset {subset!r}, at row {number}"
        raise _fault(where, error) from None
