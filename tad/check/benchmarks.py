"""The data sets of the evaluation, as sources to look for.

What they are is said by ``eval`` and lm-eval, which stand above this package: they are found by
name, as ``tad.cli`` finds its commands, and only in a clone.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tad.check.findings import Finding
from tad.check.wanted import Source
from tad.command import PROJECT
from tad.experiment.config import Suite


def benchmarks(suite: Suite) -> tuple[list[Source], list[Finding]]:
    """Data sets that the selected items are scored on, and findings of what needs no look at them.

    Raises UserError for a folder of tasks that cannot be read.
    """
    if not (PROJECT / "Snakefile").is_file():
        return [], []
    records = importlib.import_module("workflow.items").RECORDS
    read = {file for item in suite.select.items for file in records.get(item, ())}
    sources: list[Source] = []
    findings: list[Finding] = []
    made = []
    for kind, look in (("fewshot", _fewshot), ("math", _math)):
        settings = getattr(suite.evaluation, kind)
        if f"{kind}.json" not in read or settings is None:
            continue
        if settings.suite != "paper":
            made.append(kind)
            continue
        more, told = look(settings)
        sources += more
        findings += told
    if made:
        findings.append(Finding("ok", "evaluation", f"items of {' and '.join(made)} are made here"))
    return sources, findings


# --- Few-shot ------------------------------------------------------------------------------------


def _fewshot(settings: Any) -> tuple[list[Source], list[Finding]]:
    tasks = importlib.import_module("eval.fewshot.tasks")
    sources, findings = [], []
    for spec in tasks.suite_tasks(settings.suite, settings.tasks):
        key = f"evaluation.fewshot.local.{spec.name}"
        folder = spec.data or settings.local.get(spec.name)
        if folder:
            shots = spec.shots if settings.shots is None else settings.shots
            names = [spec.scored, *([spec.examples] if shots else [])]
            lost = [n for n in names if not (Path(folder) / f"{n}.jsonl").is_file()]
            findings.append(
                Finding("failure", key, f"{folder}/{lost[0]}.jsonl is missing", "put it there")
                if lost
                else Finding("ok", key, f"{folder} has its items")
            )
        elif found := _dataset(spec.folder or spec.lm_eval, spec.lm_eval):
            sources.append(
                Source((f"few-shot task {spec.name}",), "dataset", key, found[0], subset=found[1])
            )
        else:
            cure = "pip install -e '.[suite]'"
            findings.append(Finding("failure", key, f"lm-eval has no task {spec.lm_eval}", cure))
    return sources, findings


def _dataset(folder: str, task: str) -> tuple[str, str | None] | None:
    """(hub id, subset) of a task of the installed lm-eval, whose import takes seconds."""
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return None
    for path in sorted((Path(spec.origin).parent / "tasks" / folder).glob("*.yaml")):
        entry = _entry(path)
        if entry.get("task") == task and entry.get("dataset_path"):
            subset = entry.get("dataset_name")
            return entry["dataset_path"], None if subset in (None, "", "null") else subset
    return None


def _entry(path: Path) -> dict[str, Any]:
    """A task's file, with those that it includes below it; plain text, its functions as names."""
    entry = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    if not isinstance(entry, dict):
        return {}
    names = entry.get("include", [])
    below: dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else names:
        if (other := path.parent / name).is_file():
            below |= _entry(other)
    return below | entry


# --- Math ----------------------------------------------------------------------------------------


def _math(settings: Any) -> tuple[list[Source], list[Finding]]:
    known = importlib.import_module("eval.math.datasets")
    items = importlib.import_module("eval.items")
    sources, findings = [], []
    for name, dataset in known.DATASETS.items():
        about = f"math set {name}"
        if settings.data is not None:
            names = (*dataset.files, name)
            ends = [f"{n}{end}" for n in names for end in (".jsonl", "/test.jsonl")]
            try:
                found = known.find(Path(settings.data), ends)
                findings.append(Finding("ok", about, f"{found} is there"))
            except items.ItemError as error:
                cure = f"put {name}.jsonl there (evaluation.math.data)"
                findings.append(Finding("failure", about, str(error), cure))
        elif dataset.hub is None:
            cure = f"point evaluation.math.data to a folder with {name}.jsonl, and the other sets"
            findings.append(Finding("failure", about, "no copy on the hub is known", cure))
        else:
            hub = dataset.hub
            sources.append(
                Source((about,), "dataset", "evaluation.math.data", hub.path, subset=hub.name)
            )
    return sources, findings
