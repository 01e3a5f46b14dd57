"""A cluster for all tests of this folder, and Snakemake with the profile on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing
from tests.workflow.conftest import REPOSITORY, Project, taught

__all__ = ["taught"]

PROFILE = REPOSITORY / "profiles" / "slurm"
HERE = [
    *("--slurm-status-command", "squeue"),  # sacct needs a database
    *("--slurm-init-seconds-before-status-checks", "3"),
    *("--jobs", "2", "--latency-wait", "10"),
]
"""What this cluster needs beside the profile: no database of jobs, two cores, little time."""
SECONDS = 3600.0
"""That a DAG may take; more than ten times what it takes on a quiet machine."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """Slurm with a partition ``tests``; skips where it is not installed."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[slurm]'")
    if reason := missing():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Submitted:
    """A running ``snakemake --workflow-profile profiles/slurm`` in a project's folder."""

    def __init__(self, cluster: Cluster, project: Project, *words: str, profile: Path):
        self.cluster, self.project = cluster, project
        self.screen = project.folder / "screen.txt"
        places = [Path(sys.executable).parent, cluster.environment["PATH"]]
        temporary = project.folder / "tmp"
        temporary.mkdir()
        self.environment = {
            **project.environment,
            **cluster.environment,
            "PATH": os.pathsep.join(map(str, places)),
            "SBATCH_PARTITION": "tests",
            "TMPDIR": str(temporary),
        }
        command = project.python("snakemake", "--snakefile", str(REPOSITORY / "Snakefile"))
        command += ["--workflow-profile", str(profile), *HERE, *words]
        with self.screen.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=project.folder, env=self.environment, stdout=file, stderr=file
            )

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Fails where Snakemake ends first, or after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while not happened():
            assert self.process.poll() is None, self.screen.read_text()[-6000:]
            assert time.monotonic() < deadline, self.screen.read_text()[-6000:]
            time.sleep(0.5)

    def end(self) -> str:
        """Wait until all is done; what was printed. Fails where a job failed for good."""
        code = self.process.wait(SECONDS)
        told = self.screen.read_text()
        assert code == 0, told[-6000:]
        return told

    def values(self, rule: str) -> list[dict[str, str]]:
        """The same jobs as scontrol tells of them, its ``Key=value``."""
        told = [self.cluster.output("scontrol", "show", "job", n) for n in self.jobs(rule, "%i")]
        return [dict(w.split("=", 1) for w in text.split() if "=" in w) for text in told]

    def jobs(self, rule: str, form: str) -> list[str]:
        """Of all Slurm jobs of a rule in this project, oldest first, ``form`` of squeue."""
        asked = ("-h", "--states=all", "--noconvert", "-o", f"%Z|%k|%i|{form}")
        told = self.cluster.output("squeue", *asked)
        found = [line.split("|", 3) for line in told.splitlines()]
        mine = [
            (int(number), rest)
            for folder, comment, number, rest in found
            if folder == str(self.project.folder) and comment.startswith(f"rule_{rule}_")
        ]
        return [rest.strip() for _, rest in sorted(mine)]


@pytest.fixture
def submit(cluster) -> Iterator[Callable[..., Submitted]]:
    """``submit(project, *words)`` starts Snakemake, which ends with the test."""
    started: list[Submitted] = []

    def start(project: Project, *words: str, profile: Path = PROFILE) -> Submitted:
        started.append(Submitted(cluster, project, *words, profile=profile))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
