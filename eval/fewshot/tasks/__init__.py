"""The few-shot tasks (Section 3.1), one YAML file each, found by being in this folder.

Prompt, options and metric of each are lm-eval's own; nothing here changes them. What is a choice,
and so stands in the files: the metric (acc_norm where the task has it, else acc: so scores the
MiniPLM paper, whose rows Table 1 quotes) and the shots (0 where the file does not say: the paper
says "few-shot", but the rows that it quotes are zero-shot). Light: analysis asks it for columns.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from tad.command import UserError

SUITES = {"paper": False, "mini": True, "smoke": True}
"""Whether a suite's items are analogues. It has all tasks, or all that have an analogue."""


class FewshotError(UserError, ValueError):
    """A wrong suite, task, model or data file; one line with the cure."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task, as its file says it.

    ``column`` heads it in the tables, where ``place`` orders it. ``lm_eval`` is lm-eval's name and
    ``folder`` where it keeps the task below its own tasks/, if another. Split ``scored`` is scored,
    and split ``examples`` gives the few-shot examples. ``options`` are the answers to choose from,
    ``fields`` what a line of a local JSONL file must have: the names of the dataset on the hub.
    ``analogue`` is the function ("module:name") that makes an item of so many neighbouring
    ``sentences``; ``data`` is instead a folder of JSONL items of the user's own, beside the file.
    """

    name: str
    column: str
    lm_eval: str
    metric: str
    scored: str
    options: int
    fields: tuple[str, ...]
    place: int = 99
    folder: str | None = None
    examples: str = "train"
    shots: int = 0
    analogue: str | None = None
    sentences: int = 1
    data: str | None = None

    def maker(self) -> Callable[..., dict[str, Any] | None]:
        """The function of ``analogue``. Raises FewshotError if there is none of that name."""
        module, _, name = (self.analogue or "").partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise FewshotError(
                f"{self.name}.yaml: analogue: {self.analogue!r} must be module:function ({error})"
            ) from None


def all_tasks(folder: Path = Path(__file__).parent) -> list[TaskSpec]:
    """Every task, in the tables' column order. Raises FewshotError for a file that is not one."""
    return sorted(map(_read, folder.glob("*.yaml")), key=lambda task: (task.place, task.name))


def _read(path: Path) -> TaskSpec:
    try:
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise FewshotError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    known = {field.name for field in fields(TaskSpec)} - {"name"}
    needed = {field.name for field in fields(TaskSpec) if field.default is MISSING} - {"name"}
    given = set(entry) if isinstance(entry, dict) else set()
    for keys, fault in ((needed - given, "missing"), (given - known, "unknown")):
        if keys:
            raise FewshotError(f"{path}: {min(keys)}: {fault} (keys: {', '.join(sorted(known))})")
    data = {"data": str(path.parent / entry["data"])} if "data" in entry else {}
    return TaskSpec(**{**entry, **data, "name": path.stem, "fields": tuple(entry["fields"])})


def columns() -> dict[str, str]:
    """Task to column of the tables, in their order."""
    return {task.name: task.column for task in all_tasks()}


def suite_tasks(suite: str, more: str | Path | None = None) -> list[TaskSpec]:
    """The tasks of a suite, and those in the folder ``more``.

    Raises FewshotError for a name that is not there, and for a task that is there twice.
    """
    if suite not in SUITES:
        raise FewshotError(f"suite {suite!r} is unknown (allowed: {', '.join(SUITES)})")
    own = all_tasks(Path(more)) if more is not None else []
    packaged = {task.name: task for task in all_tasks()}
    if more is not None and not own:
        raise FewshotError(f"{more}: no task files (NAME.yaml) here")
    for task in own:
        if task.name in packaged:
            raise FewshotError(f"{more}/{task.name}.yaml: there is a task of that name already")
        if SUITES[suite] and not task.data:
            raise FewshotError(f"{more}/{task.name}.yaml: data: missing, the folder of its items")
    tasks = [task for task in packaged.values() if task.analogue or not SUITES[suite]]
    return sorted(tasks + own, key=lambda task: (task.place, task.name))
