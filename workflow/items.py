"""Which records a scale's tables, figures and claims are made of. Light, as the Snakefile asks."""

from __future__ import annotations

from tad.experiment.config import ConfigError, Suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import last_checkpoint

RECORDS = {
    "table1": ("fewshot.json",),
    "table2": ("fewshot.json",),
    "table4": ("fewshot.json", "calibration.json"),
    "table5": ("train.jsonl",),
    "table6": ("fewshot.json",),
    "table7": ("math.json",),
    "table8": ("math.json",),
    "figure1": ("train.jsonl",),
    "heldout": ("heldout.json",),
    "ablations": ("heldout.json",),
}
"""Files of every run of an item that its table or figure reads."""

OF_EVERY_RUN = ("train.jsonl", "manifest.json")
COMPANIONS = {
    "fewshot.json": "fewshot.items.jsonl.gz",
    "calibration.json": "calibration.npz",
    "selection.json": "scores.npz",
}
"""What is written beside a record, and paired tests read."""


def offline_record(run: RunId) -> str | None:
    """Where the cost of what was done ahead of a run is recorded, relative to the root."""
    place = f"{run.stage}/{run.pair}/seed{run.seed}"
    if run.method.row.rows == "selected":
        return f"selections/{place}/selection.json"
    return f"generated/{place}/manifest.json" if run.method.row.rows == "teacher_text" else None


def item_records(suite: Suite, item: str) -> list[str]:
    """Records of an item, relative to the root, in the order of its runs and checkpoints."""
    names = RECORDS.get(item, ())
    files = [f"runs/{run}/{name}" for run in suite.runs(item) for name in names]
    for model, point in suite.checkpoints(item):
        files += [f"models/{model}/{point}/{name}" for name in names]
    for _, reference in suite.references_of(item):
        files += [f"references/{reference}/{name}" for name in names]
    if item == "figure2":
        files = [
            f"models/{teacher}/{last_checkpoint(suite, teacher)}/heldout.json"
            for teacher in suite.teachers(item)
        ]
    return files


def all_records(suite: Suite) -> list[str]:
    """Every record of the selected items with its companions, sorted, without repeats."""
    found = {f for item in suite.select.items for f in item_records(suite, item)}
    for item in suite.select.items:
        for run in suite.runs(item):
            found |= {f"runs/{run}/{name}" for name in OF_EVERY_RUN}
            found |= {record for record in [offline_record(run)] if record}
    for file in list(found):
        folder, _, name = file.rpartition("/")
        if name in COMPANIONS:
            found.add(f"{folder}/{COMPANIONS[name]}")
    return sorted(found)


def check_evaluations(suite: Suite) -> None:
    """Raises ConfigError where a scale does not say how a record of its items is measured."""
    for name in suite.select.items:
        for kind in ("fewshot", "math"):
            if f"{kind}.json" in RECORDS.get(name, ()) and not getattr(suite.evaluation, kind):
                raise ConfigError(
                    f"config/{suite.scale}.yaml: evaluation.{kind}: missing, and {name} is made of it"
                )
