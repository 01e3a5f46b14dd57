"""Jobs forked from the process with the libraries: same result, killed with who asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workflow import warm

WARM = Path(__file__).parents[2] / "workflow" / "warm.py"
JOB = """
import os, sys, time
if sys.argv[1:] == ["sleep"]:
    print(os.getpid(), flush=True)
    time.sleep(600)
print(os.getcwd(), os.environ["COLOUR"], sys.argv[1:], __name__, "torch" in sys.modules)
print("to stderr", file=sys.stderr)
print(f"the job is {os.getpid()}, forked by {os.getppid()}")
sys.exit(3)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks libraries on Linux alone")


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WARM), "job", *arguments],
        cwd=folder,
        env={**os.environ, "COLOUR": "blue", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


@pytest.fixture
def owner():
    """A process that the warm one belongs to."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_without_an_owner_the_module_runs_here(folder):
    environment = {"TAD_WARM": ""}
    job = start(folder, "a", **environment)
    out, err = job.communicate(timeout=60)
    assert job.returncode == 3 and err == "to stderr\n"
    assert f"the job is {job.pid}," in out and "['a'] __main__ False" in out


def test_a_job_is_forked_and_ends_with_its_asker_and_the_process_with_its_owner(folder, owner):
    asked = {"TAD_WARM": str(owner.pid)}
    servers = set()
    for colour in ("green", "red"):
        job = start(folder, "x", "y z", COLOUR=colour, **asked)
        out, err = job.communicate(timeout=240)
        assert job.returncode == 3 and err == "to stderr\n"
        assert f"{folder} {colour} ['x', 'y z'] __main__ True" in out
        servers.add(int(out.split()[-1]))
        assert f"the job is {job.pid}," not in out
    assert len(servers) == 1, "the second job found the process of the first"

    # Changed code is what the next job runs.
    (folder / "job.py").write_text("print('new')")
    job = start(folder, **asked)
    assert job.communicate(timeout=60)[0] == "new\n" and job.returncode == 0

    (folder / "job.py").write_text(JOB)
    job = start(folder, "sleep", **asked)
    child = int(job.stdout.readline())
    assert alive(child) and child != job.pid
    job.send_signal(signal.SIGTERM)
    job.wait(20)
    assert wait_for(lambda: not alive(child)), "the job outlived the command that asked for it"

    owner.kill()
    owner.wait()
    assert wait_for(lambda: not alive(next(iter(servers)))), "the process outlived its owner"


def test_a_folder_for_temporary_files_with_a_long_name_does_not_matter(folder, owner):
    deep = folder / ("temporary " * 12) / "files"
    deep.mkdir(parents=True)
    job = start(folder, TAD_WARM=str(owner.pid), TMPDIR=str(deep))
    out, err = job.communicate(timeout=240)
    assert job.returncode == 3 and err == "to stderr\n"
    assert f"the job is {job.pid}," not in out and "__main__ True" in out


def test_working_without_the_process_is_told(folder, monkeypatch, capsys):
    monkeypatch.setattr(warm, "LONGEST", 5)
    monkeypatch.setattr(sys, "argv", ["warm.py", "json.tool", "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TAD_WARM", str(os.getpid()))
    assert warm.main() == 0
    assert "workflow.warm: loads the libraries for this job alone" in capsys.readouterr().err


def test_a_missing_module_is_an_error(folder):
    done = subprocess.run(
        [sys.executable, "-m", "workflow.warm", "no.such.module"],
        cwd=folder, env={**os.environ, "TAD_WARM": ""}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "No module named" in done.stderr
