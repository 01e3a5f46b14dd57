"""What each kind of record holds that tables, figures and claims read, by the name of its file.

A key that is absent is told when it is asked for (``tad.records.Record``); here only what is there
must be of its type, so that a damaged record is one line that names the file and the key.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tad.records import Record, RecordError, read_json

ANY_MORE = ConfigDict(strict=True, extra="allow")


class _Made(TypedDict, total=False):
    """Of every record: what it was made with (``tad.records.provenance``)."""

    __pydantic_config__ = ANY_MORE
    git: _Git | None
    versions: dict[str, str]
    host: dict[str, Any]
    provenance: dict[str, Any]


class _Git(TypedDict, total=False):
    __pydantic_config__ = ANY_MORE
    commit: str
    dirty: bool


class _Heldout(_Made, total=False):
    metrics: dict[str, dict[str, float]]
    tokens: int


class _Task(TypedDict, total=False):
    __pydantic_config__ = ANY_MORE
    column: str
    accuracy: float
    stderr: float
    margin: float | None
    chance: float
    commonest: float
    n: int
    metric: str


class _Fewshot(_Made, total=False):
    suite: str
    analogue: bool
    average: float
    avg_margin: float | None
    tasks: dict[str, _Task]


class _Answers(TypedDict, total=False):
    __pydantic_config__ = ANY_MORE
    accuracy: float
    correct: int
    standard_error: float | None
    unanswered: int


class _MathSet(TypedDict, total=False):
    __pydantic_config__ = ANY_MORE
    column: str
    items: int
    chance: float
    commonest: float
    strict: _Answers
    compat: _Answers


class _Math(_Made, total=False):
    suite: str
    analogue: bool
    datasets: dict[str, _MathSet]
    average: dict[str, float]


class _Bin(TypedDict, total=False):
    __pydantic_config__ = ANY_MORE
    lower: float
    upper: float
    mass: float
    labels: int
    entries: int
    labels_interval: list[float] | None
    confidence: float | None
    correct: int
    predictions: int


class _Calibration(_Made, total=False):
    full_ece: float
    full_ece_interval: list[float]
    noise_floor: float
    ece: float
    tail_gap: float | None
    bins: list[_Bin]
    tail: list[_Bin]


class _Manifest(_Made, total=False):
    spec: dict[str, Any]
    tokens: int
    epochs: float
    parameters: int
    trainable_parameters: int
    wall_seconds: float
    peak_memory_bytes: float | None


class _Selection(_Made, total=False):
    delta: float
    threshold: float
    number: int


KINDS: dict[str, type] = {
    "heldout.json": _Heldout,
    "fewshot.json": _Fewshot,
    "math.json": _Math,
    "calibration.json": _Calibration,
    "manifest.json": _Manifest,
    "selection.json": _Selection,
}


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS.get(name, _Made))


def read_record(path: Path) -> Record:
    """Read a record and check the types of what it holds. Raises RecordError, naming the key."""
    record = read_json(path)
    try:
        _adapter(path.name).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RecordError(
            f"{path}: {key} is {first['input']!r}: {first['msg']}; delete it and rerun"
        ) from None
    return record
