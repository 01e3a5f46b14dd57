"""Whether jobs may ask the hub is said by the scale's key ``network``, not by its name."""

from __future__ import annotations

import os

import pytest

from .conftest import Project, make_project


def seen_by_a_job(project: Project) -> str:
    """What HF_HUB_OFFLINE is in a job, told by a script in the place of ``tad``."""
    script = project.folder / "bin" / "tad"
    script.parent.mkdir()
    folder = "work/tiny/tokenizers/qwen"
    script.write_text(
        f"#!/bin/sh\nmkdir -p {folder}\nfor name in tokenizer tokenizer_config; do\n"
        f"  echo offline=$HF_HUB_OFFLINE > {folder}/$name.json\ndone\n"
    )
    script.chmod(0o755)
    project.environment["PATH"] = f"{script.parent}{os.pathsep}{project.environment['PATH']}"
    project.run(project.snakemake("--", f"{folder}/tokenizer.json"))
    return (project.folder / folder / "tokenizer.json").read_text().strip()


@pytest.mark.parametrize(
    ("network", "user", "seen"),
    [
        ({}, None, "1"),  # not unless the scale says so
        ({}, "0", "1"),  # whatever the shell says
        ({"network": True}, None, "0"),
        ({"network": True}, "1", "1"),  # what a shell forbids stays forbidden
    ],
)
def test_jobs_ask_the_hub_where_the_scale_allows_it(tmp_path, network, user, seen):
    project = make_project(tmp_path / "project", **network)
    project.environment.pop("HF_HUB_OFFLINE", None)
    if user is not None:
        project.environment["HF_HUB_OFFLINE"] = user
    assert seen_by_a_job(project) == f"offline={seen}"
