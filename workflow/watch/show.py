"""One run: what it is, with every value resolved, its headline numbers, and its records.

tad show scratch/phi2_1b/tad-k10-b2/seed0
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tad.command import command_line, exit_code
from tad.experiment.config import Suite, load_suite, scale_options
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.records import matching
from workflow.watch.headline import headlines
from workflow.watch.logs import jobs_of


def show(suite: Suite, root: Path, name: str) -> str:
    """The lines to print. Raises UserError for a run that the scale does not have."""
    run = RunId.parse(name)
    spec, folder = run_spec(suite, run), root / "runs" / str(run)
    lines = [f"{run}  ({run.method.label})"]
    lines += [f"  {key}: {value}" for key, value in _flat(spec.model_dump()) if key != "run"]
    made = matching(folder / "manifest.json", {})
    if made and (overrides := made.get("overrides")):
        lines.append(f"made with: {' '.join(f'-o {each}' for each in overrides)}")
    if made and made["spec"] != spec.model_dump():
        lines.append("the finished run has another spec; the same command trains it again")
    lines += [f"{record}: {number}" for record, number in headlines(folder).items()]
    for job in jobs_of(suite, root, str(run)) if run in suite.runs() else []:
        took = f"  {job.seconds:.0f} s" if job.seconds is not None else ""
        lines.append(f"{job.kind}: {job.state}{took}  log: {job.log}")
    there = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    lines.append(f"{folder}: {', '.join(there) or 'nothing yet'}")
    return "\n".join(lines)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 for a run that there is not."""
    parser = command_line("show", __doc__)
    parser.add_argument("run", help="stage/pair/method/seedN")
    scale_options(parser, default="config/smoke.yaml")
    options = parser.parse_args(arguments)

    def job() -> None:
        suite = load_suite(options.config, options.overrides)
        print(show(suite, Layout.work(suite.scale).root, options.run))

    return exit_code("show", job)
