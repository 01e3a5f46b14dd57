"""How many GPUs a run is started on: as many as its job is given, within its pair's range."""

from __future__ import annotations

import pytest

from .conftest import REPOSITORY, Project

RUN = "scratch/phi2_1b/rkl/seed0"


def plan(folder, override: str, *options: str, ok: bool = True) -> str:
    """What a dry run of the run at the paper's scale prints, in one line."""
    project = Project(folder)
    command = [
        *project.python("snakemake", "--snakefile", str(REPOSITORY / "Snakefile")),
        *("--cores", "1", "-n", "-p", *options, "--config", "scale=paper"),
        *(f"override={override}", "--", f"work/paper/runs/{RUN}/manifest.json"),
    ]
    done = project.run(command, ok=ok)
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("options", "started"),
    [
        (["--resources", "gpu=4"], "torchrun --standalone --nproc-per-node 4 -m tad run"),
        (
            ["--set-resources", "distill:gpu=2"],
            "torchrun --standalone --nproc-per-node 2 -m tad run",
        ),
        ([], "torchrun --standalone --nproc-per-node 8 -m tad run"),
    ],
)
def test_a_run_takes_what_its_job_is_given(tmp_path, options, started):
    assert f"{started} {RUN}" in plan(tmp_path, "pairs.phi2_1b.gpus=[1,8]", *options)


def test_one_gpu_is_a_plain_command_unless_the_run_is_sharded(tmp_path):
    assert f"tad run {RUN}" in (plain := plan(tmp_path, "seeds=[0]"))
    assert "torchrun" not in plain
    sharded = plan(tmp_path, "pairs.phi2_1b.sharding=fsdp")
    assert f"torchrun --standalone --nproc-per-node 1 -m tad run {RUN}" in sharded


def test_fewer_than_the_pair_asks_for_is_told_before_any_job_starts(tmp_path):
    told = plan(tmp_path, "pairs.phi2_1b.gpus=[2,8]", "--resources", "gpu=1", ok=False)
    assert "pairs.phi2_1b.gpus asks for 2 at least" in told
