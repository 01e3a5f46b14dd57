"""The machine against what a scale's pairs ask for: GPUs, their memory, CUDA, kernels, NCCL."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from tad.check.findings import Finding, in_bytes
from tad.experiment.config import Suite
from tad.experiment.flops import FlopsError
from tad.experiment.run_id import RunId
from tad.plan.facts import usable
from tad.plan.fit import configured, fit, run_memory, smallest
from tad.plan.jobs import Job


@dataclass(frozen=True)
class Graphics:
    """The GPUs as torch and the driver see them; memory in bytes, of the smallest."""

    count: int = 0
    name: str = ""
    memory: int = 0
    driver: str = ""
    cuda: str | None = None
    bf16: bool = False
    flash: bool = False
    nccl: bool = False

    @property
    def room(self) -> float:
        """Bytes of one that a job can fill."""
        return usable(self.memory)


def asks_for_gpus(suite: Suite) -> bool:
    """Whether jobs want a GPU: where models are loaded and not made here (as in the DAG)."""
    return suite.pretraining is None


def gpus(suite: Suite) -> int:
    """The most GPUs that a selected pair needs."""
    return max((suite.pairs[run.pair].gpus.min for run in suite.runs()), default=1)


# --- What is there -------------------------------------------------------------------------------


def graphics() -> Graphics:
    """Ask torch and the driver. Takes the seconds that importing torch takes."""
    import torch
    import torch.distributed
    from transformers.utils import is_flash_attn_2_available

    driver = _driver()
    cuda = torch.version.cuda
    if not torch.cuda.is_available():
        return Graphics(driver=driver, cuda=cuda)
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Graphics(
        count=len(found),
        name=found[0].name,
        memory=min(each.total_memory for each in found),
        driver=driver,
        cuda=cuda,
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        flash=is_flash_attn_2_available(),
        nccl=torch.distributed.is_available() and torch.distributed.is_nccl_available(),
    )


def _driver() -> str:
    """Version of the NVIDIA driver, nothing where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""


# --- Findings ------------------------------------------------------------------------------------


def look_at_machine(suite: Suite, there: Graphics, *, slurm: bool) -> list[Finding]:
    """The GPUs against the pairs. On a node without any, ``slurm`` says that jobs run elsewhere."""
    if there.cuda is None:
        cure = "install torch built for the cluster's CUDA (pytorch.org says how)"
        return [Finding("failure", "CUDA", "the installed torch is built without it", cure)]
    if not there.count:
        return [_none(there, slurm)]
    told = f"torch for CUDA {there.cuda}, driver {there.driver or 'unknown'}"
    findings = [Finding("ok", "CUDA", told), *_pairs(suite, there)]
    if there.bf16:
        findings.append(Finding("ok", "bfloat16", f"{there.name} has it"))
    else:
        found = f"{there.name} has no units for it: float32, slower and in twice the memory"
        findings.append(Finding("warning", "bfloat16", found, "use an A100, H100 or newer"))
    if there.flash:
        findings.append(Finding("ok", "flash attention", "installed"))
    else:
        cure = "pip install -e '.[gpu]'"
        findings.append(
            Finding("warning", "flash attention", "not installed: SDPA instead, slower", cure)
        )
    if gpus(suite) > 1:
        cure = "install a torch with NCCL (that for Linux and CUDA has it)"
        findings.append(
            Finding("ok", "NCCL", "there")
            if there.nccl
            else Finding(
                "failure", "NCCL", "not in this torch, and pairs ask for several GPUs", cure
            )
        )
    return findings


def _none(there: Graphics, slurm: bool) -> Finding:
    if there.driver:
        found = f"driver {there.driver}, but torch for CUDA {there.cuda} sees no GPU"
        cure = "see CUDA_VISIBLE_DEVICES, and that the driver is new enough for that CUDA"
        return Finding("failure", "GPU", found, cure)
    if slurm:
        cure = "check a node that has some too: srun --gpus=1 tad check, with the same options"
        return Finding("warning", "GPU", "none on this node", cure)
    return Finding(
        "failure", "GPU", "none here, and the scale asks for them", "use a machine with some"
    )


def _pairs(suite: Suite, there: Graphics) -> list[Finding]:
    """Number and memory, a line a pair that is trained."""
    trained: dict[str, list[RunId]] = {}
    for run in suite.runs():
        trained.setdefault(run.pair, []).append(run)
    findings = []
    for name, runs in trained.items():
        least, about = suite.pairs[name].gpus.min, f"pairs.{name}"
        have = f"{there.count} x {there.name} of {in_bytes(there.memory)} here"
        if least > there.count:
            cure = f"lower {about}.gpus, or use a node with {least}"
            findings.append(Finding("failure", about, f"{least} GPUs asked for, {have}", cure))
            continue
        try:
            findings.append(_pair(suite, name, runs, there, have))
        except FlopsError as error:
            findings.append(Finding("warning", about, f"GPU memory not estimated: {error}"))
    return findings


def _pair(suite: Suite, name: str, runs: list[RunId], there: Graphics, have: str) -> Finding:
    """The run of a pair that takes most memory, as configured, else as ``tad plan`` would do it."""
    each = {(run.stage, run.method): run for run in runs}.values()
    peaks = {run: run_memory(suite, run, configured(suite, run)).peak for run in each}
    run, about = max(peaks, key=peaks.__getitem__), f"pairs.{name}"
    job, least = Job("distill", f"runs/{run}", (), run), suite.pairs[name].gpus.min
    text = f"about {in_bytes(peaks[run])} on each of {least} GPU(s), {have}"
    if peaks[run] <= there.room:
        return Finding("ok", about, text)
    if found := fit(suite, job, there):
        keys = found.differs(job, suite).items()
        cure = " ".join(f"-o {about}.{key}={str(value).lower()}" for key, value in keys)
        return Finding("warning", about, text, f"add {cure}, which changes no result")
    nearest = smallest(suite, job, there)
    text = f"{in_bytes(nearest.memory.peak)} on each of {nearest.gpus} GPU(s) at the least, {have}"
    return Finding("failure", about, text, "larger GPUs, or more of them (tad plan says which)")
