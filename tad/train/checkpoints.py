"""Checkpoints of an unfinished training: resume exactly, or start afresh, never mix.

The folder is no output of the DAG (Snakemake deletes the outputs of a job that failed). It carries
the fingerprint of what is being trained; a checkpoint counts only once its marker, written last,
is there, so a process killed while it saves loses that checkpoint and nothing else.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tad.command import UserError
from tad.records import read_json, write_json

MARKER = "complete.json"
log = logging.getLogger(__name__)


class BusyError(UserError, RuntimeError):
    """Another process is training the same job."""


class CheckpointFolder:
    """The checkpoints of one job, locked for as long as the ``with`` block lasts.

    ``fingerprint`` identifies configuration and data. Raises BusyError if another process holds
    the lock: an ssh drop kills Snakemake, not its trainer, and two trainers would spoil each other.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, since the folder itself is removed when the job is done.
        self._lock = self.path.with_name(self.path.name + ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise BusyError(
                f"{self.path}: another process is training this; wait for it or stop it"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()

    def latest(self) -> Path | None:
        """The newest complete checkpoint of this very job; whatever else lies there is removed."""
        found = sorted(
            self.path.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda p: int(p.name.split("-")[1])
        )
        usable = []
        for checkpoint in found:
            marker = checkpoint / MARKER
            if not marker.is_file():
                log.warning("%s: incomplete, removed", checkpoint)
                shutil.rmtree(checkpoint)
            elif read_json(marker)["fingerprint"] != self.fingerprint:
                log.warning("%s: of another configuration or data, removed", checkpoint)
                shutil.rmtree(checkpoint)
            else:
                usable.append(checkpoint)
        return usable[-1] if usable else None

    def remove(self) -> None:
        """Delete all checkpoints: the job is done, and a forced rerun must really train."""
        shutil.rmtree(self.path, ignore_errors=True)

    def callback(self) -> TrainerCallback:
        """A callback for the Trainer that marks each checkpoint complete once it is on disk."""
        return _Marker(self.fingerprint)


class _Marker(TrainerCallback):
    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            write_json(folder / MARKER, {"fingerprint": self.fingerprint})
