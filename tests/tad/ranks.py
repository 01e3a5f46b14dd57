"""The same training on one process and on several gloo ranks, each leaving what it ended in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

LEAVE = """
import os
import torch.distributed
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
os._exit(0)
"""
"""How a rank ends: torch's threads can abort a process that shuts down while they still run."""


def run_ranks(
    folder: Path, worker: str, world: int, *arguments: str
) -> list[dict[str, torch.Tensor]]:
    """Run a script on ``world`` ranks; returns what each wrote.

    The script's arguments are the world, a folder and ``arguments``; rank i is to leave
    ``rank{i}.safetensors`` in the folder.
    """
    out = folder / f"world{world}"
    out.mkdir()
    script = folder / "worker.py"
    script.write_text(worker + LEAVE)
    launch = [sys.executable]
    if world > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [*launch, str(script), str(world), str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(out / f"rank{rank}.safetensors") for rank in range(world)]


def fork_ranks(work: Callable[[], None], world: int, *, dies: bool = False) -> None:
    """Do ``work`` on ``world`` gloo ranks: forks of this process, which has the libraries loaded.

    ``world`` 0 is a plain process, 1 the one rank that torchrun starts. As with torchrun, a rank
    that fails takes the others with it; that fails the test, unless the work ``dies``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = {_fork(work, rank, world, port) for rank in range(max(world, 1))}
    failed, deadline = [], time.monotonic() + 600
    while running:
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            running.remove(pid)
            if status:
                failed.append(os.waitstatus_to_exitcode(status))
        if failed or time.monotonic() > deadline:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    assert failed or not running, "ranks wait for each other"
    assert bool(failed) == dies, f"exit codes of ranks: {failed}"


def _fork(work: Callable[[], None], rank: int, world: int, port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        AcceleratorState._reset_state(reset_partial_state=True)  # what tests before have left
        torch.set_num_threads(1)
        values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        values |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        os.environ |= {name: str(value) for name, value in values.items()} if world else {}
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
