"""The logs of a run: where they are, their last lines, and the line that says why it failed.

    tad logs scratch/phi2_1b/rkl/seed0
    tad logs models/phi-2/final --lines 50

A run, or the place of any other result below work/SCALE (data/general/phi, models/phi-2/final).
"""

from __future__ import annotations

from pathlib import Path

from tad.command import UserError, command_line, exit_code
from tad.experiment.config import Suite, load_suite, scale_options
from tad.experiment.layers import allowed
from tad.experiment.layout import Layout
from workflow.watch.jobs import FAILED, Job, jobs, told


class WatchError(UserError, ValueError):
    """A run or result that the scale does not have, or that has no log."""


def jobs_of(suite: Suite, root: Path, name: str) -> list[Job]:
    """The jobs of a run (by its id) or of a result below the root. Raises WatchError."""
    found = jobs(suite, root)
    place = name.strip("/").removeprefix(f"{root}/")
    places = {place, f"runs/{place}"}
    mine = [j for j in found if j.name in places or j.name.rpartition("/")[0] in places]
    if not mine:
        known = [job.name.removeprefix("runs/") for job in found if job.kind != "draw"]
        raise WatchError(f"{name}: no such run or result in {root} {allowed(name, known)[:400]}")
    return mine


def logs(suite: Suite, root: Path, name: str, lines: int) -> str:
    """The logs, one after the other. Raises WatchError."""
    there = [job for job in jobs_of(suite, root, name) if job.log.is_file()]
    if not there:
        raise WatchError(f"{name}: has no log yet; `tad status` tells what ran")
    parts = []
    for job in there:
        text = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        parts.append(f"{job.log}  ({job.state})")
        parts += [f"  {line}" for line in text[-lines:]]
        if job.state == FAILED:
            parts.append(f"cause: {told(job.log)}")
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 where there is no such run or no log."""
    parser = command_line("logs", __doc__)
    parser.add_argument("run", help="stage/pair/method/seedN, or the place of another result")
    parser.add_argument("--lines", type=int, default=15, help="the last so many of each (15)")
    scale_options(parser, default="config/smoke.yaml")
    options = parser.parse_args(arguments)

    def job() -> None:
        suite = load_suite(options.config, options.overrides)
        print(logs(suite, Layout.work(suite.scale).root, options.run, max(1, options.lines)))

    return exit_code("logs", job)
