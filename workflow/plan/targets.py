"""The records that a plan is asked for: of targets, items, runs or single files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.plan.facts import PlanError
from workflow.items import TARGETS, all_records, available, item_records, target_records

EVERYTHING = ("all", "tables", "figures")


def asked(suite: Suite, names: Sequence[str]) -> list[str]:
    """Records of ``names``, or of everything that the scale selects, without repeats.

    Raises PlanError, with the nearest name, for one that the scale does not make.
    """
    found: dict[str, None] = {}
    for name in names or EVERYTHING[:1]:
        found |= dict.fromkeys(_records(suite, name.strip()))
    return list(found)


def _records(suite: Suite, name: str) -> list[str]:
    if name in EVERYTHING:
        return all_records(suite)
    if name in suite.select.items and item_records(suite, name):
        return item_records(suite, name)
    if name in TARGETS and available(suite, name):
        return target_records(suite, name)
    root = Layout.work(suite.scale).root.as_posix()
    record = name.removeprefix(f"{root}/")
    every = all_records(suite)
    if record in every:
        return [record]
    runs = {str(run): f"runs/{run}/manifest.json" for run in suite.runs()}
    run = record.removeprefix("runs/").strip("/")
    if run in runs:
        return [each for each in every if each.startswith(f"runs/{run}/")] or [runs[run]]
    raise PlanError(f"{name}: {_why(suite, name, list(runs))}")


def _why(suite: Suite, name: str, runs: list[str]) -> str:
    if name in TARGETS:
        return (
            f"scale {suite.scale} does not select what it needs ({', '.join(suite.select.items)})"
        )
    known = runs if "/" in name else plannable(suite)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no such target or run ({hint}`tad list targets` and `tad list runs` name them)"


def plannable(suite: Suite) -> list[str]:
    """Targets of a scale that are made of records."""
    names = [*TARGETS, *(item for item in suite.select.items if item not in TARGETS)]
    return [name for name in names if _made_of(suite, name)]


def _made_of(suite: Suite, name: str) -> bool:
    if name in suite.select.items and item_records(suite, name):
        return True
    return name in TARGETS and available(suite, name) and bool(target_records(suite, name))
