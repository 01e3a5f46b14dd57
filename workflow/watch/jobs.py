"""The jobs of a scale by their files, and the state of each: finished, running, failed, ...

A job is known by the place of its result below the root, ``runs/RUN``, ``data/CORPUS/TOKENIZER``;
its log and its measured time lie at the same place below ``logs`` and ``benchmarks``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tad.command import STOPPED as STOP
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.specs import RunSpec, run_spec
from workflow.items import all_records, drawn

FINISHED, RUNNING, FAILED = "finished", "running", "failed"
STOPPED, MISSING = "stopped", "missing"
STATES = (FINISHED, RUNNING, FAILED, STOPPED, MISSING)
"""``stopped`` began and neither ended nor failed, ``missing`` has not begun."""

LOCKS = Path(".snakemake/locks")
"""Not empty while a Snakemake works in this folder."""

SLURM_LOGS = "slurm_logs"
"""The folder in .snakemake for what Slurm and Snakemake print on the node of a job."""

KILLER = re.compile(r"(slurmstepd|srun)(-\S+)?: (error|fatal): ")
CAUSE = re.compile(r"(tad [a-z -]+: |workflow\.warm: |[\w.]*(Error|Exception|Interrupt)\b|Killed)")


@dataclass(frozen=True)
class Job:
    """One job: ``kind`` is what is done, ``name`` the place of its result."""

    kind: str
    name: str
    outputs: tuple[Path, ...]
    log: Path
    benchmark: Path

    @property
    def state(self) -> str:
        """One of STATES."""
        if all(path.exists() for path in self.outputs):
            return FINISHED
        if not self.log.is_file():
            return MISSING
        found = cause(self.log)
        if found and STOP not in found:
            return FAILED
        return RUNNING if not found and LOCKS.is_dir() and any(LOCKS.iterdir()) else STOPPED

    @property
    def seconds(self) -> float | None:
        """How long it took, if that was measured."""
        try:
            head, values = self.benchmark.read_text().splitlines()[:2]
            return float(dict(zip(head.split("\t"), values.split("\t"), strict=True))["s"])
        except (OSError, ValueError, KeyError):
            return None


def cause(log: Path) -> str | None:
    """The line of a log that says why its job failed; None where none does."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.strip() for line in reversed(lines) if CAUSE.match(line)), None)


def killer(log: Path) -> str | None:
    """The last line in a log of Slurm's that says why it ended or refused a job; None for none."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if KILLER.match(line)), None)


def told(log: Path) -> str:
    """Why a job failed, as far as its log says."""
    if found := cause(log):
        return found
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), None)
    return f"it was ended from outside (killed, no memory?); last line: {last or 'none'}"


def jobs(suite: Suite, root: Path) -> list[Job]:
    """The jobs of all selected items, in the order in which they run, without repeats."""
    found = {job.name: job for job in (*_made(suite, root), *_measured(suite, root))}
    for _, each in drawn(suite):
        files = tuple(root / name for name in each.outputs(suite))
        log = root / "logs" / "analysis" / f"{each.name}.log"
        found[each.name] = Job("draw", each.name, files, log, root / "none")
    return list(found.values())


def job_of(kind: str, name: str, root: Path, *files: str, log: str = "") -> Job:
    """The job whose result is ``name`` below a root: its last files, and its log if another."""
    place = log or name
    logs, times = root / "logs" / f"{place}.log", root / "benchmarks" / f"{place}.tsv"
    return Job(kind, name, tuple(root / name / file for file in files), logs, times)


def _made(suite: Suite, root: Path) -> Iterator[Job]:
    """Data, teachers and students."""
    specs = {run: run_spec(suite, run) for run in suite.runs()}
    runs = [
        job_of("distill", f"runs/{run}", root, "manifest.json", log=f"runs/{run}/distill")
        for run in specs
    ]
    marks = {"tokenizers": "tokenizer.json", "states": "states.json", "models": "manifest.json"}
    marks |= {"selections": "selection.json", "generated": "manifest.json", "data": "manifest.json"}
    work = Layout.work(suite.scale).root
    folders = {folder for spec in specs.values() for folder in _needed(spec, work)}
    folders |= {r.rpartition("/")[0] for r in map(str, _model_records(suite, root))}
    for log in [root / "logs" / "problems.log", *(root / "logs" / "analogues").glob("*.log")]:
        name = log.relative_to(root / "logs").with_suffix("").as_posix()
        if log.is_file():
            yield job_of(Path(name).parts[0], name, root, "manifest.json")
    order = list(marks)
    for folder in sorted(folders, key=lambda f: (order.index(Path(f).parts[0]), f)):
        kind = Path(folder).parts[0]
        if kind != "models" or _trained(suite, folder):
            yield job_of(kind, folder, root, marks[kind])
    yield from runs


def _needed(spec: RunSpec, work: Path) -> Iterator[str]:
    """Folders that a run reads and the scale makes, as below ``work``; no user's own elsewhere."""
    parts = [spec.data, spec.tokenizer, spec.teacher, spec.start]
    parts += [spec.states.folder if spec.states else None]
    parts += [spec.writing.folder if spec.writing else None]
    if spec.selection:
        parts += [spec.selection.folder, spec.selection.reference]
    for part in filter(None, parts):
        if Path(part).is_relative_to(work):
            below = Path(part).relative_to(work)
            if below.parts[0] != "runs":
                yield below.as_posix()


def _model_records(suite: Suite, root: Path) -> list[str]:
    return [name for name in all_records(suite) if name.startswith("models/")]


def _trained(suite: Suite, folder: str) -> bool:
    _, model, point = folder.split("/")
    return suite.models[model].checkpoints[point].made


def _measured(suite: Suite, root: Path) -> Iterator[Job]:
    """Records of finished models; held-out metrics and calibration are one job."""
    for file in all_records(suite):
        folder, _, name = file.rpartition("/")
        kind = "heldout" if name == "calibration.json" else name.removesuffix(".json")
        if kind not in ("heldout", "fewshot", "math", "samples"):
            continue
        log = f"{folder}/{kind}"
        if folder.startswith("models/") and kind == "heldout":
            log = f"{folder}.{kind}"
        record = f"{kind}.json"
        yield Job(
            kind,
            f"{folder}/{record}",
            (root / folder / record,),
            root / "logs" / f"{log}.log",
            root / "benchmarks" / f"{log}.tsv",
        )


def time_left(found: list[Job], cores: int) -> float | None:
    """Seconds until all are done, from the mean time of the finished ones of each kind; None where
    none was measured."""
    times: dict[str, list[float]] = {}
    for job in found:
        if job.state == FINISHED and (seconds := job.seconds) is not None:
            times.setdefault(job.kind, []).append(seconds)
    if not times:
        return None
    means = {kind: sum(values) / len(values) for kind, values in times.items()}
    usual = sum(means.values()) / len(means)
    rest = [job for job in found if job.state != FINISHED and job.kind != "draw"]
    return sum(means.get(job.kind, usual) for job in rest) / min(cores, max(1, len(rest)))


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
