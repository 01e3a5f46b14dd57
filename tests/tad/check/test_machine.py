"""Disk, GPUs and Slurm against what a scale asks for."""

from __future__ import annotations

import os
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from tad.check import disk, machine, slurm
from tad.check.wanted import wanted
from tad.plan.fit import configured, run_memory
from tests.tad.check.test_wanted import suite_of

H100 = machine.Graphics(
    count=2, name="H100", memory=85 * 10**9, driver="570.1", cuda="12.8", bf16=True, flash=True,
    nccl=True,
)  # fmt: skip
Usage = namedtuple("Usage", "total used free")


def paper(*pairs: str):
    return suite_of("paper", "select.items=[figure1, table8]", f"select.pairs=[{', '.join(pairs)}]")


# --- GPUs ----------------------------------------------------------------------------------------


def told(there: machine.Graphics, *pairs: str, slurm: bool = False) -> dict[str, str]:
    found = machine.look_at_machine(paper(*pairs), there, slurm=slurm)
    return {finding.about: finding.line() for finding in found}


def test_a_machine_that_will_do():
    lines = told(H100, "phi2_1b", "gemma2-9b_2b")
    assert all(line.startswith("ok") for line in lines.values()), lines
    assert set(lines) == {
        "CUDA", "pairs.phi2_1b", "pairs.gemma2-9b_2b", "bfloat16", "flash attention", "NCCL",
    }  # fmt: skip


def test_what_a_machine_lacks():
    lines = told(replace(H100, count=1, bf16=False, flash=False, nccl=False), "gemma2-9b_2b")
    assert lines["pairs.gemma2-9b_2b"].startswith("failure  pairs.gemma2-9b_2b: 2 GPUs asked for")
    assert lines["bfloat16"].startswith("warning") and lines["NCCL"].startswith("failure")
    assert "pip install -e '.[gpu]'" in lines["flash attention"]
    small = told(replace(H100, memory=16 * 10**9), "phi2_1b")["pairs.phi2_1b"]
    assert small.startswith("failure") and "of 1 GPUs at the least" not in small
    assert "on each of 2 GPU(s) at the least" in small
    between = told(replace(H100, memory=48 * 10**9), "phi2_1b")["pairs.phi2_1b"]
    assert between.startswith("warning") and "-o pairs.phi2_1b.micro_batch_size=" in between


def test_no_gpu():
    none = machine.Graphics(cuda="12.8")
    assert told(none, "phi2_1b")["GPU"].startswith("failure  GPU: none here")
    assert "srun --gpus=1 tad check" in told(none, "phi2_1b", slurm=True)["GPU"]
    old = told(replace(none, driver="470.1"), "phi2_1b", slurm=True)["GPU"]
    assert old.startswith("failure") and "CUDA_VISIBLE_DEVICES" in old
    assert "built without it" in told(machine.Graphics(), "phi2_1b")["CUDA"]


def test_memory_is_that_of_the_plan():
    suite = paper("phi2_1b")
    runs = [run for run in suite.runs() if run.method.row.rows == "corpus"]
    asked = max(run_memory(suite, run, configured(suite, run)).peak for run in runs)
    share = H100.room / H100.memory
    enough, less = (replace(H100, memory=round(asked / share * by)) for by in (1.01, 0.99))
    assert told(enough, "phi2_1b")["pairs.phi2_1b"].startswith("ok")
    assert told(less, "phi2_1b")["pairs.phi2_1b"].startswith("warning")


def test_graphics_here():
    found = machine.graphics()
    assert found.count >= 0 and (found.count > 0 or not found.bf16)


# --- Disk ----------------------------------------------------------------------------------------


@pytest.fixture
def free(monkeypatch, tmp_path):
    """A function that sets the free bytes of the disk."""
    monkeypatch.chdir(tmp_path)

    def be(count: float) -> None:
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(1e15, 0, count))

    return be


def test_room_for_what_a_scale_writes(free):
    suite = paper("phi2_1b")
    need = wanted(suite)
    asked = disk.room(suite, need)
    tokens = suite.corpora["general"].train_tokens + suite.corpora["general"].validation_tokens
    assert asked["tokens"] == 2 * tokens, "two bytes a token of 51,200"
    assert asked["models"] / len(suite.runs()) == pytest.approx(4 * 1.04e9, rel=0.1)
    for count, level in ((10, "ok"), (1.1, "warning"), (0.9, "failure")):
        free(count * (sum(asked.values()) + 5e9))
        (finding,) = disk.look_at_disk(suite, need, 5 * 10**9, Path("cache"))
        assert finding.level == level, finding
        assert "downloads 5.0 GB" in finding.found and "tokens 10.0 GB" in finding.found


