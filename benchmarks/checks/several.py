"""Two ranks, whole or sharded, take the steps of one."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.checks.distillation import environment, run
from benchmarks.checks.row import NO_GPUS, Row, judged, relative, tried

CHECK = "two ranks"
RANKS = 2
TOLERANCE = 1e-4
"""Largest relative error of a weight after the steps: sums of another order."""


def ranks(device: str) -> Iterator[Row]:
    """DDP and FSDP on two GPUs, or two processes of a CPU, against one."""
    where = "GPUs" if device == "cuda" else "gloo ranks on a CPU"
    cases = {"none": f"DDP, two {where}", "fsdp": f"FSDP, two {where}"}
    rows = {kind: Row(check=CHECK, case=f"{told} against one") for kind, told in cases.items()}
    if device == "cuda" and torch.cuda.device_count() < RANKS:
        yield from (replace(row, outcome=NO_GPUS) for row in rows.values())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone: dict[str, torch.Tensor] = {}
        for kind, row in rows.items():

            def check(kind=kind, row=row) -> Row:
                if not alone:
                    alone.update(trained(folder / "one", "none", device, 1))
                found = trained(folder / kind, kind, device, RANKS)
                worst = max(relative(found[key], value) for key, value in alone.items())
                return judged(replace(row, value_error=worst), [(worst, TOLERANCE)])

            yield tried(row, check)


def trained(out: Path, sharding: str, device: str, world: int) -> dict[str, torch.Tensor]:
    """The student's weights after a few steps on so many ranks."""
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(world)))} if device == "cuda" else {}
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [sys.executable, *(launch if world > 1 else [])]
    command += ["-m", "benchmarks.checks.worker", str(out), sharding, device]
    run(command, environment(device, OMP_NUM_THREADS="1", **seen))
    return load_file(out / "model.safetensors")
