"""profiles/slurm on a real Slurm: a figure, and jobs that Slurm ends and that are tried again.

The Slurm is the machine's own, run as a private cluster of one node (cluster.py).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tad.experiment.config import open_scale
from tad.plan.jobs import jobs_of
from tad.plan.plan import resources
from tests.slurm.cluster import no_cgroups
from tests.slurm.conftest import PROFILE
from tests.workflow.conftest import REPOSITORY, TINY, Project

pytestmark = pytest.mark.slow

CUT = (
    "select.items=[figure2] select.pairs=[qwen1.5-1.8b_0.5b] max_epochs=100 "
    "models.qwen1.5-1.8b.checkpoints.final.tokens=4_096 corpora.general.tokens=40_000 "
    "tokenizers.qwen.vocab_size=512"
)
"""The smallest part of the smoke scale that still draws a figure."""

RECORD = "models/qwen1.5-1.8b/final/heldout.json"
PAIR = "qwen1.5-1.8b_0.5b"
ODD = f"scratch/{PAIR}/odd/seed0"
TEACHER = "work/tiny/models/qwen1.5-1.8b/final/manifest.json"

SLEEPS = """\
import time
from pathlib import Path
from tad import forward_kl

REACHED = Path("work/tiny/checkpoints/RUN/checkpoint-30/complete.json")

def odd(student, teacher, *, mask):
    if REACHED.exists() and not Path("slept").exists():
        Path("slept").touch()
        time.sleep(36_000)
    return forward_kl(student, teacher, mask=mask)
""".replace("RUN", ODD)

EATS = """\
import torch
from tad import forward_kl

eaten = []

def odd(student, teacher, *, mask):
    if not eaten:
        eaten.append(torch.ones(1_200, 2**20, dtype=torch.uint8))
    return forward_kl(student, teacher, mask=mask)
"""


def odd(project: Project, loss: str, *, on_gpus: bool = False) -> Project:
    """The project with one run, of a loss of the user's own.

    ``on_gpus``: from a teacher that is not pre-trained here, which is when runs ask for GPUs.
    """
    (project.folder / "odd_loss.py").write_text(loss)
    changes = {
        "methods": {"odd": {"divergence": "odd_loss:odd"}},
        "items": {"heldout": {"pairs": [PAIR], "methods": ["odd"]}},
        "select": {**TINY["select"], "items": ["heldout"], "methods": ["odd"]},
    }
    done = Path(TEACHER).parent
    if on_gpus:
        (project.folder / done).rename(project.folder / "teacher")
        model = {**TINY["models"]["qwen1.5-1.8b"], "checkpoints": {"final": {"path": "teacher"}}}
        changes |= {"models": {"qwen1.5-1.8b": model}, "pretraining": None}
        done = Path("work/tiny/data/general/qwen")
    project.config.write_text(yaml.safe_dump({**TINY, **changes}))
    project.run(project.snakemake("--touch", "--", str(done / "manifest.json")))
    return project


def weights(project: Project) -> str:
    file = project.work / "runs" / ODD / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def slurm_logs(told: str, rule: str) -> list[Path]:
    """The logs of Slurm that the screen names with a job that failed."""
    return [Path(log) for log in re.findall(rf"^ +log: (\S+/rule_{rule}/\S+\.log)$", told, re.M)]


def test_a_figure_of_the_smoke_scale(submit, tmp_path):
    words = ["--config", "scale=smoke", f"override={CUT}", "--", "figure2"]
    submitted = submit(Project(tmp_path), *words)
    told = submitted.end()
    assert (tmp_path / "work/smoke/figures/figure2.png").stat().st_size > 1000
    assert "5/6  figures/figure2" in told
    suite = open_scale(REPOSITORY / "config" / "smoke.yaml", CUT.split())
    planned = {job.kind: job for job in jobs_of(suite, [RECORD]).values()}
    for rule in ("tokenizer", "pack", "pretrain", "heldout_teacher"):
        cores = 16 if rule == "pack" else 1
        assert submitted.jobs(rule, "%T|%P|%C") == [f"COMPLETED|tests|{cores}"], told
        if rule != "tokenizer":
            asked = resources(suite, planned[rule.removesuffix("_teacher")], 0)
            assert submitted.jobs(rule, "%m|%l") == [f"{asked.mem_mb}M|{asked.runtime}:00"], told
    # A process that jobs share would stand in one job's node, time and memory.
    assert not list((tmp_path / "tmp").glob("tad-warm*"))


def test_a_run_killed_by_its_time_limit_resumes_to_the_same_bits(cluster, submit, taught, tmp_path):
    straight = odd(taught.copy(tmp_path / "straight"), SLEEPS)
    (straight.folder / "slept").touch()
    straight.run(straight.python("tad", "run", ODD, "--config", "tiny.yaml"))

    project = odd(taught.copy(tmp_path / "killed"), SLEEPS)
    result = f"work/tiny/runs/{ODD}/manifest.json"
    submitted = submit(project, "--config", "scale=tiny.yaml", "--", result)
    submitted.wait_until((project.folder / "slept").exists)
    assert submitted.jobs("distill", "%T") == ["RUNNING"]
    (job,) = submitted.jobs("distill", "%i")
    cluster.output("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    told = submitted.end()

    assert submitted.jobs("distill", "%T") == ["TIMEOUT", "COMPLETED"]
    assert weights(project) == weights(straight)
    assert json.loads((project.folder / result).read_text())["resumed_from_step"] >= 30
    assert f"SLURM-job '{job}' failed, SLURM status is: 'TIMEOUT'" in told
    assert "DUE TO TIME LIMIT" in told
    (log,) = slurm_logs(told, "distill")
    assert "DUE TO TIME LIMIT" in log.read_text()


@pytest.mark.skipif(bool(no_cgroups()), reason=no_cgroups())
def test_a_run_on_a_gpu_out_of_memory_is_submitted_with_more(submit, taught, tmp_path):
    project = odd(taught.copy(tmp_path / "project"), EATS, on_gpus=True)
    profile = tmp_path / "profile"
    shutil.copytree(PROFILE, profile)
    text = (profile / "profile.yaml").read_text()
    less = "set-resources:\n  distill: {mem_mb: 1500 * attempt}\n"
    assert "set-resources:\n" in text
    (profile / "profile.yaml").write_text(text.replace("set-resources:\n", less))

    result = f"work/tiny/runs/{ODD}/manifest.json"
    words = ["--config", "scale=tiny.yaml", "--", result]
    submitted = submit(project, *words, profile=profile)
    told = submitted.end()

    assert (project.folder / result).exists()
    # Slurm 22.05 calls a job failed whose step, and not whose script, ran out of memory.
    first, second = submitted.jobs("distill", "%T|%m")
    assert first in ("FAILED|1500M", "OUT_OF_MEMORY|1500M"), told
    assert second == "COMPLETED|3000M", told
    assert re.search(r"^ +(slurmstepd|srun)\S*: error: .*(Out Of Memory|oom-kill)", told, re.M), (
        told
    )
    assert all(log.is_file() for log in slurm_logs(told, "distill"))
    for job in submitted.values("distill"):
        assert (job["TresPerJob"], job["NumCPUs"], job["NumNodes"]) == ("gres:gpu:1", "8", "1")