def test_what_is_there_already_needs_no_room(free):
    suite = paper("phi2_1b")
    need = wanted(suite)
    free(sum(disk.room(suite, need).values()) * 0.99)
    assert disk.look_at_disk(suite, need, 0, None)[0].level == "failure"
    done = Path("work/paper/data/train.bin")
    done.parent.mkdir(parents=True)
    with done.open("wb") as file:
        file.truncate(10**10)  # sparse
    assert disk.look_at_disk(suite, need, 0, None)[0].level != "failure"


def test_a_folder_that_may_not_be_written(free, monkeypatch):
    free(1e15)
    suite = paper("phi2_1b")

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
    found = disk.look_at_disk(suite, wanted(suite), 0, Path("cache"))
    assert [f.level for f in found] == ["failure", "failure"]
    assert found[0].line().startswith("failure  work/paper: cannot be written (Permission denied)")
    assert "set HF_HOME" in found[1].cure


# --- Slurm ---------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A function (what ``sinfo`` prints or how it fails, the profile) -> lines."""

    def make(script: str, partition: str = "gpu", runtime: int = 240, account: str = "lab") -> list:
        command = tmp_path / "bin" / "sinfo"
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
        profile = tmp_path / "profile.yaml"
        profile.write_text(
            f"default-resources: {{slurm_account: \"'{account}'\", runtime: 10,"
            f" slurm_partition: \"'{partition}'\"}}\n"
            f"set-resources: {{distill: {{runtime: {runtime}}}}}\n"
        )
        return [finding.line() for finding in slurm.look_at_slurm(2, profile)]

    return make


ROWS = "echo 'cpu|up|infinite|(null)'; echo 'gpu|up|7-00:00:00|gpu:h100:8(S:0-1)'"


def test_a_partition_that_will_do(cluster):
    assert cluster(ROWS, runtime=10_080) == ["ok       Slurm: partition gpu is up, 8 GPU(s) a node"]


def test_a_partition_that_will_not(cluster):
    (line,) = cluster(ROWS, partition="gpus")
    assert (
        line.startswith("failure")
        and "'gpus': no such partition here; write one of cpu, gpu" in line
    )
    (line,) = cluster(ROWS, runtime=10_081)
    assert "ends jobs after 10,080 minutes, the profile asks 10,081" in line
    (line,) = cluster(ROWS, partition="cpu")
    assert line.startswith("warning") and "the best has 0" in line
    (line,) = cluster("echo 'gpu|down|1:30:00|gpu:2'")
    assert line.startswith("failure  Slurm: partition gpu is down")
    lines = cluster(ROWS, partition="CHANGE-ME", account="CHANGE-ME")
    assert [line[:9].strip() for line in lines] == ["warning", "warning"]
    assert "slurm_partition: still CHANGE-ME; write one of yours there (cpu, gpu)" in lines[1]


def test_a_controller_that_is_down(cluster, monkeypatch):
    broken = "echo 'sinfo: error: no controller' >&2; exit 1"
    (line,) = cluster(broken)
    assert line.startswith("failure") and "(sinfo: error: no controller)" in line
    assert cluster(broken, partition="CHANGE-ME")[0].startswith("warning")
    monkeypatch.setattr(slurm, "SECONDS", 0.2)
    assert "sinfo does not answer" in cluster("exec sleep 5")[0]


def test_no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.look_at_slurm(1)[0].level == "ok"


@pytest.mark.parametrize(
    ("text", "minutes"), [("infinite", None), ("30:00", 30), ("1:30:00", 90), ("2-00:00:00", 2880)]
)
def test_limits_are_read(text, minutes):
    assert slurm._minutes(text) == minutes


def test_the_partition_of_the_committed_profile_is_that_of_slurms_own_variables(
    cluster, monkeypatch
):
    for name in ("SBATCH_ACCOUNT", "SBATCH_PARTITION"):
        monkeypatch.delenv(name, raising=False)
    cluster(ROWS)  # puts the stand-in of sinfo on the path
    (line,) = (finding.line() for finding in slurm.look_at_slurm(2))
    assert line.startswith("ok") and "the default partition is taken (there are cpu, gpu)" in line
    monkeypatch.setenv("SBATCH_PARTITION", "gpus")
    (line,) = (finding.line() for finding in slurm.look_at_slurm(2))
    assert line.startswith("failure") and "no such partition here" in line
