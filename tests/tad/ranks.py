"""The same training on one process and on several gloo ranks, each leaving what it ended in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


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
    script.write_text(worker)
    launch = [sys.executable]
    if world > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [*launch, str(script), str(world), str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(out / f"rank{rank}.safetensors") for rank in range(world)]
