"""A plan as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tad.plan.facts import GIB
from tad.plan.plan import Plan
from workflow.plan.pace import Pace
from workflow.plan.rows import (
    PARTS,
    Line,
    by_target,
    consents,
    fits,
    lines,
    settings_text,
    shortages,
    totals,
)

SHORT = ("weights", "grads", "Adam", "activ.", "loss", "eval")
"""What the head calls PARTS."""

HEAD = ("job", "of", "jobs", "FLOPs", "GPUs", "how", "h", "GPU h", "peak", *SHORT)


def table(
    plans: Sequence[Plan], pace: Pace | None, *, each_job: bool, targets: bool
) -> Iterator[str]:
    """The lines of a plan for the first machine; of the others, what fits."""
    plan = plans[0]
    room = plan.on.room / GIB
    scale = f"Scale {plan.suite.scale} on {plan.on}"
    yield f"{scale}; memory in GiB a GPU, of which {room:.0f} can be filled"
    yield ""
    shown = [Line((each,)) for each in plan.jobs.values()] if each_job else lines(plan)
    yield from _aligned([HEAD, *map(_cells, shown)], left=(0, 1, 5))
    yield ""
    yield "In all"
    yield from _named(totals(plan, pace))
    yield ""
    yield "Tokens"
    yield from (f"  {text}" for text in shortages(plan))
    if asks := consents(plan):
        yield ""
        yield "Consents to give on the hub before anything is loaded"
        yield from (f"  {text}" for text in asks)
    yield ""
    yield "What fits"
    head = ("pair", *(str(each.on) for each in plans))
    yield from _aligned([head, *fits(plans)], left=range(len(head)))
    yield from _to_write(plan)
    if targets:
        yield ""
        yield f"Each target alone (they share jobs), on {plan.on}"
        rows = [("target", "GPU h", "days"), *by_target(plan)]
        yield from _aligned(rows, left=(0,))


def _cells(line: Line) -> tuple[str, ...]:
    first, count = line.first, len(line.jobs)
    if not first.job.on_gpu:
        return (
            first.job.kind,
            line.title,
            str(count),
            "",
            "",
            "CPU",
            f"{first.hours:.1f}",
            *[""] * 8,
        )
    return (
        first.job.kind,
        line.title,
        str(count),
        f"{first.work.total:.1e}",
        str(first.gpus),
        line.way,
        f"{first.hours:.1f}",
        f"{count * first.gpu_hours:,.1f}",
        line.memory("peak"),
        *map(line.memory, PARTS),
    )


def _to_write(plan: Plan) -> Iterator[str]:
    if changes := settings_text(plan):
        yield ""
        yield f"To fit {plan.on}, write into your file (or -o pairs.PAIR.KEY=VALUE)"
        yield from (f"  {text}" for text in changes)


def _named(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    known = list(pairs)
    width = max(len(name) for name, _ in known)
    yield from (f"  {name:<{width}}  {text}" for name, text in known)


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()
