"""Only whole checkpoints of the same job count, and one process trains a job at a time."""

from __future__ import annotations

import pytest

from tad.records import write_json
from tad.train.checkpoints import MARKER, BusyError, CheckpointFolder


def checkpoint(folder, step, fingerprint=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if fingerprint is not None:
        write_json(path / MARKER, {"fingerprint": fingerprint})
    return path


def test_the_newest_whole_checkpoint_is_used_and_the_rest_is_cleared(tmp_path):
    folder = tmp_path / "job"
    checkpoint(folder, 9, "mine")
    newest = checkpoint(folder, 10, "mine")  # by number, not by name
    other = checkpoint(folder, 11, "another job's")
    partial = checkpoint(folder, 12)
    with CheckpointFolder(folder, "mine") as job:
        assert job.latest() == newest
        assert not other.exists()
        assert not partial.exists()


def test_a_new_job_has_no_checkpoint(tmp_path):
    with CheckpointFolder(tmp_path / "job", "mine") as job:
        assert job.latest() is None


def test_a_second_trainer_is_refused_until_the_first_ends(tmp_path):
    with (
        CheckpointFolder(tmp_path / "job", "mine"),
        pytest.raises(BusyError, match="another process"),
        CheckpointFolder(tmp_path / "job", "mine"),
    ):
        pass
    with CheckpointFolder(tmp_path / "job", "mine"):
        pass


def test_removing_leaves_nothing_to_resume(tmp_path):
    checkpoint(tmp_path / "job", 5, "mine")
    with CheckpointFolder(tmp_path / "job", "mine") as job:
        job.remove()
        assert job.latest() is None
