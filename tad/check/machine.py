"""The machine against what a scale's pairs ask for: GPUs, their memory, CUDA, kernels, NCCL."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from tad.check.findings import Finding, in_bytes
from tad.check.wanted import parameters
from tad.experiment.config import Suite
from tad.experiment.flops import FlopsError, pair_account

TRAINED = 16
"""Bytes a parameter that trains: weight, gradient and two moments of Adam in float32."""

HELD = 4
"""Bytes of one of the student's that does not (Section 3.2.2 freezes embeddings)."""

TEACHER = 2
"""Bytes a parameter of the teacher, in bfloat16."""

ACTIVATIONS = 34
"""Bytes a token, hidden unit and layer that are kept for the backward pass, in bfloat16 with an
attention kernel that stores no scores (Korthikanti et al. 2022, without their attention term)."""


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


def asks_for_gpus(suite: Suite) -> bool:
    """Whether jobs want a GPU: where models are loaded and not made here (as in the DAG)."""
    return suite.pretraining is None


def gpus(suite: Suite) -> int:
    """The most GPUs that a selected pair needs."""
    return max((suite.pairs[run.pair].gpus.min for run in suite.runs()), default=1)


def memory(suite: Suite, pair: str) -> tuple[float, float]:
    """Bytes on the GPUs of a pair, summed over them: (weights and optimizer alone, with the
    activations of a micro batch). The one place where that is estimated."""
    entry, account = suite.pairs[pair], pair_account(suite, pair)
    student = account.student
    total = (student.linear + student.output + student.stored) // 2
    frozen = student.output // 2 if account.freezes else 0
    teacher = parameters(suite, entry.teacher)
    fixed = TRAINED * (total - frozen) + HELD * frozen + TEACHER * teacher
    stages = {run.stage for run in suite.runs() if run.pair == pair}
    shape = suite.student_shape(pair) or suite.models[entry.student.model].shape
    kept = [
        (training.micro_batch_size or training.batch_size)
        * training.context * shape.hidden_size * shape.layers * ACTIVATIONS
        + training.memory_budget_mb * 1e6
        for training in (suite.stages[stage] for stage in stages)
    ]  # fmt: skip
    return fixed, fixed + entry.gpus.min * max(kept, default=0.0)


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
    findings = []
    for name in dict.fromkeys(run.pair for run in suite.runs()):
        count, about = suite.pairs[name].gpus.min, f"pairs.{name}"
        try:
            fixed, whole = memory(suite, name)
        except FlopsError as error:
            findings.append(Finding("warning", about, f"GPU memory not estimated: {error}"))
            continue
        have = f"{there.count} x {there.name} of {in_bytes(there.memory)}"
        text = f"about {in_bytes(whole / count)} on each of {count} GPU(s), {have} here"
        if count > there.count:
            cure = f"lower pairs.{name}.gpus, or use a node with {count}"
            findings.append(Finding("failure", about, f"{count} GPUs asked for, {have} here", cure))
        elif fixed / count > there.memory:
            cure = "larger GPUs, or more of them with sharding"
            found = f"{in_bytes(fixed / count)} of weights and optimizer a GPU, {have} here"
            findings.append(Finding("failure", about, found, cure))
        elif whole / count > there.memory:
            cure = "lower micro_batch_size of its stages"
            findings.append(Finding("warning", about, text, cure))
        elif count > 1 and fixed > there.memory:
            findings.append(Finding("warning", about, f"{text}, if sharded", "shard it (FSDP)"))
        else:
            findings.append(Finding("ok", about, text))
    return findings
