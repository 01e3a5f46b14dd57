"""What a running Snakemake shows: a line a finished job, and why a job failed.

    57/158  runs/scratch/phi2_1b/tad-k10-b2/seed0: held-out KL 0.0638, NLL 5.819  (12 s; 4 min left)

A handler of Snakemake's own log, which tells of every job by records with an ``event``; the
Snakefile adds it.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from workflow.watch.headline import headline
from workflow.watch.jobs import SLURM_LOGS, duration, killer, told

TOLD = (
    LogEvent.PROGRESS,
    LogEvent.JOB_FINISHED,
    LogEvent.RUN_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.RESOURCES_INFO,
)
"""Events that are told by lines of ours, or tell a reader nothing."""

FILLER = (
    "Select jobs",
    "Using shell",
    "Assuming unrestricted",
    "Conda environments",
    "Building DAG",
)
"""How lines of Snakemake's own begin that tell a reader nothing."""


def attach(
    logger: logging.Logger, root: str, dry: Callable[[], bool], no_target: Callable[[str], str]
) -> None:
    """Print a line a job, and keep Snakemake's own lines about the same from the screen.

    ``no_target(name)`` is what is said of a target that no rule makes. Nothing else changes where
    ``dry()`` says so. ``--quiet progress`` would stop the events as well.
    """
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(lambda record: _hinted(record, no_target))
            handler.addFilter(lambda record: dry() or _worth(record))
    screen = Screen(root)
    screen.addFilter(lambda record: not dry())
    logger.addHandler(screen)


def _hinted(record: logging.LogRecord, no_target: Callable[[str], str]) -> bool:
    """Put what can be done in the place of Snakemake's words on a target that no rule makes."""
    missing = getattr(record, "exception", None) == "MissingRuleException"
    if missing and (found := re.search(r"No rule to produce (\S+)", str(record.msg))):
        record.msg = no_target(found[1])
    return True


def _worth(record: logging.LogRecord) -> bool:
    """Whether a record says what the lines here do not."""
    event, text = getattr(record, "event", None), str(record.msg).strip()
    if event is None:
        return not text.startswith(FILLER)
    failed = event == LogEvent.ERROR and "CalledProcessError" in text
    return not failed and event not in TOLD


class Screen(logging.Handler):
    """Prints to standard error, or ``stream``. Paths below ``root`` are shown without it."""

    def __init__(self, root: str, stream: Any = None) -> None:
        super().__init__()
        self.root, self.stream = root, stream or sys.stderr
        self.jobs: dict[int, dict[str, Any]] = {}
        self.ended: list[dict[str, Any]] = []
        self.planned: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.began = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Take an event; what is no event, or another, is for Snakemake's own handlers."""
        try:
            self._take(record.__dict__)
        except Exception:  # a fault of what is shown must not end the work
            self.handleError(record)

    def _take(self, told_of: dict[str, Any]) -> None:
        match told_of.get("event"):
            case LogEvent.RUN_INFO:
                stats = {k: v for k, v in told_of["stats"].items() if k != "total"}
                self.planned, self.began = Counter(stats), time.monotonic()
                self._print(f"{told_of['stats']['total']} jobs to do")
            case LogEvent.JOB_INFO:
                self.jobs[told_of["jobid"]] = {**told_of, "began": time.monotonic()}
            case LogEvent.JOB_FINISHED:
                if job := self.jobs.pop(told_of["job_id"], None):
                    self.ended.append(job)
            case LogEvent.PROGRESS:
                self._progress(told_of["done"], told_of["total"])
            case LogEvent.JOB_ERROR:
                self._failed(told_of)

    def _progress(self, done: int, total: int) -> None:
        for job in self.ended:
            took = time.monotonic() - job["began"]
            self.planned[job["rule_name"]] -= 1
            if job["local"] and not job["log"]:
                continue  # a target: nothing was done
            self.seconds[job["rule_name"]].append(took)
            numbers = ", ".join(filter(None, (headline(Path(file)) for file in job["output"])))
            left = self.left()
            rest = f"; {duration(left)} left" if left is not None and done < total else ""
            name = f"{self._place(job)}{': ' if numbers else ''}{numbers}"
            self._print(f"{done:>{len(str(total))}}/{total}  {name}  ({duration(took)}{rest})")
        self.ended.clear()

    def left(self) -> float | None:
        """Seconds left: the jobs that are planned at the mean time of their rule, as many at once
        as until now. None before the first has ended."""
        done = sum(map(sum, self.seconds.values()))
        if not done:
            return None
        means = {rule: sum(times) / len(times) for rule, times in self.seconds.items()}
        usual = done / sum(map(len, self.seconds.values()))
        rest = sum(n * means.get(rule, usual) for rule, n in self.planned.items() if n > 0)
        elapsed = time.monotonic() - self.began
        return rest / max(done / elapsed if elapsed else 1.0, 1.0)

    def _place(self, job: dict[str, Any]) -> str:
        """The place of what a job made: its folder, or its file where it is one of several."""
        if not job["output"]:
            return job["rule_name"]
        first = Path(job["output"][0])
        place = first if first.suffix in (".json", ".png", ".html", ".csv") else first.parent
        place = first.with_suffix("") if place == first and len(job["output"]) > 2 else place
        return place.as_posix().removeprefix(f"{self.root}/")

    def _failed(self, job: dict[str, Any]) -> None:
        """The job, what Slurm says of it, and each log with why it failed, as far as it says."""
        self._print(f"FAILED  {self._place(job)}")
        if said := re.match(r"SLURM-job .*?SLURM status is: '\w+'", job.get("rule_msg") or ""):
            self._print(f"        {said[0]}")
        for log in (Path(log.split(" (")[0]) for log in job["log"]):
            why = killer(log) if SLURM_LOGS in log.parts else told(log)
            self._print(f"        {why}\n        log: {log}" if why else f"        log: {log}")

    def _print(self, text: str) -> None:
        print(text, file=self.stream, flush=True)
