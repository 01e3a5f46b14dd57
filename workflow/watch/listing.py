"""What a scale has: its runs, targets, methods and pairs, each with its state.

tad list
tad list runs --config mylab/mine.yaml
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tad.command import command_line, exit_code
from tad.experiment.config import Suite, load_suite, scale_options
from tad.experiment.layout import Layout
from tad.methods import Method
from workflow.items import TARGETS, available
from workflow.watch.headline import headlines
from workflow.watch.jobs import FINISHED, MISSING, jobs

NOT_SELECTED = "not selected"
Rows = list[tuple[str, ...]]


def runs(suite: Suite, root: Path) -> Rows:
    """(run, state, headline numbers)."""
    states = {job.name: job.state for job in jobs(suite, root)}
    return [
        (str(run), states[f"runs/{run}"], ", ".join(headlines(root / "runs" / str(run)).values()))
        for run in suite.runs()
    ]


def targets(suite: Suite, root: Path) -> Rows:
    """(target, state, what it asks for)."""
    found: Rows = []
    for name, target in TARGETS.items():
        if not available(suite, name):
            found.append((name, NOT_SELECTED, f"needs {' or '.join(target.needs)}"))
            continue
        files = [file for each in target.draws for file in each.outputs(suite)]
        there = sum((root / file).is_file() for file in files)
        found.append(
            (name, FINISHED if there == len(files) else MISSING, files[0] if files else "")
        )
    return found


def methods(suite: Suite, root: Path) -> Rows:
    """(method, finished of its runs, what tables call it)."""
    done = _done(suite, root)
    return [
        (name, _of(done, lambda run, n=name: str(run.method) == n), Method.parse(name).label)
        for name in suite.select.methods
    ]


def pairs(suite: Suite, root: Path) -> Rows:
    """(pair, finished of its runs, teacher and budgets)."""
    done = _done(suite, root)
    found: Rows = []
    for name in suite.select.pairs:
        pair = suite.pairs[name]
        tokens = ", ".join(f"{stage} {count:,}" for stage, count in pair.tokens.items())
        of_pair = _of(done, lambda run, n=name: run.pair == n)
        found.append((name, of_pair, f"of {pair.teacher}; tokens: {tokens}"))
    return found


def _done(suite: Suite, root: Path) -> dict:
    return {run: (root / "runs" / str(run) / "manifest.json").is_file() for run in suite.runs()}


def _of(done: dict, fits: Callable) -> str:
    found = [there for run, there in done.items() if fits(run)]
    return f"{sum(found)} of {len(found)}"


KINDS: dict[str, Callable[[Suite, Path], Rows]] = {
    "pairs": pairs,
    "methods": methods,
    "runs": runs,
    "targets": targets,
}


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 for a wrong configuration."""
    parser = command_line("list", __doc__)
    parser.add_argument("what", nargs="?", choices=list(KINDS), help="one of them (default: all)")
    scale_options(parser, default="config/smoke.yaml")
    options = parser.parse_args(arguments)

    def job() -> None:
        suite = load_suite(options.config, options.overrides)
        root = Layout.work(suite.scale).root
        for kind in [options.what] if options.what else KINDS:
            rows = KINDS[kind](suite, root)
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            print(f"{kind} of {options.config}")
            for row in rows:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                print(f"  {'  '.join(cells)}".rstrip())

    return exit_code("list", job)
