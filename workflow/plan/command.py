"""What a scale, or a part of it, costs before anything runs.

    tad plan --scale paper                                   # all of it, on 8 H100
    tad plan --scale paper --select table1                   # one table
    tad plan --scale paper --gpus 4xA100-40GB --gpus 1xRTX4090-24GB table4 figure1
    tad plan --scale paper --html plan.html --json plan.json

Jobs with FLOPs, hours and peak memory, and how they fit the GPUs; disk, downloads, consents, and
tokens against what the data hold. FLOPs and memory are counted from shapes, hours are FLOPs at a
share of the GPU's peak: nothing is measured, downloaded or run. Facts: config/facts/.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tad.command import command_line, exit_code
from tad.experiment.config import load_suite, scale_options
from tad.plan.facts import PlanError, machine
from tad.plan.plan import Plan
from tad.records import write_json, write_text
from workflow.plan.pace import Pace, papers_pace
from workflow.plan.page import page
from workflow.plan.record import record
from workflow.plan.table import table
from workflow.plan.targets import asked

GPUS = "8xH100-80GB"


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 for a wrong configuration, target or GPU."""
    parser = command_line("plan", __doc__)
    scale_options(parser, default="config/paper.yaml")
    parser.add_argument("--scale", help="a scale of config/, instead of --config: paper")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="targets or runs (default: all)"
    )
    parser.add_argument(
        "--select",
        default="",
        metavar="NAMES",
        help="targets, between commas: table1,table4",
    )
    parser.add_argument(
        "--gpus", action="append", help=f"COUNTxNAME (default: {GPUS}); again for more machines"
    )
    parser.add_argument("--utilisation", type=float, help="share of the peak that training reaches")
    parser.add_argument("--jobs", action="store_true", help="a line for each job, alike ones too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan as a record")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the plan as a page")
    options = parser.parse_args(arguments)
    return exit_code("plan", lambda: _plan(options))


def _plan(options: argparse.Namespace) -> None:
    suite = load_suite(_config(options), options.overrides)
    names = [*options.targets, *filter(None, options.select.split(","))]
    machines = [machine(text, options.utilisation) for text in options.gpus or [GPUS]]
    records = asked(suite, names)
    plans = [Plan.of(suite, records, on) for on in machines]
    pace = papers_pace(suite)
    for line in table(plans, pace, each_job=options.jobs, targets=not names):
        print(line)
    if options.json:
        _written(options.json)
        write_json(options.json, _record(plans, pace))
    if options.html:
        _written(options.html)
        write_text(options.html, page(plans, pace, targets=not names))


def _record(plans: Sequence[Plan], pace: Pace | None) -> dict:
    first = record(plans[0], pace)
    return first | {"others": [record(plan, pace) for plan in plans[1:]]} if plans[1:] else first


def _config(options: argparse.Namespace) -> str:
    scale = options.scale
    if scale is None or scale.endswith((".yaml", ".yml")):
        return scale or options.config
    return f"config/{scale}.yaml"


def _written(path: Path) -> None:
    """Raise PlanError for a place that no file can be written to."""
    if path.is_dir() or not path.parent.is_dir():
        raise PlanError(f"{path}: name a file in a folder that is there")
