"""What of a scale is finished, running, failed or missing, and how long the rest takes.

    tad status
    tad status --config mylab/mine.yaml

A failed job stands with the line of its log that says why. When all is finished: the verdicts on
the claims, TAD against its controls, time, machine and commit.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from tad.command import command_line, exit_code
from tad.experiment.config import Suite, load_suite, scale_options
from tad.experiment.layout import Layout
from workflow.watch.card import card
from workflow.watch.jobs import (
    FAILED,
    FINISHED,
    LOCKS,
    RUNNING,
    STATES,
    duration,
    jobs,
    time_left,
    told,
)


def status(suite: Suite, root: Path, cores: int) -> str:
    """The lines to print."""
    found = jobs(suite, root)
    states = {job.name: job.state for job in found}
    counts: dict[str, Counter[str]] = {}
    for job in found:
        counts.setdefault(job.kind, Counter())[states[job.name]] += 1
    total = Counter(states.values())
    lines = [f"{root}: {total[FINISHED]} of {len(found)} jobs finished"]
    lines.append(f"{'jobs':<12}" + "".join(f"{state:>10}" for state in STATES))
    for kind, of_kind in counts.items():
        lines.append(f"{kind:<12}" + "".join(f"{of_kind[state] or '':>10}" for state in STATES))
    for job in found:
        if states[job.name] == RUNNING:
            lines.append(f"running: {job.name}")
    for job in found:
        if states[job.name] == FAILED:
            lines += [f"failed: {job.name}", f"  {told(job.log)}", f"  log: {job.log}"]
    if total[FINISHED] == len(found):
        return "\n".join([*lines, "", card(suite, root)])
    if (seconds := time_left(found, cores)) is not None:
        lines.append(f"left: about {duration(seconds)} on {cores} cores")
    if total[RUNNING]:
        lines.append(
            f"({LOCKS} says that Snakemake works here; if it was killed: snakemake --unlock)"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 for a wrong configuration."""
    parser = command_line("status", __doc__)
    scale_options(parser, default="config/smoke.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="for the time left")
    options = parser.parse_args(arguments)

    def job() -> None:
        suite = load_suite(options.config, options.overrides)
        print(status(suite, Layout.work(suite.scale).root, options.cores))

    return exit_code("status", job)
