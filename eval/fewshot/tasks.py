"""The eight few-shot tasks as lm-eval's own, over the hub's data, local files or analogues."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tad.command import UserError

if TYPE_CHECKING:
    import datasets
    from lm_eval.api.task import ConfigurableTask

SUITES_FILE = Path(__file__).parent / "tasks" / "suites.yaml"

FEWSHOT_SEED = 1234
"""lm-eval's own default, for drawing few-shot examples."""


class FewshotError(UserError, ValueError):
    """A wrong suite, task, model or data file; one line with the cure."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task of suites.yaml, whose comments say what the fields mean."""

    name: str
    lm_eval: str
    folder: str
    metric: str
    shots: int
    scored: str
    examples: str
    options: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class SuiteSpec:
    """Which tasks, and whether their items are analogues."""

    name: str
    analogue: bool
    tasks: tuple[TaskSpec, ...]


def load_suite_spec(name: str, *, shots: int | None = None) -> SuiteSpec:
    """A suite of suites.yaml; ``shots``, if given, replaces that of every task.

    Raises FewshotError for a name that is not there.
    """
    file = yaml.safe_load(SUITES_FILE.read_text(encoding="utf-8"))
    if name not in file["suites"]:
        raise FewshotError(f"suite {name!r} is unknown (allowed: {', '.join(file['suites'])})")
    tasks = []
    for task, entry in file["tasks"].items():
        fields = tuple(entry["fields"])
        chosen = entry["shots"] if shots is None else shots
        tasks.append(TaskSpec(**{**entry, "name": task, "fields": fields, "shots": chosen}))
    return SuiteSpec(name, file["suites"][name]["analogue"], tuple(tasks))


def sources_of(
    suite: SuiteSpec, *, local: Mapping[str, str | Path], analogues: str | Path | None
) -> dict[str, Path | None]:
    """Folder of each task's JSONL files; None is the hub.

    ``local`` points single tasks of a suite to folders, ``analogues`` is what ``eval.fewshot.analogues``
    wrote. Raises FewshotError for a task that is not in the suite, a missing folder, and analogues
    where the suite has none or the reverse: an analogue must never pass for the real task.
    """
    names = [task.name for task in suite.tasks]
    for name in local:
        if name not in names:
            raise FewshotError(f"local: task {name!r} is unknown (allowed: {', '.join(names)})")
    if suite.analogue != (analogues is not None):
        need = "needs --analogues" if suite.analogue else "has real tasks and takes no --analogues"
        raise FewshotError(f"suite {suite.name} {need}")
    if suite.analogue and local:
        raise FewshotError(f"suite {suite.name} has analogues only and takes no --local")
    if analogues is not None:
        if not (Path(analogues) / "manifest.json").is_file():
            raise FewshotError(
                f"{analogues}: no analogues here (manifest.json is missing); make them with "
                "tad eval analogues"
            )
        return {name: Path(analogues) / name for name in names}
    return {name: Path(local[name]) if name in local else None for name in names}


def build_task(spec: TaskSpec, folder: Path | None) -> ConfigurableTask:
    """lm-eval's task, reading the JSONL files of ``folder`` instead of the hub if it is given.

    Nothing but the data source differs from the packaged task. Raises FewshotError for data that
    is missing or does not fit.
    """
    import lm_eval.tasks

    _compile_templates_once()
    packaged = Path(lm_eval.tasks.__file__).parent / spec.folder
    # Scanning all packaged tasks takes longer than a small suite; one folder is enough.
    manager = lm_eval.tasks.TaskManager(include_path=str(packaged), include_defaults=False)
    member: dict[str, Any] = {"task": spec.lm_eval}
    if folder is not None:
        member["custom_dataset"] = _in_memory(spec, folder)
    try:
        # An inline group is the public way to override fields of a registered task.
        loaded = manager.load([{"group": "tad", "task": [member]}])
    except (ConnectionError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FewshotError(
            f"{spec.name}: the hub's dataset cannot be had ({reason}); point the task to local "
            f"files: --local {spec.name}=FOLDER with {_expected(spec)}"
        ) from None
    task = loaded["tasks"][spec.lm_eval]
    _check(spec, task)
    task.set_config(key="num_fewshot", value=spec.shots)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return task


@functools.cache
def _compile_templates_once() -> None:
    """Keep compiled prompt templates: lm-eval compiles them anew for every item and field, which
    is a third of the time of a tiny model's suite."""
    from lm_eval.utils import env

    env.from_string = functools.lru_cache(maxsize=256)(env.from_string)


def _check(spec: TaskSpec, task: ConfigurableTask) -> None:
    """That suites.yaml says of the task what lm-eval's own definition does."""
    scored = task.config.test_split or task.config.validation_split
    metrics = [entry["metric"] for entry in task.config.metric_list]
    best = "acc_norm" if "acc_norm" in metrics else "acc"
    if (scored, best, task.OUTPUT_TYPE) != (spec.scored, spec.metric, "multiple_choice"):
        raise FewshotError(
            f"{spec.name}: suites.yaml has split {spec.scored} and metric {spec.metric}, "
            f"lm-eval has {scored} and {best}; the installed lm-eval is another version"
        )


def _in_memory(spec: TaskSpec, folder: Path) -> Callable[..., datasets.DatasetDict]:
    """What lm-eval calls for the data. Held in memory: no cache, no loader, no network."""
    rows = {spec.scored: read_items(spec, folder, spec.scored)}
    if spec.shots:
        rows[spec.examples] = read_items(spec, folder, spec.examples)
        if len(rows[spec.examples]) < spec.shots:
            raise FewshotError(
                f"{folder}/{spec.examples}.jsonl: {len(rows[spec.examples])} items, fewer than "
                f"{spec.shots} shots"
            )

    def dataset(**_: Any) -> datasets.DatasetDict:
        import datasets
        import pyarrow

        try:
            made = {name: datasets.Dataset.from_list(items) for name, items in rows.items()}
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise FewshotError(f"{folder}: items of different types ({error})") from None
        # lm-eval prepares its sampler of examples even for none; it then never draws from it.
        for split in ("train", "validation", "test"):
            made.setdefault(split, made[spec.scored])
        return datasets.DatasetDict(made)

    return dataset


def read_items(spec: TaskSpec, folder: Path, split: str) -> list[dict[str, Any]]:
    """The items of a JSONL file. Raises FewshotError naming file, line and missing field."""
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        raise FewshotError(f"{path}: no such file; {spec.name} needs {_expected(spec)}")
    items = []
    # Not splitlines: the texts hold other line separators.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise FewshotError(f"{path}:{number}: not JSON ({error})") from None
        missing = [name for name in spec.fields if name not in item]
        if missing:
            raise FewshotError(
                f"{path}:{number}: no field {missing[0]!r}; {spec.name} needs {_expected(spec)}"
            )
        items.append(item)
    if not items:
        raise FewshotError(f"{path}: no items")
    return items


def _expected(spec: TaskSpec) -> str:
    more = f" and {spec.examples}.jsonl" if spec.shots else ""
    return f"{spec.scored}.jsonl{more} with the fields {', '.join(spec.fields)}"
