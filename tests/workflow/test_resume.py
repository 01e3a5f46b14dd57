"""Killed at any moment, the same command ends in the same bits, with and without Snakemake."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import RUN, Project


def distill(project: Project) -> list[str]:
    return project.python("tad", "run", RUN, "--config", str(project.config))


def weights(project: Project) -> str:
    return hashlib.sha256(
        (project.work / "runs" / RUN / "model.safetensors").read_bytes()
    ).hexdigest()


def curve(project: Project) -> list[dict]:
    """train.jsonl without what depends on the clock."""
    lines = (project.work / "runs" / RUN / "train.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [{k: v for k, v in e.items() if k != "tokens_per_second"} for e in entries]


def kill_when(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    """SIGKILL to the process group as soon as ``happened``; fails if the process ends first."""
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline, "nothing to wait for"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def checkpoint(project: Project, step: int) -> Path:
    return project.work / "checkpoints" / RUN / f"checkpoint-{step}"


@pytest.fixture(scope="module")
def uninterrupted(taught, tmp_path_factory) -> Project:
    project = taught.copy(tmp_path_factory.mktemp("uninterrupted") / "project")
    project.run(distill(project))
    return project


def test_killed_at_several_points_ends_in_the_same_bits(taught, uninterrupted, tmp_path):
    project = taught.copy(tmp_path / "project")
    moments = [
        # while the first checkpoint is being written
        lambda: checkpoint(project, 10).exists(),
        # between two checkpoints
        lambda: (checkpoint(project, 20) / "complete.json").exists(),
        # a later one half written: weights there, optimizer or trainer state not yet
        lambda: (checkpoint(project, 40) / "model.safetensors").exists(),
    ]
    for moment in moments:
        kill_when(project.start(distill(project)), moment)
        assert not (project.work / "runs" / RUN / "manifest.json").exists()
    log = project.run(distill(project)).stderr
    assert "resuming from checkpoint-" in log
    assert weights(project) == weights(uninterrupted)
    assert curve(project) == curve(uninterrupted)
    assert not checkpoint(project, 10).parent.exists(), "checkpoints stay behind"


def test_snakemake_killed_with_its_trainer_resumes(taught, uninterrupted, tmp_path):
    project = taught.copy(tmp_path / "project")
    target = f"work/tiny/runs/{RUN}/manifest.json"
    # The teacher was made without Snakemake: accept it as it is.
    project.run(
        project.snakemake("--touch", "--", "work/tiny/models/qwen1.5-1.8b/final/manifest.json")
    )
    command = project.snakemake("--", target)
    kill_when(project.start(command), lambda: (checkpoint(project, 20) / "complete.json").exists())
    project.run(project.snakemake("--unlock"))
    project.run(command)
    assert weights(project) == weights(uninterrupted)
    manifest = json.loads((project.folder / target).read_text())
    assert manifest["resumed_from_step"] >= 20


def test_states_computed_ahead_give_the_same_bits_resumed_or_not(taught, uninterrupted, tmp_path):
    project = taught.copy(tmp_path / "project")
    project.config.write_text("teacher_states_gb: 1\n" + project.config.read_text())
    where = "work/tiny/states/scratch/qwen1.5-1.8b_0.5b/seed0"
    make = ["--teacher", "work/tiny/models/qwen1.5-1.8b/final", "--data"]
    make += ["work/tiny/data/general/qwen", "--context", "32", "--sequences", "240"]
    make += ["--batch-size", "2", "--out", where]
    project.run(project.python("tad", "states", *make))
    kill_when(
        project.start(distill(project)),
        lambda: (checkpoint(project, 20) / "complete.json").exists(),
    )
    log = project.run(distill(project)).stderr
    assert "the teacher's states are read" in log and "resuming from checkpoint-" in log
    assert weights(project) == weights(uninterrupted)
    assert curve(project) == curve(uninterrupted)
    manifest = json.loads((project.work / "runs" / RUN / "manifest.json").read_text())
    assert manifest["states_seconds"] > 0


def test_a_finished_run_is_not_trained_again(uninterrupted):
    before = (uninterrupted.work / "runs" / RUN / "manifest.json").read_bytes()
    done = uninterrupted.run(distill(uninterrupted))
    assert "finished already" in done.stderr
    assert (uninterrupted.work / "runs" / RUN / "manifest.json").read_bytes() == before


def test_checkpoints_of_another_configuration_are_not_resumed(taught, uninterrupted, tmp_path):
    project = taught.copy(tmp_path / "project")
    kill_when(
        project.start(distill(project)),
        lambda: (checkpoint(project, 10) / "complete.json").exists(),
    )
    text = project.config.read_text()
    project.config.write_text(text.replace("evaluation_sequences: 16", "evaluation_sequences: 8"))
    log = project.run(distill(project)).stderr
    assert "of another configuration or data" in log
    assert "starting" in log
    # The evaluation set does not touch the weights, so even these must agree.
    assert weights(project) == weights(uninterrupted)
