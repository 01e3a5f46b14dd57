"""Committed files are replaced when the new ones are whole, not by a redraw that fails."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tad.experiment.config import load_suite
from workflow.items import FINDINGS, all_records, drawn

from .conftest import REPOSITORY, Project, make_project


@pytest.fixture
def committed(tmp_path) -> Project:
    """A project whose folder has a space and an umlaut, with records and drawn files."""
    project = make_project(tmp_path / "ein Ordner für Proben")
    root, suite = project.folder / "results" / "tiny", load_suite(project.config)
    drawings = {file for _, each in drawn(suite) for file in each.outputs(suite)}
    for name in {*all_records(suite), *drawings}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name} as committed\n")
    return project


def contents(project: Project) -> dict[str, str]:
    root = project.folder / "results" / "tiny"
    folders = [path for name in ("tables", "figures") for path in (root / name).iterdir()]
    return {path.name: path.read_text() for path in folders}


def number(project: Project) -> int:
    """How many drawings of records there are."""
    return len([each for _, each in drawn(load_suite(project.config)) if each is not FINDINGS])


def redraw(project: Project, tad: str) -> list[str]:
    """The command of ``make figures``, with a script in the place of ``tad``."""
    script = project.folder / "bin" / "tad"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{tad}\n")
    script.chmod(0o755)
    project.environment["PATH"] = f"{script.parent}{os.pathsep}{project.environment['PATH']}"
    profile = str(REPOSITORY / "profiles" / "figures")
    command = project.snakemake("--keep-going", "--", "tables", "figures")
    at = command.index("--config") + 1
    return [*command[:at], "root=results/tiny", *command[at:at + 1], "--workflow-profile", profile,
            *command[at + 1:]]  # fmt: skip


def test_a_failed_redraw_leaves_every_file(committed):
    before = contents(committed)
    done = committed.run(redraw(committed, "echo called >> called; exit 1"), ok=False)
    assert done.returncode != 0
    assert len((committed.folder / "called").read_text().split()) == number(committed)
    assert contents(committed) == before


def test_a_killed_redraw_leaves_every_file_and_can_be_repeated(committed):
    before, started = contents(committed), committed.folder / "started"
    process = committed.start(redraw(committed, "echo $1 $2 >> started; sleep 600"))
    end = time.monotonic() + 60
    while not started.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert started.exists() and contents(committed) == before
    (committed.folder / "bin" / "tad").write_text("#!/bin/sh\necho $@ >> drawn\n")
    command = committed.snakemake("--", "tables", "figures")
    at = command.index("--config") + 1
    again = [*command[:at], "root=results/tiny", *command[at:]]
    unlock = [*again[: again.index("--")], "--unlock"]
    committed.run(unlock)
    for times in (1, 2):  # and again, though nothing has changed
        committed.run(again)
        lines = (committed.folder / "drawn").read_text().splitlines()
        assert len(lines) == number(committed) * times
    assert any("--root results/tiny" in line for line in lines)
    assert contents(committed) == before
