"""A private Slurm of one node, from the programs of munge, slurmctld and slurmd.

The node claims more cores, memory and GPUs than the machine has, so that jobs are submitted with
the resources of the real profile. Memory is limited, and jobs are ended whole, by cgroups where
they can be made; else jobs are tracked by their parents and memory is not limited.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpuset", "freezer")
GPUS = 8
PATIENCE = 60.0
"""Seconds that a daemon may take to answer."""

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/{tracking}
TaskPlugin=task/{task}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=7200
FirstJobId={first}
MpiDefault=none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=2000000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint={cgroups}
CgroupAutomount=no
ConstrainRAMSpace=yes
"""


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    lost = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    if lost:
        return f"no Slurm here ({', '.join(lost)}): apt-get install munge slurmctld slurmd"
    return "" if os.getuid() == 0 else "slurmd starts jobs as root alone"


def no_cgroups() -> str:
    """Why memory can not be limited; empty where it can."""
    for name in CONTROLLERS:
        if not os.access(CGROUPS / name, os.W_OK):
            return f"no cgroups (v1) to limit memory with: {CGROUPS / name} can not be written"
    return ""


class Cluster:
    """Daemons with all of their state below ``folder``; ``environment`` makes commands use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen] = []
        path = f"{folder}/bin:{SEARCHED}"
        self.environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
        self.found = _slurm_cgroups()

    def start(self) -> None:
        """Write the configuration, start all daemons and wait until the node is idle."""
        self._configure()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = [("key-file", "munge.key"), ("socket", "munge.socket"), ("seed-file", "munge.seed")]
        files += [("pid-file", "munge.pid"), ("log-file", "munge.log")]
        self._daemon(
            "munged", "-F", "--force", *(f"--{name}={self.folder / file}" for name, file in files)
        )
        self._wait("munged", lambda: (self.folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D", "-i")
        self._wait("slurmctld", lambda: "UP" in self.output("scontrol", "ping"))
        self._daemon("slurmd", "-D")
        self._wait("slurmd", lambda: self.output("sinfo", "-h", "-o", "%t").strip() == "idle")

    def _configure(self) -> None:
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        limited = not no_cgroups()
        values = {
            "host": socket.gethostname().partition(".")[0],
            "user": getpass.getuser(),
            "folder": self.folder,
            "controller": _free_port(),
            "node": _free_port(),
            "first": 1000 * secrets.randbelow(10_000) + 1,  # cgroups of a machine go by job
            "gpus": GPUS,
            "tracking": "cgroup" if limited else "linuxproc",
            "task": "cgroup" if limited else "none",
        }
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
        # The plugin takes SLURM_CONF from srun, since other clusters have theirs in /etc.
        srun = self.folder / "bin" / "srun"
        real = shutil.which("srun", path=SEARCHED)
        conf = self.folder / "slurm.conf"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {real} "$@"\n')
        srun.chmod(0o755)
        gpus = self.folder / "gpus"
        gpus.mkdir()
        for number in range(GPUS):  # Slurm wants a device for each: those of /dev/null do
            os.mknod(gpus / f"gpu{number}", stat.S_IFCHR | 0o600, os.stat(os.devnull).st_rdev)
        (self.folder / "gres.conf").write_text(f"Name=gpu File={gpus}/gpu[0-{GPUS - 1}]\n")
        if limited:
            (self.folder / "cgroup.conf").write_text(CGROUP_CONF.format(cgroups=CGROUPS))

    def stop(self) -> None:
        """End all jobs, then the daemons, the last that was started first."""
        if len(self.daemons) == 3:
            self.output("scancel", "--full", f"--user={getpass.getuser()}")
            self._wait("scancel", lambda: not self.output("squeue", "-h").strip(), fail=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for folder in _slurm_cgroups() - self.found:
            for path in (*sorted(folder.rglob("*/"), reverse=True), folder):
                with contextlib.suppress(OSError):  # of another cluster that has begun since
                    path.rmdir()

    def output(self, *command: str) -> str:
        """What a command prints, to either stream; whether it succeeds is not asked."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("w") as file:
            daemon = subprocess.Popen(
                command, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        self.daemons.append(daemon)

    def _wait(self, name: str, ready: Callable[[], bool], fail: bool = True) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > deadline or any(d.poll() is not None for d in self.daemons):
                if not fail:
                    return
                said = [path.read_text() for path in self.folder.glob("*.out")]
                raise RuntimeError(f"{name} does not answer: {' '.join(said)[-2000:]}")
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _slurm_cgroups() -> set[Path]:
    return set(CGROUPS.glob("*/slurm*"))
