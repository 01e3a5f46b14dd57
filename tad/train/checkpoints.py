"""Checkpoints of an unfinished training: resume exactly, or start afresh, never mix.

The folder is no output of the DAG (Snakemake deletes the outputs of a job that failed). It carries
the fingerprint of what is being trained; a checkpoint counts only once its marker, written last,
is there, so a process killed while it saves loses that checkpoint and nothing else. Of several
ranks the first one does all this, and the others wait for what it says.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tad.command import UserError
from tad.records import read_json, write_json
from tad.train import ranks

MARKER = "complete.json"
log = logging.getLogger(__name__)


class BusyError(UserError, RuntimeError):
    """Another process is training the same job."""


class ShardingError(UserError, ValueError):
    """A checkpoint whose parts are not those that the training would write."""


class CheckpointFolder:
    """The checkpoints of one job, locked for as long as the ``with`` block lasts.

    ``fingerprint`` identifies configuration and data, and ``sharding`` is that of the checkpoints
    (``tad.experiment.schema``), which any number of ranks can read. Raises BusyError if another
    process holds the lock: an ssh drop kills Snakemake, not its trainer, and two trainers would
    spoil each other.
    """

    def __init__(self, path: Path, fingerprint: str, sharding: str = "none") -> None:
        self.path = path
        self.marker = {"fingerprint": fingerprint, "sharding": sharding}
        self._lock: TextIO | None = None

    def __enter__(self) -> Self:
        if ranks.is_first():
            self._take_lock()
        return self

    def _take_lock(self) -> None:
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def latest(self) -> Path | None:
        """The newest complete checkpoint of this very job; whatever else lies there is removed.

        Raises ShardingError for one of another ``sharding``.
        """
        return ranks.from_first(self._latest)

    def _latest(self) -> Path | None:
        found = sorted(
            self.path.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda p: int(p.name.split("-")[1])
        )
        usable = []
        for checkpoint in found:
            marker = checkpoint / MARKER
            if not marker.is_file():
                log.warning("%s: incomplete, removed", checkpoint)
                shutil.rmtree(checkpoint)
            elif read_json(marker)["fingerprint"] != self.marker["fingerprint"]:
                log.warning("%s: of another configuration or data, removed", checkpoint)
                shutil.rmtree(checkpoint)
            else:
                usable.append(checkpoint)
        if not usable:
            return None
        made, wanted = read_json(usable[-1] / MARKER).get("sharding", "none"), self.marker
        if made != wanted["sharding"]:
            raise ShardingError(
                f"{usable[-1]}: was saved with sharding: {made}, and the configuration has "
                f"sharding: {wanted['sharding']}; set it back, or start afresh with --force"
            )
        return usable[-1]

    def remove(self) -> None:
        """Delete all checkpoints: the job is done, and a forced rerun must really train."""
        if ranks.is_first():
            shutil.rmtree(self.path, ignore_errors=True)

    def callback(self) -> TrainerCallback:
        """A callback for the Trainer that marks each checkpoint complete once it is on disk."""
        return _Marker(self.marker)


class _Marker(TrainerCallback):
    def __init__(self, marker: dict[str, str]) -> None:
        self.marker = marker

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        ranks.wait()  # every rank has written its part
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            write_json(folder / MARKER, self.marker)
