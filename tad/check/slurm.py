"""Slurm: whether the partition that profiles/slurm/profile.yaml names is there, and long enough."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tad.check.findings import Finding
from tad.command import PROJECT, optional

PROFILE = Path("profiles/slurm/profile.yaml")
UNSET = "CHANGE-ME"
SECONDS = 10.0
"""How long ``sinfo`` may take; a controller that is down lets it wait."""


@dataclass(frozen=True)
class Partition:
    """As ``sinfo`` tells it: ``minutes`` None for no limit, ``gpus`` of its best node."""

    name: str
    up: bool
    minutes: int | None
    gpus: int


@dataclass(frozen=True)
class Asked:
    """What the profile says: accounts, and partitions with the longest runtime asked of them."""

    accounts: tuple[str, ...]
    partitions: dict[str, int]


def here() -> bool:
    """Whether this machine can submit to Slurm."""
    return shutil.which("sinfo") is not None


def look_at_slurm(gpus: int, profile: Path | None = None) -> list[Finding]:
    """The profile against the cluster; jobs run on this machine where there is no Slurm."""
    path = profile or PROJECT / PROFILE
    if not here():
        return [Finding("ok", "Slurm", "not here: jobs run on this machine")]
    if not path.is_file():
        return [Finding("warning", "Slurm", f"{path}: missing", "write it, or start without it")]
    asked = _asked(_profile(path))
    try:
        partitions = _partitions()
    except (OSError, subprocess.SubprocessError) as error:
        found = f"sinfo does not answer ({_reason(error)})"
        cure = "see that the controller is up, or run without profiles/slurm"
        used = any(name != UNSET for name in asked.partitions)
        return [Finding("failure" if used else "warning", "Slurm", found, cure)]
    known = ", ".join(sorted(partitions)) or "none"
    if not asked.partitions:
        found = f"the default partition is taken (there are {known})"
        return [Finding("ok", "Slurm", f"{found}; SBATCH_PARTITION names another")]
    findings = [_account(path) for name in asked.accounts if name == UNSET][:1]
    for name, minutes in asked.partitions.items():
        findings.append(_partition(path, name, minutes, gpus, partitions, known))
    return findings


def _account(path: Path) -> Finding:
    return Finding("warning", "Slurm", f"{path}: slurm_account: still {UNSET}", "write yours there")


def _partition(
    path: Path,
    name: str,
    minutes: int,
    gpus: int,
    partitions: dict[str, list[Partition]],
    known: str,
) -> Finding:
    if name == UNSET:
        found = f"{path}: slurm_partition: still {UNSET}"
        return Finding("warning", "Slurm", found, f"write one of yours there ({known})")
    if name not in partitions:
        found = f"{path}: slurm_partition: {name!r}: no such partition here"
        return Finding("failure", "Slurm", found, f"write one of {known}")
    lines = partitions[name]
    if not any(line.up for line in lines):
        return Finding(
            "failure", "Slurm", f"partition {name} is down", f"wait, or use one of {known}"
        )
    limit = lines[0].minutes
    if limit is not None and limit < minutes:
        found = f"partition {name} ends jobs after {limit:,} minutes, the profile asks {minutes:,}"
        cure = f"lower runtime in {path} to {limit} (a run goes on where it stopped), or another"
        return Finding("failure", "Slurm", found, cure)
    best = max(line.gpus for line in lines)
    if best < gpus:
        found = f"no node of partition {name} is said to have {gpus} GPU(s), the best has {best}"
        return Finding("warning", "Slurm", found, "choose a partition with GPUs")
    return Finding("ok", "Slurm", f"partition {name} is up, {best} GPU(s) a node")


# --- Reading -------------------------------------------------------------------------------------


def _partitions() -> dict[str, list[Partition]]:
    """Partitions by name, a line for each kind of node. Raises OSError, SubprocessError."""
    command = ["sinfo", "--noheader", "--format=%R|%a|%l|%G"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    found: dict[str, list[Partition]] = {}
    for line in done.stdout.splitlines():
        name, _, rest = line.strip().partition("|")
        state, limit, gres = (*rest.split("|", 2), "", "", "")[:3]
        entry = Partition(name, state == "up", _minutes(limit), _gpus(gres))
        found.setdefault(name, []).append(entry)
    return found


def _minutes(limit: str) -> int | None:
    """``7-00:00:00``, ``1:30:00`` or ``infinite``."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit.strip())
    if found is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (24 * days + hours) * 60 + minutes


def _gpus(gres: str) -> int:
    """Of a node, from ``gpu:h100:8(S:0-1),shm:2``."""
    counts = re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", gres)
    return sum(map(int, counts))


def _profile(path: Path) -> dict[str, Any]:
    """The profile as Snakemake reads it: with the variables that it takes up, if it does."""
    text = path.read_text(encoding="utf-8")
    found = yaml.safe_load(text) or {}
    return optional("yte").process_yaml(text) if found.get("__use_yte__") else found


def _asked(profile: dict[str, Any]) -> Asked:
    """Defaults, and what single rules set over them."""
    default = profile.get("default-resources") or {}
    rules = [default, *(profile.get("set-resources") or {}).values()]
    accounts, partitions = [], {}
    for rule in rules:
        merged = {**default, **(rule or {})}
        if account := _text(merged.get("slurm_account")):
            accounts.append(account)
        if name := _text(merged.get("slurm_partition")):
            runtime = merged.get("runtime")
            minutes = runtime if isinstance(runtime, int) else 0
            partitions[name] = max(partitions.get(name, 0), minutes)
    return Asked(tuple(dict.fromkeys(accounts)), partitions)


def _text(value: Any) -> str:
    """Without the quotes that keep Snakemake from evaluating it."""
    return str(value).strip("'\"") if value is not None else ""


def _reason(error: Exception) -> str:
    text = (getattr(error, "stderr", None) or str(error)).strip()
    return text.split("\n")[0][:160]
