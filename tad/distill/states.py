"""What the teacher gives for all rows, computed once for the students of a distillation."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from tad.data.packing import training_rows
from tad.distill.arguments import Settings
from tad.distill.data import Data, Rows
from tad.distill.models import Models
from tad.records import fingerprint
from tad.train import states

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """Rows with the teacher's last hidden states, where those are stored.

    ``train`` is None where the teacher runs in each training; else what a training of ``passed``
    rows needs, in the order of its first pass, of which ``seconds`` is what a row took the teacher.
    ``held_out`` are the rows to measure on, with states or without.
    """

    held_out: Dataset
    train: Dataset | None = None
    passed: int = 0
    seconds: float = 0.0

    def training(self, rows: Rows, count: int, seed: int) -> Dataset:
        """The first ``count`` rows in training order, the same for every method and resume."""
        order = training_rows(len(rows), count, seed).tolist()
        if self.train is None:
            return Subset(rows, order)
        first = training_rows(len(rows), self.passed, seed)[: len(self.train)].tolist()
        place = {row: number for number, row in enumerate(first)}
        return Subset(self.train, [place[row] for row in order])


def known(settings: Settings, pair: Models, data: Data, counts: list[int]) -> Known:
    """Compute what is not stored yet, in the ``.work`` of ``--out``; ``counts`` are the rows that
    each training with the teacher reads.

    Rows that one training reads once are not worth their place, and rows beyond ``--states-gb`` or
    half of the free disk are not stored: there the teacher runs in each training.
    """
    folder = settings.out / ".work" / "states"
    passed = max(counts, default=0)
    distinct = min(passed, len(data.train))
    first = Subset(data.train, training_rows(len(data.train), passed, settings.seed)[:distinct])
    folder.mkdir(parents=True, exist_ok=True)
    room = min(settings.states_gb * 1e9, shutil.disk_usage(folder).free / 2)
    held_out = _stored(settings, pair, data, data.held_out, folder / "held_out", room)
    if held_out is None:
        return Known(data.held_out)
    if sum(counts) <= distinct:
        return Known(held_out[0])
    train = _stored(settings, pair, data, first, folder / "train", room)
    if train is None:
        return Known(held_out[0])
    return Known(held_out[0], train[0], passed, train[1] / distinct)


def _stored(
    settings: Settings, pair: Models, data: Data, rows: Dataset, folder: Path, room: float
) -> tuple[Dataset, float] | None:
    """``rows`` with states, and the seconds those took; None where they would not fit."""
    size, width = settings.micro_batch_size, pair.teacher.config.get_text_config().hidden_size
    parts = [pair.fingerprints, data.train.fingerprint, folder.name, len(rows), size, settings.seed]
    record = {"fingerprint": fingerprint(parts)}
    found = states.stored(folder, rows, record["fingerprint"])
    if found is None:
        need = len(rows) * settings.context * width * pair.dtype.itemsize
        if need > room:
            log.info(
                "the teacher runs for each student: its states on %s rows take %.1f GB, more than "
                "--states-gb or half of the free disk", len(rows), need / 1e9,
            )  # fmt: skip
            return None
        log.info("%s: the teacher on %s rows, once for all students", settings.out, len(rows))
        made = _computed(pair, rows, size)
        states.store(folder, made, len(rows), settings.context, record)
        found = states.stored(folder, rows, record["fingerprint"])
    return found


def _computed(pair: Models, rows: Dataset, size: int) -> Iterator[Tensor]:
    """The states of each row, (N, H), in the precision of training."""
    half = pair.dtype == torch.bfloat16
    with torch.autocast(torch.device(pair.device).type, torch.bfloat16, enabled=half):
        yield from states.computed(pair.teacher, pair.teacher, rows, size)
