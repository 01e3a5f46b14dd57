"""Records: small JSON files that say what was done, written whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from tad.command import UserError

RECORDED_PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy")


class RecordError(UserError, ValueError):
    """A record that is missing or unreadable; the message names the file and the cure."""


class MissingKeyError(RecordError, KeyError):
    """A record that lacks a key; a KeyError too, for who asks for one that may be absent."""

    __str__ = Exception.__str__


class Record(dict[str, Any]):
    """An object of a record, at any depth: a key that it lacks raises MissingKeyError, which names
    the file."""

    where: str | Path

    def __missing__(self, key: str) -> Any:
        raise MissingKeyError(f"{self.where}: has no key {key!r}; delete it and rerun")


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` under a temporary name, then move it: readers see all of it or nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """The same of bytes. Makes the folder if need be. Raises OSError, naming ``path``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise type(error)(error.errno, f"{path}: not written ({error.strerror})") from None


def write_gzip(path: str | Path, text: str) -> None:
    """Write compressed text, atomically; the same bytes for the same text."""
    write_bytes(path, gzip.compress(text.encode(), mtime=0))


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. Raises RecordError for NaN and infinity."""
    write_text(path, _dumps(path, value, indent=1) + "\n")


def write_json_lines(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically. Raises RecordError for NaN and infinity."""
    write_text(path, "".join(_dumps(path, row) + "\n" for row in rows))


def _dumps(path: str | Path, value: Any, **options: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        key = _not_finite(value) or "a value"
        raise RecordError(
            f"{path}: not written, as {key} is not finite: look for NaN in the weights or the data"
        ) from None


def _not_finite(value: Any) -> str | None:
    """The key of the first number that JSON cannot hold."""
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if (found := _not_finite(inner)) is not None:
                return f"{key}.{found}" if found else str(key)
    return "" if isinstance(value, float) and not math.isfinite(value) else None


def read_json(path: str | Path) -> Record:
    """Read a JSON record. Raises RecordError for a missing or broken file."""
    return _loads(path, _read(path))


def read_json_lines(path: str | Path) -> list[Record]:
    """Read a file of one JSON object a line. Raises RecordError, naming the line."""
    lines = _read(path).splitlines()
    return [_loads(f"{path}:{number}", line) for number, line in enumerate(lines, start=1)]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path}: no such record; make it with `snakemake {path}`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: no readable record ({error})") from None


def _loads(where: str | Path, text: str) -> Record:
    def known(values: dict[str, Any]) -> Record:
        record = Record(values)
        record.where = where
        return record

    try:
        found = json.loads(text, object_hook=known)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"{where}: not valid JSON ({error}); delete it and rerun") from None
    if not isinstance(found, Record):
        raise RecordError(f"{where}: must be a JSON object; delete it and rerun")
    return found


def matching(path: str | Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The record in ``path`` if it is there and has the values of ``wanted``; else None."""
    try:
        record = read_json(path)
    except RecordError:
        return None
    return record if wanted.items() <= record.items() else None


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of a JSON value, the same for equal values whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def provenance() -> dict[str, Any]:
    """What the numbers of a record depend on besides its configuration."""
    versions = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # datasets is of the extra suite
            versions[name] = metadata.version(name)
    return {"versions": versions, "git": _git_state(), "host": _host_class()}


def _git_state() -> dict[str, Any] | None:
    """Commit of the source tree this package was imported from; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _host_class() -> dict[str, Any]:
    """The kind of machine, never its name."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    threads = torch.get_num_threads()
    return {
        "system": platform.system(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": gpu,
    }
