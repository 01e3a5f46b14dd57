"""Room on the disk against what a scale writes, and whether it may write at all."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tad.check.findings import Finding, in_bytes
from tad.check.wanted import Wanted, parameters
from tad.experiment.config import Suite
from tad.experiment.flops import FlopsError, pair_account
from tad.experiment.layout import Layout
from tad.experiment.specs import run_spec
from tad.plan.data import token_bytes

FLOAT = 4
"""Bytes of a number: students are trained and saved in float32."""

CHECKPOINTS = 3
"""Of a run that trains: two are kept, and a third is written before one goes."""

ADAM = 3
"""Numbers a parameter in a checkpoint: the weight and the two moments."""


@dataclass(frozen=True)
class Room:
    """Bytes that a scale will write, by what they are."""

    packed: float
    runs: float
    checkpoints: float
    others: float

    @property
    def total(self) -> float:
        """All below the work folder."""
        return self.packed + self.runs + self.checkpoints + self.others


def room(suite: Suite, need: Wanted) -> Room:
    """What a scale writes to its work folder, roughly: the one place where that is estimated.

    Packed corpora, finished students, the checkpoints of as many runs as one machine trains at
    once (one), text that teachers write, stored states. Records and logs are small beside them.
    """
    packed = 0.0
    for corpus, tokenizer in need.packed:
        entry = suite.corpora[corpus]
        packed += (entry.tokens + entry.validation_tokens) * token_bytes(suite, tokenizer)
    sizes = {pair: _student(suite, pair) for pair in suite.select.pairs}
    runs = sum(FLOAT * sizes[run.pair] for run in suite.runs())
    trained = [m for m, p in need.models if suite.models[m].checkpoints[p].tokens is not None]
    models = [parameters(suite, model) for model in trained]
    largest = max([*sizes.values(), *models], default=0)
    return Room(
        packed=packed,
        runs=runs + FLOAT * sum(models),
        checkpoints=CHECKPOINTS * ADAM * FLOAT * largest,
        others=_written(suite) + _states(suite),
    )


def _student(suite: Suite, pair: str) -> int:
    try:
        account = pair_account(suite, pair).student
    except FlopsError:
        return 0
    return (account.linear + account.output + account.stored) // 2


def _written(suite: Suite) -> float:
    """Text of teachers for Seq-KD, a folder for each pair and seed."""
    total = 0.0
    for run in suite.runs():
        if run.method.row.rows == "teacher_text":
            pair = suite.pairs[run.pair]
            model = suite.models[pair.student.model or pair.teacher]
            tokens = run_spec(suite, run).optimisation.tokens
            total += tokens * token_bytes(suite, model.tokenizer)
    return total


def _states(suite: Suite) -> float:
    """Stored states of a stage, pair and seed where they are few; they go when all is finished."""
    kinds = {(run.stage, run.pair, run.seed) for run in suite.runs()}
    total = 0.0
    for stage, pair, _ in kinds:
        width = suite.models[suite.pairs[pair].teacher].shape.hidden_size
        size = FLOAT * width * suite.pairs[pair].tokens.get(stage, math.inf)
        total += size if size <= suite.teacher_states_gb * 1e9 else 0.0
    return total


# --- Findings ------------------------------------------------------------------------------------


def look_at_disk(suite: Suite, need: Wanted, download: int, cache: Path | None) -> list[Finding]:
    """Write permission and free disk of the work folder and, where the hub is used, its cache.

    ``download`` are the bytes still to come into the cache.
    """
    root = Layout.work(suite.scale).root
    asked = room(suite, need)
    there = _used(root)
    folders = {root: max(0.0, asked.total - there)}
    parts = (
        f"packed text {in_bytes(asked.packed)}, models {in_bytes(asked.runs)}, checkpoints "
        f"{in_bytes(asked.checkpoints)}"
    )
    told = {root: f"{parts}; {in_bytes(there)} of it is there" if there > 1e8 else parts}
    if cache is not None:
        if _device(cache) == _device(root):
            folders[root] += download
            told[root] += f", downloads {in_bytes(download)}"
        else:
            folders[cache], told[cache] = float(download), f"downloads {in_bytes(download)}"
    findings = []
    for folder in dict.fromkeys((root, *([cache] if cache else []))):
        about = str(folder)
        if reason := unwritable(folder):
            cure = "change its permissions, or work in another folder"
            if folder == cache:
                cure = "set HF_HOME to a folder of your own with room"
            findings.append(Finding("failure", about, f"cannot be written ({reason})", cure))
        elif folder in folders:
            findings.append(_enough(folder, folders[folder], told[folder]))
    return findings


def _enough(folder: Path, needed: float, parts: str) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    text = f"about {in_bytes(needed)} needed ({parts}), {in_bytes(free)} free"
    cure = "make room, or work on a larger disk (work/ and HF_HOME may be links)"
    if free < needed:
        return Finding("failure", str(folder), text, cure)
    if free < 1.2 * needed:
        return Finding("warning", str(folder), f"{text}: little to spare", cure)
    return Finding("ok", str(folder), text)


def unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder or, where it is not there, to the one above it."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _existing(folder: Path) -> Path:
    """The folder itself or the nearest above it that is there."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def _device(folder: Path) -> int:
    return _existing(folder).stat().st_dev


def _used(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
