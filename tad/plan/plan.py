"""A plan: some jobs on a machine, with what each costs and when all could be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from tad.experiment.config import Suite
from tad.plan import data
from tad.plan.facts import Machine, cpu_speed, machine
from tad.plan.fit import Fit, fit, loads, pretrain_memory, run_memory, smallest
from tad.plan.fit import configured as configured_setting
from tad.plan.jobs import Job, jobs_of
from tad.plan.schedule import Timed, critical_path, makespan
from tad.plan.work import Work, work

TOKENS_A_SECOND = 200_000
"""Of a tokenizer on one core (assumed); packing takes no GPU."""

PROCESS = 6e9
"""Bytes of host memory of a process with CUDA and the libraries, and of one without a GPU."""
CPU_PROCESS = 1.2e9

SPARE = 1.3
LIMIT = 5.0
"""How much more host memory and time a job is given than it should need. The paper's own hours are
four to five times those at 40% of the peak; what is cut off goes on from its checkpoint."""

WEEK = 7 * 24 * 60


@dataclass(frozen=True)
class Planned:
    """A job on a machine. ``fit`` is None where it does not fit, and ``nearest`` the closest."""

    job: Job
    work: Work
    fit: Fit | None
    nearest: Fit | None
    hours: float

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        shown = self.fit or self.nearest
        return shown.gpus if shown else 0

    @property
    def gpu_hours(self) -> float:
        """Its hours on all of its GPUs."""
        return self.hours * self.gpus


@dataclass(frozen=True)
class Plan:
    """The jobs behind some records, on ``on``."""

    suite: Suite
    on: Machine
    jobs: dict[str, Planned]

    @classmethod
    def of(cls, suite: Suite, records: Iterable[str], on: Machine) -> Plan:
        """Plan the jobs behind some records. Raises ConfigError and FlopsError."""
        found = jobs_of(suite, records)
        return cls(suite, on, {name: planned(suite, job, on) for name, job in found.items()})

    def part(self, records: Iterable[str]) -> Plan:
        """The plan of some records, without planning again what is in this one."""
        found = jobs_of(self.suite, records)
        known = self.jobs
        jobs = {n: known.get(n) or planned(self.suite, job, self.on) for n, job in found.items()}
        return Plan(self.suite, self.on, jobs)

    def at(self, share: float) -> Plan:
        """The same jobs where training reaches another share of the peak."""
        on = replace(self.on, training=share)
        slower = {
            name: replace(each, hours=_hours(each.work, on, each.gpus)) if each.gpus else each
            for name, each in self.jobs.items()
        }
        return Plan(self.suite, on, slower)

    @property
    def flops(self) -> float:
        """Of all jobs."""
        return sum(each.work.total for each in self.jobs.values())

    @property
    def gpu_hours(self) -> float:
        """Of all jobs, those included that do not fit."""
        return sum(each.gpu_hours for each in self.jobs.values())

    @property
    def misfits(self) -> list[Planned]:
        """Jobs that fit on no way of running them."""
        return [each for each in self.jobs.values() if each.job.on_gpu and each.fit is None]

    @cached_property
    def timed(self) -> dict[str, Timed]:
        """Jobs as a schedule takes them."""
        return {n: Timed(each.hours, each.gpus, each.job.needs) for n, each in self.jobs.items()}

    @cached_property
    def critical_path(self) -> list[str]:
        """The longest chain of jobs."""
        return critical_path(self.timed)

    @cached_property
    def wall_hours(self) -> float:
        """Until all is done on the machine, if it does nothing else."""
        return makespan(self.timed, self.on.count)

    def _jobs(self) -> list[Job]:
        return [each.job for each in self.jobs.values()]

    @cached_property
    def tokens(self) -> list[data.Tokens]:
        """Corpora against what they hold."""
        return data.tokens(self.suite, self._jobs())

    @cached_property
    def downloads(self) -> list[data.Download]:
        """What comes from the hub."""
        return data.downloads(self.suite, self._jobs())

    @cached_property
    def disk(self) -> dict[str, float]:
        """Gigabytes by what they are."""
        jobs = {each.job: each.gpus for each in self.jobs.values()}
        return data.disk(self.suite, jobs, self.on.count)


def planned(suite: Suite, job: Job, on: Machine) -> Planned:
    """A job on a machine. Raises ConfigError and FlopsError."""
    if not job.on_gpu:
        return Planned(job, Work(), None, None, _cpu_hours(suite, job))
    found = fit(suite, job, on)
    nearest = found or smallest(suite, job, on)
    spent = work(suite, job, checkpointing=nearest.checkpointing)
    return Planned(job, spent, found, nearest, _hours(spent, on, nearest.gpus))


def _hours(spent: Work, on: Machine, gpus: int) -> float:
    seconds = spent.flops / on.speed + spent.decoded / on.decoding_speed(spent.batch)
    return seconds / gpus / 3600


def _cpu_hours(suite: Suite, job: Job) -> float:
    if job.kind != "pack":
        return 0.05
    corpus = suite.corpora[job.place.split("/")[1]]
    return (corpus.tokens + corpus.validation_tokens) / TOKENS_A_SECOND / 3600


# --- Resources of the rules ----------------------------------------------------------------------


@dataclass(frozen=True)
class Resources:
    """What a rule asks of a cluster: memory of the host in 10^6 bytes, and minutes."""

    mem_mb: int
    runtime: int


USUAL = "1xH100-80GB"
"""What time limits are counted for: the paper's GPU (Appendix A)."""


def resources(suite: Suite, job: Job, gpus: int, on: str = USUAL) -> Resources:
    """Host memory and a time limit for a job on ``gpus`` GPUs, or 0. Raises ConfigError."""
    if not gpus:
        return _without_gpu(suite, job)
    found = machine(on)
    host = loads(suite, job) if job.on_gpu else 0.0
    # Each rank first loads all of its models into the memory of its machine.
    memory = SPARE * gpus * (host + PROCESS)
    hours = _hours(work(suite, job), found, gpus) if job.on_gpu else _cpu_hours(suite, job)
    return Resources(round(memory / 1e6), min(WEEK, round(60 * (LIMIT * hours + 0.5))))


def _without_gpu(suite: Suite, job: Job) -> Resources:
    held = CPU_PROCESS
    if job.kind == "distill":
        setting = configured_setting(suite, job.run, on_gpu=False)
        held += run_memory(suite, job.run, setting).peak
    elif job.kind == "pretrain":
        held += pretrain_memory(suite, *job.place.split("/")[1:]).peak
    elif job.on_gpu:
        held += 2 * loads(suite, job)
    elif job.kind == "pack":
        held += PROCESS - CPU_PROCESS if suite.pretraining is None else 0.0
    hours = work(suite, job).total / cpu_speed() / 3600 if job.on_gpu else _cpu_hours(suite, job)
    return Resources(round(SPARE * held / 1e6), min(WEEK, round(60 * (LIMIT * hours + 0.5))))
