"""What a user sees when a job fails: the line that says why and the log, on the screen."""

from __future__ import annotations

import re

import yaml

from tests.workflow.conftest import TINY, Project

BROKEN = "def broken(student, teacher, *, mask):\n    raise ValueError('this loss is broken')\n"
RUN = "scratch/qwen1.5-1.8b_0.5b/broken/seed0"


def test_a_failed_job_shows_why_and_the_next_commands_do_too(taught, tmp_path):
    project = taught.copy(tmp_path / "project")
    (project.folder / "broken_loss.py").write_text(BROKEN)
    changes = {
        "methods": {"broken": {"divergence": "broken_loss:broken"}},
        "items": {"heldout": {"pairs": TINY["select"]["pairs"], "methods": ["broken"]}},
        "select": {**TINY["select"], "items": ["heldout"], "methods": ["broken"]},
    }
    project.config.write_text(yaml.safe_dump({**TINY, **changes}))
    result = f"work/tiny/runs/{RUN}/manifest.json"
    done = project.run(project.snakemake("--quiet", "rules", "host", "--", result), ok=False)
    told = done.stdout + done.stderr
    assert done.returncode != 0
    log = f"work/tiny/logs/runs/{RUN}/distill.log"
    assert f"FAILED  runs/{RUN}" in told and f"log: {log}" in told
    assert "ValueError: this loss is broken" in told
    assert "CalledProcessError" not in told and "Select jobs" not in told
    config = ["--config", "tiny.yaml"]
    status = project.run(project.python("tad", "status", *config)).stdout
    assert f"failed: runs/{RUN}" in status and "ValueError: this loss is broken" in status
    logs = project.run(project.python("tad", "logs", RUN, *config)).stdout
    assert log in logs and "cause: ValueError: this loss is broken" in logs


def test_an_override_redoes_what_depends_on_it_and_is_told(taught, tmp_path):
    project: Project = taught.copy(tmp_path / "project")
    name = "scratch/qwen1.5-1.8b_0.5b/vanilla_kd/seed0"
    result = f"work/tiny/runs/{name}/manifest.json"
    project.run(
        project.snakemake("--touch", "--", "work/tiny/models/qwen1.5-1.8b/final/manifest.json")
    )
    override = "override=pairs.qwen1.5-1.8b_0.5b.tokens.scratch=256"
    command = project.snakemake(override, "--", result)
    project.run(command)
    shown = project.run(project.python("tad", "show", name, "--config", "tiny.yaml")).stdout
    assert f"made with: -o {override.removeprefix('override=')}" in shown
    assert "another spec" in shown
    assert "Nothing to be done" in project.run(command).stderr
    again = project.run([*project.snakemake("-n", "--", result)]).stdout
    planned = set(re.findall(r"^(\w+) +\d+$", again, flags=re.MULTILINE))
    assert planned == {"distill", "total"}
